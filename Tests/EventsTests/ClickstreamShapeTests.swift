import Events
import Testing

/// Events of shapes that shops already have.
@Suite struct ClickstreamShapeTests {
  private func decode(
    _ json: String, headers: [(String, [UInt8]?)], configure: (inout InteractionDecoder.Configuration) -> Void = cloudEvents
  ) throws -> DecodedInteraction {
    var configuration = InteractionDecoder.Configuration(types: types)
    configure(&configuration)
    var decoder = try InteractionDecoder(configuration)
    return decoder.decode(
      value: Array(json.utf8).span.bytes, key: nil, timestamp: 0, attributes: CloudEventAttributes(headers: headers), now: now)
  }

  private static func cloudEvents(_ configuration: inout InteractionDecoder.Configuration) {
    configuration.fields.user = "/data/user"
    configuration.fields.item = "/subject"
  }

  private static let headers: [(String, [UInt8]?)] = [
    ("ce_specversion", "1.0"), ("ce_id", "A-1"), ("ce_source", "/shop"), ("ce_type", "view"), ("ce_subject", #"sku "1"\"#),
    ("ce_time", "2026-01-31T11:59:59.5Z"), ("content-type", "application/json"),
  ].map { ($0.0, Array($0.1.utf8)) }

  @Test func aCloudEventIsTheSameInBothModes() throws {
    let expected = Interaction(user: "u", item: #"sku "1"\"#, type: 0, time: now - 500)
    #expect(try decode(#"{"user":"u"}"#, headers: Self.headers).interaction == expected)
    let structured = #"""
      {"specversion":"1.0","id":"A-1","source":"/shop","type":"view","subject":"sku \"1\"\\","time":"2026-01-31T11:59:59.5Z",
       "datacontenttype":"application/json","data":{"user":"u"}}
      """#
    #expect(try decodeInteraction(structured, configure: Self.cloudEvents).interaction == expected)
  }

  @Test func headersOfOtherKindsAreNoAttributes() throws {
    #expect(CloudEventAttributes(headers: [("trace", [1]), ("ce_type", Array("view".utf8))]) == nil)
    let plain = #"{"user":"u","item":"i","type":"view","time":1}"#
    #expect(try decode(plain, headers: [("type", Array("click".utf8))]) { _ in }.interaction?.type == 0)
  }

  /// Each is JSON only together with what is put around it.
  @Test(arguments: [#"{"user":"u"},"type":"purchase""#, #"{"user":"u"}}"#, "", "{}{}", #"1"#])
  func theDataOfACloudEventHasToBeAnObjectByItself(data: String) throws {
    let reason = try decode(data, headers: Self.headers).rejection?.reason
    #expect(reason == (data == "1" ? .notAnObject : .notJSON))
  }

  @Test func aMissingAttributeIsAMissingField() throws {
    let rejection = try decode(#"{"user":"u"}"#, headers: Self.headers.filter { $0.0 != "ce_subject" }).rejection
    #expect(rejection?.reason == .missingField && rejection?.field == "/subject")
  }

  private func decodeOrder(_ items: String, pointer: String = "/items/*/item_id") throws -> DecodedInteraction {
    try decodeInteraction(#"{"user":"u","type":"purchase","time":1700000000000000,"value":9,"items":\#(items)}"#) {
      $0.fields.item = pointer
    }
  }

  @Test func anEventThatNamesSeveralItemsIsAnInteractionWithEach() throws {
    let expected = ["b", "a"].map { Interaction(user: "u", item: $0, type: 3, time: 1_700_000_000_000, value: 9) }
    #expect(try decodeOrder(#"[{"item_id":"b","price":1},{"item_id":"a","quantity":2}]"#) == .interactions(expected))
    #expect(try decodeOrder(#"["b","a"]"#, pointer: "/items/*") == .interactions(expected))
    #expect(try decodeOrder(#"[{"of":{"id":"b"}},{"of":{"id":"a"}}]"#, pointer: "/items/*/of/id") == .interactions(expected))
  }

  @Test(arguments: [
    ("[]", Rejection.Reason.missingField), (#"{"item_id":"a"}"#, .wrongType), (#"[{"item_id":"a"},{"id":"b"}]"#, .wrongType),
    (#"[{"item_id":7}]"#, .wrongType), (#"[{"item_id":""}]"#, .emptyID), (#"["a"]"#, .wrongType), ("null", .nullValue),
  ])
  func aListWithoutItemsIsRejected(items: String, reason: Rejection.Reason) throws {
    let rejection = try decodeOrder(items).rejection
    #expect(rejection?.reason == reason && rejection?.field == "/items")
  }

  @Test func aStarInsideANameIsNoList() throws {
    let decoded = try decodeInteraction(#"{"user":"u","type":"view","time":1,"*a":"i"}"#) { $0.fields.item = "/*a" }
    #expect(decoded.interaction?.item == "i")
  }

  @Test func otherTypesArePassedOverWhereThatIsWanted() throws {
    let event = #"{"user":"u","type":"session_start","time":1}"#
    #expect(try decodeInteraction(event) { $0.ignoresOtherTypes = true } == .ignored)
    #expect(try decodeInteraction(event).rejection?.reason == .unknownType)
    #expect(try decodeInteraction(#"{"user":"u","type":null}"#) { $0.ignoresOtherTypes = true } == .ignored)
    #expect(try decodeInteraction(#"{"user":"u"}"#) { $0.ignoresOtherTypes = true } == .ignored)
    #expect(try decodeInteraction("no JSON") { $0.ignoresOtherTypes = true }.rejection?.reason == .notJSON)
  }
}
