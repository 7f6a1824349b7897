/// A user's list as it is published: state, of which the highest revision holds.
public struct Recommendation: Sendable, Equatable {
  public var user: String
  /// Best first.
  public var items: [ScoredItem]
  /// Strictly rising per user, with gaps.
  public var revision: UInt64
  /// Version of the model that ranked.
  public var model: UInt64
  /// The newest event that the list reflects; nil before any event.
  public var asOf: Position?
  /// Milliseconds since 1970.
  public var generatedAt: Int64

  public init(user: String, items: [ScoredItem], revision: UInt64, model: UInt64, asOf: Position?, generatedAt: Int64) {
    self.user = user
    self.items = items
    self.revision = revision
    self.model = model
    self.asOf = asOf
    self.generatedAt = generatedAt
  }

  /// An item of the list.
  public struct ScoredItem: Sendable, Equatable {
    public var item: String
    /// Finite; comparable within one list only.
    public var score: Float

    public init(item: String, score: Float) {
      self.item = item
      self.score = score
    }
  }

  /// A place in a topic.
  public struct Position: Sendable, Equatable {
    public var topic: String
    public var partition: Int32
    public var offset: Int64
    /// The event's own time, milliseconds since 1970.
    public var time: Int64

    public init(topic: String, partition: Int32, offset: Int64, time: Int64) {
      self.topic = topic
      self.partition = partition
      self.offset = offset
      self.time = time
    }
  }
}
