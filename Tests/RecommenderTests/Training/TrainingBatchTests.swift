import Kernels
import Testing

@testable import Recommender

struct TrainingBatchTests {
  let catalogue: ItemCatalogue

  init() {
    catalogue = ItemCatalogue(configuration: .small(content: false))
    // Rows are not numbers: item n has the row 19 − n.
    for item in 0..<ItemNumber(20) { catalogue.describe(item: item, row: 19 - Int32(item), content: [], attributes: []) }
  }

  private func builder(
    _ strategy: NegativeSampling = .none, count: Int = 3, weights: [Float] = [], hiding: Double = 0
  ) -> BatchBuilder {
    BatchBuilder(
      catalogue: catalogue, sampler: NegativeSampler(strategy: strategy, count: count, rankTemperature: 0), typeWeights: weights,
      gapHidingRate: hiding)
  }

  private func batch(_ builder: BatchBuilder, _ examples: [TrainingExample], seed: UInt64 = 1) -> TrainingBatch {
    var random = Xoshiro256(seed: seed)
    return builder.parts(examples[...], workers: WorkerThreads(count: 1), using: &random)[0]
  }

  private func events(_ items: [ItemNumber], types: [UInt8] = [], step: Int64 = 1_000) -> [ItemEvent] {
    items.enumerated().map { ItemEvent(item: $1, type: types.isEmpty ? 0 : types[$0], time: Int64($0) * step) }
  }

  @Test func contextAndTargetsAreShiftedByOne() {
    let result = batch(builder(), [TrainingExample(user: 0, events: events([1, 2, 3, 4]), targetCount: 2), TrainingExample(user: 1, events: events([7, 8]))])
    #expect(result.input.items == [18, 17, 16, 12])
    #expect(result.targets == [16, 15, 11])
    #expect(result.input.positions == [2, 1, 0, 0])
    #expect(result.input.sequences.tokenOffsets == [0, 3, 4])
    #expect(result.input.sequences.queryOffsets == [0, 2, 3])
    #expect(result.input.gapBefore == [0, 2, 2, 0])
    #expect(result.input.gapNext == [2, 2, 2, 2])
  }

  @Test func aTargetHasItsTypesWeight() {
    let examples = [TrainingExample(user: 0, events: events([1, 2, 3, 4], types: [0, 1, 2, 0]), targetCount: 3)]
    #expect(batch(builder(weights: [1, 4, 0]), examples).weights == [4, 0, 1])
    #expect(batch(builder(weights: [0.5]), examples).weights == [1, 1, 0.5], "a type beyond the list weighs 1")
    #expect(batch(builder(), examples).totalWeight == 3)
    #expect(batch(builder(weights: [1, 4, 0]), examples).input.types == [0, 1, 2])
  }

  @Test func aTypeBeyondTheModelsShareTheLastRow() {
    let examples = [TrainingExample(user: 0, events: events([1, 2], types: [200, 1]))]
    #expect(batch(builder(), examples).input.types == [2])
  }

  @Test func itemsThatAreNoMoreFallOut() {
    catalogue.retire(item: 2)
    catalogue.retire(item: 4)
    let kept = batch(builder(), [TrainingExample(user: 0, events: events([1, 2, 3, 5]), targetCount: 2)])
    #expect(kept.input.items == [18, 16])
    #expect(kept.targets == [16, 14])
    // A target that is no more leaves nothing to predict; nor does a context of which nothing is left.
    #expect(batch(builder(), [TrainingExample(user: 0, events: events([1, 4]))]).sequenceCount == 0)
    #expect(batch(builder(), [TrainingExample(user: 0, events: events([2, 1]))]).sequenceCount == 0)
    #expect(batch(builder(), [TrainingExample(user: 0, events: events([1]))]).sequenceCount == 0)
  }

  @Test func aLongHistoryIsCutToTheModelsLength() {
    let result = batch(builder(), [TrainingExample(user: 0, events: events((0..<12).map { $0 }), targetCount: 1)])
    #expect(result.input.items == (5..<11).map { 19 - $0 })
    #expect(result.targets == [8])
    #expect(result.input.gapBefore[0] == TimeGap.unknown, "what came before the first is not known to the model")
  }

  @Test func theGapToTheNextIsHiddenAtItsRateAndTheOthersNever() {
    let examples = (0..<4000).map { TrainingExample(user: UInt64($0), events: events([1, 2, 3, 4, 5])) }
    func parts(hiding: Double) -> [TrainingBatch] {
      var random = Xoshiro256(seed: 1)
      return builder(hiding: hiding).parts(examples[...], workers: WorkerThreads(count: 1), using: &random)
    }
    let hidden = parts(hiding: 0.3)
    let gaps = hidden.flatMap(\.input.gapNext)
    // Four standard errors of 16,000 draws.
    #expect(gaps.count == 16_000 && abs(Double(gaps.count { $0 == TimeGap.unknown }) / 16_000 - 0.3) < 0.0145)
    #expect(hidden.map(\.input.gapBefore) == parts(hiding: 0).map(\.input.gapBefore))
    #expect(batch(builder(hiding: 1), examples).input.gapNext.allSatisfy { $0 == TimeGap.unknown })
  }

  @Test func negativesComeFromThePoolAndNeverFromTheSequence() {
    let example = TrainingExample(user: 0, events: events([1, 2, 3]), pool: [3, 9, 1, 8, 7, 2])
    #expect(batch(builder(.hard), [example]).negatives == [[10, 11, 12]])
    for seed in 0..<UInt64(50) {
      let drawn = batch(builder(.stochastic, count: 2), [example], seed: seed).negatives[0]
      #expect(drawn.count == 2 && Set(drawn).isSubset(of: [10, 11, 12]))
    }
    catalogue.retire(item: 9)
    #expect(batch(builder(.hard), [example]).negatives == [[11, 12]], "an item that is no more is no negative")
    #expect(batch(builder(.none), [example]).negatives == [[]])
  }

  @Test func shownItemsJoinTheNegatives() {
    let example = TrainingExample(user: 0, events: events([1, 2, 3]), pool: [9, 8], shown: [3, 9, 5, 1, 6])
    // 3 is the target, 1 is of the context, 9 was drawn already.
    #expect(batch(builder(.hard), [example]).negatives == [[10, 11, 14, 13]])
    let many = TrainingExample(user: 0, events: events([1, 2, 3]), pool: [9], shown: [4, 5, 6, 7, 8])
    #expect(batch(builder(.hard), [many]).negatives == [[10, 15, 14, 13]], "no more of them than of those drawn")
  }

  @Test(arguments: [(60, workers: 2, parts: 2), (60, 3, 3), (400, 1, 5), (400, 2, 6), (2, 3, 2)])
  func partsHoldEverySequenceOnceAtAboutEqualLength(exampleCount: Int, workers: Int, count: Int) {
    var random = Xoshiro256(seed: 2)
    let examples = randomExamples(exampleCount, items: 20, using: &random)
    let threads = WorkerThreads(count: workers)
    defer { threads.stop() }
    let parts = builder().parts(examples[...], workers: threads, using: &random)
    #expect(parts.count == count)
    let resolved = examples.map { batch(builder(), [$0]) }
    #expect(parts.flatMap(\.targets) == resolved.flatMap(\.targets))
    #expect(parts.flatMap(\.input.items) == resolved.flatMap(\.input.items))
    let tokens = parts.map { $0.input.sequences.tokenCount }
    #expect(tokens.max()! <= 512 + 12)
    if exampleCount > 2 { #expect(tokens.max()! - tokens.min()! <= 12) }
  }
}
