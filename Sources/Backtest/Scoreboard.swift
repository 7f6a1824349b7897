import Recommender

/// The ranks that one recommender gave, overall and in slices.
struct Scoreboard: Sendable {
  /// Groups of cases that say more than the mean.
  enum Slice: String, CaseIterable, Sendable {
    /// The target is of the same day (UTC) as the interaction before it.
    case sameDay = "same_day"
    case laterDay = "later_day"
    /// The target had few events so far.
    case newItems = "new_items"
    /// Nothing was known of the user.
    case usersWithoutHistory = "users_without_history"
  }

  /// Up to so many events an item counts as new.
  static let newUntil = 5

  private(set) var all = RankingMetrics(keepsCases: true)
  private(set) var slices: [Slice: RankingMetrics] = [:]
  /// By period; one for protocols without periods.
  private(set) var parts: [Int: RankingMetrics] = [:]
  /// The targets' places in the history, in the order of the cases.
  private(set) var targets: [Int] = []
  /// Held-out users, by the period that they belong to: right after it, and at the end.
  private(set) var heldOut: [Int: (then: RankingMetrics, finally: RankingMetrics)] = [:]

  /// - Parameters:
  ///   - count: the target's events so far.
  ///   - rank: nil when no list could hold the target.
  mutating func record(_ event: RankingCase, rank: Int?, part: Int, itemEvents count: Int32, times: [Int64]) {
    all.record(rank: rank)
    targets.append(event.target)
    parts[part, default: RankingMetrics()].record(rank: rank)
    if let last = event.last {
      if !times.isEmpty {
        let isSameDay = day(times[last]) == day(times[event.target])
        slices[isSameDay ? .sameDay : .laterDay, default: RankingMetrics()].record(rank: rank)
      }
    } else {
      slices[.usersWithoutHistory, default: RankingMetrics()].record(rank: rank)
    }
    if count <= Self.newUntil { slices[.newItems, default: RankingMetrics()].record(rank: rank) }
  }

  mutating func recordHeldOut(rank: Int?, part: Int, isFinal: Bool) {
    var pair = heldOut[part] ?? (RankingMetrics(), RankingMetrics())
    if isFinal { pair.finally.record(rank: rank) } else { pair.then.record(rank: rank) }
    heldOut[part] = pair
  }

  /// The mean over the periods, each counting the same; without periods that over the cases.
  func mean(_ metric: RankingMetric) -> Double {
    parts.isEmpty ? 0 : parts.sorted { $0.key < $1.key }.reduce(0) { $0 + $1.value.mean(metric) } / Double(parts.count)
  }

  private func day(_ time: Int64) -> Int64 { (time >= 0 ? time : time - 86_399_999) / 86_400_000 }
}
