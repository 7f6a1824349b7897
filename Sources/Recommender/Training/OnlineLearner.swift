import Kernels

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

public struct LearnerConfiguration: Sendable, Equatable {
  public var model: ModelConfiguration
  public var objective: ObjectiveConfiguration
  public var optimizer: OptimizerConfiguration
  /// Sequences in a mini-batch.
  public var batchSize: Int
  /// Examples drawn from the window with a preference for recent ones, for each new one.
  public var recentRatio: Double
  /// Examples drawn from the reservoir, for each new one.
  public var reservoirRatio: Double
  public var reservoirSize: Int
  /// How many of a replayed sequence's last interactions are targets again: more passes over the window at the cost of one encoding.
  public var replayTargets: Int
  /// After so many strides the reference becomes a copy of the policy.
  public var referenceRefreshStrides: Int
  /// The size of a candidate pool that is made afresh.
  public var poolSize: Int
  /// By the type's code; 1 for those beyond.
  public var typeWeights: [Float]
  public var gapHidingRate: Double
  /// Whether items that a user has had are recommended again: then the neighbourhood is calibrated to repeats, too.
  public var recommendsSeen: Bool
  public var threads: Int
  public var seed: UInt64

  public init(
    model: ModelConfiguration = ModelConfiguration(), objective: ObjectiveConfiguration = ObjectiveConfiguration(),
    optimizer: OptimizerConfiguration = OptimizerConfiguration(), batchSize: Int = 128, recentRatio: Double = 1,
    reservoirRatio: Double = 0.5, reservoirSize: Int = 20_000, replayTargets: Int = 8, referenceRefreshStrides: Int = 16,
    poolSize: Int = 100, typeWeights: [Float] = [], gapHidingRate: Double = 0.3, recommendsSeen: Bool = false, threads: Int = 1,
    seed: UInt64 = 1
  ) {
    self.model = model
    self.objective = objective
    self.optimizer = optimizer
    self.batchSize = batchSize
    self.recentRatio = recentRatio
    self.reservoirRatio = reservoirRatio
    self.reservoirSize = reservoirSize
    self.replayTargets = replayTargets
    self.referenceRefreshStrides = referenceRefreshStrides
    self.poolSize = poolSize
    self.typeWeights = typeWeights
    self.gapHidingRate = gapHidingRate
    self.recommendsSeen = recommendsSeen
    self.threads = threads
    self.seed = seed
  }
}

/// What one stride did: sums over its steps, and means of the losses weighted by targets.
public struct StrideReport: Sendable, Equatable {
  public var steps = 0
  /// What came in.
  public var newTargets = 0
  /// Sequences that were learned from again.
  public var replayed = 0
  /// Targets learned from, those of the replayed sequences too.
  public var targets = 0
  public var crossEntropy = 0.0
  public var preference = 0.0
  public var loadBalancing = 0.0
  public var gradientNorm = 0.0
  /// Steps that were left out because a number was not finite.
  public var skippedSteps = 0
  public var expertLoad: [Float] = []
}

/// Learns from a stream by sliding windows: at each stride new examples once, a recency-weighted draw from the window, and a draw from a
/// long-term reservoir. One thread owns it.
public final class OnlineLearner {
  public let configuration: LearnerConfiguration
  public let catalogue: ItemCatalogue
  /// The journal's next sequence to learn from: moved by the owner, kept in the checkpoint.
  public var cursor: UInt64 = 0
  /// How many strides were made, ever.
  public private(set) var strides: UInt64 = 0
  /// The newest policy for ranking.
  public private(set) var snapshot: ModelSnapshot
  let trainer: Trainer
  private(set) var reservoir: Reservoir
  var neighborhood: Neighborhood
  private let calibration = NeighborhoodCalibration()
  /// New interactions of a stride by which the neighbourhood is calibrated.
  private let calibratedPerStride = 64
  /// Multiplications by which items are related at a stride, and at a pass over a history.
  private static let relatingPerStride = 4_000_000_000
  private static let relatingPerPass = 1_000_000_000_000
  private(set) var random: Xoshiro256
  private let poolRanker: ParallelRanker
  /// The catalogue that the snapshot was made of; nil when that is not known.
  private var snapshotRevision: UInt64?
  private let workers: WorkerThreads
  /// Called between pieces of work, each of some ten milliseconds: whoever has something more urgent can hold the learner up here.
  public var betweenPieces: () -> Void = {}

  public init(_ configuration: LearnerConfiguration) {
    self.configuration = configuration
    catalogue = ItemCatalogue(configuration: configuration.model)
    workers = WorkerThreads(count: configuration.threads)
    poolRanker = ParallelRanker(workers: workers)
    random = Xoshiro256(seed: configuration.seed)
    reservoir = Reservoir(capacity: configuration.reservoirSize)
    let parameters = Parameters(configuration.model)
    parameters.initialize(using: &random)
    trainer = Trainer(
      parameters: parameters, catalogue: catalogue, objective: configuration.objective, settings: configuration.optimizer, workers: workers)
    trainer.followCatalogue()
    neighborhood = Neighborhood(
      capacity: configuration.model.neighbourCount, contentCapacity: configuration.model.contentNeighbourCount)
    snapshot = trainer.snapshot(version: 0, neighborhood: neighborhood)
  }

  /// Ends the worker threads; those of the next piece of work have the priority of the thread that does it.
  public func stop() { workers.stop() }

  /// Sequences of the journal to replay, the recent ones more often: the age is exponential with a mean of a third of the window.
  ///
  /// - Parameter window: the journal's sequences that may be drawn.
  public func drawRecent(count: Int, from window: Range<UInt64>) -> [UInt64] {
    guard !window.isEmpty else { return [] }
    let length = Double(window.count)
    return (0..<count).map { _ in
      let age = -log(max(random.nextUnit(), 0x1p-53)) * length / 3
      return window.upperBound - 1 - UInt64(min(age, length - 1))
    }
  }

  /// One stride: mini-batches of all new examples once, the recent ones as drawn by ``drawRecent(count:from:)``, and a draw from the
  /// reservoir; then a new snapshot, and at a window's boundary a new reference.
  public func stride(new: [TrainingExample], recent: [TrainingExample]) -> StrideReport {
    trainer.followCatalogue()
    relateContent()
    calibrate(new)
    let length = configuration.model.maximumSequenceLength
    let merged = TrainingExample.merged(new, maximumLength: length)
    let replayed = reservoir.draw(Int((Double(new.count) * configuration.reservoirRatio).rounded()), using: &random)
    var examples = merged + (recent + replayed).map { $0.predicting(last: configuration.replayTargets) }
    var report = train(&examples)
    report.newTargets = new.count
    report.replayed = recent.count + replayed.count
    remember(new)
    strides += 1
    renewSnapshot()
    if trainer.reference == nil || strides % UInt64(max(1, configuration.referenceRefreshStrides)) == 0 { trainer.reference = snapshot }
    return report
  }

  /// One pass over a history, for a first model before going live: shuffled mini-batches, each position of each sequence a target if the
  /// examples say so. The reference is renewed at its start.
  public func epoch(_ history: [TrainingExample]) -> StrideReport {
    trainer.followCatalogue()
    relateContent(Self.relatingPerPass)
    if snapshot.rowCount != catalogue.rowCount { renewSnapshot() }
    var examples = history
    let report = train(&examples)
    renewSnapshot()
    trainer.reference = snapshot
    return report
  }

  /// Takes interactions into the neighbourhood's counts and the reservoir, so that going live starts with a long-term memory.
  public func remember(_ examples: [TrainingExample]) {
    for example in examples {
      reservoir.offer(example, using: &random)
      guard configuration.model.neighbourCount > 0 else { continue }
      neighborhood.observe(example.events.map(\.item), weight: weight(example), catalogue: catalogue)
    }
  }

  private func weight(_ example: TrainingExample) -> Float {
    example.events.last.map { BatchBuilder.weight(of: $0.type, configuration.typeWeights) } ?? 1
  }

  /// Fits the neighbourhood's weights to interactions that are not counted yet: a step that follows the stream, or anew in several passes.
  public func calibrate(_ examples: [TrainingExample], passes: Int = 1) {
    guard configuration.model.neighbourCount > 0, !examples.isEmpty else { return }
    // As in `train`: whether the learner has seen the catalogue change or was restored since must make no difference.
    if snapshotRevision != catalogue.revision { refreshSnapshot() }
    if passes > 1 {
      neighborhood.weights.steps = 0
      snapshot = snapshot.with(neighborhood)
    }
    for _ in 0..<passes {
      let sample =
        examples.count <= calibratedPerStride
        ? examples : (0..<calibratedPerStride).map { _ in examples[random.next(below: examples.count)] }
      betweenPieces()
      neighborhood.weights = calibration.step(
        sample.map { ($0, weight($0)) }, recommendsSeen: configuration.recommendsSeen, snapshot: snapshot, lookup: catalogue.row(of:))
      snapshot = snapshot.with(neighborhood)
    }
  }

  /// Finds what is like newly described items by content, as far as some tenths of a second go; the next call, or stride, goes on.
  ///
  /// - Returns: whether there were any.
  @discardableResult
  public func relateContent() -> Bool { relateContent(Self.relatingPerStride) }

  @discardableResult
  private func relateContent(_ multiplications: Int) -> Bool {
    neighborhood.relate(catalogue, multiplications: multiplications, between: betweenPieces)
  }

  public func forget(user: UInt64) { reservoir.forget(user: user) }

  /// Makes the catalogue's changes visible to ranking without learning: a new item is recommendable at once by its content.
  public func renewSnapshot() { makeSnapshot(version: snapshot.version + 1) }

  /// Makes the snapshot anew from the same parameters and the catalogue as it is now: the version stays.
  public func refreshSnapshot() { makeSnapshot(version: snapshot.version) }

  private func makeSnapshot(version: UInt64) {
    betweenPieces()
    trainer.followCatalogue()
    snapshot = trainer.snapshot(version: version, neighborhood: neighborhood)
    snapshotRevision = catalogue.revision
  }

  /// Changes what may change between two strides.
  public func reconfigure(learningRate: Float, beta: Float, crossEntropyWeight: Float, preferenceWeight: Float) {
    trainer.settings.learningRate = learningRate
    trainer.objective.beta = beta
    trainer.objective.crossEntropyWeight = crossEntropyWeight
    trainer.objective.preferenceWeight = preferenceWeight
  }

  private func train(_ examples: inout [TrainingExample]) -> StrideReport {
    examples.shuffle(using: &random)
    // Fresh pools are of the catalogue as it is now, whether the learner has seen it change or was restored since.
    if makesPools, snapshotRevision != catalogue.revision, examples.contains(where: \.pool.isEmpty) { refreshSnapshot() }
    let builder = BatchBuilder(
      catalogue: catalogue,
      sampler: NegativeSampler(
        strategy: trainer.reference == nil ? .none : configuration.objective.negatives,
        count: configuration.objective.negativesPerTarget, rankTemperature: configuration.objective.rankTemperature),
      typeWeights: configuration.typeWeights, gapHidingRate: configuration.gapHidingRate)
    var report = StrideReport()
    var start = 0
    while start < examples.count {
      let range = start..<min(start + configuration.batchSize, examples.count)
      betweenPieces()
      fillPools(&examples, range)
      let batches = builder.parts(examples[range], workers: workers, using: &random)
      let step = trainer.step(batches, using: &random)
      start = range.upperBound
      guard step.targets > 0 else { continue }
      report.steps += 1
      guard step.isFinite else {
        report.skippedSteps += 1
        continue
      }
      let share = Double(step.targets)
      report.targets += step.targets
      report.crossEntropy += share * step.crossEntropy
      report.preference += share * step.preference
      report.loadBalancing += share * step.loadBalancing
      report.gradientNorm += share * step.gradientNorm
      report.expertLoad = step.expertLoad
    }
    if report.targets > 0 {
      let targets = Double(report.targets)
      report.crossEntropy /= targets
      report.preference /= targets
      report.loadBalancing /= targets
      report.gradientNorm /= targets
    }
    return report
  }

  private var makesPools: Bool {
    trainer.reference != nil && (configuration.objective.negatives == .stochastic || configuration.objective.negatives == .hard)
  }

  /// Pools that are missing are made afresh with the current snapshot.
  private func fillPools(_ examples: inout [TrainingExample], _ range: Range<Int>) {
    guard makesPools else { return }
    let missing = range.filter { examples[$0].pool.isEmpty }
    guard !missing.isEmpty else { return }
    let requests = missing.map { index -> RankingRequest in
      let events = examples[index].events
      return RankingRequest(
        events: Array(events.dropLast()), now: events.last?.time, excluded: events.compactMap { catalogue.row(of: $0.item) })
    }
    let pools = poolRanker.rank(requests, count: configuration.poolSize, snapshot: snapshot) { [catalogue] in catalogue.row(of: $0) }
    for (index, pool) in zip(missing, pools) { examples[index].pool = pool.compactMap { catalogue.owners[Int($0.row)] } }
  }

  /// Restores what ``checkpoint()`` gave; see there.
  func restore(strides: UInt64, random: Xoshiro256, reservoir: Reservoir, version: UInt64) {
    self.strides = strides
    self.random = random
    self.reservoir = reservoir
    snapshot = trainer.snapshot(version: version, neighborhood: neighborhood)
    snapshotRevision = nil
  }
}
