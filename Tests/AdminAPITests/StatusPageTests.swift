import AdminAPI
import Foundation
import Testing

@Suite(.timeLimit(.minutes(2)))
struct StatusPageTests {
  @Test func thePageNamesNoOutsideResourceAndItsPolicyAllowsOnlyItsOwnCode() async throws {
    try await withServer { client in
      let first = await client.get("/")
      #expect(first.headers["content-type"] == "text/html; charset=utf-8")
      #expect(!first.text.contains("https://"))
      #expect(!first.text.contains("src="))
      #expect(!first.text.contains("{nonce}"))

      let policy = try #require(first.headers["content-security-policy"])
      let nonce = try #require(policy.firstMatch(of: /script-src 'nonce-([0-9a-f]+)'/)?.1)
      #expect(first.text.contains("<script nonce=\"\(nonce)\">"))
      #expect(first.text.contains("<style nonce=\"\(nonce)\">"))
      #expect(policy.contains("connect-src 'self'"))
      #expect(await client.get("/").headers["content-security-policy"] != policy)
    }
  }

  @Test func theReportShowsTheFiguresTheReadinessAndTheHistory() async throws {
    let daemon = PlayedDaemon()
    daemon.report.quality = LiveQuality(
      k: 10, window: 50, model: .init(hitRate: 0.2, ndcg: 0.1, mrr: 0.05), popularity: .init(hitRate: 0.1, ndcg: 0.04, mrr: 0.02))
    daemon.reasons = ["no snapshot yet"]
    try await withServer(daemon) { client in
      var status = try await client.get("/status.json").json()
      // The first sample is taken as the server starts, which may be after the first question.
      let deadline = ContinuousClock.now + .seconds(30)
      while (status["history"] as? [Any])?.isEmpty != false, ContinuousClock.now < deadline {
        status = try await client.get("/status.json").json()
      }
      #expect(status["ready"] as? Bool == false)
      #expect(status["unready_reasons"] as? [String] == ["no snapshot yet"])
      let now = try #require(status["now"] as? [String: Any])
      #expect(now["version"] as? String == "1.2.3")
      #expect(now["events"] as? Int == 10)
      #expect(now["dead_letters"] as? [String: Int] == ["not_json": 2])
      let quality = try #require(now["quality"] as? [String: Any])
      #expect(quality["k"] as? Int == 10)
      #expect((quality["model"] as? [String: Double])?["hit_rate"] == 0.2)
      let point = try #require((status["history"] as? [[String: Any]])?.first)
      #expect((point["model"] as? [String: Double])?["ndcg"] == 0.1)
      #expect((point["popularity"] as? [String: Double])?["ndcg"] == 0.04)
      #expect(point["loss"] as? Double == 0.5)
    }
  }

  @Test func aLossThatIsNoNumberDoesNotBreakTheReport() async throws {
    let daemon = PlayedDaemon()
    daemon.report.loss = .nan
    try await withServer(daemon) { client in
      let answer = await client.get("/status.json")
      #expect(answer.status == 200)
      let now = try answer.json()["now"] as? [String: Any]
      #expect(now?["loss"] as? String == "NaN")
    }
  }
}

struct StatusHistoryTests {
  private let start = ContinuousClock.now

  private func add(_ second: Int, events: UInt64, steps: UInt64 = 0, to history: StatusHistory) {
    history.add(
      StatusReport(version: "", events: events, learningSteps: steps), time: Date(timeIntervalSince1970: Double(second)),
      instant: start + .seconds(second))
  }

  @Test func ratesAreMeasuredOverTheLastSeconds() {
    let history = StatusHistory()
    let now = StatusReport(version: "")
    #expect(history.status(now: now, unreadyReasons: []).eventsPerSecond == nil)
    add(0, events: 0, to: history)
    #expect(history.status(now: now, unreadyReasons: []).eventsPerSecond == nil)
    for second in 1...10 { add(second, events: 1000, steps: UInt64(second * 3), to: history) }
    let status = history.status(now: now, unreadyReasons: [])
    // The jump from 0 to 1000 is more than five seconds ago.
    #expect(status.eventsPerSecond == 0)
    #expect(status.learningStepsPerSecond == 3)
    #expect(status.history[1].eventsPerSecond == 1000)
  }

  @Test func theHistorySpansTheWholeRunInBoundedMemoryWithEvenSpacing() {
    let history = StatusHistory()
    let samples = StatusHistory.capacity * 9 + 5
    for second in 0..<samples { add(second, events: UInt64(second), to: history) }
    let times = history.status(now: StatusReport(version: ""), unreadyReasons: []).history.map { Int($0.time.timeIntervalSince1970) }
    #expect(times.count <= StatusHistory.capacity)
    #expect(times.count > StatusHistory.capacity / 2 - 1)
    #expect(times.first == 0)
    #expect(Set(zip(times, times.dropFirst()).map { $1 - $0 }) == [16])
    #expect(samples - (times.last ?? 0) <= 16)
  }
}
