/// A simple recommender that a learned one has to beat, on the same terms: the whole catalogue is ranked, ties count against the target.
///
/// Items are indices from 0; the catalogue grows with what is observed.
public protocol Baseline: Sendable {
  /// Learns from one interaction.
  /// - Parameter context: the user's interactions before it, oldest first.
  mutating func observe(_ item: Int32, after context: ArraySlice<Int32>)

  /// How many items of the catalogue stand before the target, or at its height.
  /// - Parameters:
  ///   - context: the user's interactions so far, oldest first.
  ///   - excluded: items that are not recommended, in any order; the context itself unless repeats are allowed.
  /// - Returns: nil if the target is excluded.
  mutating func rank(of target: Int32, after context: ArraySlice<Int32>, excluding excluded: ArraySlice<Int32>) -> Int?

  /// The best items in order, at most `limit`, only such as there is some evidence for.
  mutating func top(_ limit: Int, after context: ArraySlice<Int32>, excluding excluded: ArraySlice<Int32>) -> [Int32]
}

/// Scores of the few items that a context points to, every other item's being 0; equal scores are ordered by popularity.
struct SparseScores: Sendable {
  /// For every item, 0 unless it is among `touched`.
  private var scores: [Float] = []
  private var touched: [Int32] = []

  mutating func add(_ score: Float, to item: Int32) {
    if item >= scores.count { scores.append(contentsOf: repeatElement(0, count: Int(item) + 1 - scores.count)) }
    if scores[Int(item)] == 0 { touched.append(item) }
    scores[Int(item)] += score
  }

  /// All scores must be positive; they are forgotten afterwards.
  mutating func takeRank(of target: Int32, excluding excluded: ArraySlice<Int32>, popularity: CountOrder) -> Int? {
    defer { clear() }
    let score = target < scores.count ? scores[Int(target)] : 0
    let count = popularity.count(of: target)
    let excluded = Set(excluded)
    if excluded.contains(target) { return nil }

    func isBefore(_ item: Int32) -> Bool {
      let other = item < scores.count ? scores[Int(item)] : 0
      return other > score || (other == score && popularity.count(of: item) >= count)
    }

    var before = 0
    for item in touched where item != target && isBefore(item) && !excluded.contains(item) { before += 1 }
    if score > 0 { return before }

    // The target has no score: those without one that are as popular stand before it as well.
    before += popularity.itemCount(withAtLeast: count)
    if target < popularity.itemCount { before -= 1 }
    for item in touched where item < popularity.itemCount && popularity.count(of: item) >= count { before -= 1 }
    for item in excluded where item < popularity.itemCount && popularity.count(of: item) >= count {
      if item >= scores.count || scores[Int(item)] == 0 { before -= 1 }
    }
    return before
  }

  /// Equal scores and counts are ordered by index; all scores are forgotten afterwards.
  mutating func takeTop(_ limit: Int, excluding excluded: ArraySlice<Int32>, popularity: CountOrder) -> [Int32] {
    defer { clear() }
    let excluded = Set(excluded)
    var result = touched.filter { !excluded.contains($0) }.sorted { a, b in
      (scores[Int(b)], popularity.count(of: b), a) < (scores[Int(a)], popularity.count(of: a), b)
    }
    if result.count > limit { return Array(result.prefix(limit)) }
    result += popularity.top(limit - result.count) { item in
      !excluded.contains(item) && (item >= scores.count || scores[Int(item)] == 0)
    }
    return result
  }

  private mutating func clear() {
    for item in touched { scores[Int(item)] = 0 }
    touched.removeAll(keepingCapacity: true)
  }
}
