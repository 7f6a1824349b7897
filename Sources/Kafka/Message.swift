import CRdKafka

/// A message's header: Kafka allows a name more than once, and a null value.
public struct Header: Hashable, Sendable {
  public var name: String
  public var value: [UInt8]?

  public init(_ name: String, _ value: [UInt8]?) {
    self.name = name
    self.value = value
  }

  public init(_ name: String, _ value: String) {
    self.init(name, Array(value.utf8))
  }
}

/// A message's time, in milliseconds since 1970.
public struct MessageTimestamp: Hashable, Sendable {
  public enum Kind: Sendable {
    /// The producer's clock when it made the message.
    case createTime
    /// The broker's clock when it appended the message.
    case logAppendTime
  }

  public let milliseconds: Int64
  public let kind: Kind

  public init(milliseconds: Int64, kind: Kind) {
    self.milliseconds = milliseconds
    self.kind = kind
  }
}

/// A consumed message, as long as the closure it is given to runs. Its bytes stay in librdkafka's buffer: reading them copies nothing.
public struct Message: ~Copyable {
  let raw: UnsafePointer<rd_kafka_message_t>
  /// Place of the message's topic in `Consumer.topics`.
  public let topicIndex: Int

  public var partition: Int32 { raw.pointee.partition }

  public var offset: Int64 { raw.pointee.offset }

  /// Nil for messages of brokers before Kafka 0.10.
  public var timestamp: MessageTimestamp? {
    var kind = RD_KAFKA_TIMESTAMP_NOT_AVAILABLE
    let milliseconds = rd_kafka_message_timestamp(raw, &kind)
    return switch kind {
    case RD_KAFKA_TIMESTAMP_CREATE_TIME: MessageTimestamp(milliseconds: milliseconds, kind: .createTime)
    case RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME: MessageTimestamp(milliseconds: milliseconds, kind: .logAppendTime)
    default: nil
    }
  }

  /// Bytes of key and value together.
  public var byteCount: Int { raw.pointee.key_len + raw.pointee.len }

  /// Lends the key, nil where there is none. The span ends with the closure.
  @inlinable
  public borrowing func withKey<R: ~Copyable, E: Error>(_ body: (RawSpan?) throws(E) -> R) throws(E) -> R {
    guard let key = keyBytes else { return try body(nil) }
    return try body(key.bytes)
  }

  /// Lends the value, nil for a tombstone. The span ends with the closure.
  @inlinable
  public borrowing func withValue<R: ~Copyable, E: Error>(_ body: (RawSpan?) throws(E) -> R) throws(E) -> R {
    guard let value = valueBytes else { return try body(nil) }
    return try body(value.bytes)
  }

  @usableFromInline
  var keyBytes: UnsafeRawBufferPointer? {
    raw.pointee.key.map { UnsafeRawBufferPointer(start: $0, count: raw.pointee.key_len) }
  }

  @usableFromInline
  var valueBytes: UnsafeRawBufferPointer? {
    raw.pointee.payload.map { UnsafeRawBufferPointer(start: $0, count: raw.pointee.len) }
  }

  /// The headers in their order; they are parsed and copied at each access.
  public var headers: [Header] {
    var list: OpaquePointer?
    // librdkafka parses lazily and keeps the parsed list inside the message, which is why it asks for a mutable pointer.
    guard rd_kafka_message_headers(raw, &list) == RD_KAFKA_RESP_ERR_NO_ERROR, let list else { return [] }
    return (0..<rd_kafka_header_cnt(list)).compactMap { index in
      var name: UnsafePointer<CChar>?
      var value: UnsafeRawPointer?
      var size = 0
      guard rd_kafka_header_get_all(list, index, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR, let name else { return nil }
      return Header(String(cString: name), value.map { Array(UnsafeRawBufferPointer(start: $0, count: size)) })
    }
  }

  /// The whole message, to keep: for dead letters.
  public func copy() -> OwnedMessage {
    OwnedMessage(
      topic: String(cString: rd_kafka_topic_name(raw.pointee.rkt)), partition: partition, offset: offset, timestamp: timestamp,
      key: keyBytes.map(Array.init), value: valueBytes.map(Array.init), headers: headers)
  }
}

/// A message with bytes of its own.
public struct OwnedMessage: Hashable, Sendable {
  public var topic: String
  public var partition: Int32
  public var offset: Int64
  public var timestamp: MessageTimestamp?
  public var key: [UInt8]?
  /// Nil is a tombstone.
  public var value: [UInt8]?
  public var headers: [Header]

  public init(
    topic: String, partition: Int32, offset: Int64, timestamp: MessageTimestamp?, key: [UInt8]?, value: [UInt8]?,
    headers: [Header] = []
  ) {
    self.topic = topic
    self.partition = partition
    self.offset = offset
    self.timestamp = timestamp
    self.key = key
    self.value = value
    self.headers = headers
  }
}

/// Messages with their bytes side by side: to keep many of which few are looked at again.
public struct MessageLog: Sendable {
  private struct Entry {
    var topic: String
    var partition: Int32
    var offset: Int64
    var timestamp: MessageTimestamp?
    var key: Range<Int>?
    var value: Range<Int>?
    var headers: [Header]
  }

  private var entries: [Entry] = []
  private var bytes: [UInt8] = []

  public init() {}

  /// - Parameters:
  ///   - headers: the message's, which parses them whenever it is asked.
  ///   - topic: the message's, as `Consumer.topics` has it.
  /// - Returns: the message's place.
  public mutating func append(_ message: borrowing Message, headers: [Header], topic: String) -> Int {
    let key = append(message.keyBytes)
    let value = append(message.valueBytes)
    entries.append(
      Entry(
        topic: topic, partition: message.partition, offset: message.offset, timestamp: message.timestamp, key: key, value: value, headers: headers))
    return entries.count - 1
  }

  private mutating func append(_ field: UnsafeRawBufferPointer?) -> Range<Int>? {
    guard let field else { return nil }
    bytes.append(contentsOf: field)
    return bytes.count - field.count..<bytes.count
  }

  public subscript(index: Int) -> OwnedMessage {
    let entry = entries[index]
    return OwnedMessage(
      topic: entry.topic, partition: entry.partition, offset: entry.offset, timestamp: entry.timestamp, key: entry.key.map { Array(bytes[$0]) },
      value: entry.value.map { Array(bytes[$0]) }, headers: entry.headers)
  }

  /// Keeps the room for as many again.
  public mutating func removeAll() {
    entries.removeAll(keepingCapacity: true)
    bytes.removeAll(keepingCapacity: true)
  }
}
