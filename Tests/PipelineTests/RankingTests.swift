import Events
import Recommender
import Settings
import StateStore
import TestSupport
import Testing

@testable import Pipeline

struct RankingTests {
  let folder = TemporaryFolder()

  private func scene(items: Int = 10, _ change: (inout Settings) -> Void = { _ in }) throws -> Scene {
    var settings = Settings.small(folder)
    change(&settings)
    let scene = try Scene(settings)
    for item in 0..<items { try scene.describe("item \(item)", categories: ["c\(item % 3)"]) }
    return scene
  }

  @Test func whatTheUserHasIsNotRecommended() throws {
    let scene = try scene()
    for item in [1, 4, 7] { try scene.interact("u", "item \(item)") }
    let list = try #require(try scene.rankAndAcknowledge().first)
    #expect(list.items.count == 5)
    #expect(Set(list.items).isDisjoint(with: ["item 1", "item 4", "item 7"]))
    let pool = try #require(try scene.store.pool(of: "u"))
    #expect(pool.items.count == 7, "the pool has the rest of the catalogue, best first")
    #expect(try pool.items.prefix(5).map { number in try #require(scene.store.read { (view) throws(StateStoreError) in try view.itemID(number) }) } == list.items)
    #expect(zip(pool.scores, pool.scores.dropFirst()).allSatisfy { $0 >= $1 })
  }

  @Test func onlyTheConfiguredTypesExclude() throws {
    let scene = try scene(items: 5) { $0.rules.excludeTypes = ["purchase"] }
    let purchase = UInt8(try #require(scene.settings.events.types.firstIndex { $0.name == "purchase" }))
    try scene.interact("u", "item 1")
    try scene.interact("u", "item 2", type: purchase)
    let items = try scene.rankAndAcknowledge()[0].items
    #expect(Set(items) == ["item 0", "item 1", "item 3", "item 4"])
  }

  @Test func noCategoryHasMoreThanItsCap() throws {
    let scene = try scene(items: 12) {
      $0.rules.categoryCap = 2
      $0.ranker.topK = 12
      $0.rules.excludeTypes = []
    }
    try scene.describe("of two", categories: ["c0", "c1"])
    try scene.interact("u", "item 1")
    let list = try scene.rankAndAcknowledge()[0]
    var counts: [String: Int] = [:]
    for id in list.items { for category in try #require(scene.store.catalogueItem(id)?.description).categories { counts[category, default: 0] += 1 } }
    #expect(counts.values.allSatisfy { $0 <= 2 } && counts.count == 3)
    #expect(list.items.count >= 5 && list.items.count <= 6)
    #expect(try scene.store.pool(of: "u")?.items.count == 12, "the cap is for what is published")
    // What is left out is left out for better ones of its category.
    let pool = try #require(try scene.store.pool(of: "u")).items.map { number in
      try #require(scene.store.read { (view) throws(StateStoreError) in try view.item(number) })
    }
    var taken: [String: Int] = [:]
    let greedy = pool.filter { item in
      let categories = item.description?.categories ?? []
      guard categories.allSatisfy({ taken[$0, default: 0] < 2 }) else { return false }
      for category in categories { taken[category, default: 0] += 1 }
      return true
    }
    #expect(greedy.map(\.id) == list.items)
  }

  @Test func unavailableAndRetiredItemsAreNeverInAList() throws {
    let scene = try scene(items: 6)
    try scene.interact("u", "item 0")
    try scene.describe("item 1", available: false)
    try scene.retire("item 2")
    #expect(Set(try scene.rankAndAcknowledge()[0].items) == ["item 3", "item 4", "item 5"])
    try scene.describe("item 1", available: true)
    try scene.describe("item 2")
    try scene.interact("u", "item 3")
    #expect(Set(try scene.rankAndAcknowledge()[0].items) == ["item 1", "item 2", "item 4", "item 5"])
  }

  @Test func anItemThatIsRetiredAfterTheSnapshotIsLeftOutAtOnce() throws {
    let scene = try scene(items: 6)
    try scene.interact("u", "item 0")
    _ = try scene.rankAndAcknowledge()
    let snapshot = scene.learning.learner.snapshot
    try scene.retire("item 5")
    try scene.describe("new in its row")
    try scene.interact("u", "item 1")
    let list = try scene.ranking.rankStale(snapshot: snapshot, popular: [], now: scene.clock).publications[0]
    #expect(!list.items.contains("item 5"))
    #expect(!list.items.contains("new in its row"), "the snapshot knows nothing of it but the former item's vector")
  }

  @Test func aListSaysWhatItIsOf() throws {
    let scene = try scene()
    try scene.interact("u", "item 1")
    let offset = scene.stream.next - 1
    let list = try #require(try scene.rankAndAcknowledge()[0].recommendation)
    #expect(list.user == "u" && list.revision == 1 && list.model == scene.learning.learner.snapshot.version)
    #expect(list.generatedAt == scene.clock)
    #expect(list.asOf == Recommendation.Position(topic: StreamWriter.topic, partition: 0, offset: offset, time: scene.clock))
    #expect(try scene.store.pool(of: "u")?.modelVersion == list.model)
  }

  @Test func anUnchangedListIsNotPublishedAgainBeforeItsGreatestAge() throws {
    let scene = try scene()
    try scene.interact("u", "item 1")
    #expect(try scene.rankAndAcknowledge().count == 1)
    func touch() throws {
      try scene.store.write { (transaction) throws(StateStoreError) in
        let asOf = AsOf(topic: StreamWriter.topic, partition: 0, offset: 9, time: 0)
        try transaction.markStale("u", StaleMark(sequence: 1, asOf: asOf, dueTime: 0))
      }
    }
    try touch()
    let made = scene.clock
    scene.clock += 1_000
    #expect(try scene.rankAndAcknowledge().isEmpty)
    #expect(try scene.store.mark(of: "u") == nil, "it is settled")
    #expect(try scene.store.pool(of: "u")?.madeTime == scene.clock, "its pool is of now all the same")
    #expect(try scene.store.pool(of: "u")?.revision == 1)
    try touch()
    scene.clock = made + 3_600_000
    let again = try scene.rankAndAcknowledge()
    #expect(again.map(\.recommendation?.revision) == [2])
    try touch()
    #expect(try scene.rank().isEmpty, "its age counts from the last publication")
  }

  @Test func revisionsRiseWhateverBecomesOfTheLists() throws {
    var scene: Scene! = try scene()
    var revisions: [UInt64] = []
    func rank() throws -> [Publication] {
      let lists = try scene.rank()
      revisions += lists.compactMap(\.recommendation?.revision)
      return lists
    }
    try scene.interact("u", "item 1")
    scene.ranking.release(try rank())
    #expect(try scene.store.mark(of: "u") != nil, "what the broker did not take is ranked again")
    scene.ranking.release(try rank())
    try scene.settle(try rank())
    #expect(try scene.store.mark(of: "u") == nil)
    try scene.interact("u", "item 2")
    _ = try rank()
    // A process that dies before the broker's answer.
    let settings = scene.settings
    scene = nil
    scene = try Scene(settings)
    scene.clock += 1_000_000
    try scene.settle(try rank())
    try scene.interact("u", "item 3")
    _ = try rank()
    #expect(revisions.count == 6)
    #expect(zip(revisions, revisions.dropFirst()).allSatisfy { $0 < $1 }, "\(revisions)")
  }

  /// The list that was released may stand in the topic, or the one before it: nobody knows. So the next one has to go out, even when it
  /// is the one that was acknowledged long ago.
  @Test func afterAFailedDeliveryTheNextListGoesOutEvenIfItIsAnOldOne() throws {
    let scene = try scene(items: 6)
    try scene.interact("u", "item 0")
    let first = try scene.rankAndAcknowledge()[0]
    try scene.retire(first.items[0])
    try scene.interact("u", "item 0")
    let other = try scene.rank()
    #expect(other[0].items != first.items)
    scene.ranking.release(other)
    try scene.describe(first.items[0], categories: ["c9"])
    #expect(try scene.rank().count == 1)
  }

  @Test func aListOnItsWayIsNotMadeTwice() throws {
    let scene = try scene()
    try scene.interact("u", "item 1")
    let first = try scene.rank()
    try scene.interact("u", "item 2")
    try scene.interact("v", "item 2")
    #expect(try scene.rank().map(\.user) == ["v"])
    try scene.settle(first)
    #expect(try scene.store.mark(of: "u") != nil, "the acknowledged list does not reflect the newest event")
    #expect(try scene.rank().map(\.user) == ["u"])
  }

  @Test func whatTheBrokerHasIsNotMadeAgainBeforeTheStoreHearsOfIt() throws {
    let scene = try scene()
    try scene.interact("u", "item 1")
    let first = try scene.rank()
    scene.ranking.acknowledge(first)
    #expect(scene.ranking.hasSettled)
    #expect(try scene.rank().isEmpty)
    #expect(try scene.store.pool(of: "u") == nil && scene.store.mark(of: "u") != nil)
    // A newer event is answered all the same, and what the store then hears is the newest.
    try scene.interact("u", "item 2")
    let second = try scene.rank()
    #expect(second.map(\.recommendation?.revision) == [2] && !second[0].items.contains("item 2"))
    try scene.settle(second)
    #expect(!scene.ranking.hasSettled)
    #expect(try scene.store.pool(of: "u")?.revision == 2 && scene.store.mark(of: "u") == nil)
  }

  @Test func aFirstListWhoseMarkIsAnotherByNowIsNotedWithTheNext() throws {
    let scene = try scene()
    try scene.interact("u", "item 1")
    let first = try scene.rank()
    try scene.interact("u", "item 2")
    try scene.settle(first)
    #expect(try scene.store.pool(of: "u") == nil, "the user may have been erased and come back")
    try scene.settle(try scene.rank())
    #expect(try scene.store.pool(of: "u")?.revision == 2 && scene.store.mark(of: "u") == nil)
  }

  @Test func whatTheStoreDidNotHearOfIsMadeAgainAfterACrash() throws {
    var scene: Scene! = try scene()
    try scene.interact("u", "item 1")
    let lost = try #require(try scene.rank().first)
    scene.ranking.acknowledge([lost])
    let settings = scene.settings
    scene = nil
    scene = try Scene(settings)
    scene.clock += 1_000_000
    let again = try #require(try scene.rankAndAcknowledge().first?.recommendation)
    #expect(again.revision > lost.recommendation?.revision ?? .max)
  }

  @Test func oneCallRanksABatchAndTheLongestDueFirst() throws {
    let scene = try scene {
      $0.ranker.batchSize = 3
      $0.ranker.debounce = .seconds(2)
    }
    for user in 0..<7 { try scene.interact("user \(user)", "item 1") }
    #expect(try scene.rankAndAcknowledge().map(\.user) == ["user 0", "user 1", "user 2"])
    #expect(try scene.rankAndAcknowledge().map(\.user) == ["user 3", "user 4"], "the others are not due yet")
    scene.clock += 10_000
    #expect(try scene.rankAndAcknowledge().map(\.user) == ["user 5", "user 6"])
    #expect(try scene.rankAndAcknowledge().isEmpty)
  }

  @Test func aClockThatIsSetBackKeepsNobodyWaiting() throws {
    let scene = try scene { $0.ranker.debounce = .seconds(20) }
    scene.clock += 365 * 86_400_000
    for user in 0..<3 { try scene.interact("user \(user)", "item 1") }
    #expect(try scene.rankAndAcknowledge().isEmpty, "they are not due yet")
    scene.clock -= 365 * 86_400_000
    #expect(try scene.rankAndAcknowledge().map(\.user) == ["user 0", "user 1", "user 2"])
    try scene.interact("user 4", "item 1")
    #expect(try scene.rankAndAcknowledge().isEmpty, "the debounce holds again")
  }

  @Test func aForgottenUsersListIsErased() throws {
    let scene = try scene()
    for item in [1, 2] { try scene.interact("u", "item \(item)") }
    let before = try #require(try scene.rankAndAcknowledge()[0].recommendation)
    try scene.forget("u")
    let tombstone = try scene.rank()
    #expect(tombstone.count == 1 && tombstone[0].user == "u" && tombstone[0].recommendation == nil)
    #expect(try scene.store.mark(of: "u") != nil, "not before the broker has it")
    scene.ranking.release(tombstone)
    try scene.settle(try scene.rank())
    #expect(try scene.store.mark(of: "u") == nil)
    #expect(try scene.store.pool(of: "u") == nil)
    // Whoever comes back under the same id starts anew, above the revisions that were.
    try scene.interact("u", "item 3")
    let after = try #require(try scene.rankAndAcknowledge()[0].recommendation)
    #expect(after.revision > before.revision)
  }

  @Test func aUserWhoIsForgottenWhileTheirListIsOnItsWayIsErasedAfterIt() throws {
    let scene = try scene()
    try scene.interact("u", "item 1")
    let list = try scene.rank()
    try scene.forget("u")
    try scene.settle(list)
    #expect(try scene.store.pool(of: "u") == nil, "the acknowledgement brings nothing back")
    let tombstone = try scene.rank()
    #expect(tombstone.map(\.user) == ["u"] && tombstone[0].recommendation == nil)
    try scene.settle(tombstone)
    // The store never had the list that went out.
    try scene.interact("u", "item 2")
    let after = try scene.rankAndAcknowledge()
    #expect(after[0].recommendation?.revision ?? 0 > list[0].recommendation?.revision ?? .max)
  }

  @Test func aCleanEndKeepsRevisionsOfListsThatNobodyAnswered() throws {
    var scene: Scene! = try scene()
    try scene.interact("u", "item 1")
    let lost = try scene.rank()
    scene.ranking.release(lost)
    try scene.ranking.endPublishing()
    let settings = scene.settings
    scene = nil
    scene = try Scene(settings)
    scene.clock += 1_000_000
    #expect(try scene.rank()[0].recommendation?.revision == 2)
  }

  @Test func aUserOfWhomNothingIsKnownGetsThePopularList() throws {
    let scene = try scene(items: 6)
    try scene.interact("u", "item 5")
    try scene.retire("item 5")
    try scene.describe("item 2", available: false)
    let list = try #require(try scene.rank(popular: ["item 5", "item 3", "item 2", "item 0"])[0].recommendation)
    #expect(list.items.map(\.item) == ["item 3", "item 0"])
    #expect(zip(list.items, list.items.dropFirst()).allSatisfy { $0.score > $1.score })
  }

  @Test func guestsGetThePopularListWhenItChanges() throws {
    let scene = try scene(items: 8)
    func guests(_ items: [Int]) throws -> Publication? {
      let numbers = try items.map { try scene.store.number(of: "item \($0)") }
      return try scene.ranking.guestList(popular: numbers, scores: items.indices.map { 10 - Float($0) }, now: scene.clock)
    }
    let first = try #require(try guests([3, 1, 2, 4, 5, 6, 7]))
    #expect(first.user == scene.settings.ranker.guestKey)
    #expect(first.items == ["item 3", "item 1", "item 2", "item 4", "item 5"])
    #expect(first.recommendation?.asOf == nil && first.recommendation?.revision == 1)
    #expect(try guests([1, 3]) == nil, "one is on its way")
    try scene.settle([first])
    #expect(try guests([3, 1, 2, 4, 5]) == nil, "it is the same list")
    let second = try #require(try guests([1, 3]))
    #expect(second.recommendation?.revision == 2)
    scene.ranking.release([second])
    let third = try #require(try guests([1, 3]))
    #expect(third.recommendation?.revision == 3)
    try scene.settle([third])
    try scene.describe("item 1", available: false)
    #expect(try guests([1, 3])?.items == ["item 3"])
    #expect(try guests([]) == nil)
  }

  @Test func theGuestsListIsNotSentAgainAfterARestart() throws {
    let settings: Settings
    do {
      let scene = try scene(items: 3)
      settings = scene.settings
      let list = try #require(try scene.ranking.guestList(popular: [scene.store.number(of: "item 1")], scores: [1], now: 5))
      try scene.settle([list])
      try scene.ranking.endPublishing()
    }
    let scene = try Scene(settings)
    #expect(try scene.ranking.guestList(popular: [scene.store.number(of: "item 1")], scores: [1], now: 9) == nil)
  }

  /// Lists may be in the topic of which the store has heard nothing.
  @Test func afterAStartThatWasNotEndedRevisionsAreLeftOut() throws {
    let settings: Settings
    do {
      let scene = try scene(items: 8)
      settings = scene.settings
      try scene.interact("u", "item 1")
      #expect(try scene.rankAndAcknowledge().map(\.recommendation?.revision) == [1])
    }
    var last: UInt64 = 1
    for (item, (leavesOut, isEnded)) in [(true, true), (false, true), (false, false), (true, false), (true, true)].enumerated() {
      let scene = try Scene(settings)
      try scene.interact("u", "item \(2 + item)")
      let revision = try #require(try scene.rankAndAcknowledge().first?.recommendation?.revision)
      #expect(leavesOut ? revision > last + 1 : revision == last + 1)
      last = revision
      if isEnded { try scene.ranking.endPublishing() }
    }
  }

  /// The topic may have a later list that the store has heard nothing of.
  @Test func afterAStartThatWasNotEndedAListGoesOutThoughTheStoreHasTheSame() throws {
    let settings: Settings
    do {
      let scene = try scene(items: 3) { $0.rules.excludeTypes = [] }
      settings = scene.settings
      try scene.interact("u", "item 1")
      _ = try scene.rankAndAcknowledge()
    }
    let scene = try Scene(settings)
    scene.clock += 1_000_000
    try scene.interact("u", "item 1")
    let again = try scene.rankAndAcknowledge()
    #expect(again.count == 1)
    try scene.interact("u", "item 1")
    let unchanged = try scene.rank()
    #expect(unchanged.isEmpty || unchanged[0].items != again[0].items)
  }

  @Test func withoutAKeyThereIsNoListForGuests() throws {
    let scene = try scene(items: 3) { $0.ranker.guestKey = "" }
    #expect(try scene.ranking.guestList(popular: [scene.store.number(of: "item 1")], scores: [1], now: 5) == nil)
  }
}
