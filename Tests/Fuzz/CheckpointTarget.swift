@testable import Recommender

let checkpointTarget = FuzzTarget(seeds: checkpointSeeds, feed: feedCheckpoint)

@Sendable private func checkpointSeeds() -> [[UInt8]] {
  let learner = OnlineLearner(smallLearner)
  for row in 0..<6 as Range<Int32> { learner.catalogue.describe(item: UInt32(row), row: row, content: [[1, 2]], attributes: ["brand:a"]) }
  let events = (0..<4).map { ItemEvent(item: UInt32($0), type: 0, time: Int64($0)) }
  let examples = (0..<8).map { TrainingExample(user: $0, events: events, targetCount: 1, pool: [4, 5], shown: []) }
  _ = learner.stride(new: examples, recent: [])
  return [(try? learner.checkpoint()) ?? []]
}

private let smallLearner: LearnerConfiguration = {
  var configuration = LearnerConfiguration(
    model: ModelConfiguration(
      hiddenSize: 4, layerCount: 1, headCount: 1, innerSize: 4, maximumSequenceLength: 4, interactionTypeCount: 1, expertCount: 2,
      expertsPerItem: 1, modalities: [.init(name: "text", dimension: 2)], usesAttributes: true),
    objective: ObjectiveConfiguration(), batchSize: 8, reservoirRatio: 0.5, reservoirSize: 8, referenceRefreshStrides: 1, poolSize: 4,
    typeWeights: [1])
  configuration.model.neighbourCount = 4
  return configuration
}()

/// As it is, and with a checksum that fits, which would else keep all damage out.
@Sendable private func feedCheckpoint(_ bytes: [UInt8]) {
  _ = try? OnlineLearner(smallLearner, checkpoint: bytes)
  guard var file = try? Safetensors(decoding: bytes) else { return }
  file.metadata["checksum"] = String(file.checksum(without: "checksum"))
  guard let sealed = try? file.encoded() else { fatalError("what was read can't be written") }
  guard let learner = try? OnlineLearner(smallLearner, checkpoint: sealed) else { return }
  _ = try? learner.checkpoint()
}
