/// Recommends what shares the most users with the items of the context: cosine similarity of co-occurrence.
///
/// With `n(i)` users of item `i` and `c(i, j)` users of both, `sim(i, j) = c / √(n(i) n(j)) · c / (c + shrinkage)`, and a candidate's
/// score is `Σ decay^age · sim(item, candidate)` over the context, the last item having age 0. Equal scores are ordered by popularity.
/// Counts are kept exact as interactions come in one by one.
///
/// ### References
/// Sarwar et al.: Item-Based Collaborative Filtering Recommendation Algorithms. WWW 2001. The shrinkage is Bell and Koren's (ICDM 2007).
public struct ItemKNN: Baseline {
  private var cooccurrence: Cooccurrence
  /// Users of each item.
  private var popularity: CountOrder
  private var scores = SparseScores()
  /// How much an older item of the context counts against the one after it.
  public let decay: Float
  /// How many similar items of each item of the context take part; nil for all.
  public let neighbourCount: Int?
  /// How many of the user's last items are looked at, in learning and in scoring.
  public let maximumContext: Int

  public init(itemCount: Int = 0, decay: Float = 0.5, shrinkage: Float = 1, neighbourCount: Int? = nil, maximumContext: Int = 200) {
    popularity = CountOrder(itemCount: itemCount)
    self.decay = decay
    cooccurrence = Cooccurrence(shrinkage: shrinkage)
    self.neighbourCount = neighbourCount
    self.maximumContext = maximumContext
  }

  public mutating func observe(_ item: Int32, after context: ArraySlice<Int32>) {
    let seen = Set(context.suffix(maximumContext))
    // A repeated item is no further user.
    if seen.contains(item) { return }
    popularity.increment(item)
    cooccurrence.add(item, users: popularity.count(of: item), beside: seen)
  }

  public mutating func rank(of target: Int32, after context: ArraySlice<Int32>, excluding excluded: ArraySlice<Int32>) -> Int? {
    score(after: context)
    return scores.takeRank(of: target, excluding: excluded, popularity: popularity)
  }

  public mutating func top(_ limit: Int, after context: ArraySlice<Int32>, excluding excluded: ArraySlice<Int32>) -> [Int32] {
    score(after: context)
    return scores.takeTop(limit, excluding: excluded, popularity: popularity)
  }

  /// The items that share the most users with this one, by falling similarity; equal ones by index.
  public func neighbours(of item: Int32, limit: Int) -> [(item: Int32, similarity: Float)] {
    var result: [(item: Int32, similarity: Float)] = []
    cooccurrence.forEachSimilar(to: item) { result.append(($0, $1)) }
    result.sort { ($1.similarity, $0.item) < ($0.similarity, $1.item) }
    return Array(result.prefix(limit))
  }

  private mutating func score(after context: ArraySlice<Int32>) {
    var weight: Float = 1
    for item in context.suffix(maximumContext).reversed() {
      // What is smaller adds nothing to the sums, and must not become a score of 0.
      guard weight > 1e-30 else { break }
      if let neighbourCount {
        for neighbour in neighbours(of: item, limit: neighbourCount) { scores.add(weight * neighbour.similarity, to: neighbour.item) }
      } else {
        let unit = weight
        cooccurrence.forEachSimilar(to: item) { scores.add(unit * $1, to: $0) }
      }
      weight *= decay
    }
  }
}

/// How many users each two items share. Apart from the scores, so that these can be written while it is read.
private struct Cooccurrence: Sendable {
  private var pairs = CountTable()
  /// 1 / √users of each item.
  private var inverseNorms: [Float] = []
  /// How much few common users are distrusted; 0 is the plain cosine.
  private let shrinkage: Float

  init(shrinkage: Float) {
    self.shrinkage = shrinkage
  }

  /// A further user of the item, who had the others before.
  mutating func add(_ item: Int32, users: Int32, beside others: Set<Int32>) {
    let needed = Int(max(item, others.max() ?? 0)) + 1
    if needed > inverseNorms.count { inverseNorms += Array(repeating: 1, count: needed - inverseNorms.count) }
    inverseNorms[Int(item)] = 1 / Float(users).squareRoot()
    for other in others {
      pairs.add(1, to: item, of: other)
      pairs.add(1, to: other, of: item)
    }
  }

  func forEachSimilar(to item: Int32, _ body: (_ item: Int32, _ similarity: Float) -> Void) {
    guard item < inverseNorms.count else { return }
    let own = inverseNorms[Int(item)]
    pairs.forEach(of: item) { other, count in
      body(other, count * count * own * inverseNorms[Int(other)] / (count + shrinkage))
    }
  }
}
