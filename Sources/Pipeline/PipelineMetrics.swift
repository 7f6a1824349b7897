import DaemonSupport
import Events
import Kafka
import Metrics
import Recommender
import Settings
import Synchronization

/// The daemon's figures: each is counted for Prometheus and kept as a value for the status page and the log.
public final class PipelineMetrics: Sendable {
  /// The figures since the start, and gauges of this moment.
  public struct Totals: Sendable {
    public var events: UInt64 = 0
    public var interactions: UInt64 = 0
    public var duplicates: UInt64 = 0
    public var deadLetters: [String: UInt64] = [:]
    public var lag: UInt64?
    public var learningSteps: UInt64 = 0
    public var learnedInteractions: UInt64 = 0
    /// Interactions in the journal that wait to be learned from.
    public var learningBacklog: UInt64 = 0
    public var sampledOut: UInt64 = 0
    public var rollbacks: UInt64 = 0
    public var crossEntropy: Double?
    public var preference: Double?
    /// The share of the items that each expert has, by the expert's number; empty without experts.
    public var expertLoad: [Float] = []
    public var modelVersion: UInt64 = 0
    /// Checkpoints and rollbacks since the start, the newest last; at most ``PipelineMetrics/keptEntries``.
    public var modelEvents: [ModelEvent] = []
    public var listsPublished: UInt64 = 0
    public var usersRanked: UInt64 = 0
    public var staleUsers: UInt64 = 0
    /// From taking in an event to the broker's acknowledgement of the list that answers it, over the newest lists.
    public var latency: Latency?
    /// The share of the items that may be recommended which stand in the newest published lists; nil without any.
    public var catalogueCoverage: Double?
    /// The newest dead letters, the newest last; at most ``PipelineMetrics/keptEntries``.
    public var deadLetterSamples: [DeadLetterSample] = []
    public var quality = Quality()
    /// Why consumption stands still; nil while it does not.
    public var stoppedBecause: String?
  }

  /// What became of the model at a moment.
  public struct ModelEvent: Sendable {
    public enum Kind: Sendable { case checkpoint, rollback }

    public var kind: Kind
    /// Milliseconds since 1970.
    public var time: Int64
    /// Of the snapshot: the one that the checkpoint holds, or the first after the rollback.
    public var version: UInt64
    /// The checkpoint's file name.
    public var checkpoint: String
    /// Live quality of the moment; nil before anything was scored.
    public var quality: Quality?
  }

  /// A record that was not accepted.
  public struct DeadLetterSample: Sendable {
    /// Milliseconds since 1970.
    public var time: Int64
    public var reason: String
    public var message: String
    public var topic: String
    public var partition: Int32
    public var offset: Int64
    /// The first bytes of the value as text; nil for a record without one.
    public var value: String?
  }

  public struct Latency: Sendable {
    public var median: Duration
    public var percentile99: Duration
  }

  /// Entries that are kept of what is shown as a list.
  public static let keptEntries = 20

  /// Prequential quality over the sliding window, as fractions.
  public struct Quality: Sendable {
    public var events = 0
    public var model = Figures()
    public var popularity = Figures()
    public var newItems = Figures()
    public var newUsers = Figures()
    /// The share of interactions whose item was anywhere in the user's candidate pool; nil until a user with a pool came again.
    public var poolHitRate: Double?

    public struct Figures: Sendable {
      public var hitRate = 0.0
      public var ndcg = 0.0
      public var mrr = 0.0
    }
  }

  private let totals = Mutex(Totals())
  /// The newest latencies in a ring, in milliseconds.
  private let latencies = Mutex<(values: [Int64], next: Int)>(([], 0))
  private static let keptLatencies = 2048
  private let k: Int
  private let events = Counter(label: "ingest_events")
  private let interactions = Counter(label: "ingest_interactions")
  private let duplicates = Counter(label: "ingest_duplicates")
  private let unadmitted = Counter(label: "ingest_unadmitted")
  private let commits = Metrics.Timer(label: "ingest_commit")
  private let lag = Gauge(label: "ingest_lag_events")
  private let outOfRange = Counter(label: "ingest_offsets_out_of_range")
  private let steps = Counter(label: "learner_steps")
  private let learned = Counter(label: "learner_interactions")
  private let sampledOut = Counter(label: "learner_sampled_out_interactions")
  private let beyondShare = Counter(label: "learner_beyond_user_share_interactions")
  private let skipped = Counter(label: "learner_non_finite_steps")
  private let rollbacks = Counter(label: "learner_rollbacks")
  private let strides = Metrics.Timer(label: "learner_stride")
  private let backlog = Gauge(label: "learner_backlog_interactions")
  private let crossEntropy = Gauge(label: "learner_cross_entropy")
  private let preference = Gauge(label: "learner_preference_loss")
  private let modelVersion = Gauge(label: "model_version")
  private let ranked = Counter(label: "ranker_users")
  private let published = Counter(label: "ranker_lists_published")
  private let failed = Counter(label: "ranker_deliveries_failed")
  private let batches = Metrics.Timer(label: "ranker_batch")
  private let latency = Metrics.Timer(label: "recommendation_latency")
  private let coverage = Gauge(label: "ranker_catalogue_coverage_ratio")
  private let staleUsers = Gauge(label: "ranker_stale_users")
  private let storeUsed = Gauge(label: "store_used_bytes")
  private let storeMap = Gauge(label: "store_map_bytes")
  private let groupMembers = Gauge(label: "kafka_group_members")
  private let throttle = FloatingPointCounter(label: "kafka_throttle_seconds")

  /// - Parameter k: the cut-off of the live quality.
  public init(k: Int) { self.k = k }

  /// Gives the registry each metric's help text. Call it before the first ``PipelineMetrics``.
  public static func describe(in registry: MetricsRegistry) {
    let help = [
      "ingest_events": "Records consumed from the topics of interactions and items, the dead-lettered ones included.",
      "ingest_interactions": "Interactions taken into sequences and journal.",
      "ingest_duplicates": "Interactions left out because the same one was already kept.",
      "ingest_unadmitted": "Interactions with an unknown item that is not let in, since the catalogue is half full or more.",
      "ingest_dead_letters": "Records sent to the dead-letter topic, by reason.",
      "ingest_commit": "Time of one commit of a batch to the store.",
      "ingest_lag_events": "Records in the broker that are not consumed yet, over all assigned partitions.",
      "ingest_offsets_out_of_range": "Times that a stored offset was no longer in the topic: records were lost upstream.",
      "learner_steps": "Optimiser steps taken.",
      "learner_interactions": "New interactions learned from.",
      "learner_beyond_user_share_interactions": "Interactions not learned from because their user has their share already.",
      "learner_sampled_out_interactions": "Interactions passed over because they came faster than they can be learned from.",
      "learner_non_finite_steps": "Steps left out because a number was NaN or infinite.",
      "learner_rollbacks": "Times that the model went back to the last good checkpoint.",
      "learner_stride": "Time of one stride of learning, the new snapshot included.",
      "learner_backlog_interactions": "Interactions in the journal that wait to be learned from.",
      "learner_cross_entropy": "Softmax cross-entropy of the latest stride.",
      "learner_preference_loss": "RoDPO's preference term of the latest stride.",
      "learner_expert_load": "Share of the items that each expert has, by expert.",
      "model_version": "Version of the newest snapshot.",
      "ranker_users": "Users ranked.",
      "ranker_lists_published": "Recommendation lists that the broker has acknowledged.",
      "ranker_deliveries_failed": "Recommendation lists that the broker did not take; their users are ranked again.",
      "ranker_batch": "Time to rank one batch of users and store their pools.",
      "ranker_stale_users": "Users whose list waits to be renewed.",
      "quality_hit_rate": "Prequential HR@K over the sliding window.",
      "quality_ndcg": "Prequential NDCG@K over the sliding window.",
      "quality_mrr": "Prequential MRR@K over the sliding window.",
      "quality_window_events": "Scored interactions in the sliding window.",
      "quality_pool_hit_ratio": "Share of the window's interactions whose item was anywhere in the user's candidate pool.",
      "recommendation_latency": "Time from taking in an event to the broker's acknowledgement of the list that answers it.",
      "ranker_catalogue_coverage_ratio": "Share of the items that may be recommended which stand in the newest 10,000 published lists.",
      "store_used_bytes": "Bytes of the store's file in use.",
      "store_map_bytes": "Bytes that the store may take before it grows.",
      "kafka_group_members": "Members of the consumer group; more than one is a mistake.",
      "kafka_throttle_seconds": "Time that brokers have held the daemon's clients back because of a quota.",
    ]
    for (label, text) in help { registry.describe(label, help: text) }
  }

  public var current: Totals { totals.withLock { $0 } }

  func consumed(_ count: Int, _ outcome: Ingest.Outcome, commit: Duration) {
    events.increment(by: count)
    interactions.increment(by: outcome.interactions)
    duplicates.increment(by: outcome.duplicates)
    unadmitted.increment(by: outcome.unadmitted)
    commits.recordNanoseconds(commit.nanoseconds)
    totals.withLock {
      $0.events += UInt64(count)
      $0.interactions += UInt64(outcome.interactions)
      $0.duplicates += UInt64(outcome.duplicates)
    }
  }

  func deadLettered(_ message: OwnedMessage, _ rejection: Rejection) {
    let reason = rejection.reason.rawValue
    Counter(label: "ingest_dead_letters", dimensions: [("reason", reason)]).increment()
    let sample = DeadLetterSample(
      time: millisecondsSince1970(), reason: reason, message: rejection.message, topic: message.topic, partition: message.partition,
      offset: message.offset, value: message.value.map { String(decoding: $0.prefix(300), as: UTF8.self) })
    totals.withLock {
      $0.deadLetters[reason, default: 0] += 1
      $0.deadLetterSamples.keep(sample)
    }
  }

  func lag(_ value: UInt64?) {
    if let value { lag.record(value) }
    totals.withLock { $0.lag = value }
  }

  func offsetOutOfRange() { outOfRange.increment() }

  func throttled(for duration: Duration) { throttle.increment(by: duration / .seconds(1)) }

  func stopped(because reason: String?) { totals.withLock { $0.stoppedBecause = reason } }

  func learned(_ progress: Learning.Progress, version: UInt64, backlog waiting: UInt64, time: Duration) {
    let report = progress.report
    steps.increment(by: report.steps)
    learned.increment(by: report.newTargets)
    sampledOut.increment(by: progress.sampledOut)
    beyondShare.increment(by: progress.beyondShare)
    skipped.increment(by: report.skippedSteps)
    strides.recordNanoseconds(time.nanoseconds)
    backlog.record(waiting)
    if report.steps > report.skippedSteps {
      crossEntropy.record(report.crossEntropy)
      preference.record(report.preference)
    }
    totals.withLock {
      $0.learningSteps += UInt64(report.steps)
      $0.learnedInteractions += UInt64(report.newTargets)
      $0.sampledOut += UInt64(progress.sampledOut)
      $0.learningBacklog = waiting
      $0.expertLoad = report.expertLoad
      if report.steps > report.skippedSteps {
        $0.crossEntropy = report.crossEntropy
        $0.preference = report.preference
      }
    }
    snapshot(version)
    for (index, share) in report.expertLoad.enumerated() {
      Gauge(label: "learner_expert_load", dimensions: [("expert", String(index))]).record(Double(share))
    }
  }

  func snapshot(_ version: UInt64) {
    modelVersion.record(version)
    totals.withLock { $0.modelVersion = version }
  }

  func checkpointed(_ name: String, version: UInt64) { happened(.checkpoint, name, version) }

  func rolledBack(to name: String, version: UInt64) {
    rollbacks.increment()
    totals.withLock { $0.rollbacks += 1 }
    happened(.rollback, name, version)
  }

  private func happened(_ kind: ModelEvent.Kind, _ checkpoint: String, _ version: UInt64) {
    let time = millisecondsSince1970()
    totals.withLock {
      let quality = $0.quality.events > 0 ? $0.quality : nil
      $0.modelEvents.keep(ModelEvent(kind: kind, time: time, version: version, checkpoint: checkpoint, quality: quality))
    }
  }

  func ranked(_ count: Int, time: Duration) {
    ranked.increment(by: count)
    batches.recordNanoseconds(time.nanoseconds)
    totals.withLock { $0.usersRanked += UInt64(count) }
  }

  func delivered(_ count: Int, failed lost: Int) {
    published.increment(by: count)
    failed.increment(by: lost)
    totals.withLock { $0.listsPublished += UInt64(count) }
  }

  /// - Parameter times: how long each list's event waited for it.
  func answered(after times: [Duration]) {
    latencies.withLock { latencies in
      for time in times {
        if latencies.values.count < Self.keptLatencies {
          latencies.values.append(time.wholeMilliseconds)
        } else {
          latencies.values[latencies.next] = time.wholeMilliseconds
          latencies.next = (latencies.next + 1) % Self.keptLatencies
        }
      }
    }
    for time in times { latency.recordNanoseconds(time.nanoseconds) }
  }

  /// Once a second: what the newest lists come to.
  func summarizeLists(catalogueCoverage share: Double?) {
    if let share { coverage.record(share) }
    let sorted = latencies.withLock { $0.values.sorted() }
    totals.withLock {
      $0.catalogueCoverage = share
      guard !sorted.isEmpty else { return }
      $0.latency = Latency(
        median: .milliseconds(sorted[(sorted.count - 1) / 2]), percentile99: .milliseconds(sorted[(sorted.count - 1) * 99 / 100]))
    }
  }

  func store(used: Int, map: Int, staleUsers count: Int) {
    storeUsed.record(used)
    storeMap.record(map)
    staleUsers.record(count)
    totals.withLock { $0.staleUsers = UInt64(count) }
  }

  func members(_ count: Int) { groupMembers.record(count) }

  func quality(_ live: borrowing LiveQuality) {
    let quality = Quality(
      events: live.all.model.count, model: figures(live.all.model), popularity: figures(live.all.popularity),
      newItems: figures(live.newItems.model), newUsers: figures(live.newUsers.model),
      poolHitRate: live.poolHits.count > 0 ? live.poolHits.mean(.hitRate(1)) : nil)
    totals.withLock { $0.quality = quality }
    Gauge(label: "quality_window_events").record(quality.events)
    if let share = quality.poolHitRate { Gauge(label: "quality_pool_hit_ratio").record(share) }
    for (recommender, slice, figures) in [
      ("rodpod", "all", quality.model), ("recent_popularity", "all", quality.popularity), ("rodpod", "new_items", quality.newItems),
      ("rodpod", "new_users", quality.newUsers),
    ] {
      let dimensions = [("recommender", recommender), ("slice", slice), ("k", String(k))]
      Gauge(label: "quality_hit_rate", dimensions: dimensions).record(figures.hitRate)
      Gauge(label: "quality_ndcg", dimensions: dimensions).record(figures.ndcg)
      Gauge(label: "quality_mrr", dimensions: dimensions).record(figures.mrr)
    }
  }

  private func figures(_ metrics: SlidingMetrics) -> Quality.Figures {
    Quality.Figures(hitRate: metrics.mean(.hitRate(k)), ndcg: metrics.mean(.ndcg(k)), mrr: metrics.mean(.mrr(k)))
  }
}

extension Array {
  /// Appends the newest and drops the oldest beyond ``PipelineMetrics/keptEntries``.
  fileprivate mutating func keep(_ element: Element) {
    append(element)
    if count > PipelineMetrics.keptEntries { removeFirst() }
  }
}

extension Duration {
  var nanoseconds: Int64 {
    let (seconds, attoseconds) = components
    return seconds * 1_000_000_000 + attoseconds / 1_000_000_000
  }
}
