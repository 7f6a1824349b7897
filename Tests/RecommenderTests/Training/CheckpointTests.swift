import Kernels
import Testing

@testable import Recommender

/// A stream that uses every part of the learner: content, new and retired items, pools, impressions, replay.
struct LearnerStream {
  var configuration: LearnerConfiguration
  private let seed: UInt64 = 17

  init(negatives: NegativeSampling = .stochastic, isSampled: Bool = false, experts: Int = 3, content: Bool = true) {
    configuration = LearnerConfiguration(
      model: .small(experts: experts, content: content),
      objective: ObjectiveConfiguration(
        negatives: negatives, negativesPerTarget: 3, fullSoftmaxMaximumItems: isSampled ? 5 : 1_000, sampledSoftmaxNegatives: 8),
      batchSize: 16, reservoirRatio: 0.5, reservoirSize: 60, referenceRefreshStrides: 3, poolSize: 10, typeWeights: [1, 2, 0.5])
    configuration.model.neighbourCount = 4
    configuration.model.contentNeighbourCount = 3
  }

  /// The catalogue as it is before a stride: items come, go, and rows are taken again.
  func items(before stride: Int) -> [(item: ItemNumber, row: Int32)] {
    var rows: [(item: ItemNumber, row: Int32)] = (0..<20).map { (ItemNumber($0), Int32($0)) }
    if stride >= 2 { rows.removeAll { $0.item == 3 || $0.item == 8 || $0.item == 12 } }
    if stride >= 3 { rows += [(20, 3), (24, 8)] }
    if stride >= 5 { rows += [(25, 20), (26, 21)] }
    return rows
  }

  func describe(_ catalogue: ItemCatalogue, before stride: Int) {
    let wanted = items(before: stride)
    for case let owner? in catalogue.owners where !wanted.contains(where: { $0.item == owner }) { catalogue.retire(item: owner) }
    for (item, row) in wanted { catalogue.describeSynthetic(item, row: row) }
  }

  func step(_ learner: OnlineLearner, _ stride: Int) -> StrideReport {
    describe(learner.catalogue, before: stride)
    var random = Xoshiro256(seed: seed &+ UInt64(stride))
    func examples(_ count: Int) -> [TrainingExample] {
      randomExamples(count, items: 20, using: &random).map { example in
        var example = example
        example.shown = [ItemNumber(random.next(below: 20))]
        // Some come with the pool that the store has of them, the others get one from the snapshot.
        if random.next(below: 2) == 0 { example.pool = (0..<8).map { _ in ItemNumber(random.next(below: 20)) } }
        return example
      }
    }
    let report = learner.stride(new: examples(30), recent: examples(8))
    learner.cursor += 30
    return report
  }

  /// A learner after so many strides, stopped and restored from its checkpoint after those that are named.
  func learner(strides: Int, stoppingAfter stops: Set<Int> = []) throws -> OnlineLearner {
    var learner = OnlineLearner(configuration)
    for stride in 0..<strides {
      _ = step(learner, stride)
      guard stops.contains(stride) else { continue }
      let bytes = try learner.checkpoint()
      learner = try OnlineLearner(configuration, checkpoint: bytes)
      describe(learner.catalogue, before: stride)
    }
    return learner
  }
}

struct CheckpointTests {
  static let streams: [LearnerStream] = [
    LearnerStream(), LearnerStream(negatives: .uniform, isSampled: true), LearnerStream(negatives: .hard, experts: 0),
    LearnerStream(isSampled: true, content: false),
  ]

  @Test(arguments: 0..<4)
  func trainStopRestoreTrainIsTrainBitForBit(index: Int) throws {
    let stream = Self.streams[index]
    let expected = try stream.learner(strides: 9)
    let bytes = try expected.checkpoint()
    for stops in [[0], [2], [3], [6], [1, 4, 5, 7]] as [Set<Int>] {
      let resumed = try stream.learner(strides: 9, stoppingAfter: stops)
      #expect(resumed.random == expected.random, "stopped after \(stops)")
      #expect(resumed.reservoir == expected.reservoir, "stopped after \(stops)")
      let first = try Safetensors(decoding: resumed.checkpoint())
      let second = try Safetensors(decoding: bytes)
      let differing = second.names.filter { first[$0] != second[$0] }
      #expect(differing.isEmpty && first.metadata == second.metadata, "stopped after \(stops)")
      #expect(try resumed.checkpoint() == bytes)
    }
  }

  @Test func whatWasLearnedIsInTheCheckpointAndNotChance() throws {
    let stream = LearnerStream()
    let early = try stream.learner(strides: 4).checkpoint()
    let late = try stream.learner(strides: 5).checkpoint()
    #expect(early != late)
    var other = stream
    other.configuration.seed = 2
    #expect(try other.learner(strides: 4).checkpoint() != early)
  }

  @Test func aRestoredLearnerRanksAsBefore() throws {
    let stream = LearnerStream()
    let learner = try stream.learner(strides: 6)
    let restored = try OnlineLearner(stream.configuration, checkpoint: learner.checkpoint())
    stream.describe(restored.catalogue, before: 5)
    restored.refreshSnapshot()
    #expect(restored.snapshot.version == learner.snapshot.version)
    #expect(restored.cursor == learner.cursor && restored.strides == learner.strides)
    #expect(restored.snapshot.vectors.array == learner.snapshot.vectors.array)
    #expect(restored.snapshot.bias.array == learner.snapshot.bias.array)
    #expect(restored.snapshot.owners == learner.snapshot.owners)
  }

  @Test func aCheckpointOfAnotherModelIsRefused() throws {
    let stream = LearnerStream()
    let bytes = try stream.learner(strides: 2).checkpoint()
    var wider = stream.configuration
    wider.model.innerSize = 24
    #expect(try OnlineLearner.modelConfiguration(ofCheckpoint: bytes) == stream.configuration.model)
    #expect { try OnlineLearner(wider, checkpoint: bytes) } throws: { ($0 as? Safetensors.FormatError)?.description.contains("another model") == true }
    let learner = OnlineLearner(wider)
    let before = learner.trainer.everything
    #expect(throws: Safetensors.FormatError.self) { try learner.rollBack(to: bytes) }
    #expect(learner.trainer.everything == before)
  }

  @Test func damagedBytesAreRefused() throws {
    let stream = LearnerStream()
    let bytes = try stream.learner(strides: 3).checkpoint()
    var random = Xoshiro256(seed: 3)
    let learner = try stream.learner(strides: 1)
    let before = learner.trainer.everything
    for trial in 0..<150 {
      var damaged = bytes
      // Half of the damage in the header, where everything is decided.
      let header = 8 + (0..<8).reduce(0) { $0 | Int(bytes[$1]) << (8 * $1) }
      let place = trial % 2 == 0 ? random.next(below: header) : random.next(below: bytes.count)
      damaged[place] ^= 1 << UInt8(random.next(below: 8))
      if trial % 7 == 0 { damaged.removeLast(random.next(below: bytes.count)) }
      #expect(throws: Safetensors.FormatError.self, "byte \(place)") { try OnlineLearner(stream.configuration, checkpoint: damaged) }
      #expect(throws: Safetensors.FormatError.self, "byte \(place)") { try learner.rollBack(to: damaged) }
    }
    #expect(learner.trainer.everything == before, "what is refused has changed nothing")
    for count in [0, 1, 7, 8, 9, bytes.count / 2, bytes.count - 1] {
      #expect(throws: Safetensors.FormatError.self) { try OnlineLearner(stream.configuration, checkpoint: Array(bytes[..<count])) }
    }
    #expect(throws: Safetensors.FormatError.self) { try OnlineLearner(stream.configuration, checkpoint: Safetensors().encoded()) }
  }

  @Test func rollingBackGivesTheEarlierModelAndKeepsTheCursor() throws {
    let stream = LearnerStream()
    let learner = try stream.learner(strides: 5)
    let bytes = try learner.checkpoint()
    let good = learner.trainer.everything
    let version = learner.snapshot.version
    for stride in 5..<8 { _ = stream.step(learner, stride) }
    let cursor = learner.cursor
    let newer = learner.snapshot.version
    #expect(learner.trainer.everything != good)
    try learner.rollBack(to: bytes)
    #expect(learner.cursor == cursor)
    #expect(learner.snapshot.version > newer && newer > version, "versions go on rising")
    let file = try Safetensors(decoding: learner.checkpoint())
    let old = try Safetensors(decoding: bytes)
    for name in old.names where name.hasPrefix("encoder.") || name.hasPrefix("adam.first.encoder.") { #expect(file[name] == old[name], "\(name)") }
    #expect(file["reservoir.items"] == old["reservoir.items"])
    // Items 25 and 26 came after the checkpoint: they start anew. Item 25 has content, so by that alone.
    let embedding = learner.trainer.parameters.itemEmbedding
    #expect(embedding.rows(20..<21).array.allSatisfy { $0 == 0 })
    #expect(learner.trainer.optimizer.embedding.steps[20] == 0)
    #expect(embedding.rows(0..<1).array == (try old.values("item.embedding", "F32", as: Float.self))[..<8].map { $0 })
    #expect(stream.step(learner, 8).skippedSteps == 0)
  }

  @Test func rollingBackHealsWhateverHasGoneBad() throws {
    let stream = LearnerStream()
    let learner = try stream.learner(strides: 3)
    let bytes = try learner.checkpoint()
    // Items and attributes that the checkpoint does not know, and then everything turns to NaN.
    learner.catalogue.describe(item: 40, row: 30, content: [[1, 2, 3, 4]], attributes: ["brand:new"])
    _ = stream.step(learner, 3)
    learner.catalogue.describe(item: 40, row: 30, content: [[1, 2, 3, 4]], attributes: ["brand:new"])
    learner.renewSnapshot()
    let parameters = learner.trainer.parameters
    for table in [parameters.dense.all, parameters.itemEmbedding, parameters.itemBias, parameters.attributeEmbedding] {
      for i in 0..<table.rows { for j in 0..<table.columns { table[i, j] = .nan } }
    }
    #expect(!learner.trainer.snapshot(version: 0).isFinite)
    try learner.rollBack(to: bytes)
    #expect(learner.snapshot.isFinite)
    #expect(allFinite(parameters.attributeEmbedding.rows(0..<learner.catalogue.attributeNames.count)))
  }

  @Test func learningGoesOnAfterAForgetAndItsExamplesAreGone() throws {
    let stream = LearnerStream()
    let learner = try stream.learner(strides: 4)
    let user = try #require(learner.reservoir.examples.first).user
    learner.forget(user: user)
    #expect(!learner.reservoir.examples.contains { $0.user == user })
    let restored = try OnlineLearner(stream.configuration, checkpoint: learner.checkpoint())
    #expect(restored.reservoir == learner.reservoir)
    #expect(!restored.reservoir.examples.isEmpty)
  }
}
