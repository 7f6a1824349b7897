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
  /// T: at 0 the draw from the pool is even; above, an item's probability is in proportion to (1 + rank)^(−1/T).
  ///
  /// The preference term's optimum is f_ref + log(p/q)/β, p being how targets are distributed and q how negatives are (arXiv 2305.18290).
  /// With an even q it goes on sharpening what the policy knows already. A q that falls with the rank as p does, about Zipf's law at T = 1,
  /// leaves a calibrated policy as it is, and corrects one that is not (as playing against oneself does, arXiv 2401.01335).
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
      // The n first of a race, whose times are exponential with the weights as their rates, are a draw without replacement.
      var first: [(time: Double, row: Int32)] = []
      for (rank, row) in pool.enumerated() where !excluded(row) {
        let uniform = max(random.nextUnit(), 0x1p-53)
        let slowness = rankTemperature == 1 ? Double(rank + 1) : pow(Double(rank + 1), 1 / Double(rankTemperature))
        // −log u ≥ 1 − u: most are too late without the logarithm.
        if first.count == count, let last = first.last, (1 - uniform) * slowness >= last.time { continue }
        let time = -log(uniform) * slowness
        guard let place = first.firstIndex(where: { $0.time > time }) ?? (first.count < count ? first.count : nil) else { continue }
        first.insert((time, row), at: place)
        if first.count > count { first.removeLast() }
      }
      return first.map(\.row)
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
