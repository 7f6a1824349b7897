import Events
import Testing

@Suite struct DeadLetterTests {
  @Test func keepsTheOriginalAndAddsWhereAndWhy() {
    let original = DeadLetter.Header(name: "trace", value: nil)
    let letter = DeadLetter(
      key: [1], value: nil, headers: [original, original], topic: "interactions", partition: 3, offset: 99,
      rejection: Rejection(.emptyID, field: "user", "user is empty"))
    #expect(letter.key == [1])
    #expect(letter.value == nil)
    #expect(letter.headers.prefix(2) == [original, original])
    let added = letter.headers.dropFirst(2).map { "\($0.name)=\(String(decoding: $0.value ?? [], as: UTF8.self))" }
    #expect(
      added == [
        "rodpod.origin.topic=interactions", "rodpod.origin.partition=3", "rodpod.origin.offset=99", "rodpod.error.class=empty_id",
        "rodpod.error.field=user", "rodpod.error.message=user is empty",
      ])
  }
}
