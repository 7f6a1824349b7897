import Events
import Foundation
import Recommender
import Settings
import StateStore
import TestSupport
import Testing

@testable import Pipeline

struct HistoryImportTests {
  let folder = TemporaryFolder()

  private func interactions(_ count: Int, users: Int = 5, items: Int = 12) -> [Events.Interaction] {
    var random = SeededGenerator(seed: 7)
    return (0..<count).map { number in
      Events.Interaction(
        user: "user \(random.below(users))", item: "item \(random.below(items))", type: UInt8(random.below(3)), time: Int64(number) * 1_000,
        value: Double(number))
    }
  }

  private func items(_ count: Int) -> [HistoryImport.Item] {
    (0..<count).map { number in
      let id = "item \(number)"
      let description = Events.ItemDescription(item: id, title: "Title \(number)", categories: ["c"], brand: "b")
      return HistoryImport.Item(id: id, description: number % 3 == 0 ? nil : description)
    }
  }

  private func importHistory(_ settings: Settings, _ interactions: [Events.Interaction], items: Int = 12) throws {
    let history = try HistoryImport(settings: settings, logger: quiet)
    defer { history.learner.stop() }
    _ = try history.take(items: self.items(items))
    try history.take(interactions: interactions)
    history.learner.renewSnapshot()
    _ = try history.finish()
  }

  @Test func theStateIsThatOfAStreamOfTheSameEvents() throws {
    let interactions = interactions(60)
    let settings = Settings.small(folder)
    try importHistory(settings, interactions)
    let scene = try Scene(Settings.small(folder, "stream"))
    for item in items(12) {
      if let description = item.description {
        try scene.apply([scene.stream.record(.describe(description))])
      } else {
        _ = try scene.store.write { (transaction) throws(StateStoreError) in try transaction.registerItem(item.id) }
      }
    }
    try scene.apply(interactions.map { scene.stream.record(.interaction($0)) })

    let store = try StateStore.open(at: settings.store.path, options: StateStore.Options(settings))
    for user in 0..<5 {
      let own = try #require(try store.sequence(of: "user \(user)"))
      let streamed = try #require(try scene.store.sequence(of: "user \(user)"))
      #expect(own.interactions == streamed.interactions)
      #expect(own.interactions.count <= settings.model.maximumSequenceLength)
      #expect(own.partition == -1)
    }
    for item in 0..<12 { #expect(try store.catalogueItem("item \(item)") == scene.store.catalogueItem("item \(item)")) }
    #expect(try store.read { (transaction) throws(StateStoreError) in try transaction.offsets() } == [])
  }

  @Test func itemsGetTheStoresNumbers() throws {
    let history = try HistoryImport(settings: Settings.small(folder), logger: quiet)
    defer { history.learner.stop() }
    let numbers = try history.take(items: items(4)) + history.take(items: items(6).suffix(3))
    #expect(numbers == [1, 2, 3, 4, 4, 5, 6])
    #expect(numbers.map { history.learner.catalogue.row(of: $0) } == [0, 1, 2, 3, 3, 4, 5])
  }

  @Test func aDaemonGoesOnFromTheCheckpointAndOwesEveryUserAList() throws {
    let settings = Settings.small(folder)
    try importHistory(settings, interactions(60))
    let scene = try Scene(settings)
    #expect(try scene.learning.backlog() == 0)
    #expect(scene.learning.learner.cursor == 61)
    let version = scene.learning.learner.snapshot.version
    #expect(version > 0)
    scene.clock = .max / 2
    let publications = try scene.ranking.rankStale(snapshot: scene.learning.learner.snapshot, popular: [], now: scene.clock).publications
    #expect(Set(publications.map(\.user)) == Set((0..<5).map { "user \($0)" }))
    for publication in publications {
      let list = try #require(publication.recommendation)
      // It reflects nothing of the stream.
      #expect(list.asOf == nil)
      #expect(list.model == version && list.revision == 1)
    }
    // The first event of the stream is learned as any other, and its user's list says what it reflects.
    try scene.settle(publications)
    try scene.apply([scene.stream.interaction("user 1", "item 1", time: 100_000)])
    #expect(try scene.learning.step(partial: true)?.report.newTargets == 1)
    #expect(try scene.store.sequence(of: "user 1")?.partition == 0)
    #expect(try scene.store.mark(of: "user 1")?.asOf == AsOf(topic: StreamWriter.topic, partition: 0, offset: 0, time: 100_000))
  }

  @Test func theJournalHoldsTheWindowAlone() throws {
    let history = try HistoryImport(settings: Settings.small(folder), logger: quiet)
    defer { history.learner.stop() }
    let interactions = interactions(250)
    try history.take(interactions: Array(interactions[..<200]))
    try history.take(interactions: Array(interactions[200...]))
    let path = try history.finish()
    #expect(FileManager.default.fileExists(atPath: path))
    #expect(try history.store.journal().map(\.sequence) == Array(151...250))
  }

  @Test func timesBelow0AreNotKnownToTheModel() throws {
    let settings = Settings.small(folder)
    try importHistory(settings, (-3..<0).map { Events.Interaction(user: "u", item: "item \(-$0)", type: 0, time: $0) })
    let store = try StateStore.open(at: settings.store.path, options: StateStore.Options(settings))
    let own = try #require(try store.sequence(of: "u")).interactions
    #expect(try own.map(\.item) == ["item 3", "item 2", "item 1"].map { try store.number(of: $0) })
    #expect(own.map { ItemEvent($0).time } == [nil, nil, nil])
  }

  @Test func aStoreThatIsThereIsLeftAsItIs() throws {
    let settings = Settings.small(folder)
    try importHistory(settings, interactions(10))
    let before = try StateStore.open(at: settings.store.path, options: StateStore.Options(settings)).digest()
    let error = #expect(throws: PipelineError.self) { try HistoryImport(settings: settings, logger: quiet) }
    #expect(error?.message.contains("already holds a store") == true && error?.code == .storage)
    #expect(try StateStore.open(at: settings.store.path, options: StateStore.Options(settings)).digest() == before)
  }

  @Test func whatTheStoreCannotHoldIsSaidAndDiscardedWithTheRest() throws {
    let settings = Settings.small(folder)
    let history = try HistoryImport(settings: settings, logger: quiet)
    defer { history.learner.stop() }
    try history.take(interactions: interactions(10))
    let error = #expect(throws: PipelineError.self) {
      try history.take(interactions: [
        Events.Interaction(user: "u", item: "i", type: 0, time: 1), Events.Interaction(user: "u", item: "far", type: 0, time: .max),
      ])
    }
    #expect(error?.message.contains("\"far\"") == true && error?.code == .storage)
    history.discard()
    #expect(!FileManager.default.fileExists(atPath: settings.store.path))
  }
}
