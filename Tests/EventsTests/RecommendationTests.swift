import Events
import TestSupport
import Testing

@Suite struct RecommendationTests {
  @Test func isWrittenAsTheContractSays() throws {
    let list = Recommendation(
      user: "u\"1", items: [.init(item: "a", score: 1.5), .init(item: "b", score: 0.1)], revision: 7, model: 3,
      asOf: .init(topic: "interactions", partition: 2, offset: 41, time: now), generatedAt: now + 1)
    #expect(
      String(decoding: try list.json(), as: UTF8.self) == """
        {"user":"u\\"1","items":[{"item":"a","score":1.5},{"item":"b","score":0.1}],"revision":7,"model":3,\
        "as_of":{"topic":"interactions","partition":2,"offset":41,"time":"2026-01-31T12:00:00.000Z"},\
        "generated_at":"2026-01-31T12:00:00.001Z"}
        """)
  }

  @Test func refusesToWriteAScoreThatIsNotFinite() {
    for score in [Float.nan, .infinity, -.infinity] {
      let list = Recommendation(user: "u", items: [.init(item: "a", score: score)], revision: 1, model: 1, asOf: nil, generatedAt: 0)
      #expect { try list.json() } throws: { ($0 as? Rejection)?.reason == .notFinite }
    }
  }

  @Test func everyListReadsBackAsItWasWritten() throws {
    var generator = SeededGenerator(seed: 5)
    for _ in 0..<500 {
      let list = Recommendation(
        user: randomText(using: &generator),
        items: (0..<Int.random(in: 0...20, using: &generator)).map { _ in
          let score = Float(bitPattern: UInt32.random(in: 0...UInt32.max, using: &generator))
          return .init(item: randomText(using: &generator), score: score.isFinite ? score : 0)
        },
        revision: UInt64.random(in: 0...UInt64.max, using: &generator), model: UInt64.random(in: 0...UInt64.max, using: &generator),
        asOf: Bool.random(using: &generator)
          ? .init(
            topic: randomText(using: &generator), partition: Int32.random(in: 0...Int32.max, using: &generator),
            offset: Int64.random(in: 0...Int64.max, using: &generator), time: Int64.random(in: 0...now, using: &generator)) : nil,
        generatedAt: Int64.random(in: 0...now, using: &generator))
      #expect(try Recommendation(json: try list.json()) == list)
    }
  }

  @Test(arguments: ["", "{}", "[]", #"{"user":"u","items":[],"revision":-1,"model":1,"generated_at":"2026-01-31T12:00:00Z"}"#])
  func refusesToReadWhatIsNoList(json: String) {
    #expect(throws: Rejection.self) { try Recommendation(json: Array(json.utf8)) }
  }
}
