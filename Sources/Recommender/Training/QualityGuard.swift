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

  /// Scored events follow on each other in bursts of one user, so their errors are not independent: the variance is that of the means of
  /// runs of events (the method of batch means), and what is watched is the lead over popularity on the same events.
  private struct Block: Sendable {
    static let runLength = 50.0
    var count = 0.0
    var model = 0.0
    var lead = 0.0
    private var runs = 0.0
    private var runSum = 0.0
    private var squares = 0.0
    private var run = (count: 0.0, sum: 0.0)

    mutating func add(model value: Double, popularity other: Double) {
      count += 1
      model += value
      lead += value - other
      run.count += 1
      run.sum += value - other
      if run.count == Self.runLength {
        runs += 1
        runSum += run.sum / run.count
        squares += (run.sum / run.count) * (run.sum / run.count)
        run = (0, 0)
      }
    }

    var modelMean: Double { model / count }
    var leadMean: Double { lead / count }
    /// Of the lead's mean, squared.
    var squaredError: Double {
      guard runs > 1 else { return .infinity }
      let mean = runSum / runs
      return max(0, squares / runs - mean * mean) / (runs - 1)
    }
  }

  /// The level of the last good blocks together. The best block alone would be the luckiest one, and every later one would look fallen.
  private struct Level: Sendable {
    static let memory = 8.0
    private(set) var blocks = 1.0
    private(set) var model: Double
    private(set) var lead: Double
    /// Of one block's lead.
    private(set) var squaredError: Double

    init(_ block: Block) {
      model = block.modelMean
      lead = block.leadMean
      squaredError = block.squaredError
    }

    /// The standard error of the difference between the block's lead and the level's.
    func error(_ block: Block) -> Double {
      ((blocks * squaredError + block.squaredError) / (blocks + 1) * (1 + 1 / blocks)).squareRoot()
    }

    mutating func take(_ block: Block) {
      blocks = min(blocks + 1, Self.memory)
      model += (block.modelMean - model) / blocks
      lead += (block.leadMean - lead) / blocks
      squaredError += (block.squaredError - squaredError) / blocks
    }
  }

  private let configuration: Configuration
  private var block = Block()
  private var good: Level?

  public init(_ configuration: Configuration) { self.configuration = configuration }

  /// Takes one scored event.
  ///
  /// - Parameters: the ranks, from 0, that model and popularity gave the target; nil is a miss.
  public mutating func record(model: Int?, popularity: Int?, cutoff: Int = 10) -> Verdict {
    let value = { (rank: Int?) in rank.map { RankingMetric.ndcg(cutoff).value(rank: $0) } ?? 0 }
    block.add(model: value(model), popularity: value(popularity))
    guard Int(block.count) >= configuration.blockEvents else { return .pending }
    defer { block = Block() }
    guard let good, configuration.relativeDrop > 0 else {
      self.good = Level(block)
      return .good(ndcg: block.modelMean)
    }
    let fall = good.lead - block.leadMean
    let error = good.error(block)
    if fall > configuration.relativeDrop * good.model, fall > configuration.significance * error {
      return .fallen(ndcg: block.modelMean, good: good.model)
    }
    // A block that is worse than chance explains does not move the level, so that a slow decline does not take it along.
    if fall <= error { self.good?.take(block) }
    return .good(ndcg: block.modelMean)
  }
}
