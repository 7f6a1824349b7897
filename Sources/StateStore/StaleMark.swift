/// The newest event that a list reflects, as it is published.
public struct AsOf: Hashable, Sendable {
  public var topic: String
  /// -1 when the event has no place in the stream, such as one of a history from before going live.
  public var partition: Int32
  public var offset: Int64
  /// Milliseconds since 1970.
  public var time: Int64

  public init(topic: String, partition: Int32, offset: Int64, time: Int64) {
    self.topic = topic
    self.partition = partition
    self.offset = offset
    self.time = time
  }

  /// Whether the event has a place in the stream.
  public var isOfStream: Bool { partition >= 0 }
}

/// Says that a user's list no longer reflects their newest event.
public struct StaleMark: Hashable, Sendable {
  /// The journal sequence of the newest event: the mark is cleared only while it is still this one.
  public var sequence: UInt64
  public var asOf: AsOf
  /// When the user should be ranked, in ms since 1970.
  public var dueTime: Int64

  public init(sequence: UInt64, asOf: AsOf, dueTime: Int64) {
    self.sequence = sequence
    self.asOf = asOf
    self.dueTime = dueTime
  }
}

/// A user whose list is to be made anew.
public struct StaleUser: Hashable, Sendable {
  public var user: String
  public var mark: StaleMark

  public init(user: String, mark: StaleMark) {
    self.user = user
    self.mark = mark
  }
}

/// Record: version, the id where the key is a hash, due time, sequence, topic, partition, offset, time.
extension StaleMark {
  private static let version: UInt8 = 1

  package init(_ bytes: [UInt8], user: String, key: [UInt8]) throws(StateStoreError) {
    var reader = try Self.reader(bytes, user: user, key: key)
    try self.init(fields: &reader)
  }

  /// The record's due time alone.
  static func dueTime(_ bytes: [UInt8], user: String, key: [UInt8]) throws(StateStoreError) -> Int64 {
    var reader = try reader(bytes, user: user, key: key)
    return try reader.signed()
  }

  /// Of what comes behind the identity.
  private static func reader(_ bytes: [UInt8], user: String, key: [UInt8]) throws(StateStoreError) -> RecordReader {
    var reader = RecordReader(bytes)
    try reader.version(version)
    try ExternalIDCoder.checkIdentity(user, key: key, from: &reader)
    return reader
  }

  static func withUser(_ bytes: [UInt8], key: [UInt8]) throws(StateStoreError) -> StaleUser {
    var reader = RecordReader(bytes)
    try reader.version(version)
    let user = try ExternalIDCoder.readIdentity(key: key, from: &reader)
    return StaleUser(user: user, mark: try StaleMark(fields: &reader))
  }

  private init(fields reader: inout RecordReader) throws(StateStoreError) {
    dueTime = try reader.signed()
    sequence = try reader.varint()
    asOf = AsOf(
      topic: try reader.string(), partition: Int32(bitPattern: try reader.varint(as: UInt32.self)), offset: try reader.signed(),
      time: try reader.signed())
    try reader.end()
  }

  package func encode(user: String, key: [UInt8], to record: inout [UInt8]) {
    record.append(Self.version)
    ExternalIDCoder.appendIdentity(user, key: key, to: &record)
    record.appendSigned(dueTime)
    record.appendVarint(sequence)
    record.appendString(asOf.topic)
    record.appendVarint(UInt64(UInt32(bitPattern: asOf.partition)))
    record.appendSigned(asOf.offset)
    record.appendSigned(asOf.time)
  }

  /// The key in the index of due times: the time in rising order, then the user's key.
  static func dueKey(_ dueTime: Int64, userKey: [UInt8]) -> [UInt8] {
    var key: [UInt8] = []
    key.reserveCapacity(8 + userKey.count)
    // Flipping the sign bit makes the order of the bytes that of signed numbers.
    key.appendBigEndian(UInt64(bitPattern: dueTime) ^ (1 << 63))
    key.append(contentsOf: userKey)
    return key
  }
}
