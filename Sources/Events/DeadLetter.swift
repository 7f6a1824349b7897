/// A message that was not accepted, as it is written to the dead-letter topic: key, value and headers as they came, and headers added
/// that say where it came from and what was wrong.
public struct DeadLetter: Sendable, Equatable {
  public var key: [UInt8]?
  public var value: [UInt8]?
  public var headers: [Header]

  /// A record header; names may repeat, order is kept.
  public struct Header: Sendable, Equatable {
    public var name: String
    public var value: [UInt8]?

    public init(name: String, value: [UInt8]?) {
      self.name = name
      self.value = value
    }
  }

  /// Names of the added headers.
  public enum HeaderName {
    public static let topic = "rodpod.origin.topic"
    public static let partition = "rodpod.origin.partition"
    public static let offset = "rodpod.origin.offset"
    public static let timestamp = "rodpod.origin.timestamp"
    public static let errorClass = "rodpod.error.class"
    public static let errorField = "rodpod.error.field"
    public static let errorMessage = "rodpod.error.message"
  }

  /// - Parameters:
  ///   - headers: those of the original; the added ones follow them.
  ///   - timestamp: the original's own, in milliseconds since 1970, if it has one.
  public init(
    key: [UInt8]?, value: [UInt8]?, headers: [Header], topic: String, partition: Int32, offset: Int64, timestamp: Int64? = nil,
    rejection: Rejection
  ) {
    self.key = key
    self.value = value
    var all = headers
    func add(_ name: String, _ text: String) { all.append(Header(name: name, value: Array(text.utf8))) }
    add(HeaderName.topic, topic)
    add(HeaderName.partition, String(partition))
    add(HeaderName.offset, String(offset))
    if let timestamp { add(HeaderName.timestamp, String(timestamp)) }
    add(HeaderName.errorClass, rejection.reason.rawValue)
    if let field = rejection.field { add(HeaderName.errorField, field) }
    add(HeaderName.errorMessage, rejection.message)
    self.headers = all
  }

  /// A dead letter as it is found in the topic.
  public init(key: [UInt8]?, value: [UInt8]?, headers: [Header]) {
    self.key = key
    self.value = value
    self.headers = headers
  }

  /// Where a letter came from and what was wrong with it, as its headers tell.
  public struct Origin: Sendable, Equatable {
    public var topic: String
    public var partition: Int32
    public var offset: Int64
    /// The original's own, in milliseconds since 1970.
    public var timestamp: Int64?
    /// The name of a ``Rejection/Reason``.
    public var errorClass: String
    public var errorField: String?
    public var errorMessage: String
  }

  /// Nil for a message that is no dead letter.
  public var origin: Origin? {
    func text(_ name: String) -> String? {
      headers.last { $0.name == name }?.value.map { String(decoding: $0, as: UTF8.self) }
    }
    guard let topic = text(HeaderName.topic), let partition = text(HeaderName.partition).flatMap({ Int32($0) }),
      let offset = text(HeaderName.offset).flatMap({ Int64($0) }), let errorClass = text(HeaderName.errorClass)
    else { return nil }
    return Origin(
      topic: topic, partition: partition, offset: offset, timestamp: text(HeaderName.timestamp).flatMap { Int64($0) },
      errorClass: errorClass, errorField: text(HeaderName.errorField), errorMessage: text(HeaderName.errorMessage) ?? "")
  }

  /// The headers that the original had.
  public var originalHeaders: [Header] {
    headers.filter { !$0.name.hasPrefix("rodpod.origin.") && !$0.name.hasPrefix("rodpod.error.") }
  }
}
