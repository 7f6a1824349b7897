/// Watches live quality block by block and says when the model has fallen significantly below its last good block.
public struct QualityGuard: Sendable {
  public struct Configuration: Sendable, Equatable {
    /// A fall smaller than this share of the good level is never acted on; 0 switches the guard off.
    public var relativeDrop: Double
    /// How many standard errors the fall has to exceed.
    public var significance: Double
    /// Scored events in a block.
    public var blockEvents: Int

    public init(relativeDrop: Double = 0.2, significance: Double = 3, blockEvents: Int = 2_000) {
      self.relativeDrop = relativeDrop
      self.significance = significance
      self.blockEvents = blockEvents
    }
  }

  public enum Verdict: Sendable, Equatable {
    /// The block is not full yet.
    case pending
    /// The block is as good as the last good one, or better: what was learned so far may be kept.
    case good(ndcg: Double)
    /// The model fell and simple popularity did not: not the data, the model.
    case fallen(ndcg: Double, good: Double)
  }

  private struct Block: Sendable {
    var count = 0.0
    var sum = 0.0
    var squares = 0.0
    var popularity = 0.0

    var mean: Double { sum / count }
    var variance: Double { max(0, squares / count - mean * mean) }
    var popularityMean: Double { popularity / count }
  }

  private let configuration: Configuration
  private var block = Block()
  private var good: Block?

  public init(_ configuration: Configuration) { self.configuration = configuration }

  /// Takes one scored event.
  ///
  /// - Parameters: the ranks, from 0, that model and popularity gave the target; nil is a miss.
  public mutating func record(model: Int?, popularity: Int?, cutoff: Int = 10) -> Verdict {
    let value = model.map { RankingMetric.ndcg(cutoff).value(rank: $0) } ?? 0
    block.count += 1
    block.sum += value
    block.squares += value * value
    block.popularity += popularity.map { RankingMetric.ndcg(cutoff).value(rank: $0) } ?? 0
    guard Int(block.count) >= configuration.blockEvents else { return .pending }
    defer { block = Block() }
    guard let good, good.mean > 0, configuration.relativeDrop > 0 else {
      self.good = block
      return .good(ndcg: block.mean)
    }
    let drop = 1 - block.mean / good.mean
    let error = (block.variance / block.count + good.variance / good.count).squareRoot()
    // When popularity fell as much, the events became harder to predict for everybody.
    let drift = good.popularityMean > 0 ? max(0, 1 - block.popularityMean / good.popularityMean) : 0
    if drop - drift > configuration.relativeDrop, good.mean - block.mean > configuration.significance * error {
      return .fallen(ndcg: block.mean, good: good.mean)
    }
    // A slow decline must not move the bar: only a block that is no worse sets it anew, a worse one moves it a little.
    if block.mean >= good.mean {
      self.good = block
    } else {
      self.good = Block(
        count: block.count, sum: 0.9 * good.mean * block.count + 0.1 * block.sum,
        squares: 0.9 * good.squares / good.count * block.count + 0.1 * block.squares,
        popularity: 0.9 * good.popularityMean * block.count + 0.1 * block.popularity)
    }
    return .good(ndcg: block.mean)
  }
}
