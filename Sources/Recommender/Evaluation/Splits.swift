/// The last event of each user is the test, the one before it the validation, everything else training.
///
/// Users with fewer than three events are training only.
public struct LeaveOneOut: Sendable {
  /// The events of user `u` are `offsets[u] ..< offsets[u + 1]`.
  private let offsets: [Int]

  /// - Parameter offsets: where each user's events begin, oldest first, and at last the number of events.
  public init(offsets: [Int]) {
    self.offsets = offsets
  }

  public var userCount: Int { offsets.count - 1 }

  /// The user's events to learn from.
  public func training(_ user: Int) -> Range<Int> {
    let range = offsets[user]..<offsets[user + 1]
    return range.count < 3 ? range : range.lowerBound..<range.upperBound - 2
  }

  /// The event to choose settings by; its context is the training.
  public func validation(_ user: Int) -> Int? { offsets[user + 1] - offsets[user] < 3 ? nil : offsets[user + 1] - 2 }

  /// The event to report on; its context is the training and the validation.
  public func test(_ user: Int) -> Int? { offsets[user + 1] - offsets[user] < 3 ? nil : offsets[user + 1] - 1 }
}

/// Test, then train: after a warm-up each block of events is first predicted and then learned from.
///
/// ### References
/// Vinagre, Jorge, Gama: Evaluation of recommender systems in streaming environments. arXiv 1504.08175.
public struct Prequential: Sendable {
  public enum Block: String, Sendable, CaseIterable {
    /// Each event is predicted from everything before it.
    case event
    /// A whole day (UTC) is predicted from the days before it: for data whose times say no more than the day.
    case day
  }

  /// Positions in the chronological order to learn from before anything is predicted.
  public let warmup: Range<Int>
  /// Positions in the chronological order, to be predicted and then learned from, block by block.
  public let blocks: [Range<Int>]

  /// - Parameters:
  ///   - times: milliseconds since 1970, one for each position of the chronological order, never falling. May be empty for blocks of
  ///     one event.
  ///   - count: the number of events.
  ///   - warmupFraction: of the events; with blocks of a day the day in which the fraction ends belongs to the warm-up.
  public init(times: some RandomAccessCollection<Int64>, count: Int, warmupFraction: Double, block: Block) {
    precondition(0...1 ~= warmupFraction, "a fraction is from 0 to 1")
    var start = Int((Double(count) * warmupFraction).rounded())
    func day(_ position: Int) -> Int64 {
      let time = times[times.index(times.startIndex, offsetBy: position)]
      return (time >= 0 ? time : time - 86_399_999) / 86_400_000
    }
    switch block {
    case .event:
      warmup = 0..<start
      blocks = (start..<count).map { $0..<$0 + 1 }
    case .day:
      precondition(times.count == count, "blocks of a day need each event's time")
      while start > 0, start < count, day(start) == day(start - 1) { start += 1 }
      warmup = 0..<start
      var blocks: [Range<Int>] = []
      while start < count {
        var end = start + 1
        while end < count, day(end) == day(start) { end += 1 }
        blocks.append(start..<end)
        start = end
      }
      self.blocks = blocks
    }
  }
}

/// Train on what came up to period t−1, test on period t: the protocol of ADER for continual learning.
///
/// In the tests of a period, items that came in no period before it are taken out of the users' sequences; then every event after a
/// user's first one of the period is a case.
///
/// ### References
/// Mi, Lin, Faltings: ADER, Adaptively Distilled Exemplar Replay towards Continual Learning for Session-based Recommendation. RecSys 2020.
public struct Periods: Sendable {
  /// The sequences to test in one period.
  public struct Tests: Sendable {
    /// The events that are left, user by user, oldest first.
    public let events: [Int]
    /// The sequences are `events[offsets[s] ..< offsets[s + 1]]`, each of at least two events, and every event after the first is a case.
    public let offsets: [Int]

    public var caseCount: Int { events.count - (offsets.count - 1) }
  }

  /// Events by period, and in it user by user, oldest first.
  private let events: [Int]
  private let offsets: [Int]
  private let users: [Int32]
  private let items: [Int32]
  /// For each item the first period that it came in.
  private let firstPeriods: [Int32]

  /// - Parameters:
  ///   - users, items, periods: one for each event; the events of a user stand together, oldest first, and periods begin at 0.
  public init(users: [Int32], items: [Int32], periods: [Int32]) {
    precondition(users.count == items.count && items.count == periods.count, "the columns are of one length")
    self.users = users
    self.items = items
    let count = Int(periods.max() ?? -1) + 1
    var offsets = [Int](repeating: 0, count: count + 1)
    for period in periods { offsets[Int(period) + 1] += 1 }
    for period in 0..<count { offsets[period + 1] += offsets[period] }
    var next = offsets
    var events = [Int](repeating: 0, count: periods.count)
    var firstPeriods = [Int32](repeating: .max, count: Int(items.max() ?? -1) + 1)
    for (event, period) in periods.enumerated() {
      events[next[Int(period)]] = event
      next[Int(period)] += 1
      firstPeriods[Int(items[event])] = min(firstPeriods[Int(items[event])], period)
    }
    self.events = events
    self.offsets = offsets
    self.firstPeriods = firstPeriods
  }

  public var count: Int { offsets.count - 1 }

  /// The events of a period, user by user, oldest first.
  public func training(_ period: Int) -> ArraySlice<Int> { events[offsets[period]..<offsets[period + 1]] }

  /// What to predict in a period after learning from those before it.
  public func tests(_ period: Int) -> Tests {
    var kept: [Int] = []
    var starts = [0]
    var user: Int32?
    func close() {
      // One event alone leaves nothing to predict.
      if let start = starts.last, kept.count - start == 1 { kept.removeLast() }
      if let start = starts.last, kept.count > start { starts.append(kept.count) }
    }
    for event in training(period) {
      if users[event] != user {
        close()
        user = users[event]
      }
      if firstPeriods[Int(items[event])] < period { kept.append(event) }
    }
    close()
    return Tests(events: kept, offsets: starts)
  }
}
