import Events
import Foundation
import Kafka
import Testing
import TestBroker
import TestSupport

extension DaemonProcessTests {
  /// What a shop's own code asks the running daemon.
  @Suite struct RequestTests {
    private static let start: Int64 = 1_700_000_000_000

    private func view(_ user: String, _ item: String, at time: Int64) -> Record {
      Record(Events.Interaction(user: user, item: item, type: 0, time: Self.start + time), type: "view")
    }

    private func items(_ answer: AdminAnswer?) throws -> [String] {
      let answer = try #require(answer)
      #expect(answer.status == 200, "\(answer.body)")
      return try #require(try answer.json()["items"] as? [[String: Any]]).compactMap { $0["item"] as? String }
    }

    private func source(_ answer: AdminAnswer?) throws -> String? { try answer?.json()["source"] as? String }

    @Test func listsAreReadRankedNowFilteredAndExplained() async throws {
      // Next to nothing is learned, so that the model of the published list is that of the fresh one.
      let installation = try Installation(
        bootstrapServers: try await Broker.shared().bootstrapServers,
        configuration: ["learner.learning_rate": "1e-8", "learner.stride": "1000000", "model.neighbours": "0"])
      let daemon = try await installation.startAndWait()
      try installation.produce(
        (0..<30).map { Record(Events.ItemDescription(item: "i/\($0)", title: "Item \($0)", categories: ["c&\($0 % 3)"])) }, to: "items")
      try await installation.waitUntilRankable(30)
      try installation.produce((0..<3).map { view("u 1", "i/\($0)", at: Int64($0)) }, to: "interactions")
      try await installation.waitUntilSettled()

      let path = "/v1/users/u%201/recommendations"
      let stored = installation.ask(path)
      let published = try #require(try installation.published().last { $0.user == "u 1" }?.list)
      #expect(try items(stored) == published.items.map(\.item))
      #expect(try source(stored) == "published")
      #expect(try stored?.json()["revision"] as? UInt64 == published.revision)
      let fresh = installation.ask(path + "?fresh=true")
      #expect(try source(fresh) == "fresh")
      #expect(Set(try items(fresh)).isDisjoint(with: ["i/0", "i/1", "i/2"]))

      let whole = try items(installation.ask(path + "?limit=1000"))
      #expect(whole.count == 27)
      for fresh in [false, true] {
        let filtered = try items(installation.ask(path + "?limit=1000&category=c%261&category=other&exclude=\(encoded(whole[0]))&fresh=\(fresh)"))
        #expect(Set(filtered) == Set(whole.dropFirst().filter { Int($0.dropFirst(2)).map { $0 % 3 == 1 } == true }))
      }
      let explained = try #require(try installation.ask(path + "?explain=true&limit=2")?.json()["items"] as? [[String: Any]])
      for item in explained {
        let nearest = try #require(item["nearest"] as? [[String: Any]])
        #expect(Set(nearest.compactMap { $0["item"] as? String }) == ["i/0", "i/1", "i/2"])
        let similarities = nearest.compactMap { $0["score"] as? Double }
        #expect(similarities == similarities.sorted(by: >) && similarities.allSatisfy { abs($0) < 1.0001 })
        #expect((item["title"] as? String)?.hasPrefix("Item ") == true)
        // The list is of the model that explains it.
        let parts = try #require(item["parts"] as? [String: Double])
        #expect(parts.keys.sorted() == ["bias", "encoder", "neighbourhood"] && parts["neighbourhood"] == 0)
        #expect(abs(parts.values.reduce(0, +) - (item["score"] as? Double ?? .nan)) < 1e-2)
        #expect(0...1 ~= item["id_share"] as? Double ?? -1)
      }

      // A session of the same items, with one that nobody knows among them, and one of which nothing is known.
      func session(_ json: String) -> AdminAnswer? { askAdmin("/v1/recommendations", method: "POST", json: json, port: installation.adminPort) }
      let ranked = session(#"{"items":["i/0","unknown","i/1","i/2"],"limit":1000,"categories":["c&2"],"exclude":["i/5"]}"#)
      #expect(try source(ranked) == "fresh")
      #expect(Set(try items(ranked)) == Set((0..<30).filter { $0 % 3 == 2 && $0 != 2 && $0 != 5 }.map { "i/\($0)" }))
      for answer in [session(#"{"items":["unknown"]}"#), installation.ask("/v1/users/nobody/recommendations?fresh=true")] {
        #expect(try source(answer) == "popular")
      }
      #expect(session("{}")?.status == 400)

      // One interaction more takes its item out of the list.
      #expect((try installation.ask("/v1/users/u%201")?.json()["changes"] as? [[String: Any]])?.isEmpty == true)
      try installation.produce([view("u 1", published.items[0].item, at: 3)], to: "interactions")
      try await installation.waitUntilSettled()
      let changes = try #require(try installation.ask("/v1/users/u%201")?.json()["changes"] as? [[String: Any]])
      #expect(changes.first?["revision"] as? UInt64 == (try installation.published().last { $0.user == "u 1" }?.list?.revision))
      let moves = try #require(changes.first?["moves"] as? [[String: Any]])
      let left = try #require(moves.first { $0["to"] == nil })
      #expect(left["item"] as? String == published.items[0].item && left["from"] as? Int == 1 && left["title"] as? String != nil)

      let similar = try items(installation.ask("/v1/items/i%2F7/similar?limit=1000&exclude=i%2F8"))
      #expect(Set(similar) == Set((0..<30).filter { $0 != 7 && $0 != 8 }.map { "i/\($0)" }))
      #expect(installation.ask("/v1/items/unknown/similar")?.status == 404)
      #expect(daemon.loggedErrors == [])
    }

    /// Nothing is learned of it and nothing happens after it came: its content alone brings it to who had its like.
    @Test func anItemThatNobodyHadIsFoundByItsContent() async throws {
      let installation = try Installation(
        bootstrapServers: try await Broker.shared().bootstrapServers,
        configuration: ["model.modalities": "{image: 2, text: 4}", "learner.stride": "1000000"])
      let daemon = try await installation.startAndWait()
      func item(_ name: String, kind: Int) -> Record {
        var text = [Float](repeating: 0.1, count: 4)
        text[kind] = 1
        return Record(Events.ItemDescription(item: name, features: [.init(name: "text", values: text)]))
      }
      try installation.produce((0..<40).map { item("old \($0)", kind: $0 % 4) }, to: "items")
      try await installation.waitUntilRankable(40)
      try installation.produce([view("u", "old 0", at: 0)], to: "interactions")
      try await installation.waitUntilSettled()
      try installation.produce([item("like", kind: 0), item("unlike", kind: 1)], to: "items")
      var found: [String: Double] = [:]
      try await waitUntil("both are ranked, one with evidence") {
        let list = try installation.ask("/v1/users/u/recommendations?fresh=true&explain=true&limit=1000")?.json()["items"] as? [[String: Any]]
        for item in list ?? [] {
          if let name = item["item"] as? String, let parts = item["parts"] as? [String: Double] { found[name] = parts["neighbourhood"] }
        }
        return found["unlike"] != nil && found["like"] ?? 0 > 0.1
      }
      // Those of the other kinds are equally unlike but for rounding.
      #expect(found["unlike"] ?? 1 < 0.01)
      #expect(daemon.loggedErrors == [])
    }

    private func encoded(_ id: String) -> String { id.replacing("/", with: "%2F") }
  }
}
