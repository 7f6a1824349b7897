import Datasets
import Kernels
public import Recommender

/// Replays a history as the daemon would have lived it, and scores what it would have recommended: the whole catalogue is ranked, seen
/// items are left out, ties count against the target.
///
/// The learner, the ranker and the sampler are the daemon's own. Four simple recommenders are scored on the same cases.
public struct Backtest: Sendable {
  public enum Plan: Sendable, Equatable {
    /// Train to convergence, choose by the validation item of each user, report on the test item.
    case leaveOneOut
    /// Learn from a first part, then recommend, score and learn, block by block.
    case prequential(warmup: Double, block: Prequential.Block)
    /// Each file is a period: learn from what came up to the one before, then test it. Of each period's users a share may be held out of
    /// learning, to see whether what was learned first is forgotten.
    case periods(heldOut: Double)

    /// The protocol's name on the command line.
    public var name: String {
      switch self {
      case .leaveOneOut: "leave-one-out"
      case .prequential: "prequential"
      case .periods: "periods"
      }
    }
  }

  public var plan: Plan
  public var learner: LearnerConfiguration
  /// New interactions between two strides of the learner.
  public var stride: Int
  /// How many of the last interactions the window holds from which recent ones are drawn.
  public var window: Int
  /// Interactions that recent popularity counts.
  public var popularityWindow: Int
  /// Interactions by which items are popular for users of whom nothing is known.
  public var guestWindow: Int
  /// Whether items that the user has seen may be recommended, and are scored.
  public var allowsRepeats: Bool
  /// The most passes over a history, and after how many without a gain on the validation items training stops.
  public var maximumEpochs: Int
  public var patience: Int
  public var seeds: [UInt64]
  /// Leaves the baselines out, to compare variants faster.
  public var skipsBaselines: Bool
  /// Reports on the validation items instead of the test items: what settings are chosen by.
  public var onValidation: Bool

  public init(
    plan: Plan, learner: LearnerConfiguration, stride: Int = 256, window: Int = 100_000, popularityWindow: Int = 10_000,
    guestWindow: Int = 40_000, allowsRepeats: Bool = false, maximumEpochs: Int = 200, patience: Int = 5, seeds: [UInt64] = [],
    skipsBaselines: Bool = false, onValidation: Bool = false
  ) {
    self.plan = plan
    self.learner = learner
    self.stride = max(1, stride)
    self.window = max(1, window)
    self.popularityWindow = max(1, popularityWindow)
    self.guestWindow = max(1, guestWindow)
    self.allowsRepeats = allowsRepeats
    self.maximumEpochs = max(1, maximumEpochs)
    self.patience = max(1, patience)
    self.seeds = seeds.isEmpty ? [learner.seed] : seeds
    self.skipsBaselines = skipsBaselines
    self.onValidation = onValidation
  }

  /// Runs the protocol: the baselines once, the learner once for each seed.
  ///
  /// - Throws: ``BacktestError`` when the data do not allow the protocol, or this machine does not let the kernels compute.
  public func run(_ data: BacktestData, progress: @escaping (Progress) -> Void = { _ in }) throws(BacktestError) -> BacktestReport {
    do { try selfTest() } catch { throw BacktestError(.kernels, error.description) }
    var report = BacktestReport(plan: plan, seeds: seeds, data: data)
    if !skipsBaselines {
      var baselines = BaselineRun(data: data, popularityWindow: popularityWindow, allowsRepeats: allowsRepeats, progress: progress)
      try replay(data, with: &baselines)
      report.add(baselines: baselines.scoreboards)
    }
    for seed in seeds {
      var configuration = learner
      configuration.seed = seed
      configuration.recommendsSeen = allowsRepeats
      configuration.model.usesAttributes = configuration.model.usesAttributes && data.hasAttributes
      var run = LearnerRun(backtest: self, learner: OnlineLearner(configuration), data: data, seed: seed, progress: progress)
      defer { run.stop() }
      try replay(data, with: &run)
      report.add(seed: seed, run.scoreboard, training: run.training)
    }
    report.finish()
    return report
  }

  private func replay(_ data: BacktestData, with run: inout some ReplayedRun) throws(BacktestError) {
    switch plan {
    case .leaveOneOut: try LeaveOneOutReplay(data: data, onValidation: onValidation).run(&run)
    case .prequential(let warmup, let block): try PrequentialReplay(data: data, warmup: warmup, block: block).run(&run)
    case .periods(let heldOut): try PeriodsReplay(data: data, heldOut: heldOut).run(&run)
    }
  }

  /// How far a run is.
  public struct Progress: Sendable, Equatable {
    /// What is being done, with what is known of its quality so far.
    public var stage: String
    /// From 0 to 1.
    public var fraction: Double

    public init(stage: String, fraction: Double) {
      self.stage = stage
      self.fraction = fraction
    }
  }
}

/// What goes through a protocol: it learns and is asked for ranks. Events are indices into the history.
protocol ReplayedRun {
  /// A history, in the order of time, that is there before anything is asked.
  /// - Parameter validation: cases to tell by when to stop; nil leaves the choice of some to the run.
  mutating func learn(history events: [Int], validation: [RankingCase]?)
  /// Events in the order in which they came, each after all that came before it.
  mutating func learn(stream events: some Collection<Int>)
  /// Learns what was put by for a whole stride.
  mutating func flush()
  /// Events that came in but are no part of the model's training: what needs no training may take them in.
  mutating func see(_ events: [Int])
  /// - Parameter part: the period, or 0.
  mutating func score(_ cases: some Collection<RankingCase>, part: Int)
  /// Scores users that are held out of learning; `isFinal` when everything else has been learned.
  mutating func scoreHeldOut(_ cases: some Collection<RankingCase>, part: Int, isFinal: Bool)
}

/// One event to predict: the target, and which of the user's events stand before it.
struct RankingCase: Sendable, Equatable {
  /// The target's place in the history.
  var target: Int
  /// The context: the user's events here …
  var past: Range<Int>
  /// … and behind them these, of the target's own period.
  var recent: ArraySlice<Int> = []

  var isWithoutHistory: Bool { past.isEmpty && recent.isEmpty }
  /// The last event of the context.
  var last: Int? { recent.last ?? past.last }

  /// The items of the context, oldest first.
  func items(_ history: [Int32]) -> ArraySlice<Int32> {
    recent.isEmpty ? history[past] : (history[past] + recent.map { history[$0] })[...]
  }
}
