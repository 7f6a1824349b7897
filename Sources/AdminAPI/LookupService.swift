public import struct Foundation.Date

/// The look-ups behind `/v1`. Ids are external ids, already percent-decoded, never empty.
///
/// An implementation must not block the calling thread for long, and should return soon when its task is cancelled.
public protocol LookupService: Sendable {
  /// The list that the user has now: the published one, or the popular list for a user that is not known.
  /// - Parameter fresh: rank now, by the current snapshot, instead of reading what is stored.
  /// - Throws: ``LookupError``
  func recommendations(user: String, fresh: Bool, _ options: ListOptions) async throws -> RecommendationList

  /// A list for the items of a session, the oldest first, whose user has no id; the popular list when none of the items is known.
  /// - Throws: ``LookupError``
  func recommendations(session items: [String], _ options: ListOptions) async throws -> RecommendationList

  /// What is kept of a user.
  /// - Throws: ``LookupError``, with `notFound` for a user without state.
  func user(_ id: String) async throws -> UserDetails

  /// What is kept of an item.
  /// - Throws: ``LookupError``, with `notFound` for an item that is not in the catalogue.
  func item(_ id: String) async throws -> ItemDetails

  /// The nearest items of an item in the model's space, the nearest first, without itself.
  /// - Throws: ``LookupError``, with `notFound` for an item that is not in the catalogue.
  func similarItems(to id: String, _ options: ListOptions) async throws -> [ScoredItem]

  /// Erases a user as a `forget` event does. Succeeds for a user that is not known, so that a retry is safe.
  /// - Throws: ``LookupError``
  func forgetUser(_ id: String) async throws

  /// The model that ranks.
  /// - Throws: ``LookupError``
  func model() async throws -> ModelDetails
}

/// What a list may hold.
public struct ListOptions: Sendable, Equatable {
  /// How many items a list has unless told otherwise, and at most.
  public static let defaultLimit = 20
  public static let maximumLimit = 1000

  public var limit: Int
  /// Only items of at least one of these categories; empty allows all.
  public var categories: [String]
  /// Items that are left out.
  public var excluded: [String]
  /// Whether each item says why it is in the list.
  public var explains: Bool

  public init(limit: Int = ListOptions.defaultLimit, categories: [String] = [], excluded: [String] = [], explains: Bool = false) {
    self.limit = limit
    self.categories = categories
    self.excluded = excluded
    self.explains = explains
  }
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
  /// The items of the user's sequence that are nearest to it in the model's space, with their cosine similarities; nil unless asked for.
  public var nearest: [ScoredItem]?
  /// What the newest model's score is the sum of; nil unless asked for and something is known of what the user did.
  public var parts: Parts?
  /// The ID embedding's share of the item's vector, the rest being the content's; nil unless asked for.
  public var idShare: Double?

  /// What a score is the sum of.
  public struct Parts: Codable, Sendable, Equatable {
    /// How well the item fits what the encoder makes of the sequence.
    public var encoder: Double
    /// The item's own bias.
    public var bias: Double
    /// What the counts of the neighbourhood add.
    public var neighborhood: Double

    public init(encoder: Double, bias: Double, neighborhood: Double) {
      self.encoder = encoder
      self.bias = bias
      self.neighborhood = neighborhood
    }

    enum CodingKeys: String, CodingKey {
      case encoder, bias
      case neighborhood = "neighbourhood"
    }
  }

  public init(
    item: String, title: String? = nil, score: Double, nearest: [ScoredItem]? = nil, parts: Parts? = nil, idShare: Double? = nil
  ) {
    self.item = item
    self.title = title
    self.score = score
    self.nearest = nearest
    self.parts = parts
    self.idShare = idShare
  }

  enum CodingKeys: String, CodingKey {
    case item, title, score, nearest, parts
    case idShare = "id_share"
  }
}

/// A list, the best first.
public struct RecommendationList: Codable, Sendable, Equatable {
  /// Nil for a session.
  public var user: String?
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
    /// Ranked for this request.
    case fresh
    /// The popular list, for whom nothing is known.
    case popular
  }

  public init(user: String?, items: [ScoredItem], source: Source, revision: UInt64? = nil, model: UInt64? = nil, generatedAt: Date? = nil) {
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
  /// How the published list changed lately, the newest change first. Only the newest lists since the daemon's start are remembered.
  public var changes: [Change]

  /// How a published list differs from the one before it.
  public struct Change: Codable, Sendable, Equatable {
    /// Of the list that came.
    public var revision: UInt64
    public var model: UInt64
    public var generatedAt: Date
    /// The items that came, moved or left.
    public var moves: [Move]

    public init(revision: UInt64, model: UInt64, generatedAt: Date, moves: [Move]) {
      self.revision = revision
      self.model = model
      self.generatedAt = generatedAt
      self.moves = moves
    }

    enum CodingKeys: String, CodingKey {
      case revision, model, moves
      case generatedAt = "generated_at"
    }
  }

  /// An item that stands elsewhere in the list than before.
  public struct Move: Codable, Sendable, Equatable {
    public var item: String
    public var title: String?
    /// The places, from 1; nil where the list does not have the item.
    public var from: Int?
    public var to: Int?

    public init(item: String, title: String? = nil, from: Int?, to: Int?) {
      self.item = item
      self.title = title
      self.from = from
      self.to = to
    }
  }

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

  public init(user: String, sequence: [Interaction], changes: [Change] = []) {
    self.user = user
    self.sequence = sequence
    self.changes = changes
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

  public init(
    item: String, title: String? = nil, categories: [String] = [], brand: String? = nil, price: Double? = nil, available: Bool = true,
    features: [String: Int] = [:]
  ) {
    self.item = item
    self.title = title
    self.categories = categories
    self.brand = brand
    self.price = price
    self.available = available
    self.features = features
  }
}

/// The model that ranks.
public struct ModelDetails: Codable, Sendable, Equatable {
  /// The snapshot's version.
  public var version: UInt64
  /// Optimiser steps since the daemon's start.
  public var steps: UInt64
  /// Trainable numbers.
  public var parameters: Int
  /// Items that have a row.
  public var items: Int
  /// The hyper-parameters by their names in the configuration, as text.
  public var hyperparameters: [String: String]

  public init(version: UInt64, steps: UInt64, parameters: Int, items: Int, hyperparameters: [String: String] = [:]) {
    self.version = version
    self.steps = steps
    self.parameters = parameters
    self.items = items
    self.hyperparameters = hyperparameters
  }
}
