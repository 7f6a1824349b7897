import Events
import Foundation
import Logging
import Recommender
import Settings
import StateStore
import TestSupport
import Testing

@testable import Pipeline

let quiet: Logger = {
  var logger = Logger(label: "test")
  logger.logLevel = .critical
  return logger
}()

extension Settings {
  /// A model and windows small enough for a test, over a store of its own.
  static func small(_ folder: TemporaryFolder, _ name: String = "store") -> Settings {
    var settings = Settings()
    settings.store.path = folder.path + "/" + name
    settings.store.mapSizeBytes = 32 << 20
    settings.store.maxBytes = 1 << 30
    settings.model.hiddenSize = 8
    settings.model.layerCount = 1
    settings.model.innerSize = 16
    settings.model.maximumSequenceLength = 8
    settings.model.experts = 2
    settings.learner.stride = 16
    settings.learner.batchSize = 16
    settings.learner.windowInteractions = 100
    settings.learner.reservoirSize = 40
    settings.learner.referenceRefreshStrides = 3
    settings.pool.size = 12
    settings.ranker.topK = 5
    settings.ranker.debounce = .zero
    settings.ranker.maxAge = .seconds(3_600)
    settings.quality.windowEvents = 50
    settings.quality.popularityWindowEvents = 200
    return settings
  }
}

/// The topic of interactions, one event after the other.
struct StreamWriter {
  static let topic = "interactions"
  private(set) var next: Int64 = 0

  mutating func interaction(
    _ user: String, _ item: String, type: UInt8 = 0, time: Int64, value: Double? = nil, shown: [String] = []
  ) -> IngestRecord {
    record(.interaction(Events.Interaction(user: user, item: item, type: type, time: time, value: value, shown: shown)))
  }

  mutating func record(_ event: IngestRecord.Event) -> IngestRecord {
    defer { next += 1 }
    return IngestRecord(event: event, topic: Self.topic, partition: 0, offset: next)
  }

  /// The offset behind all that was written.
  var end: [PartitionOffset] { [PartitionOffset(topic: Self.topic, partition: 0, next: next)] }
}

extension StateStore {
  func digest() throws -> [UInt8] { try read { (view) throws(StateStoreError) in try view.digest() } }

  func journal() throws -> [JournalRecord] { try read { (view) throws(StateStoreError) in try view.readJournal(from: 0, limit: .max) } }

  func sequence(of user: String) throws -> UserSequence? { try read { (view) throws(StateStoreError) in try view.sequence(of: user) } }

  func pool(of user: String) throws -> PoolRecord? { try read { (view) throws(StateStoreError) in try view.pool(of: user) } }

  func mark(of user: String) throws -> StaleMark? { try read { (view) throws(StateStoreError) in try view.staleMark(of: user) } }

  func position() throws -> Int64 { try read { (view) throws(StateStoreError) in try view.offsets().first?.next ?? 0 } }

  func number(of item: String) throws -> StoredItemNumber {
    try #require(try read { (view) throws(StateStoreError) in try view.itemNumber(of: item) })
  }

  func catalogueItem(_ id: String) throws -> CatalogueItem? { try read { (view) throws(StateStoreError) in try view.item(id: id) } }

  func checkpoints() throws -> [CheckpointEntry] { try read { (view) throws(StateStoreError) in try view.checkpoints() } }
}

/// One daemon's state with all that works on it, without Kafka and threads.
final class Scene {
  var settings: Settings
  let store: StateStore
  let ingest: Ingest
  let learning: Learning
  let ranking: Ranking
  var stream = StreamWriter()
  var clock: Int64 = 1_000_000

  init(_ settings: Settings) throws {
    self.settings = settings
    store = try StateStore.open(at: settings.store.path, options: StateStore.Options(settings))
    ingest = try Ingest(store: store, settings: settings)
    learning = try Learning(store: store, settings: settings, logger: quiet)
    ranking = try Ranking(store: store, settings: settings)
  }

  @discardableResult
  func apply(_ records: [IngestRecord]) throws -> Ingest.Outcome {
    try ingest.apply(records, offsets: stream.end, now: clock)
  }

  @discardableResult
  func interact(_ user: String, _ item: String, type: UInt8 = 0, shown: [String] = []) throws -> Ingest.Outcome {
    clock += 1_000
    return try apply([stream.interaction(user, item, type: type, time: clock, shown: shown)])
  }

  func describe(_ item: String, categories: [String] = [], available: Bool = true) throws {
    try apply([stream.record(.describe(Events.ItemDescription(item: item, title: item, categories: categories, available: available)))])
  }

  func retire(_ item: String) throws { try apply([stream.record(.retire(item: item))]) }

  func forget(_ user: String) throws { try apply([stream.record(.forget(user: user))]) }

  /// Takes the catalogue into the snapshot, then ranks who is due.
  func rank(popular: [String] = []) throws -> [Publication] {
    try learning.followCatalogue()
    learning.learner.renewSnapshot()
    return try ranking.rankStale(
      snapshot: learning.learner.snapshot, popular: popular.map { try store.number(of: $0) }, now: clock).publications
  }

  func rankAndAcknowledge(popular: [String] = []) throws -> [Publication] {
    let publications = try rank(popular: popular)
    try settle(publications)
    return publications
  }

  /// The broker has these lists, and the store is told.
  func settle(_ publications: [Publication]) throws {
    ranking.acknowledge(publications)
    try ranking.noteSettled()
  }
}

extension Publication {
  var items: [String] { recommendation?.items.map(\.item) ?? [] }
}
