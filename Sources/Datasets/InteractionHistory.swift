/// What users did, in columns: the events of one user stand together, in their order.
///
/// An event costs 25 bytes, or 21 without values. Users, items and types are numbered in order of first appearance.
public struct InteractionHistory: Sendable {
  public let userIdentifiers: IdentifierTable
  public let itemIdentifiers: IdentifierTable
  /// The interaction types by code. Code 0 is the empty name: no type was given.
  public let typeNames: [String]
  /// The events of user `u` are `offsets[u] ..< offsets[u + 1]`. One entry more than users.
  public let offsets: [Int]
  /// The user of each event.
  public let users: [Int32]
  /// The item of each event.
  public let items: [Int32]
  /// Milliseconds since 1970 for each event; empty if the files have no times.
  public let times: [Int64]
  /// The type code of each event, an index into `typeNames`.
  public let types: [UInt8]
  /// A rating, a price or a quantity for each event, NaN where there is none; empty if the files have none at all.
  public let values: [Float]
  /// Which record, over all files, each event was; from 0.
  public let rows: [Int32]
  /// The records of each file, in the order in which the files were read.
  public let rowsOfFile: [Range<Int>]

  public var count: Int { items.count }
  public var userCount: Int { offsets.count - 1 }
  public var itemCount: Int { itemIdentifiers.count }

  /// The events of a user, oldest first.
  public func events(of user: Int32) -> Range<Int> { offsets[Int(user)]..<offsets[Int(user) + 1] }

  /// For each event the file that it came from, from 0: its period, where each file is one.
  public func periods() -> [Int32] {
    var periodOfRow = [Int32](repeating: 0, count: count)
    for (period, range) in rowsOfFile.enumerated() {
      for row in range { periodOfRow[row] = Int32(period) }
    }
    return rows.map { periodOfRow[Int($0)] }
  }

  /// All events in the order of time, or of the files where there are no times; equal times in the order of the files.
  ///
  /// Each user's own order is kept: an event whose time is earlier than that of the event before it (orders given by position
  /// may disagree with the clock) takes its place right behind it.
  public func chronologicalOrder() -> [Int32] {
    struct Key: Comparable {
      let time: Int64
      let row: Int32
      let event: Int32

      static func < (a: Key, b: Key) -> Bool { (a.time, a.row, a.event) < (b.time, b.row, b.event) }
    }
    var keys: [Key] = []
    keys.reserveCapacity(count)
    for user in 0..<Int32(userCount) {
      var latest = Key(time: .min, row: -1, event: -1)
      for event in events(of: user) {
        let time = max(latest.time, times.isEmpty ? 0 : times[event])
        latest = Key(time: time, row: time == latest.time ? max(latest.row, rows[event]) : rows[event], event: Int32(event))
        keys.append(latest)
      }
    }
    keys.sort()
    return keys.map(\.event)
  }

  /// Reads the files in the given order, as one history with common tables.
  ///
  /// Files are periods: a user's events in a later file come after those in an earlier one. Within a file each user's events are ordered by
  /// `position` where the file has it, else by time, else as they stand; equal ones as they stand.
  /// - Parameters:
  ///   - paths: see ``InteractionReader`` for what they may hold.
  ///   - items: a table that item indices go on from, such as that of an ``ItemTable``.
  ///   - onProgress: called now and then with the number of records read so far.
  /// - Throws: the first error, with its line. Where the first record has a time, all others of all files must have one; the
  ///   same holds for positions within a file.
  public static func read(
    _ paths: [String], items: IdentifierTable = IdentifierTable(), onProgress: (Int) -> Void = { _ in }
  ) throws(DatasetError) -> InteractionHistory {
    var records = Records(itemIdentifiers: items)
    for path in paths { try records.append(contentsOf: path, onProgress: onProgress) }
    return records.grouped()
  }
}

/// The records of all files in their order, before they are grouped by user.
private struct Records {
  private var userIdentifiers = IdentifierTable()
  private var itemIdentifiers: IdentifierTable
  private var typeIdentifiers = IdentifierTable([""])
  private var users: [Int32] = []
  private var items: [Int32] = []
  private var times: [Int64] = []
  private var types: [UInt8] = []
  private var values: [Float] = []
  /// What orders a user's events within a file.
  private var keys: [Int64] = []
  private var rowsOfFile: [Range<Int>] = []

  init(itemIdentifiers: IdentifierTable) {
    self.itemIdentifiers = itemIdentifiers
  }

  mutating func append(contentsOf path: String, onProgress: (Int) -> Void) throws(DatasetError) {
    typealias Column = InteractionReader.Column
    var reader = try RecordReader(try ByteSource(path: path), columns: InteractionReader.columns)
    let start = items.count
    var hasPositions = false
    while try reader.advance() {
      guard let user = reader.intern(Column.user.rawValue, in: &userIdentifiers),
        let item = reader.intern(Column.item.rawValue, in: &itemIdentifiers)
      else { continue }
      let time = try reader.time(Column.time.rawValue)
      let position = try reader.integer(Column.position.rawValue)
      if items.count == start { hasPositions = position != nil }
      if !items.isEmpty, (time == nil) != times.isEmpty {
        throw reader.error(time == nil ? "no time, unlike the records before" : "a time, unlike the records before")
      }
      if (position != nil) != hasPositions {
        throw reader.error(hasPositions ? "no position, unlike the records before" : "a position, unlike the records before")
      }
      guard items.count < Int(Int32.max) else { throw reader.error("more than \(Int32.max) records") }
      let type = reader.intern(Column.type.rawValue, in: &typeIdentifiers) ?? 0
      guard let code = UInt8(exactly: type) else { throw reader.error("more than 255 interaction types") }
      if let value = try reader.number(Column.value.rawValue) {
        if values.isEmpty { values = Array(repeating: .nan, count: items.count) }
        values.append(Float(value))
      } else if !values.isEmpty {
        values.append(.nan)
      }
      users.append(user)
      items.append(item)
      types.append(code)
      if let time { times.append(time) }
      keys.append(position.map(Int64.init) ?? time ?? 0)
      if items.count % 65_536 == 0 { onProgress(items.count) }
    }
    rowsOfFile.append(start..<items.count)
    onProgress(items.count)
  }

  consuming func grouped() -> InteractionHistory {
    var offsets = [Int](repeating: 0, count: userIdentifiers.count + 1)
    for user in users { offsets[Int(user) + 1] += 1 }
    for user in 0..<userIdentifiers.count { offsets[user + 1] += offsets[user] }
    var next = offsets
    var rows = [Int32](repeating: 0, count: users.count)
    for (row, user) in users.enumerated() {
      rows[next[Int(user)]] = Int32(row)
      next[Int(user)] += 1
    }
    for user in 0..<userIdentifiers.count { order(&rows, offsets[user]..<offsets[user + 1]) }
    return InteractionHistory(
      userIdentifiers: userIdentifiers, itemIdentifiers: itemIdentifiers,
      typeNames: (0..<Int32(typeIdentifiers.count)).map { typeIdentifiers[$0] }, offsets: offsets,
      users: rows.map { users[Int($0)] }, items: rows.map { items[Int($0)] },
      times: times.isEmpty ? [] : rows.map { times[Int($0)] }, types: rows.map { types[Int($0)] },
      values: values.isEmpty ? [] : rows.map { values[Int($0)] }, rows: rows, rowsOfFile: rowsOfFile)
  }

  /// Orders one user's rows, which stand in the order of the files, by key within each file.
  private func order(_ rows: inout [Int32], _ range: Range<Int>) {
    var start = range.lowerBound
    for file in rowsOfFile where start < range.upperBound {
      var end = start
      var isOrdered = true
      while end < range.upperBound, rows[end] < file.upperBound {
        if end > start, keys[Int(rows[end])] < keys[Int(rows[end - 1])] { isOrdered = false }
        end += 1
      }
      if !isOrdered { rows[start..<end].sort { (keys[Int($0)], $0) < (keys[Int($1)], $1) } }
      start = end
    }
  }
}
