public import struct Foundation.Date

/// The look-ups behind `/v1`. Ids are external ids, already percent-decoded, never empty.
///
/// An implementation must not block the calling thread for long, and should return soon when its task is cancelled.
public protocol LookupService: Sendable {
  /// The list that the user has now: the published one, or the popular list for a user that is not known.
  /// - Throws: ``LookupError``
  func recommendations(user: String, limit: Int) async throws -> RecommendationList

  /// What is kept of a user.
  /// - Throws: ``LookupError``, with `notFound` for a user without state.
  func user(_ id: String) async throws -> UserDetails

  /// What is kept of an item.
  /// - Throws: ``LookupError``, with `notFound` for an item that is not in the catalogue.
  func item(_ id: String) async throws -> ItemDetails

  /// The nearest items of an item in the model's space, the nearest first, without itself.
  /// - Throws: ``LookupError``, with `notFound` for an item that is not in the catalogue.
  func similarItems(to id: String, limit: Int) async throws -> [ScoredItem]

  /// Erases a user as a `forget` event does. Succeeds for a user that is not known, so that a retry is safe.
  /// - Throws: ``LookupError``
  func forgetUser(_ id: String) async throws

  /// The model that ranks.
  /// - Throws: ``LookupError``
  func model() async throws -> ModelDetails
}

/// Why a look-up has no answer.
public struct LookupError: Error, Sendable, Equatable {
  /// The kind of failure; each has its HTTP status.
  public enum Code: String, Sendable {
    /// There is no such user or item: 404.
    case notFound
    /// The daemon cannot answer now, for example while it restores its state: 503.
    case unavailable
    /// A fault of the daemon: 500.
    case failed
  }

  public var code: Code
  /// For the log only; never sent to a client.
  public var message: String

  public init(_ code: Code, _ message: String = "") {
    self.code = code
    self.message = message
  }
}

/// An item with its score.
public struct ScoredItem: Codable, Sendable, Equatable {
  public var item: String
  public var title: String?
  /// The model's score, or a similarity; comparable within one list only.
  public var score: Double

  public init(item: String, title: String? = nil, score: Double) {
    self.item = item
    self.title = title
    self.score = score
  }
}

/// A user's list, the best first.
public struct RecommendationList: Codable, Sendable, Equatable {
  public var user: String
  public var items: [ScoredItem]
  /// Where the list comes from.
  public var source: Source
  /// Rises with every list published for the user; nil for a list that was not published for them.
  public var revision: UInt64?
  /// The version of the snapshot that ranked it.
  public var model: UInt64?
  /// When it was ranked.
  public var generatedAt: Date?

  /// Where a list comes from.
  public enum Source: String, Codable, Sendable {
    /// Ranked for this user and published.
    case published
    /// The popular list, for a user without a list of their own.
    case popular
  }

  public init(user: String, items: [ScoredItem], source: Source, revision: UInt64? = nil, model: UInt64? = nil, generatedAt: Date? = nil) {
    self.user = user
    self.items = items
    self.source = source
    self.revision = revision
    self.model = model
    self.generatedAt = generatedAt
  }

  enum CodingKeys: String, CodingKey {
    case user, items, source, revision, model
    case generatedAt = "generated_at"
  }
}

/// What is kept of a user.
public struct UserDetails: Codable, Sendable, Equatable {
  public var user: String
  /// The last interactions, the newest first.
  public var sequence: [Interaction]

  /// One interaction.
  public struct Interaction: Codable, Sendable, Equatable {
    public var item: String
    public var title: String?
    public var type: String
    /// Nil when only the order is known.
    public var time: Date?

    public init(item: String, title: String? = nil, type: String, time: Date?) {
      self.item = item
      self.title = title
      self.type = type
      self.time = time
    }
  }

  public init(user: String, sequence: [Interaction]) {
    self.user = user
    self.sequence = sequence
  }
}

/// What is kept of an item.
public struct ItemDetails: Codable, Sendable, Equatable {
  public var item: String
  /// Nil until the item has been described.
  public var title: String?
  public var categories: [String]
  public var brand: String?
  public var price: Double?
  /// False for an item that is retired or out of stock: it is not recommended.
  public var available: Bool
  /// Modality name to its number of dimensions.
  public var features: [String: Int]
  /// Interactions with it so far.
  public var interactions: UInt64

  public init(
    item: String, title: String? = nil, categories: [String] = [], brand: String? = nil, price: Double? = nil, available: Bool = true,
    features: [String: Int] = [:], interactions: UInt64 = 0
  ) {
    self.item = item
    self.title = title
    self.categories = categories
    self.brand = brand
    self.price = price
    self.available = available
    self.features = features
    self.interactions = interactions
  }
}

/// The model that ranks.
public struct ModelDetails: Codable, Sendable, Equatable {
  /// The snapshot's version.
  public var version: UInt64
  /// Optimiser steps behind it.
  public var steps: UInt64
  /// When the snapshot was taken.
  public var createdAt: Date?
  /// Trainable numbers.
  public var parameters: Int
  /// Items that have a row.
  public var items: Int
  /// The hyper-parameters by their names in the configuration, as text.
  public var hyperparameters: [String: String]

  public init(
    version: UInt64, steps: UInt64, createdAt: Date? = nil, parameters: Int, items: Int, hyperparameters: [String: String] = [:]
  ) {
    self.version = version
    self.steps = steps
    self.createdAt = createdAt
    self.parameters = parameters
    self.items = items
    self.hyperparameters = hyperparameters
  }

  enum CodingKeys: String, CodingKey {
    case version, steps, parameters, items, hyperparameters
    case createdAt = "created_at"
  }
}
