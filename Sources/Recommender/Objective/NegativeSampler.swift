#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Where the negatives of the preference term come from.
public enum NegativeSampling: String, Sendable, Codable, CaseIterable {
  /// At random from the candidate pool: informative, yet smoothed. The method's core.
  case stochastic
  /// The first of the pool, always: what the method is held against.
  case hard
  /// At random from the whole catalogue.
  case uniform
  /// No preference term.
  case none
}

/// Draws negatives for a target. Never the target nor an item of its context.
struct NegativeSampler: Sendable {
  var strategy: NegativeSampling
  /// n: how many for each target.
  var count: Int
  /// Above 0, the draw from the pool is softmax(−rank/temperature) by rank instead of uniform: a small one looks near the top.
  var rankTemperature: Float

  /// - Parameters:
  ///   - pool: the candidate pool, best first, as rows of the model.
  ///   - live: every row that may be drawn, for `uniform`.
  ///   - excluded: whether a row is the target or in the context.
  /// - Returns: at most `count` rows, without repetition; fewer when the pool has no more.
  func draw(pool: [Int32], live: [Int32], excluded: (Int32) -> Bool, using random: inout Xoshiro256) -> [Int32] {
    switch strategy {
    case .none: return []
    case .hard: return Array(pool.filter { !excluded($0) }.prefix(count))
    case .uniform: return distinct(live, excluded, using: &random)
    case .stochastic:
      guard rankTemperature > 0 else { return shuffledPrefix(pool.filter { !excluded($0) }, using: &random) }
      // Gumbel top-n: the n greatest of logit + Gumbel noise are a draw without replacement.
      let keyed = pool.enumerated().compactMap { rank, row -> (key: Double, row: Int32)? in
        guard !excluded(row) else { return nil }
        let uniform = max(random.nextUnit(), 0x1p-53)
        return (-Double(rank) / Double(rankTemperature) - log(-log(uniform)), row)
      }
      return keyed.sorted { $0.key > $1.key }.prefix(count).map(\.row)
    }
  }

  private func shuffledPrefix(_ candidates: [Int32], using random: inout Xoshiro256) -> [Int32] {
    var rest = candidates
    let wanted = min(count, rest.count)
    for i in 0..<wanted { rest.swapAt(i, i + random.next(below: rest.count - i)) }
    return Array(rest.prefix(wanted))
  }

  private func distinct(_ live: [Int32], _ excluded: (Int32) -> Bool, using random: inout Xoshiro256) -> [Int32] {
    guard !live.isEmpty else { return [] }
    var drawn: [Int32] = []
    // A context holds few items of a catalogue; in a tiny catalogue the tries run out instead.
    for _ in 0..<count * 20 where drawn.count < count {
      let row = live[random.next(below: live.count)]
      if !excluded(row), !drawn.contains(row) { drawn.append(row) }
    }
    return drawn
  }
}
