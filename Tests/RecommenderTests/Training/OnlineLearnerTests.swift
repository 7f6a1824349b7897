import Foundation
import Kernels
import Testing

@testable import Recommender

struct OnlineLearnerTests {
  private func configuration(items: Int, weights: [Float] = [], negatives: NegativeSampling = .stochastic) -> LearnerConfiguration {
    LearnerConfiguration(
      model: ModelConfiguration(
        hiddenSize: 16, layerCount: 1, headCount: 2, innerSize: 32, maximumSequenceLength: 8, interactionTypeCount: 2, expertCount: 0,
        usesAttributes: false),
      objective: ObjectiveConfiguration(negatives: negatives, negativesPerTarget: 4), optimizer: OptimizerConfiguration(learningRate: 5e-3, dropout: 0.1),
      batchSize: 32, reservoirSize: 500, referenceRefreshStrides: 4, poolSize: 10, typeWeights: weights)
  }

  private func learner(_ configuration: LearnerConfiguration, items: Int) -> OnlineLearner {
    let learner = OnlineLearner(configuration)
    for item in 0..<items { learner.catalogue.describe(item: ItemNumber(item), row: Int32(item), content: [], attributes: []) }
    learner.renewSnapshot()
    return learner
  }

  /// The raw scores of all items after a context.
  private func scores(_ learner: OnlineLearner, _ context: [ItemEvent]) -> [Float] {
    let ranker = TopKRanker()
    let list = ranker.rank([RankingRequest(events: context)], count: learner.catalogue.rowCount, snapshot: learner.snapshot) { learner.catalogue.row(of: $0) }[0]
    return list.sorted { $0.row < $1.row }.map(\.score)
  }

  @Test(arguments: [NegativeSampling.stochastic, .hard, .uniform, .none])
  func aDeterministicNextItemRuleIsLearnedFromTheStream(negatives: NegativeSampling) {
    let items = 24
    let learner = learner(configuration(items: items, negatives: negatives), items: items)
    var random = Xoshiro256(seed: 3)
    let rule = (0..<items).shuffled(using: &random)
    var last = (0..<40).map { _ in random.next(below: items) }
    var contexts = last.map { [ItemEvent(item: ItemNumber($0))] }
    let ranker = TopKRanker()
    var hits: [Bool] = []
    var time: Int64 = 0
    var examples: [TrainingExample] = []
    for _ in 0..<4_000 {
      let user = random.next(below: 40)
      let next = rule[last[user]]
      time += 1_000
      examples.append(TrainingExample(user: UInt64(user), events: contexts[user] + [ItemEvent(item: ItemNumber(next), time: time)]))
      // Scored before it is learned from.
      let first = ranker.rank([RankingRequest(events: contexts[user])], count: 1, snapshot: learner.snapshot) { learner.catalogue.row(of: $0) }[0]
      hits.append(first.first?.row == Int32(next))
      contexts[user] = Array((contexts[user] + [ItemEvent(item: ItemNumber(next), time: time)]).suffix(8))
      last[user] = next
      if examples.count == 64 {
        #expect(learner.stride(new: examples, recent: []).skippedSteps == 0)
        examples = []
      }
    }
    func rate(_ range: Range<Int>) -> Double { Double(hits[range].count { $0 }) / Double(range.count) }
    #expect(rate(0..<64) < 0.3)
    #expect(rate(3_000..<4_000) > 0.8)
  }

  @Test(arguments: [(Float(9), Float(1)), (1, 9)])
  func theTypeOfGreaterWeightDominates(first: Float, second: Float) {
    let learner = learner(configuration(items: 6, weights: [first, second], negatives: .none), items: 6)
    var user: UInt64 = 0
    for _ in 0..<60 {
      let examples = (0..<32).map { index in
        user += 1
        return TrainingExample(user: user, events: [ItemEvent(item: 0), ItemEvent(item: index % 2 == 0 ? 1 : 2, type: UInt8(index % 2))])
      }
      _ = learner.stride(new: examples, recent: [])
    }
    let scores = scores(learner, [ItemEvent(item: 0)])
    // The softmax's own optimum: as the weights, 9 to 1.
    #expect(abs(Double(scores[1] - scores[2]) - log(Double(first / second))) < 0.5)
    #expect(scores[1] > scores[4] + 2 && scores[2] > scores[4] + 1)
  }

  @Test func aTypeWithoutWeightIsContextAndNeverATarget() {
    let learner = learner(configuration(items: 6, weights: [1, 0], negatives: .none), items: 6)
    for user in 0..<UInt64(40) {
      let examples = (0..<16).map { TrainingExample(user: user * 16 + $0, events: [ItemEvent(item: 0), ItemEvent(item: 1, type: $0 % 2 == 0 ? 0 : 1), ItemEvent(item: 3, type: 1)], targetCount: 2) }
      _ = learner.stride(new: examples, recent: [])
    }
    let scores = scores(learner, [ItemEvent(item: 0)])
    #expect(scores[1] > scores[3] + 2)
    let after = self.scores(learner, [ItemEvent(item: 0), ItemEvent(item: 1)])
    #expect(after[3] < after[1], "3 always follows 1, by a type that says nothing")
  }

  @Test func anItemThatWasShownAndPassedOverIsPushedDown() {
    func score(shown: Bool) -> Float {
      let learner = learner(configuration(items: 12), items: 12)
      var random = Xoshiro256(seed: 9)
      for _ in 0..<40 {
        let examples = (0..<32).map { user in
          TrainingExample(
            user: UInt64(user), events: [ItemEvent(item: 0), ItemEvent(item: ItemNumber(1 + random.next(below: 5)))], shown: shown ? [7] : [])
        }
        _ = learner.stride(new: examples, recent: [])
      }
      let scores = scores(learner, [ItemEvent(item: 0)])
      // Beside items that are as unknown.
      return scores[7] - (scores[8] + scores[9] + scores[10] + scores[11]) / 4
    }
    let ignored = score(shown: true)
    let unseen = score(shown: false)
    #expect(ignored < unseen - 0.3, "\(ignored) when shown, \(unseen) when not")
  }

  @Test func sampledAndFullSoftmaxLearnTheSame() {
    func distribution(isSampled: Bool) -> [Double] {
      var configuration = configuration(items: 10, negatives: .none)
      if isSampled {
        configuration.objective.fullSoftmaxMaximumItems = 2
        configuration.objective.sampledSoftmaxNegatives = 4
      }
      configuration.optimizer.learningRate = 1e-2
      let learner = learner(configuration, items: 10)
      var random = Xoshiro256(seed: 12)
      for stride in 0..<160 {
        learner.reconfigure(learningRate: stride < 100 ? 1e-2 : 1e-3, beta: 0.5, crossEntropyWeight: 1, preferenceWeight: 1)
        // A skewed choice: item k with a weight of 1/k.
        let examples = (0..<32).map { user in
          var x = random.nextUnit() * (1...9).reduce(0) { $0 + 1 / Double($1) }
          var item = 1
          while item < 9, x > 1 / Double(item) {
            x -= 1 / Double(item)
            item += 1
          }
          return TrainingExample(user: UInt64(user), events: [ItemEvent(item: 0), ItemEvent(item: ItemNumber(item))])
        }
        _ = learner.stride(new: examples, recent: [])
      }
      let scores = scores(learner, [ItemEvent(item: 0)])[1...].map { exp(Double($0)) }
      return scores.map { $0 / scores.reduce(0, +) }
    }
    let harmonic = (1...9).reduce(0) { $0 + 1 / Double($1) }
    for distribution in [distribution(isSampled: false), distribution(isSampled: true)] {
      for k in 1...9 { #expect(abs(distribution[k - 1] - 1 / Double(k) / harmonic) < 0.06, "item \(k): \(distribution)") }
    }
  }

  @Test func recentDrawsLieInTheWindowAndPreferTheNewest() {
    let learner = learner(configuration(items: 2), items: 2)
    let drawn = learner.drawRecent(count: 6_000, from: 100..<400)
    #expect(drawn.allSatisfy { (100..<400).contains($0) })
    // The age is exponential with a mean of a third of the window: 1 − e⁻¹ of it in the newest third.
    let newest = Double(drawn.count { $0 >= 300 }) / 6_000
    #expect(abs(newest - (1 - exp(-1))) < 0.03)
    #expect(learner.drawRecent(count: 5, from: 7..<7).isEmpty)
    #expect(learner.drawRecent(count: 5, from: 7..<8) == [7, 7, 7, 7, 7])
  }

  @Test func aStrideIsReportedAndSnapshotsRise() {
    let learner = learner(configuration(items: 8), items: 8)
    var random = Xoshiro256(seed: 1)
    let version = learner.snapshot.version
    let report = learner.stride(new: randomExamples(40, items: 8, using: &random), recent: randomExamples(10, items: 8, using: &random))
    #expect(report.newTargets == 40 && report.replayed == 10 && report.steps == 2 && report.preference == 0)
    let second = learner.stride(new: randomExamples(40, items: 8, using: &random), recent: [])
    #expect(second.replayed == 20 && second.preference > 0)
    #expect(abs(second.preference - log(2)) < 0.3)
    #expect(learner.snapshot.version == version + 2)
    #expect(learner.reservoir.seen == 80)
  }

  @Test func stepsThatAreNotFiniteAreLeftOutAndCounted() {
    let learner = learner(configuration(items: 8), items: 8)
    var random = Xoshiro256(seed: 1)
    learner.trainer.parameters.itemEmbedding[2, 0] = .infinity
    let before = learner.trainer.everything
    let report = learner.stride(new: randomExamples(40, items: 8, using: &random), recent: [])
    #expect(report.skippedSteps == report.steps && report.steps == 2)
    #expect(learner.trainer.everything == before)
    #expect(!learner.snapshot.isFinite, "so that nobody publishes it")
  }

  @Test func anItemOfWhichOnlyTheContentIsKnownRanksNearItsLike() {
    let model = ModelConfiguration(
      hiddenSize: 16, layerCount: 1, headCount: 2, innerSize: 32, maximumSequenceLength: 4, interactionTypeCount: 1, expertCount: 4,
      modalities: [], usesAttributes: true)
    let learner = OnlineLearner(
      LearnerConfiguration(
        model: model, objective: ObjectiveConfiguration(negatives: .none), optimizer: OptimizerConfiguration(learningRate: 5e-3), batchSize: 32))
    for item in 0..<20 { learner.catalogue.describe(item: ItemNumber(item), row: Int32(item), content: [], attributes: ["category:\(item % 2)"]) }
    var random = Xoshiro256(seed: 2)
    for _ in 0..<80 {
      // Users stay within a category.
      let examples = (0..<32).map { user in
        let parity = random.next(below: 2)
        return TrainingExample(user: UInt64(user), events: (0..<3).map { _ in ItemEvent(item: ItemNumber(2 * random.next(below: 10) + parity)) })
      }
      _ = learner.stride(new: examples, recent: [])
    }
    learner.catalogue.describe(item: 50, row: 20, content: [], attributes: ["category:0"])
    learner.catalogue.describe(item: 51, row: 21, content: [], attributes: ["category:1"])
    learner.renewSnapshot()
    let scores = scores(learner, [ItemEvent(item: 4), ItemEvent(item: 8)])
    #expect(scores[20] > scores[21] + 1)
    #expect(learner.snapshot.similarity(20, 2) > learner.snapshot.similarity(20, 3))
  }
}
