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
    public static let errorClass = "rodpod.error.class"
    public static let errorField = "rodpod.error.field"
    public static let errorMessage = "rodpod.error.message"
  }

  /// - Parameter headers: those of the original; the added ones follow them.
  public init(
    key: [UInt8]?, value: [UInt8]?, headers: [Header], topic: String, partition: Int32, offset: Int64, rejection: Rejection
  ) {
    self.key = key
    self.value = value
    var all = headers
    func add(_ name: String, _ text: String) { all.append(Header(name: name, value: Array(text.utf8))) }
    add(HeaderName.topic, topic)
    add(HeaderName.partition, String(partition))
    add(HeaderName.offset, String(offset))
    add(HeaderName.errorClass, rejection.reason.rawValue)
    if let field = rejection.field { add(HeaderName.errorField, field) }
    add(HeaderName.errorMessage, rejection.message)
    self.headers = all
  }
}
