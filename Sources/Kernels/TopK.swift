/// Collects the exact k greatest of a stream of scores: a buffer of 2k candidates above a rising threshold, cut back to k whenever full.
///
/// Of equal scores the lower index wins.
public struct TopKCollector: Sendable {
  public let k: Int
  private var candidates: [(score: Float, index: Int32)] = []
  private var threshold = -Float.infinity

  public init(k: Int) {
    precondition(k > 0)
    self.k = k
    candidates.reserveCapacity(2 * k)
  }

  public mutating func removeAll() {
    candidates.removeAll(keepingCapacity: true)
    threshold = -.infinity
  }

  /// Offers the scores of row `row` (1 … columns), whose first column has the index `firstIndex`. −∞ and NaN are never taken.
  public mutating func offer(_ scores: Matrix, row: Int, firstIndex: Int) {
    let values = scores.row(row)
    forEachVector(scores.columns) { j, lanes in
      if Vector(all: threshold).isLess(than: load(values, j, lanes)).hasBits {
        for lane in 0..<lanes where values[j &+ lane] > threshold {
          candidates.append((values[j &+ lane], Int32(truncatingIfNeeded: firstIndex &+ j &+ lane)))
          if candidates.count == 2 * k { cut() }
        }
      }
    }
  }

  private mutating func cut() {
    candidates.sort(by: precedes)
    candidates.removeLast(candidates.count - k)
    threshold = candidates[k - 1].score
  }

  private func precedes(_ a: (score: Float, index: Int32), _ b: (score: Float, index: Int32)) -> Bool {
    a.score > b.score || (a.score == b.score && a.index < b.index)
  }

  /// At most k pairs, best first.
  public mutating func sorted() -> [(score: Float, index: Int32)] {
    candidates.sort(by: precedes)
    return Array(candidates.prefix(k))
  }
}

/// How many values of a row are at least `bound`.
public func countAtLeast(_ x: Matrix, row: Int, _ bound: Float) -> Int {
  let values = x.row(row)
  var counts = SIMD8<Int32>.zero
  let whole = x.columns & ~7
  forEachVector(whole) { j, _ in
    // The mask of "below" is −1 there and 0 where the value counts.
    counts = counts &+ 1 &+ load(values, j).isLess(than: Vector(all: bound))
  }
  var total = Int(counts.wrappedSum())
  for j in whole..<x.columns where values[j] >= bound { total += 1 }
  return total
}
