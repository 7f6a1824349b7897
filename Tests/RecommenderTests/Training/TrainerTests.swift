import Foundation
import Kernels
import Testing

@testable import Recommender

struct TrainerTests {
  private func builder(_ trainer: Trainer, negatives: NegativeSampling = .uniform) -> BatchBuilder {
    BatchBuilder(
      catalogue: trainer.catalogue, sampler: NegativeSampler(strategy: negatives, count: 4, rankTemperature: 0), typeWeights: [],
      gapHidingRate: 0)
  }

  /// MODEL's trap: with other masks, or none, on the reference's side the loss would start at 1.25.
  @Test(arguments: [1, 2])
  func thePreferenceTermStartsAtLogarithmOfTwoUnderDropout(threads: Int) {
    let trainer = Trainer.synthetic(
      .small(experts: 0), items: 40, objective: ObjectiveConfiguration(preferenceWeight: 1, routerNoise: 0),
      settings: OptimizerConfiguration(dropout: 0.5), threads: threads)
    trainer.reference = trainer.snapshot(version: 1)
    var random = Xoshiro256(seed: 2)
    let examples = randomExamples(30, items: 40, targets: 2, using: &random)
    let batches = builder(trainer).parts(examples[...], workers: trainer.workers, using: &random)
    let report = trainer.accumulateGradients(batches, using: &random).report
    #expect(abs(report.preference - log(2)) < 1e-4)
    // Another policy than the reference does not start there, so the figure above says something.
    for item in 0..<20 { trainer.parameters.itemEmbedding[item, 0] += 2 }
    trainer.parameters.dense.encoder.layers[0].down.weight[0, 0] += 2
    #expect(abs(trainer.accumulateGradients(batches, using: &random).report.preference - log(2)) > 1e-2)
  }

  /// The loss that `accumulateGradients` differentiates, with the same draws each time.
  @Test(arguments: [PreferenceForm.pairwise, .softmax], [false, true])
  func theWholeObjectivesGradientAgreesWithFiniteDifferences(form: PreferenceForm, isSampled: Bool) {
    let objective = ObjectiveConfiguration(
      form: form, beta: 0.5, preferenceWeight: 0.6, crossEntropyWeight: 0.8, loadBalancingWeight: 0.3, routerNoise: 0.1,
      fullSoftmaxMaximumItems: isSampled ? 4 : 100, sampledSoftmaxNegatives: 6)
    let trainer = Trainer.synthetic(
      .small(), items: 12, objective: objective, settings: OptimizerConfiguration(dropout: 0.2))
    let other = Trainer.synthetic(.small(), items: 12, seed: 99)
    trainer.reference = other.snapshot(version: 1)
    var random = Xoshiro256(seed: 6)
    let batches = builder(trainer).parts(randomExamples(5, items: 12, targets: 2, using: &random)[...], workers: trainer.workers, using: &random)
    func run() -> (report: StepReport, items: Trainer.StepItems) {
      var fixed = Xoshiro256(seed: 21)
      let (report, items, touched) = trainer.accumulateGradients(batches, using: &fixed)
      _ = touched
      return (report, items)
    }
    let weight = batches.reduce(0) { $0 + $1.totalWeight }
    let preferring = batches.reduce(0.0) { sum, batch in
      sum + batch.input.sequences.queryOffsets.dropFirst().reduce(0.0) { $0 + Double(batch.weights[$1 - 1]) }
    }
    let loss = {
      let report = run().report
      return 0.6 * report.preference * preferring / weight + 0.8 * report.crossEntropy + 0.3 * report.loadBalancing
    }
    let items = run().items
    let gradients = Dictionary(uniqueKeysWithValues: trainer.gradients.map { ($0.name, $0.values.copied) })
    #expect(items.correction == nil || isSampled)
    for name in ["encoder.position", "encoder.layer.0.qkv.weight", "encoder.layer.1.down.weight", "item.expert.1.w1", "item.router.weight", "item.modality.text.missing"] {
      let tensor = trainer.parameters.dense.tensors.first { $0.name == name }!
      expectGradient(gradients[name]!, by: tensor.values, name, step: 2e-3, tolerance: 2e-2, loss)
    }
    for (local, row) in items.rows.enumerated() {
      let table = trainer.parameters.itemEmbedding.rows(Int(row)..<Int(row) + 1)
      expectGradient(gradients["item.embedding"]!.rows(local..<local + 1), by: table, "e of \(row)", step: 2e-3, tolerance: 2e-2, loss)
      let bias = trainer.parameters.itemBias.rows(Int(row)..<Int(row) + 1)
      #expect(abs(Double(gradients["item.bias"]![0, local]) - slope(bias, loss)) < 5e-3)
    }
  }

  private func slope(_ value: Matrix, _ loss: () -> Double) -> Double {
    let kept = value[0, 0]
    value[0, 0] = kept + 2e-3
    let above = loss()
    value[0, 0] = kept - 2e-3
    let below = loss()
    value[0, 0] = kept
    return (above - below) / 4e-3
  }

  @Test func aSampleOfEveryItemIsTheFullSoftmax() {
    var losses: [Double] = []
    var gradients: [[Float]] = []
    for isSampled in [false, true] {
      let trainer = Trainer.synthetic(
        .small(content: false), items: 25,
        objective: ObjectiveConfiguration(
          negatives: .none, fullSoftmaxMaximumItems: isSampled ? 5 : 100, sampledSoftmaxNegatives: 2_000),
        settings: OptimizerConfiguration(dropout: 0))
      var random = Xoshiro256(seed: 3)
      let examples = randomExamples(12, items: 25, targets: 2, using: &random)
      let batches = builder(trainer, negatives: .none).parts(examples[...], workers: trainer.workers, using: &random)
      let (report, items, _) = trainer.accumulateGradients(batches, using: &random)
      losses.append(report.crossEntropy)
      #expect(Set(items.rows).count == 25)
      var byRow = [Float](repeating: 0, count: 25 * 8)
      let table = trainer.gradients.first { $0.name == "item.embedding" }!.values
      for (local, row) in items.rows.enumerated() { for c in 0..<8 { byRow[Int(row) * 8 + c] = table[local, c] } }
      gradients.append(byRow)
    }
    #expect(abs(losses[0] - losses[1]) < 1e-4)
    expectClose(gradients[1], gradients[0], tolerance: 1e-3)
  }

  /// Σ over the sample of exp(logit + correction) estimates Σ over the catalogue of exp(logit).
  @Test(arguments: [4, 12, 40])
  func theSampledSoftmaxsSumIsUnbiased(draws: Int) {
    let trainer = Trainer.synthetic(
      .small(content: false), items: 30,
      objective: ObjectiveConfiguration(negatives: .none, fullSoftmaxMaximumItems: 5, sampledSoftmaxNegatives: draws),
      settings: OptimizerConfiguration(dropout: 0))
    var random = Xoshiro256(seed: 5)
    let logits = (0..<30).map { _ in Double(random.nextNormal()) }
    let whole = logits.reduce(0) { $0 + exp($1) }
    var sum = 0.0
    let trials = 6_000
    for _ in 0..<trials {
      let example = TrainingExample(user: 0, events: [ItemEvent(item: 0), ItemEvent(item: ItemNumber(random.next(below: 30)))])
      let batches = builder(trainer, negatives: .none).parts([example], workers: trainer.workers, using: &random)
      let items = trainer.accumulateGradients(batches, using: &random).items
      let correction = items.correction!
      for i in 0..<items.candidateCount { sum += exp(logits[Int(items.rows[i])] + Double(correction[i])) }
    }
    #expect(abs(sum / Double(trials) / whole - 1) < 0.02)
  }

  @Test func popularTargetsAreCorrectedForBeingThereOftener() {
    let trainer = Trainer.synthetic(
      .small(content: false), items: 30,
      objective: ObjectiveConfiguration(negatives: .none, fullSoftmaxMaximumItems: 5, sampledSoftmaxNegatives: 6),
      settings: OptimizerConfiguration(learningRate: 1e-5, dropout: 0))
    var random = Xoshiro256(seed: 5)
    let examples = (0..<40).map { TrainingExample(user: UInt64($0), events: [ItemEvent(item: 1), ItemEvent(item: $0 < 30 ? 2 : 3)]) }
    let batches = builder(trainer, negatives: .none).parts(examples[...], workers: trainer.workers, using: &random)
    _ = trainer.step(batches, using: &random)
    let items = trainer.accumulateGradients(batches, using: &random).items
    func correction(_ row: Int32) -> Float { items.correction![items.rows.firstIndex(of: row)!] }
    let rare = items.rows[..<items.candidateCount].first { $0 != 2 && $0 != 3 }!
    #expect(correction(2) < correction(3))
    #expect(correction(3) < correction(rare))
    #expect(correction(2) > -1e-3, "a probability is at most 1")
  }

  @Test(arguments: [false, true])
  func twoThreadsAgreeWithOne(isSampled: Bool) {
    func gradients(_ threads: Int) -> ([(name: String, values: [Float])], StepReport) {
      let trainer = Trainer.synthetic(
        .small(), items: 30,
        objective: ObjectiveConfiguration(
          loadBalancingWeight: 0, routerNoise: 0, fullSoftmaxMaximumItems: isSampled ? 5 : 100, sampledSoftmaxNegatives: 10),
        settings: OptimizerConfiguration(dropout: 0), threads: threads)
      trainer.reference = Trainer.synthetic(.small(), items: 30, seed: 4).snapshot(version: 1)
      var random = Xoshiro256(seed: 1)
      let examples = randomExamples(21, items: 30, targets: 2, using: &random)
      let batches = builder(trainer).parts(examples[...], workers: trainer.workers, using: &random)
      #expect(batches.count == threads)
      let report = trainer.accumulateGradients(batches, using: &random).report
      return (trainer.gradients.map { ($0.name, $0.values.array) }, report)
    }
    let (one, reportOfOne) = gradients(1)
    let (two, reportOfTwo) = gradients(2)
    #expect(abs(reportOfOne.crossEntropy - reportOfTwo.crossEntropy) < 1e-5)
    #expect(abs(reportOfOne.preference - reportOfTwo.preference) < 1e-5)
    for (a, b) in zip(one, two) { expectClose(b.values, a.values, tolerance: 1e-4, a.name) }
  }

  @Test func aGradientThatIsNotFiniteLeavesEveryParameterUntouched() {
    let trainer = Trainer.synthetic(.small(), items: 20)
    var random = Xoshiro256(seed: 1)
    let batches = builder(trainer).parts(randomExamples(8, items: 20, using: &random)[...], workers: trainer.workers, using: &random)
    #expect(trainer.step(batches, using: &random).isFinite)
    trainer.parameters.itemEmbedding[3, 0] = 3e38
    trainer.parameters.itemEmbedding[3, 1] = -3e38
    let before = trainer.everything
    let report = trainer.step(batches, using: &random)
    #expect(!report.isFinite)
    #expect(trainer.everything == before)
    trainer.parameters.itemEmbedding[3, 0] = 0
    trainer.parameters.itemEmbedding[3, 1] = 0
    #expect(trainer.step(batches, using: &random).isFinite, "nothing of the bad step is left over")
    #expect(trainer.everything != before)
  }

  @Test func aBatchOfNoWeightChangesNothing() {
    let trainer = Trainer.synthetic(.small(), items: 20)
    var random = Xoshiro256(seed: 1)
    var weightless = builder(trainer).parts(randomExamples(8, items: 20, using: &random)[...], workers: trainer.workers, using: &random)
    weightless[0].weights = weightless[0].weights.map { _ in 0 }
    let before = trainer.everything
    let report = trainer.step(weightless, using: &random)
    #expect(report.isFinite, "there is nothing wrong with it")
    #expect(report.targets == 0)
    #expect(trainer.everything == before)
  }

  @Test func theGradientIsClippedToItsGreatestNorm() {
    // Adam does not see the scale of a first step, so the first moment tells: it is (1 − β₁) times the clipped gradient.
    let trainer = Trainer.synthetic(
      .small(content: false), items: 20, objective: ObjectiveConfiguration(negatives: .none),
      settings: OptimizerConfiguration(gradientClip: 0.01, dropout: 0))
    var random = Xoshiro256(seed: 1)
    let batches = builder(trainer, negatives: .none).parts(randomExamples(8, items: 20, using: &random)[...], workers: trainer.workers, using: &random)
    let report = trainer.step(batches, using: &random)
    #expect(report.gradientNorm > 0.1)
    let optimizer = trainer.optimizer
    let squares = sumOfSquares(optimizer.firstMoment.all) + sumOfSquares(optimizer.embedding.firstMoment) + sumOfSquares(optimizer.bias.firstMoment)
    #expect(abs(squares.squareRoot() / 0.1 - 0.01) < 1e-4)
  }

  @Test func rowsThatABatchDoesNotTouchKeepTheirBits() {
    let trainer = Trainer.synthetic(
      .small(content: false), items: 60,
      objective: ObjectiveConfiguration(negatives: .none, fullSoftmaxMaximumItems: 5, sampledSoftmaxNegatives: 6))
    var random = Xoshiro256(seed: 1)
    let batches = builder(trainer, negatives: .none).parts(randomExamples(3, items: 60, using: &random)[...], workers: trainer.workers, using: &random)
    let before = trainer.parameters.itemEmbedding.copied
    var copy = random
    let touched = Set(trainer.accumulateGradients(batches, using: &copy).items.rows)
    _ = trainer.step(batches, using: &random)
    #expect(touched.count < 40)
    for row in 0..<60 {
      let isSame = trainer.parameters.itemEmbedding.rows(row..<row + 1).array == before.rows(row..<row + 1).array
      #expect(isSame == !touched.contains(Int32(row)), "row \(row)")
      #expect(trainer.optimizer.embedding.steps[row] == (touched.contains(Int32(row)) ? 1 : 0))
    }
  }

  @Test func aSnapshotTellsHowMuchOfAnItemIsItsID() {
    let trainer = Trainer.synthetic(.small(), items: 10)
    let snapshot = trainer.snapshot(version: 1)
    let embedding = trainer.parameters.itemEmbedding.rows(0..<10).array
    zero(trainer.parameters.itemEmbedding)
    let contentAlone = trainer.snapshot(version: 2)
    func length(_ numbers: some Sequence<Float>) -> Float { numbers.reduce(0) { $0 + $1 * $1 }.squareRoot() }
    for row in 0..<10 {
      let id = length(embedding[8 * row..<8 * (row + 1)])
      let content = length(contentAlone.vectors.rows(row..<row + 1).array)
      #expect(abs((snapshot.idShare(Int32(row)) ?? -1) - id / (id + content)) < 1e-4)
      #expect(contentAlone.idShare(Int32(row)) == 0)
    }
    #expect(snapshot.restricted(to: []).idShare(3) == snapshot.idShare(3))
    let withoutContent = Trainer.synthetic(.small(content: false), items: 10).snapshot(version: 1)
    #expect((0..<10).allSatisfy { withoutContent.idShare($0) == 1 } && withoutContent.idShare(10) == nil)
  }

  @Test func aSnapshotWithAnyNumberThatIsNotFiniteIsFoundOut() {
    let trainer = Trainer.synthetic(.small(), items: 10)
    #expect(trainer.snapshot(version: 1).isFinite)
    for tensor in trainer.parameters.dense.tensors where tensor.name.hasPrefix("encoder.") {
      let kept = tensor.values[0, 0]
      tensor.values[0, 0] = .infinity
      #expect(!trainer.snapshot(version: 1).isFinite, "\(tensor.name)")
      tensor.values[0, 0] = kept
    }
    trainer.parameters.itemBias[4, 0] = .nan
    #expect(!trainer.snapshot(version: 1).isFinite)
    trainer.catalogue.retire(item: 4)
    #expect(trainer.snapshot(version: 1).isFinite, "a free row's bias is −∞ by design")
  }
}
