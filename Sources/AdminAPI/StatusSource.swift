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
  /// Optimiser steps taken.
  public var learningSteps: UInt64
  /// The loss of the latest steps, smoothed.
  public var loss: Double?
  /// The version of the snapshot that ranks.
  public var modelVersion: UInt64?
  /// Recommendation lists that the broker has acknowledged.
  public var listsPublished: UInt64
  /// Users whose list waits to be renewed.
  public var staleUsers: UInt64
  /// The live, prequential quality; nil until the first interaction could be scored.
  public var quality: LiveQuality?

  public init(
    version: String, events: UInt64 = 0, lag: UInt64? = nil, deadLetters: [String: UInt64] = [:], learningSteps: UInt64 = 0,
    loss: Double? = nil, modelVersion: UInt64? = nil, listsPublished: UInt64 = 0, staleUsers: UInt64 = 0, quality: LiveQuality? = nil
  ) {
    self.version = version
    self.events = events
    self.lag = lag
    self.deadLetters = deadLetters
    self.learningSteps = learningSteps
    self.loss = loss
    self.modelVersion = modelVersion
    self.listsPublished = listsPublished
    self.staleUsers = staleUsers
    self.quality = quality
  }

  enum CodingKeys: String, CodingKey {
    case version, events, lag, loss, quality
    case deadLetters = "dead_letters"
    case learningSteps = "learning_steps"
    case modelVersion = "model_version"
    case listsPublished = "lists_published"
    case staleUsers = "stale_users"
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

  public init(k: Int, window: Int, model: RankingQuality, popularity: RankingQuality) {
    self.k = k
    self.window = window
    self.model = model
    self.popularity = popularity
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
