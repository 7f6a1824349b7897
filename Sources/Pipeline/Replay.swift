import Events
import Kernels
public import Logging
public import Recommender
public import Settings
public import StateStore

/// Plays a stream through the daemon's own ingest, learner and ranker on one thread, in an order that depends on the stream alone: the same
/// stream gives the same parameters, bit for bit, also when it is stopped and resumed in the middle.
///
/// The learner makes its strides at fixed places of the journal, users are ranked after each stride, and the stream's own time is the clock.
public final class Replay {
  /// One event of a stream.
  public enum Event: Sendable {
    case interaction(user: String, item: String, type: UInt8, time: Int64, value: Double?)
    case item(id: String, title: String, categories: [String], features: [String: [Float]])
  }

  public let store: StateStore
  public let metrics: PipelineMetrics
  private let ingest: Ingest
  private let learning: Learning
  private let ranking: Ranking
  private let stride: Int
  private let popularCount: Int
  private static let topic = "replay"

  /// - Throws: ``PipelineError``.
  public init(settings: Settings, logger: Logger) throws(PipelineError) {
    var settings = settings
    settings.learner.deterministic = true
    settings.learner.threads = 1
    settings.ranker.debounce = .zero
    do {
      try selfTest()
      store = try StateStore.open(at: settings.store.path, options: StateStore.Options(settings))
      ingest = try Ingest(store: store, settings: settings)
      learning = try Learning(store: store, settings: settings, logger: logger)
      ranking = try Ranking(store: store, settings: settings)
    } catch {
      throw PipelineError(error)
    }
    metrics = PipelineMetrics(k: settings.quality.k)
    stride = settings.learner.stride
    popularCount = settings.pool.size + 100
  }

  /// The place in the stream to go on from: how many events were played before, in this run or an earlier one.
  public func position() throws(StateStoreError) -> Int {
    try store.read { (transaction) throws(StateStoreError) in
      Int(try transaction.offsets().first { $0.topic == Self.topic }?.next ?? 0)
    }
  }

  /// Plays the stream from its stored ``position()`` on.
  ///
  /// - Parameters:
  ///   - events: the whole stream, from its beginning.
  ///   - end: stop before this event; nil plays to the end.
  ///   - progress: called after each stride.
  /// - Throws: ``PipelineError``.
  public func play(_ events: [Event], until end: Int? = nil, progress: (StrideReport) -> Void = { _ in }) throws(PipelineError) {
    do {
      var position = try position()
      let end = min(end ?? events.count, events.count)
      while position < end {
        // Up to the learner's next stride, so that it always sees the same state at the same place.
        let room = stride - Int(try learning.backlog())
        let next = min(end, position + max(1, room))
        let records = (position..<next).map { record(events[$0], offset: Int64($0)) }
        // Every mark is due at once: the users' order must not depend on how the stream was cut.
        let outcome = try ingest.apply(records, offsets: [PartitionOffset(topic: Self.topic, partition: 0, next: Int64(next))], now: 0)
        metrics.consumed(records.count, outcome, commit: .zero)
        position = next
        if let done = try learning.step(partial: false) {
          metrics.learned(done, version: learning.learner.snapshot.version, backlog: 0, time: .zero)
          try rank()
          progress(done.report)
        }
        metrics.quality(ingest.quality)
      }
      try ranking.endPublishing()
    } catch {
      throw PipelineError(error)
    }
  }

  /// Keeps the learner's state, so that a later replay goes on from here.
  ///
  /// - Throws: ``PipelineError``.
  public func checkpoint() throws(PipelineError) {
    do { try learning.checkpoint() } catch { throw PipelineError(error) }
  }

  /// Everything that was learned, as a checkpoint's bytes.
  ///
  /// - Throws: ``PipelineError``.
  public func parameters() throws(PipelineError) -> [UInt8] {
    do { return try learning.learner.checkpoint() } catch { throw PipelineError(.failed, "\(error)") }
  }

  private func rank() throws {
    let popular = ingest.quality.popularList(popularCount).items
    while true {
      let (publications, ranked, _) = try ranking.rankStale(snapshot: learning.learner.snapshot, popular: popular, now: ingest.streamTime)
      ranking.acknowledge(publications)
      try ranking.noteSettled()
      if ranked == 0 { return }
    }
  }

  private func record(_ event: Event, offset: Int64) -> IngestRecord {
    switch event {
    case .interaction(let user, let item, let type, let time, let value):
      IngestRecord(
        event: .interaction(.init(user: user, item: item, type: type, time: time, value: value)), topic: Self.topic, partition: 0,
        offset: offset)
    case .item(let id, let title, let categories, let features):
      IngestRecord(
        event: .describe(
          .init(item: id, title: title, categories: categories, features: features.map { .init(name: $0.key, values: $0.value) })),
        topic: Self.topic, partition: 0, offset: offset)
    }
  }
}
