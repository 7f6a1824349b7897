#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// HR@K, NDCG@K and MRR@K of one relevant item in each ranked list.
public enum RankingMetric: Hashable, Sendable {
  case hitRate(Int)
  case ndcg(Int)
  case mrr(Int)

  /// What one list counts whose target stands at `rank`, from 0; a rank at or beyond the cut-off counts nothing.
  public func value(rank: Int) -> Double {
    switch self {
    case .hitRate(let cutoff): rank < cutoff ? 1 : 0
    case .ndcg(let cutoff): rank < cutoff ? 1 / log2(Double(rank + 2)) : 0
    case .mrr(let cutoff): rank < cutoff ? 1 / Double(rank + 1) : 0
    }
  }

  /// The field's way to write it, such as `NDCG@10`.
  public var name: String {
    switch self {
    case .hitRate(let cutoff): "HR@\(cutoff)"
    case .ndcg(let cutoff): "NDCG@\(cutoff)"
    case .mrr(let cutoff): "MRR@\(cutoff)"
    }
  }

  /// The cut-offs that are kept: up to the largest of them ranks are counted one by one.
  public static let cutoffs = [5, 10, 20]

  /// Every metric at every cut-off.
  public static let all = cutoffs.flatMap { [RankingMetric.hitRate($0), .ndcg($0), .mrr($0)] }
}

/// How often the target stood at each of the first ranks: sums that do not depend on the order of the cases, and from which cases can be
/// taken out again without a rounding error.
struct RankHistogram: Sendable, Equatable {
  static let depth = 20

  private(set) var counts = [Int](repeating: 0, count: depth)
  private(set) var total = 0

  mutating func add(_ rank: Int, times: Int = 1) {
    if rank < Self.depth { counts[rank] += times }
    total += times
  }

  mutating func add(_ other: RankHistogram) {
    for rank in counts.indices { counts[rank] += other.counts[rank] }
    total += other.total
  }

  func mean(_ metric: RankingMetric) -> Double {
    guard total > 0 else { return 0 }
    var sum = 0.0
    for (rank, count) in counts.enumerated() where count > 0 { sum += Double(count) * metric.value(rank: rank) }
    return sum / Double(total)
  }
}

/// Accumulates the ranks of targets into mean metrics.
public struct RankingMetrics: Sendable, Equatable {
  private var histogram = RankHistogram()
  /// The rank of each case in order, if they are kept; a miss is `Int32.max`.
  public private(set) var ranks: [Int32] = []
  private let keepsCases: Bool

  /// - Parameter keepsCases: keep each case's rank, which a paired test needs.
  public init(keepsCases: Bool = false) {
    self.keepsCases = keepsCases
  }

  /// The number of cases.
  public var count: Int { histogram.total }

  /// - Parameter rank: how many items stand before the target (see ``rank(of:in:excluding:)``); nil if the target is not in the list.
  public mutating func record(rank: Int?) {
    histogram.add(rank ?? .max)
    if keepsCases { ranks.append(rank.flatMap(Int32.init(exactly:)) ?? .max) }
  }

  /// Adds the cases of another, behind its own.
  public mutating func merge(_ other: RankingMetrics) {
    histogram.add(other.histogram)
    if keepsCases { ranks += other.ranks }
  }

  /// The mean over the cases, as a fraction; 0 without any. Cut-offs up to 20.
  public func mean(_ metric: RankingMetric) -> Double { histogram.mean(metric) }

  /// The metric of each case in order; empty if the cases are not kept.
  public func cases(_ metric: RankingMetric) -> [Double] { ranks.map { metric.value(rank: Int($0)) } }

  /// Means of all metrics by name, such as `NDCG@10`.
  public var means: [(name: String, value: Double)] { RankingMetric.all.map { ($0.name, mean($0)) } }

  /// How many items stand before the target in the order of the scores, all ties counted against it, so that a constant score ranks last.
  ///
  /// A score that is not a number ranks a target last and any other item first: a broken model must not look good.
  /// - Parameters:
  ///   - scores: one for each item of the catalogue.
  ///   - excluded: items that are not recommended, in any order. Nil is returned if the target is one of them.
  public static func rank(of target: Int, in scores: [Float], excluding excluded: some Sequence<Int32> = EmptyCollection()) -> Int? {
    let score = scores[target]
    var before = -1
    for other in scores where !(other < score) { before += 1 }
    for item in Set(excluded) where scores.indices.contains(Int(item)) {
      if item == target { return nil }
      if !(scores[Int(item)] < score) { before -= 1 }
    }
    return before
  }
}

/// The same metrics over the last cases only: the live quality of a stream.
public struct SlidingMetrics: Sendable {
  private var histogram = RankHistogram()
  /// The last ranks in a ring, those beyond the histogram's depth as one.
  private var ring: [UInt8] = []
  private var next = 0
  /// How many cases are kept.
  public let capacity: Int

  /// - Parameter capacity: at least 1.
  public init(capacity: Int) {
    precondition(capacity > 0, "a window holds at least one case")
    self.capacity = capacity
  }

  /// The number of cases in the window.
  public var count: Int { histogram.total }

  /// - Parameter rank: the target's place in the recommended list, from 0; nil if it was not in it.
  public mutating func record(rank: Int?) {
    let clipped = UInt8(min(rank ?? .max, RankHistogram.depth))
    if ring.count < capacity {
      ring.append(clipped)
    } else {
      histogram.add(Int(ring[next]), times: -1)
      ring[next] = clipped
      next = next + 1 == capacity ? 0 : next + 1
    }
    histogram.add(Int(clipped))
  }

  /// The mean over the window, as a fraction; 0 if it is empty. Cut-offs up to 20.
  public func mean(_ metric: RankingMetric) -> Double { histogram.mean(metric) }
}
