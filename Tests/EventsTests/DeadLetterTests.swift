import Events
import Testing

@Suite struct DeadLetterTests {
  @Test func keepsTheOriginalAndAddsWhereAndWhy() {
    let original = DeadLetter.Header(name: "trace", value: nil)
    let letter = DeadLetter(
      key: [1], value: nil, headers: [original, original], topic: "interactions", partition: 3, offset: 99, timestamp: 1_700_000_000_000,
      rejection: Rejection(.emptyID, field: "user", "user is empty"))
    #expect(letter.key == [1])
    #expect(letter.value == nil)
    #expect(letter.headers.prefix(2) == [original, original])
    let added = letter.headers.dropFirst(2).map { "\($0.name)=\(String(decoding: $0.value ?? [], as: UTF8.self))" }
    #expect(
      added == [
        "rodpod.origin.topic=interactions", "rodpod.origin.partition=3", "rodpod.origin.offset=99",
        "rodpod.origin.timestamp=1700000000000", "rodpod.error.class=empty_id", "rodpod.error.field=user",
        "rodpod.error.message=user is empty",
      ])
  }

  @Test func tellsItsOriginAndTheOriginalsHeaders() throws {
    let own = DeadLetter.Header(name: "trace", value: [7])
    let written = DeadLetter(
      key: [1], value: [2], headers: [own], topic: "items", partition: 3, offset: 99, rejection: Rejection(.notJSON, "not JSON"))
    let found = DeadLetter(key: written.key, value: written.value, headers: written.headers)
    #expect(found.originalHeaders == [own])
    let origin = try #require(found.origin)
    #expect(origin.topic == "items" && origin.partition == 3 && origin.offset == 99 && origin.timestamp == nil)
    #expect(origin.errorClass == "not_json" && origin.errorField == nil && origin.errorMessage == "not JSON")
    #expect(DeadLetter(key: nil, value: nil, headers: [own]).origin == nil)
  }
}
