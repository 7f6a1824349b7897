/// The records of a table, one after the other: tab-separated, comma-separated with quoted fields (RFC 4180), or JSON lines.
///
/// The kind is told from the first line: an opening brace means JSON, a tab in the header means TSV, anything else CSV.
/// Fields stay bytes until they are asked for as a string, a number, a time or an index; nothing is allocated for a record.
struct RecordReader: ~Copyable {
  private enum Kind { case tabs, commas, json }

  /// A wanted column: the names that its header (or JSON key) may have, the first ones preferred.
  /// Letter case and underscores do not matter: `userId`, `user_id` and `USERID` are one name.
  struct Column {
    let names: [String]
    let isRequired: Bool

    init(_ names: String..., required: Bool = false) {
      self.names = names
      self.isRequired = required
    }
  }

  /// The largest record, so that a file without line ends cannot fill the memory.
  static let maximumRecordBytes = 16 << 20

  /// The line on which the current record starts, from 1.
  private(set) var line = 0

  /// What has been read and not yet left behind; holds the whole current record.
  private var bytes: [UInt8] = []
  /// The values of the current record's keys, if it is JSON: unescaped, so they cannot point into `bytes`.
  private var values: [UInt8] = []
  /// For each wanted column the place of its value in `bytes` or `values`; nil where the record has none. An empty field is none.
  private var fields: [Range<Int>?]
  private var source: ByteSource
  private let columns: [Column]
  private var kind = Kind.tabs
  private var record = 0..<0
  private var next = 0
  private var nextLine = 1
  private var atEnd = false
  /// For each column of a delimited file the wanted column that it fills.
  private var wantedOfColumn: [Int?] = []
  /// The keys of JSON records seen so far, and which wanted column each fills with which preference.
  private var keys = IdentifierTable()
  private var wantedOfKey: [(column: Int, rank: Int)?] = []
  private var key: [UInt8] = []

  /// Reads the header.
  /// - Throws: `io`, `damaged`, or `format` if the header lacks a required column.
  init(_ source: consuming ByteSource, columns: [Column]) throws(DatasetError) {
    self.source = source
    self.columns = columns
    fields = Array(repeating: nil, count: columns.count)
    try readHeader()
  }

  var path: String { source.path }
  var fractionRead: Double { source.fractionRead }

  func error(_ message: String) -> DatasetError { DatasetError(.line, path: path, line: line, message) }

  /// Whether the header names this column; unknown, so true, for JSON lines.
  func mayHave(_ column: Int) -> Bool { kind == .json || wantedOfColumn.contains(column) }

  func has(_ column: Int) -> Bool { fields[column] != nil }

  func string(_ column: Int) -> String? {
    fields[column].map { String(decoding: text[$0], as: UTF8.self) }
  }

  /// The index of the column's value in the table, a new one if it was never seen.
  func intern(_ column: Int, in table: inout IdentifierTable) -> Int32? {
    fields[column].map { table.intern(text, $0) }
  }

  /// - Throws: `line` if the value is not a whole number.
  func integer(_ column: Int) throws(DatasetError) -> Int? {
    guard let field = fields[column] else { return nil }
    guard let value = FieldParser.integer(text, field) else { throw malformed(column, "a whole number") }
    return value
  }

  /// - Throws: `line` if the value is not a finite number.
  func number(_ column: Int) throws(DatasetError) -> Double? {
    guard let field = fields[column] else { return nil }
    guard let value = FieldParser.number(text, field) else { throw malformed(column, "a number") }
    return value
  }

  /// Milliseconds since 1970.
  /// - Throws: `line` if the value is not a time.
  func time(_ column: Int) throws(DatasetError) -> Int64? {
    guard let field = fields[column] else { return nil }
    guard let value = FieldParser.time(text, field) else { throw malformed(column, "a time (RFC 3339, or Unix seconds or milliseconds)") }
    return value
  }

  /// Calls the body with each part of the column's value between bars, without the spaces around it, empty parts left out.
  func forEachPart(_ column: Int, _ body: (_ text: [UInt8], _ part: Range<Int>) -> Void) {
    guard let field = fields[column] else { return }
    let text = text
    for part in text[field].split(separator: .bar) {
      var range = part.startIndex..<part.endIndex
      while !range.isEmpty, text[range.lowerBound] == .space { range = range.lowerBound + 1..<range.upperBound }
      while !range.isEmpty, text[range.upperBound - 1] == .space { range = range.lowerBound..<range.upperBound - 1 }
      if !range.isEmpty { body(text, range) }
    }
  }

  private var text: [UInt8] { kind == .json ? values : bytes }

  private func malformed(_ column: Int, _ expected: String) -> DatasetError {
    error("\(columns[column].names[0]) is \"\((string(column) ?? "").prefix(80))\", which is not \(expected)")
  }

  /// Goes to the next record that is not an empty line.
  /// - Returns: false at the end of the file.
  /// - Throws: `line` for a record that breaks its format, `damaged`, `io`.
  mutating func advance() throws(DatasetError) -> Bool {
    repeat {
      guard try findRecord() else { return false }
    } while record.isEmpty
    for index in fields.indices { fields[index] = nil }
    switch kind {
    case .tabs: try splitTabs()
    case .commas: try splitCommas()
    case .json: try splitJSON()
    }
    for (index, column) in columns.enumerated() where column.isRequired && fields[index] == nil {
      throw error("no \(column.names[0])")
    }
    return true
  }

  private mutating func readHeader() throws(DatasetError) {
    guard try findRecord() else { throw DatasetError(.format, path: path, "is empty") }
    if bytes[record].starts(with: [0xEF, 0xBB, 0xBF]) { record = record.lowerBound + 3..<record.upperBound }
    let first = bytes[record].first { $0 != .space && $0 != .tab }
    if first == .openBrace {
      kind = .json
      next = record.lowerBound
      nextLine = 1
      return
    }
    let isTabbed = bytes[record].contains(.tab)
    kind = isTabbed ? .tabs : .commas
    let names = bytes[record].split(separator: isTabbed ? .tab : .comma, omittingEmptySubsequences: false).map { name in
      Self.normalised(String(decoding: name, as: UTF8.self))
    }
    wantedOfColumn = Array(repeating: nil, count: names.count)
    for (wanted, column) in columns.enumerated() {
      let places = column.names.lazy.compactMap { name in names.firstIndex(of: Self.normalised(name)) }
      if let place = places.first {
        wantedOfColumn[place] = wanted
      } else if column.isRequired {
        let wanted = column.names.map { "\"\($0)\"" }.joined(separator: " or ")
        let found = names.joined(separator: ", ").prefix(200)
        throw DatasetError(.format, path: path, line: 1, "the header has no column \(wanted); it has \(found)")
      }
    }
  }

  private static func normalised(_ name: String) -> String {
    name.lowercased().filter { $0 != "_" && $0 != "\"" && $0 != " " }
  }

  /// Finds the bytes of the next record, without its line end, and reads on where the buffer ends inside it.
  private mutating func findRecord() throws(DatasetError) -> Bool {
    line = nextLine
    var position = next
    var isQuoted = false
    var isFieldStart = true
    while true {
      let end = bytes.count
      switch kind {
      case .tabs, .json:
        while position < end, bytes[position] != .newline { position += 1 }
      case .commas:
        // A quote opens only at the start of a field; two of them inside a quoted field close and open again.
        while position < end {
          let byte = bytes[position]
          if byte == .newline {
            if !isQuoted { break }
            nextLine += 1
          } else if byte == .quote, isQuoted || isFieldStart || (position > next && bytes[position - 1] == .quote) {
            isQuoted.toggle()
          }
          isFieldStart = byte == .comma && !isQuoted
          position += 1
        }
      }
      if position < end { break }
      if atEnd {
        if isQuoted { throw error("a quoted field is not closed") }
        if position == next { return false }
        break
      }
      if position - next > Self.maximumRecordBytes {
        throw error("longer than \(Self.maximumRecordBytes) bytes")
      }
      bytes.removeFirst(next)
      position -= next
      next = 0
      atEnd = try source.read(into: &bytes, limit: 256 * 1024) == 0
    }
    var last = position
    if last > next, bytes[last - 1] == .carriageReturn { last -= 1 }
    record = next..<last
    next = min(position + 1, bytes.count)
    nextLine += 1
    return true
  }

  private mutating func setField(_ column: Int, _ range: Range<Int>) {
    guard column < wantedOfColumn.count, let wanted = wantedOfColumn[column], !range.isEmpty else { return }
    fields[wanted] = range
  }

  private func checkCount(_ count: Int) throws(DatasetError) {
    if count != wantedOfColumn.count { throw error("\(count) fields where the header has \(wantedOfColumn.count)") }
  }

  private mutating func splitTabs() throws(DatasetError) {
    var column = 0
    var start = record.lowerBound
    for position in record where bytes[position] == .tab {
      setField(column, start..<position)
      column += 1
      start = position + 1
    }
    setField(column, start..<record.upperBound)
    try checkCount(column + 1)
  }

  private mutating func splitCommas() throws(DatasetError) {
    var column = 0
    var position = record.lowerBound
    while true {
      var start = position
      var end = position
      if position < record.upperBound, bytes[position] == .quote {
        // Unquoted in place: the text only gets shorter.
        start += 1
        position += 1
        end = start
        while true {
          if bytes[position] == .quote {
            position += 1
            if position == record.upperBound || bytes[position] != .quote { break }
          }
          bytes[end] = bytes[position]
          end += 1
          position += 1
          if position == record.upperBound { throw error("a quoted field is not closed") }
        }
        if position < record.upperBound, bytes[position] != .comma { throw error("text after a closing quote") }
      } else {
        while position < record.upperBound, bytes[position] != .comma { position += 1 }
        end = position
      }
      setField(column, start..<end)
      column += 1
      if position == record.upperBound { break }
      position += 1
    }
    try checkCount(column)
  }

  /// Values of keys that no column wants are read over; a list's scalars are joined by bars.
  private mutating func splitJSON() throws(DatasetError) {
    values.removeAll(keepingCapacity: true)
    var preferences = Array(repeating: Int.max, count: columns.count)
    do throws(JSONScanner.Failure) {
      var scanner = JSONScanner(record)
      try scanner.expect(.openBrace, in: bytes)
      var isFirst = true
      while try !scanner.closes(with: .closeBrace, isFirst: isFirst, in: bytes) {
        isFirst = false
        key.removeAll(keepingCapacity: true)
        try scanner.string(in: bytes, into: &key)
        try scanner.expect(.colon, in: bytes)
        let start = values.count
        try scanner.value(in: bytes, into: &values)
        // The first name of a column wins over a later one, in whatever order the keys come.
        if let (column, rank) = wantedColumn(), rank < preferences[column] {
          preferences[column] = rank
          fields[column] = values.count > start ? start..<values.count : nil
        } else {
          values.removeLast(values.count - start)
        }
      }
      try scanner.expectEnd(in: bytes)
    } catch {
      throw self.error("not a JSON object: \(error.message) at byte \(error.position - record.lowerBound + 1)")
    }
  }

  private mutating func wantedColumn() -> (column: Int, rank: Int)? {
    let index = Int(keys.intern(key, 0..<key.count))
    if index == wantedOfKey.count {
      let name = Self.normalised(String(decoding: key, as: UTF8.self))
      wantedOfKey.append(
        columns.indices.lazy.compactMap { [columns] column in
          columns[column].names.firstIndex { Self.normalised($0) == name }.map { (column, $0) }
        }.first)
    }
    return wantedOfKey[index]
  }
}

extension UInt8 {
  static let tab = UInt8(ascii: "\t")
  static let newline = UInt8(ascii: "\n")
  static let carriageReturn = UInt8(ascii: "\r")
  static let space = UInt8(ascii: " ")
  static let comma = UInt8(ascii: ",")
  static let colon = UInt8(ascii: ":")
  static let quote = UInt8(ascii: "\"")
  static let backslash = UInt8(ascii: "\\")
  static let bar = UInt8(ascii: "|")
  static let openBrace = UInt8(ascii: "{")
  static let closeBrace = UInt8(ascii: "}")
  static let openBracket = UInt8(ascii: "[")
  static let closeBracket = UInt8(ascii: "]")
}
