public import struct Foundation.Date

/// What the admin server asks the running daemon about itself. Every method answers at once from values that are at hand.
public protocol StatusSource: Sendable {
  /// Why the daemon cannot serve now, in words for an operator (`"state is being restored"`); empty when it is ready.
  func unreadyReasons() async -> [String]

  /// The metrics in Prometheus text format 0.0.4.
  func metricsText() async -> String

  /// The figures of this moment. Rates and history are made from successive reports by the server.
  func report() async -> StatusReport
}

/// The daemon's figures at one moment, as `/status.json` shows them under `now`.
///
/// Counters count from the daemon's start. A value that does not exist yet is nil.
public struct StatusReport: Codable, Sendable, Equatable {
  /// The release that runs.
  public var version: String
  /// Interactions and items consumed, the dead-lettered ones included.
  public var events: UInt64
  /// Events in the broker that are not consumed yet, over all partitions; nil while unknown.
  public var lag: UInt64?
  /// Dead letters by reason.
  public var deadLetters: [String: UInt64]
  /// The newest dead letters, the newest first.
  public var deadLetterSamples: [DeadLetterSample]
  /// Optimiser steps taken.
  public var learningSteps: UInt64
  /// Interactions that wait to be learned from.
  public var learningBacklog: UInt64
  /// The loss of the latest steps, smoothed.
  public var loss: Double?
  /// The version of the snapshot that ranks.
  public var modelVersion: UInt64?
  /// Checkpoints and rollbacks since the start, the newest first.
  public var modelEvents: [ModelEvent]
  /// The share of the items that each expert has, by the expert's number; empty without experts.
  public var expertLoad: [Double]
  /// Recommendation lists that the broker has acknowledged.
  public var listsPublished: UInt64
  /// Users whose list waits to be renewed.
  public var staleUsers: UInt64
  /// From taking in an event to the broker's acknowledgement of the list that answers it, over the newest lists.
  public var latency: Latency?
  /// The share of the items that may be recommended which stand in the newest published lists.
  public var catalogueCoverage: Double?
  /// The live, prequential quality; nil until the first interaction could be scored.
  public var quality: LiveQuality?

  public init(
    version: String, events: UInt64 = 0, lag: UInt64? = nil, deadLetters: [String: UInt64] = [:],
    deadLetterSamples: [DeadLetterSample] = [], learningSteps: UInt64 = 0, learningBacklog: UInt64 = 0, loss: Double? = nil,
    modelVersion: UInt64? = nil, modelEvents: [ModelEvent] = [], expertLoad: [Double] = [], listsPublished: UInt64 = 0, staleUsers: UInt64 = 0,
    latency: Latency? = nil, catalogueCoverage: Double? = nil, quality: LiveQuality? = nil
  ) {
    self.version = version
    self.events = events
    self.lag = lag
    self.deadLetters = deadLetters
    self.deadLetterSamples = deadLetterSamples
    self.learningSteps = learningSteps
    self.learningBacklog = learningBacklog
    self.loss = loss
    self.modelVersion = modelVersion
    self.modelEvents = modelEvents
    self.expertLoad = expertLoad
    self.listsPublished = listsPublished
    self.staleUsers = staleUsers
    self.latency = latency
    self.catalogueCoverage = catalogueCoverage
    self.quality = quality
  }

  enum CodingKeys: String, CodingKey {
    case version, events, lag, loss, latency, quality
    case deadLetters = "dead_letters"
    case deadLetterSamples = "dead_letter_samples"
    case learningSteps = "learning_steps"
    case learningBacklog = "learning_backlog"
    case modelVersion = "model_version"
    case modelEvents = "model_events"
    case expertLoad = "expert_load"
    case catalogueCoverage = "catalogue_coverage"
    case listsPublished = "lists_published"
    case staleUsers = "stale_users"
  }
}

/// Seconds that the newest lists took.
public struct Latency: Codable, Sendable, Equatable {
  public var median: Double
  public var percentile99: Double

  public init(median: Double, percentile99: Double) {
    self.median = median
    self.percentile99 = percentile99
  }

  enum CodingKeys: String, CodingKey {
    case median = "median_seconds"
    case percentile99 = "p99_seconds"
  }
}

/// What became of the model at a moment.
public struct ModelEvent: Codable, Sendable, Equatable {
  public enum Kind: String, Codable, Sendable { case checkpoint, rollback }

  public var kind: Kind
  public var time: Date
  /// Of the snapshot: the one that the checkpoint holds, or the first after the rollback.
  public var version: UInt64
  /// The checkpoint's file name.
  public var checkpoint: String
  /// The live quality of the moment, and that of recent popularity.
  public var model: RankingQuality?
  public var popularity: RankingQuality?

  public init(
    kind: Kind, time: Date, version: UInt64, checkpoint: String, model: RankingQuality? = nil, popularity: RankingQuality? = nil
  ) {
    self.kind = kind
    self.time = time
    self.version = version
    self.checkpoint = checkpoint
    self.model = model
    self.popularity = popularity
  }
}

/// A record that was not accepted.
public struct DeadLetterSample: Codable, Sendable, Equatable {
  public var time: Date
  public var reason: String
  public var message: String
  public var topic: String
  public var partition: Int32
  public var offset: Int64
  /// The first bytes of the value as text; nil for a record without one.
  public var value: String?

  public init(time: Date, reason: String, message: String, topic: String, partition: Int32, offset: Int64, value: String? = nil) {
    self.time = time
    self.reason = reason
    self.message = message
    self.topic = topic
    self.partition = partition
    self.offset = offset
    self.value = value
  }
}

/// Prequential quality over a sliding window of interactions, each scored before it was learned from.
public struct LiveQuality: Codable, Sendable, Equatable {
  /// The cut-off K of HR@K and NDCG@K.
  public var k: Int
  /// Interactions in the window.
  public var window: Int
  /// What rodpod had recommended.
  public var model: RankingQuality
  /// What recent popularity would have recommended for the same interactions.
  public var popularity: RankingQuality
  /// rodpod's for items, and for users, of few interactions.
  public var newItems: RankingQuality?
  public var newUsers: RankingQuality?
  /// The share of interactions whose item was anywhere in the user's candidate pool.
  public var poolHitRate: Double?

  public init(
    k: Int, window: Int, model: RankingQuality, popularity: RankingQuality, newItems: RankingQuality? = nil,
    newUsers: RankingQuality? = nil, poolHitRate: Double? = nil
  ) {
    self.k = k
    self.window = window
    self.model = model
    self.popularity = popularity
    self.newItems = newItems
    self.newUsers = newUsers
    self.poolHitRate = poolHitRate
  }

  enum CodingKeys: String, CodingKey {
    case k, window, model, popularity
    case newItems = "new_items"
    case newUsers = "new_users"
    case poolHitRate = "pool_hit_rate"
  }
}

/// Ranking measures as fractions of one.
public struct RankingQuality: Codable, Sendable, Equatable {
  /// HR@K: the share of interactions whose item was among the first K.
  public var hitRate: Double
  /// NDCG@K with one relevant item: 1 / log2(1 + rank), 0 beyond K.
  public var ndcg: Double
  /// The mean reciprocal rank.
  public var mrr: Double

  public init(hitRate: Double, ndcg: Double, mrr: Double) {
    self.hitRate = hitRate
    self.ndcg = ndcg
    self.mrr = mrr
  }

  enum CodingKeys: String, CodingKey {
    case ndcg, mrr
    case hitRate = "hit_rate"
  }
}
