import DaemonSupport
import Events
import Recommender
import Settings
import StateStore
import TestSupport
import Testing

@testable import Pipeline

struct RequestedListTests {
  let folder = TemporaryFolder()

  private func scene(items: Int = 12, _ change: (inout Settings) -> Void = { _ in }) throws -> Scene {
    var settings = Settings.small(folder)
    change(&settings)
    let scene = try Scene(settings)
    for item in 0..<items { try scene.describe("item \(item)", categories: ["c\(item % 3)"]) }
    return scene
  }

  private func ids(_ list: [RequestedList.Entry]?) -> [String]? { list?.map(\.item.id) }

  private func stored(_ scene: Scene, _ user: String, _ filter: ListFilter) throws -> [String] {
    let pool = try #require(try scene.store.pool(of: user))
    return try scene.store.read { (transaction) throws(StateStoreError) in
      try transaction.select(zip(pool.items, pool.scores), filter, categoryCap: scene.settings.rules.categoryCap)
    }.map(\.item.id)
  }

  @Test func aFreshListIsWhatIsPublishedAtTheSameMoment() throws {
    let scene = try scene()
    for item in [1, 4, 7] { try scene.interact("u", "item \(item)") }
    _ = try scene.learning.step(partial: true)
    let published = try scene.rankAndAcknowledge()[0]
    let snapshot = scene.learning.learner.snapshot
    let fresh = try scene.ranking.list(of: "u", ListFilter(count: 5), snapshot: snapshot)
    #expect(ids(fresh) == published.items)
    #expect(fresh?.map(\.score) == published.recommendation?.items.map { Float($0.score) })
    #expect(Set(fresh?.map(\.score) ?? []).count > 1, "something was learned, so the order is not that of the rows")
    #expect(try stored(scene, "u", ListFilter(count: 5)) == published.items)
    // It reflects what the published list does not yet.
    try scene.interact("u", published.items[0])
    #expect(try ids(scene.ranking.list(of: "u", ListFilter(count: 5), snapshot: snapshot))?.contains(published.items[0]) == false)
    #expect(try scene.store.mark(of: "u") != nil, "nothing was settled by asking")
  }

  @Test func filtersTakeFromTheWholeRanking() throws {
    let scene = try scene()
    try scene.interact("u", "item 0")
    let everything = try scene.rankAndAcknowledge()[0].items
    let snapshot = scene.learning.learner.snapshot
    let whole = try #require(try ids(scene.ranking.list(of: "u", ListFilter(count: 100), snapshot: snapshot)))
    #expect(whole.count == 11)
    let filter = ListFilter(count: 3, categories: ["c1", "none"], excluded: ["item 4", "unknown"])
    let expected = Array(whole.filter { ["item 1", "item 7", "item 10"].contains($0) })
    #expect(try ids(scene.ranking.list(of: "u", filter, snapshot: snapshot)) == expected)
    #expect(try stored(scene, "u", filter) == expected)
    #expect(try stored(scene, "u", ListFilter(count: 2)) == Array(everything.prefix(2)))
    #expect(try ids(scene.ranking.list(of: "u", ListFilter(count: 3, categories: ["none"]), snapshot: snapshot)) == [])
  }

  @Test func theCapCountsInListsThatAreAskedForToo() throws {
    let scene = try scene { $0.rules.categoryCap = 1 }
    try scene.interact("u", "item 0")
    let published = try scene.rankAndAcknowledge()[0].items
    #expect(published.count == 3)
    #expect(try stored(scene, "u", ListFilter(count: 10)) == published)
    let snapshot = scene.learning.learner.snapshot
    #expect(try ids(scene.ranking.list(of: "u", ListFilter(count: 10), snapshot: snapshot)) == published)
  }

  @Test func whatBecameUnavailableIsInNoListThatIsAskedFor() throws {
    let scene = try scene(items: 5)
    try scene.interact("u", "item 0")
    _ = try scene.rankAndAcknowledge()
    try scene.describe("item 1", available: false)
    try scene.retire("item 2")
    let snapshot = scene.learning.learner.snapshot
    for list in [
      try stored(scene, "u", ListFilter(count: 10)), try ids(scene.ranking.list(of: "u", ListFilter(count: 10), snapshot: snapshot)) ?? [],
    ] {
      #expect(Set(list) == ["item 3", "item 4"])
    }
    #expect(Set(try #require(try ids(scene.ranking.similar(to: "item 0", ListFilter(count: 10), snapshot: snapshot)))) == ["item 3", "item 4"])
  }

  @Test func aSessionIsRankedByWhatIsKnownOfItInItsOrder() throws {
    let scene = try scene()
    // What came next: 7 after 3, 8 after 2.
    for user in 0..<6 {
      for item in user % 2 == 0 ? [3, 7] : [2, 8] { try scene.interact("u\(user)", "item \(item)") }
    }
    _ = try scene.learning.step(partial: true)
    _ = try scene.rankAndAcknowledge()
    let snapshot = scene.learning.learner.snapshot
    let session = try #require(
      try scene.ranking.list(session: ["item 2", "unknown", "item 5", "item 3"], ListFilter(count: 10), snapshot: snapshot))
    #expect(session.count == 9)
    #expect(Set(session.map(\.item.id)).isDisjoint(with: ["item 2", "item 5", "item 3"]))
    #expect(try scene.ranking.list(session: ["unknown"], ListFilter(count: 9), snapshot: snapshot) == nil)
    #expect(try scene.ranking.list(of: "nobody", ListFilter(count: 9), snapshot: snapshot) == nil)
    // The order counts: what was last weighs.
    let other = try scene.ranking.list(session: ["item 3", "item 5", "item 2"], ListFilter(count: 9), snapshot: snapshot)
    #expect(session.first?.item.id == "item 7" && other?.first?.item.id == "item 8")
  }

  @Test func anExplanationAddsUpToTheScoreAndNamesWhatIsNearest() throws {
    let scene = try scene()
    for user in 0..<6 { for item in [user, user + 1, user + 3] { try scene.interact("u\(user)", "item \(item)") } }
    _ = try scene.learning.step(partial: true)
    try scene.describe("new")
    _ = try scene.rankAndAcknowledge()
    let snapshot = scene.learning.learner.snapshot
    let fresh = try #require(try scene.ranking.list(of: "u2", ListFilter(count: 100), snapshot: snapshot))
    let explanations = try scene.ranking.explain(fresh.map(\.item), to: "u2", snapshot: snapshot)
    #expect(explanations.count == fresh.count)
    for (entry, why) in zip(fresh, explanations) {
      let parts = try #require(why.parts)
      #expect(abs(parts.encoder + parts.bias + parts.neighborhood - entry.score) < 1e-4 * max(1, abs(entry.score)))
      #expect(Set(why.nearest.map(\.item.id)) == ["item 2", "item 3", "item 5"])
      #expect(zip(why.nearest, why.nearest.dropFirst()).allSatisfy { $0.score >= $1.score })
      #expect(0...1 ~= why.idShare ?? -1)
    }
    #expect(explanations.contains { $0.parts?.neighborhood != 0 } && Set(explanations.map(\.idShare)).count > 1)

    // Of an item that the snapshot does not have nothing can be said, and of somebody unknown only what the item is.
    try scene.describe("newer")
    let items = try ["item 0", "newer"].map { try #require(try scene.store.catalogueItem($0)) }
    let known = try scene.ranking.explain(items, to: "u2", snapshot: snapshot)
    #expect(known[0].parts != nil && known[1].parts == nil && known[1].nearest.isEmpty && known[1].idShare == nil)
    let unknown = try scene.ranking.explain(items, to: "nobody", snapshot: snapshot)
    #expect(unknown[0].parts == nil && unknown[0].nearest.isEmpty && unknown[0].idShare == known[0].idShare)
  }

  @Test func aUsersListsAreRememberedUntilTheyAreForgotten() throws {
    let scene = try scene()
    let recent = RecentLists()
    let ranking = try Ranking(store: scene.store, settings: scene.settings, recentLists: recent)
    func publish() throws -> [Publication] {
      try scene.learning.followCatalogue()
      scene.learning.learner.renewSnapshot()
      let publications = try ranking.rankStale(snapshot: scene.learning.learner.snapshot, popular: [], now: scene.clock).publications
      ranking.acknowledge(publications)
      return publications
    }
    try scene.interact("u", "item 0")
    let first = try publish()[0]
    #expect(recent.changes(of: "u", limit: 9) == [])
    try scene.interact("u", first.items[1])
    let second = try publish()[0]
    let change = try #require(recent.changes(of: "u", limit: 9).first)
    #expect(change.revision == second.recommendation?.revision && change.madeTime == scene.clock)
    #expect(change.moves.contains(ListChange.Move(item: first.numbers[1], from: 2, to: nil)), "what was bought leaves the list")
    #expect(recent.itemCount == Set(first.items + second.items).count)
    try scene.forget("u")
    #expect(try publish()[0].recommendation == nil)
    #expect(recent.changes(of: "u", limit: 9) == [] && recent.itemCount == 0)
  }

  @Test func similarItemsLeaveTheItemOutAndKnowNoStrangers() throws {
    let scene = try scene(items: 6)
    _ = try scene.rank()
    let snapshot = scene.learning.learner.snapshot
    let similar = try #require(try scene.ranking.similar(to: "item 3", ListFilter(count: 100), snapshot: snapshot))
    #expect(Set(similar.map(\.item.id)) == Set((0..<6).map { "item \($0)" }).subtracting(["item 3"]))
    #expect(zip(similar, similar.dropFirst()).allSatisfy { $0.score >= $1.score })
    #expect(similar.allSatisfy { abs($0.score) <= 1.0001 })
    #expect(try scene.ranking.similar(to: "unknown", ListFilter(count: 3), snapshot: snapshot) == nil)
    try scene.describe("new")
    #expect(try scene.ranking.similar(to: "new", ListFilter(count: 3), snapshot: snapshot) == nil, "the snapshot does not have it yet")
  }

  @Test func requestsAreAnsweredOnTheirThreadUntilItIsClosed() async throws {
    let scene = try scene(items: 4)
    try scene.interact("u", "item 0")
    _ = try scene.rankAndAcknowledge()
    let snapshot = scene.learning.learner.snapshot
    let service = RequestService(store: scene.store, settings: LiveSettings(scene.settings))
    async let answered: [RequestedList.Entry]? = service.perform { try $0.list(of: "u", ListFilter(count: 2), snapshot: snapshot) }
    let thread = try DedicatedThread(name: "requests") { service.run() }
    #expect(try await answered?.count == 2)
    service.close()
    try await thread.finish()
    let error = await #expect(throws: PipelineError.self) { _ = try await service.perform { _ in 0 } }
    #expect(error?.code == .unavailable)
  }
}
