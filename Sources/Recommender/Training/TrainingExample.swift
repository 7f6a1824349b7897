/// One interaction as the model sees it. The item is a number, never a row: rows are reused.
public struct ItemEvent: Sendable, Equatable {
  public var item: ItemNumber
  /// The code of the interaction's type.
  public var type: UInt8
  /// `.min` is unknown: an optional would make the many events of a reservoir half as large again.
  private var milliseconds: Int64

  /// Milliseconds since 1970; nil when only the order is known.
  public var time: Int64? {
    get { milliseconds == .min ? nil : milliseconds }
    set { milliseconds = newValue ?? .min }
  }

  public init(item: ItemNumber, type: UInt8 = 0, time: Int64? = nil) {
    self.item = item
    self.type = type
    milliseconds = time ?? .min
  }
}

/// What the learner learns from: a user's interactions, the last of which are targets. Self-contained, so that it could cross a wire.
public struct TrainingExample: Sendable, Equatable {
  /// Tells users apart; only used to find a user's examples (merging, forgetting).
  public var user: UInt64
  /// Context and targets, oldest first.
  public var events: [ItemEvent]
  /// How many of the last events are predicted, each from those before it.
  public var targetCount: Int
  /// The user's candidate pool, best first; empty when there is none.
  public var pool: [ItemNumber]
  /// Items that were on the screen and were passed over: they may join the negatives.
  public var shown: [ItemNumber]

  public init(user: UInt64, events: [ItemEvent], targetCount: Int = 1, pool: [ItemNumber] = [], shown: [ItemNumber] = []) {
    self.user = user
    self.events = events
    self.targetCount = targetCount
    self.pool = pool
    self.shown = shown
  }

  /// The same sequence with its last `count` interactions as targets, or as many as have a context.
  func predicting(last count: Int) -> TrainingExample {
    var result = self
    result.targetCount = max(targetCount, min(count, events.count - 1))
    return result
  }

  /// Merges examples of one user that follow on each other (the later one's context ends with the earlier one's target) into one
  /// sequence with several targets: each is still predicted once, at a fraction of the cost. The order of first appearance is kept.
  public static func merged(_ examples: [TrainingExample], maximumLength: Int) -> [TrainingExample] {
    var result: [TrainingExample] = []
    var lastOfUser: [UInt64: Int] = [:]
    for example in examples {
      if let index = lastOfUser[example.user], result[index].targetCount + 1 <= maximumLength,
        example.targetCount == 1, example.events.count >= 2, let previous = result[index].events.last,
        example.events[example.events.count - 2] == previous {
        result[index].targetCount += 1
        // The later example's context is the same history, one further; what it let go at the front may still be a target's context.
        result[index].events.append(example.events[example.events.count - 1])
        let surplus = result[index].events.count - maximumLength - 1
        if surplus > 0 { result[index].events.removeFirst(surplus) }
        if !example.pool.isEmpty { result[index].pool = example.pool }
        result[index].shown = example.shown
      } else {
        lastOfUser[example.user] = result.count
        result.append(example)
      }
    }
    return result
  }
}
