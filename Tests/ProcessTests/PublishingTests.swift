import Events
import Foundation
import Kafka
import StateStore
import Testing
import TestBroker
import TestSupport

extension DaemonProcessTests {
  /// What a storefront reads in the topic of recommendations.
  @Suite struct PublishingTests {
    private static let start: Int64 = 1_700_000_000_000

    private func event(_ user: String, _ item: String, _ type: String = "view", at time: Int64) -> Record {
      Record(Events.Interaction(user: user, item: item, type: 0, time: Self.start + time), type: type)
    }

    /// A daemon that knows the items and has learned a little of what goes with what.
    private func startWithCatalogue(
      _ items: [Events.ItemDescription], configuration: [String: String] = [:]
    ) async throws -> (Installation, ChildProcess) {
      let installation = try Installation(bootstrapServers: try await Broker.shared().bootstrapServers, configuration: configuration)
      let daemon = try await installation.startAndWait()
      try installation.produce(items.map { Record($0) }, to: "items")
      try await installation.waitUntilRankable(items.count)
      return (installation, daemon)
    }

    private func catalogue(_ count: Int) -> [Events.ItemDescription] {
      (0..<count).map { Events.ItemDescription(item: "i-\($0)", title: "Item \($0)", categories: ["c-\($0 % 4)"]) }
    }

    private func last(_ installation: Installation, _ user: String) throws -> Recommendation? {
      try installation.published().last { $0.user == user }?.list
    }

    @Test func listsHoldNothingThatTheUserHasAndSayWhatTheyReflect() async throws {
      let (installation, daemon) = try await startWithCatalogue(catalogue(40))
      var generator = SeededGenerator(seed: 1)
      var histories: [String: Set<String>] = [:]
      let events = (0..<120).map { number in
        let (user, item) = ("u-\(number % 8)", "i-\(Int.random(in: 0..<40, using: &generator))")
        histories[user, default: []].insert(item)
        return event(user, item, at: Int64(number))
      }
      let deliveries = try installation.produce(events, to: "interactions")
      try await installation.waitUntilSettled()
      let published = try installation.published()
      for (user, history) in histories {
        let list = try #require(published.last { $0.user == user }?.list)
        #expect(list.user == user)
        #expect(list.items.count == min(20, 40 - history.count))
        #expect(Set(list.items.map(\.item)).count == list.items.count)
        #expect(history.isDisjoint(with: list.items.map(\.item)))
        #expect(zip(list.items, list.items.dropFirst()).allSatisfy { $0.score >= $1.score })
        #expect(list.items.allSatisfy { $0.score.isFinite })
        let asOf = try #require(list.asOf)
        #expect(asOf.topic == installation.topic("interactions"))
        // The events that a list reflects are the user's up to this one.
        let place = try #require(deliveries.firstIndex { $0.partition == asOf.partition && $0.offset == asOf.offset })
        #expect(events[place].key == Array(user.utf8))
        #expect(asOf.time == Self.start + Int64(place))
        #expect(list.generatedAt > Self.start)
      }
      withExtendedLifetime(daemon) {}
    }

    @Test func onlyTheConfiguredInteractionTypesExcludeAnItem() async throws {
      let (installation, daemon) = try await startWithCatalogue(catalogue(6), configuration: ["rules.exclude_types": "[purchase]"])
      try installation.produce(
        [event("u", "i-0", at: 0), event("u", "i-1", "purchase", at: 1), event("u", "i-2", at: 2)], to: "interactions")
      try await installation.waitUntilSettled()
      #expect(Set(try #require(try last(installation, "u")).items.map(\.item)) == ["i-0", "i-2", "i-3", "i-4", "i-5"])
      withExtendedLifetime(daemon) {}
    }

    @Test func unavailableAndRetiredItemsAreNotRecommended() async throws {
      var items = catalogue(10)
      items[1].available = false
      let (installation, daemon) = try await startWithCatalogue(items)
      try installation.produce([event("u", "i-0", at: 0), event("v", "i-2", at: 1)], to: "interactions")
      try await installation.waitUntilSettled()
      #expect(Set(try #require(try last(installation, "u")).items.map(\.item)) == Set((2..<10).map { "i-\($0)" }))

      try installation.produce([Record("i-2", nil)], to: "items")
      items[1].available = true
      items[3].available = false
      try installation.produce([Record(items[1]), Record(items[3])], to: "items")
      try await installation.waitUntilConsumed()
      // The retired item is interacted with all the same.
      try installation.produce([event("u", "i-4", at: 2), event("v", "i-2", at: 3), event("v", "i-5", at: 4)], to: "interactions")
      try await installation.waitUntilSettled()
      #expect(Set(try #require(try last(installation, "u")).items.map(\.item)) == ["i-1", "i-5", "i-6", "i-7", "i-8", "i-9"])
      #expect(Set(try #require(try last(installation, "v")).items.map(\.item)) == ["i-0", "i-1", "i-4", "i-6", "i-7", "i-8", "i-9"])
      #expect(try await installation.inspect("item", "i-2")["state"] as? String == "retired")
      #expect(try #require(try last(installation, "_guest")).items.allSatisfy { !["i-2", "i-3"].contains($0.item) })
      withExtendedLifetime(daemon) {}
    }

    @Test func noCategoryTakesMoreThanItsCap() async throws {
      let (installation, daemon) = try await startWithCatalogue(
        catalogue(40), configuration: ["rules.category_cap": "2", "ranker.guest_key": "everybody"])
      try installation.produce((0..<20).map { event("u-\($0 % 3)", "i-\($0)", at: Int64($0)) }, to: "interactions")
      try await installation.waitUntilSettled()
      try await waitUntil("the guests have a list of all categories") { try self.last(installation, "everybody")?.items.count == 8 }
      for user in ["u-0", "u-1", "u-2", "everybody"] {
        let list = try #require(try last(installation, user))
        #expect(list.items.count == 8, "two of each of four categories")
        let categories = list.items.compactMap { Int($0.item.dropFirst(2)).map { $0 % 4 } }
        #expect((0..<4).allSatisfy { category in categories.count { $0 == category } == 2 })
      }
      withExtendedLifetime(daemon) {}
    }

    @Test func guestsGetThePopularItems() async throws {
      let (installation, daemon) = try await startWithCatalogue(catalogue(10), configuration: ["ranker.top_k": "3"])
      // i-0 three times, i-1 twice, i-2 once.
      let views = ["i-0", "i-0", "i-0", "i-1", "i-1", "i-2"].enumerated().map { event("u-\($0)", $1, at: Int64($0)) }
      try installation.produce(views, to: "interactions")
      try await waitUntil("the guests' list") { try self.last(installation, "_guest")?.items.map(\.item) == ["i-0", "i-1", "i-2"] }
      let first = try #require(try last(installation, "_guest"))
      #expect(first.items.map(\.score) == [3, 2, 1])
      #expect(first.asOf == nil)
      try installation.produce((6..<10).map { event("u-\($0)", "i-3", at: Int64($0)) }, to: "interactions")
      try await waitUntil("the guests' list follows") { try self.last(installation, "_guest")?.items.first?.item == "i-3" }
      let revisions = try installation.published().filter { $0.user == "_guest" }.compactMap { $0.list?.revision }
      #expect(zip(revisions, revisions.dropFirst()).allSatisfy { $0 < $1 })

      // A start publishes the same list no second time.
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
      let again = try await installation.startAndWait()
      try installation.produce([event("another", "i-3", at: 20), event("another", "i-2", at: 21)], to: "interactions")
      try await installation.waitUntilSettled()
      let after = try installation.published().filter { $0.user == "_guest" }.compactMap { $0.list }
      #expect(zip(after, after.dropFirst()).allSatisfy { $0.items.map(\.item) != $1.items.map(\.item) && $0.revision < $1.revision })
      withExtendedLifetime(again) {}
    }

    @Test func anUnchangedListIsNotPublishedAgainUntilItsMaximumAge() async throws {
      // Next to nothing is learned and all items stay allowed, so the list of one who does the same again and again stays as it is.
      let (installation, daemon) = try await startWithCatalogue(
        catalogue(5), configuration: ["learner.learning_rate": "1e-8", "rules.exclude_types": "[]"])
      func act(at time: Int64) async throws {
        try installation.produce([event("u", "i-0", at: time)], to: "interactions")
        try await installation.waitUntilConsumed()
        try await waitUntil("no user waits") { try installation.store?.info().staleUsers == 0 }
      }
      func lists() throws -> [Recommendation] {
        try installation.published().filter { $0.user == "u" }.compactMap { $0.list }
      }
      for time in 0..<25 { try await act(at: Int64(time)) }
      let changes = try lists()
      #expect(zip(changes, changes.dropFirst()).allSatisfy { $0.items.map(\.item) != $1.items.map(\.item) })
      installation.configuration["ranker.max_age_ms"] = "1000"
      try installation.writeConfiguration()
      daemon.send(SIGHUP)
      try await waitUntil("the age is taken over") { daemon.standardError.contains(/a setting is changed .*ranker.max_age_ms/) }
      try await waitUntil("the list goes out again, unchanged") {
        try await act(at: Int64(Date().timeIntervalSince1970 * 1000) - Self.start - 60_000)
        let lists = try lists()
        return zip(lists, lists.dropFirst()).contains {
          $0.items.map(\.item) == $1.items.map(\.item) && $1.generatedAt >= $0.generatedAt + 1000 && $1.revision > $0.revision
        }
      }
    }

    @Test(arguments: ["tombstone", "event", "request"]) func aForgottenUserLeavesNothingButATombstone(_ way: String) async throws {
      let (installation, daemon) = try await startWithCatalogue(catalogue(30))
      try installation.produce(
        (0..<10).map { event("u", "i-\($0)", at: Int64($0)) } + [event("v", "i-0", at: 10), event("v", "i-1", at: 11)], to: "interactions")
      try await installation.waitUntilSettled()
      let before = try #require(try last(installation, "u"))
      switch way {
      case "tombstone": try installation.produce([Record("u", nil)], to: "interactions")
      case "event": try installation.produce([Record("u", #"{"user": "u", "type": "forget"}"#)], to: "interactions")
      default: #expect(askAdmin("/v1/users/u", method: "DELETE", port: installation.adminPort)?.status == 204)
      }
      try await installation.waitUntilSettled()
      let own = try installation.published().filter { $0.user == "u" }
      #expect(own.last?.list == nil && !own.isEmpty)
      #expect(try await installation.rodpod("inspect", "user", "u", "--store", installation.storePath).code == 1)
      #expect(try await installation.rodpod("inspect", "pool", "u", "--store", installation.storePath).code == 1)
      #expect(installation.ask("/v1/users/u")?.status == 404)
      #expect(try await installation.inspect("user", "v")["user"] as? String == "v")
      #expect(try installation.deadLetters().isEmpty)

      // Who comes back starts anew, with a revision above all that was read of them.
      try installation.produce([event("u", "i-20", at: 20)], to: "interactions")
      try await installation.waitUntilSettled()
      let after = try #require(try last(installation, "u"))
      #expect(after.revision > before.revision)
      #expect(after.items.count == 20)
      #expect((try await installation.inspect("user", "u")["interactions"] as? [Any])?.count == 1)
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
      #expect(daemon.loggedErrors == [])
    }
  }
}
