import DaemonSupport
import Metrics
import Recommender
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
    public var sampledOut: UInt64 = 0
    public var rollbacks: UInt64 = 0
    public var crossEntropy: Double?
    public var preference: Double?
    public var modelVersion: UInt64 = 0
    public var listsPublished: UInt64 = 0
    public var usersRanked: UInt64 = 0
    public var staleUsers: UInt64 = 0
    public var quality = Quality()
    /// Why consumption stands still; nil while it does not.
    public var stoppedBecause: String?
  }

  /// Prequential quality over the sliding window, as fractions.
  public struct Quality: Sendable {
    public var events = 0
    public var model = Figures()
    public var popularity = Figures()
    public var newItems = Figures()
    public var newUsers = Figures()

    public struct Figures: Sendable {
      public var hitRate = 0.0
      public var ndcg = 0.0
      public var mrr = 0.0
    }
  }

  private let totals = Mutex(Totals())
  private let k: Int
  private let events = Counter(label: "ingest_events")
  private let interactions = Counter(label: "ingest_interactions")
  private let duplicates = Counter(label: "ingest_duplicates")
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
  private let staleUsers = Gauge(label: "ranker_stale_users")
  private let storeUsed = Gauge(label: "store_used_bytes")
  private let storeMap = Gauge(label: "store_map_bytes")
  private let groupMembers = Gauge(label: "kafka_group_members")

  /// - Parameter k: the cut-off of the live quality.
  public init(k: Int) { self.k = k }

  /// Gives the registry each metric's help text. Call it before the first ``PipelineMetrics``.
  public static func describe(in registry: MetricsRegistry) {
    let help = [
      "ingest_events": "Records consumed from the topics of interactions and items, the dead-lettered ones included.",
      "ingest_interactions": "Interactions taken into sequences and journal.",
      "ingest_duplicates": "Interactions left out because the same one was already kept.",
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
      "store_used_bytes": "Bytes of the store's file in use.",
      "store_map_bytes": "Bytes that the store may take before it grows.",
      "kafka_group_members": "Members of the consumer group; more than one is a mistake.",
    ]
    for (label, text) in help { registry.describe(label, help: text) }
  }

  public var current: Totals { totals.withLock { $0 } }

  func consumed(_ count: Int, interactions taken: Int, duplicates twice: Int, commit: Duration) {
    events.increment(by: count)
    interactions.increment(by: taken)
    duplicates.increment(by: twice)
    commits.recordNanoseconds(commit.nanoseconds)
    totals.withLock {
      $0.events += UInt64(count)
      $0.interactions += UInt64(taken)
      $0.duplicates += UInt64(twice)
    }
  }

  func deadLettered(_ reason: String) {
    Counter(label: "ingest_dead_letters", dimensions: [("reason", reason)]).increment()
    totals.withLock { $0.deadLetters[reason, default: 0] += 1 }
  }

  func lag(_ value: UInt64?) {
    if let value { lag.record(value) }
    totals.withLock { $0.lag = value }
  }

  func offsetOutOfRange() { outOfRange.increment() }

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

  func rolledBack() {
    rollbacks.increment()
    totals.withLock { $0.rollbacks += 1 }
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
      newItems: figures(live.newItems.model), newUsers: figures(live.newUsers.model))
    totals.withLock { $0.quality = quality }
    Gauge(label: "quality_window_events").record(quality.events)
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

extension Duration {
  var nanoseconds: Int64 {
    let (seconds, attoseconds) = components
    return seconds * 1_000_000_000 + attoseconds / 1_000_000_000
  }
}
