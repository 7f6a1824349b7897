/// Recommends what most often came right after the last item: a first-order Markov chain. Equal counts are ordered by popularity.
public struct MarkovChain: Baseline {
  private var transitions = CountTable()
  private var popularity: CountOrder
  private var scores = SparseScores()

  public init(itemCount: Int = 0) {
    popularity = CountOrder(itemCount: itemCount)
  }

  public mutating func observe(_ item: Int32, after context: ArraySlice<Int32>) {
    popularity.increment(item)
    if let last = context.last { transitions.add(1, to: item, of: last) }
  }

  public mutating func rank(of target: Int32, after context: ArraySlice<Int32>, excluding excluded: ArraySlice<Int32>) -> Int? {
    score(after: context)
    return scores.takeRank(of: target, excluding: excluded, popularity: popularity)
  }

  public mutating func top(_ limit: Int, after context: ArraySlice<Int32>, excluding excluded: ArraySlice<Int32>) -> [Int32] {
    score(after: context)
    return scores.takeTop(limit, excluding: excluded, popularity: popularity)
  }

  private mutating func score(after context: ArraySlice<Int32>) {
    guard let last = context.last else { return }
    transitions.forEach(of: last) { scores.add($1, to: $0) }
  }
}
