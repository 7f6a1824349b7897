import Kernels
@testable import Recommender

/// Steps of the trainer over some examples, again and again, as the learner makes them: a mini-batch is built, and learned from.
final class TrainingRun {
  let trainer: Trainer
  let model: ModelConfiguration
  private let data: TrainingData
  private let builder: BatchBuilder
  private let batchSize: Int
  private let workers: WorkerThreads
  private var random = Xoshiro256(seed: 1)
  private var next = 0
  /// Of each step.
  private var losses: [Double] = []

  /// - Parameter crossEntropyWeight: 0 leaves the preference term alone.
  init(
    _ data: TrainingData, batchSize: Int, negatives: Int, crossEntropyWeight: Float, precision: SoftmaxPrecision = .float32, maximumLength: Int = 50,
    threads: Int = 1
  ) {
    workers = WorkerThreads(count: threads)
    self.data = data
    self.batchSize = batchSize
    model = ModelConfiguration(maximumSequenceLength: maximumLength, expertCount: 0, usesAttributes: false)
    let catalogue = ItemCatalogue(configuration: model)
    for item in 0..<data.itemCount { catalogue.describe(item: ItemNumber(item), row: Int32(item), content: [], attributes: []) }
    let parameters = Parameters(model)
    parameters.initialize(using: &random)
    trainer = Trainer(
      parameters: parameters, catalogue: catalogue,
      objective: ObjectiveConfiguration(crossEntropyWeight: crossEntropyWeight, softmaxPrecision: precision),
      settings: OptimizerConfiguration(dropout: 0), workers: workers)
    trainer.followCatalogue()
    trainer.reference = trainer.snapshot(version: 1)
    builder = BatchBuilder(
      catalogue: catalogue, sampler: NegativeSampler(strategy: .stochastic, count: negatives, rankTemperature: 1), typeWeights: [],
      gapHidingRate: 0.3)
  }

  deinit { workers.stop() }

  /// The next mini-batch, a shard for each thread; after the last examples the first ones come again.
  func nextBatch() -> [TrainingBatch] {
    if next + batchSize > data.examples.count { next = 0 }
    defer { next += batchSize }
    return builder.parts(data.examples[next..<next + batchSize], workers: workers, using: &random)
  }

  func step() throws {
    let report = trainer.step(nextBatch(), using: &random)
    try check(report.isFinite && report.targets >= batchSize, "a step had numbers that are not finite, or no targets")
    losses.append(report.crossEntropy + report.preference)
  }

  /// That the steps learned something: the mean loss of the last ones is below that of the first.
  func checkProgress() throws {
    let few = max(1, losses.count / 10)
    let first = losses.prefix(few).reduce(0, +) / Double(few)
    let last = losses.suffix(few).reduce(0, +) / Double(few)
    try check(last < 0.99 * first, "over \(losses.count) steps the loss went from \(first) to \(last): it has to fall")
  }
}
