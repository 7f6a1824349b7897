/// The attributes of a CloudEvent in binary mode, in which they are the record's headers `ce_…` and the data is its value
/// (CloudEvents 1.0, Kafka protocol binding).
public struct CloudEventAttributes: Sendable, Equatable {
  private static let prefix = "ce_"
  /// Every CloudEvent has it, and nothing else does.
  private static let mark = "ce_specversion"

  /// The members `"name":"value",` of the event in structured mode.
  private var members: [UInt8]

  /// Nil for a record that is no CloudEvent in binary mode. A header that is not UTF-8 is read with replacement characters.
  public init?(headers: some Sequence<(String, [UInt8]?)>) {
    var attributes: [(name: Substring, value: [UInt8])] = []
    var isCloudEvent = false
    for (name, value) in headers where name.hasPrefix(Self.prefix) {
      if name == Self.mark { isCloudEvent = true }
      if let value { attributes.append((name.dropFirst(Self.prefix.count), value)) }
    }
    guard isCloudEvent else { return nil }
    var writer = JSONWriter()
    writer.object { event in
      for attribute in attributes where attribute.name != "data" {
        event.key(String(attribute.name))
        event.string(String(decoding: attribute.value, as: UTF8.self))
      }
    }
    // Without the brace, for the data to follow.
    members = Array(writer.bytes.dropFirst().dropLast())
    if !members.isEmpty { members.append(UInt8(ascii: ",")) }
  }

  /// The event in structured mode.
  /// - Parameter data: one JSON value.
  func structured(data: RawSpan) -> [UInt8] {
    var event: [UInt8] = [UInt8(ascii: "{")]
    event.append(contentsOf: members)
    event.append(contentsOf: #""data":"#.utf8)
    data.withUnsafeBytes { event.append(contentsOf: $0) }
    event.append(UInt8(ascii: "}"))
    return event
  }
}
