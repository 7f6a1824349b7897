/// The number of an item: given once, at first sight of its external id, rising, and never used for another.
public struct ItemNumber: RawRepresentable, Hashable, Comparable, Sendable {
  public let rawValue: UInt32

  public init(rawValue: UInt32) {
    self.rawValue = rawValue
  }

  public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// The code of an interaction type's name (view, purchase, …), given once by the store.
public struct InteractionTypeCode: RawRepresentable, Hashable, Sendable {
  public let rawValue: UInt8

  public init(rawValue: UInt8) {
    self.rawValue = rawValue
  }
}

/// What a user did with an item, and when.
public struct Interaction: Hashable, Sendable {
  public var item: ItemNumber
  public var type: InteractionTypeCode
  /// Milliseconds since 1970. Below 0 only the order is known, as of a history without times: no event of the stream is from before 1970.
  public var time: Int64
  public var value: Float?

  public init(item: ItemNumber, type: InteractionTypeCode, time: Int64, value: Float? = nil) {
    self.item = item
    self.type = type
    self.time = time
    self.value = value
  }

  /// ``time``; nil when only the order is known.
  public var knownTime: Int64? { time < 0 ? nil : time }
}

/// An accepted interaction as ingest hands it over.
public struct UserInteraction: Hashable, Sendable {
  public var user: String
  /// The partition of the interactions topic that the user's events come from; -1 for what did not come from there.
  public var partition: Int32
  public var interaction: Interaction
  /// The items that were on the screen.
  public var shown: [ItemNumber]

  public init(user: String, partition: Int32, interaction: Interaction, shown: [ItemNumber] = []) {
    self.user = user
    self.partition = partition
    self.interaction = interaction
    self.shown = shown
  }
}

/// What became of an interaction.
public enum AppendOutcome: Hashable, Sendable {
  /// It has this journal sequence, and a place in the user's sequence unless it is older than all that is kept there.
  case appended(sequence: UInt64)
  /// The same item, type and time is kept already. Nothing was written.
  case duplicate
  /// It lies further behind the user's newest interaction (`newest`, ms since 1970) than the bound allows. Nothing was written.
  case tooLate(newest: Int64)
}

/// Interactions in time order as bytes, which can be appended to, shortened at the front and copied without being decoded.
///
/// An entry is: item (varint), type (byte), `gap << 2 | seconds << 1 | hasValue` (varint), the value's bits if any. The gap is the time
/// since the entry before, in ms, or in seconds where it is whole ones. The first entry's gap means nothing: its time is `firstTime`. So
/// neither appending nor dropping the first touches another entry. About 8 bytes an interaction.
package struct PackedInteractions {
  /// Times lie within this many ms of 1970, so that no gap overflows.
  static let maximumTime: Int64 = 1 << 53

  private(set) var count = 0
  private(set) var firstTime: Int64 = 0
  private(set) var lastTime: Int64 = 0
  private var bytes: [UInt8] = []
  private var start = 0

  package init() {}

  package init(_ interactions: some Sequence<Interaction>) {
    for interaction in interactions { append(interaction) }
  }

  /// Appends an interaction that is not older than the last.
  package mutating func append(_ interaction: Interaction) {
    precondition(count == 0 || interaction.time >= lastTime, "interactions are packed in time order")
    let gap = count == 0 ? 0 : UInt64(interaction.time - lastTime)
    if count == 0 { firstTime = interaction.time }
    lastTime = interaction.time
    count += 1
    bytes.appendVarint(UInt64(interaction.item.rawValue))
    bytes.append(interaction.type.rawValue)
    let (seconds, milliseconds) = gap.quotientAndRemainder(dividingBy: 1_000)
    bytes.appendVarint((milliseconds == 0 ? seconds << 2 | 2 : gap << 2) | (interaction.value == nil ? 0 : 1))
    if let value = interaction.value { bytes.appendLittleEndian(value.bitPattern) }
  }

  /// Drops the oldest interactions so that at most `limit` are left.
  package mutating func keepLast(_ limit: Int) throws(StateStoreError) {
    guard count > limit else { return }
    guard limit > 0 else {
      self = PackedInteractions()
      return
    }
    var reader = RecordReader(bytes, from: start)
    while count > limit {
      _ = try Self.readEntry(&reader)
      start = reader.position
      var next = reader
      firstTime = try after(firstTime, try Self.readEntry(&next).gap)
      count -= 1
    }
  }

  /// The time `gap` ms after `time`, which is never after the last one.
  private func after(_ time: Int64, _ gap: UInt64) throws(StateStoreError) -> Int64 {
    guard gap <= UInt64(lastTime - time) else { throw RecordReader.damaged }
    return time + Int64(gap)
  }

  package func decoded() throws(StateStoreError) -> [Interaction] {
    var interactions: [Interaction] = []
    interactions.reserveCapacity(count)
    var reader = RecordReader(bytes, from: start)
    var time = firstTime
    for index in 0..<count {
      let entry = try Self.readEntry(&reader)
      if index > 0 { time = try after(time, entry.gap) }
      interactions.append(Interaction(item: entry.item, type: entry.type, time: time, value: entry.value))
    }
    guard time == lastTime else { throw RecordReader.damaged }
    try reader.end()
    return interactions
  }

  /// Writes count, times and entries; to be the last field of a record.
  func encode(to record: inout [UInt8]) {
    record.appendVarint(UInt64(count))
    guard count > 0 else { return }
    record.appendSigned(firstTime)
    record.appendVarint(UInt64(lastTime - firstTime))
    record.append(contentsOf: bytes[start...])
  }

  /// Reads what `encode` wrote, up to the record's end. The entries are checked when they are decoded.
  init(from reader: inout RecordReader) throws(StateStoreError) {
    count = try reader.count(elementSize: 3)
    guard count > 0 else {
      try reader.end()
      return
    }
    firstTime = try reader.signed()
    let span = try reader.varint()
    guard firstTime.magnitude <= UInt64(Self.maximumTime), span <= UInt64(Self.maximumTime) * 2 else { throw RecordReader.damaged }
    lastTime = firstTime + Int64(span)
    bytes = reader.bytes
    start = reader.position
    _ = reader.rest()
  }

  private struct Entry {
    let item: ItemNumber
    let type: InteractionTypeCode
    let gap: UInt64
    let value: Float?
  }

  @inline(__always)
  private static func readEntry(_ reader: inout RecordReader) throws(StateStoreError) -> Entry {
    let item = try reader.varint(as: UInt32.self)
    let type = try reader.byte()
    let code = try reader.varint()
    let (gap, overflow) = (code >> 2).multipliedReportingOverflow(by: code & 2 == 0 ? 1 : 1_000)
    guard !overflow else { throw RecordReader.damaged }
    let value = code & 1 == 0 ? nil : Float(bitPattern: try reader.littleEndian(UInt32.self))
    return Entry(item: ItemNumber(rawValue: item), type: InteractionTypeCode(rawValue: type), gap: gap, value: value)
  }
}
