import Backtest
import Foundation
import Recommender
import TestSupport
import Testing

/// The protocols on small histories whose right answers are known.
struct BacktestTests {
  private let day = 86_400

  private func learner(_ negatives: NegativeSampling = .none) -> LearnerConfiguration {
    LearnerConfiguration(
      model: ModelConfiguration(hiddenSize: 16, layerCount: 1, headCount: 1, innerSize: 32, maximumSequenceLength: 10),
      objective: ObjectiveConfiguration(negatives: negatives, negativesPerTarget: 2, beta: 0.5),
      optimizer: OptimizerConfiguration(learningRate: 1e-2, dropout: 0), batchSize: 16, recentRatio: 0, reservoirRatio: 0, poolSize: 10)
  }

  /// Every user walks a circle of 20 items from a place of their own.
  private func circle(users: Int, length: Int) -> [(user: Int, item: Int, time: Int)] {
    (0..<users).flatMap { user in (0..<length).map { (user, (user * 7 + $0) % 20, ($0 * 3 + user % 3) * day) } }
  }

  @Test(arguments: [NegativeSampling.none, .stochastic, .hard, .uniform])
  func leaveOneOutFindsTheNextStepOfACircle(negatives: NegativeSampling) throws {
    let data = try TemporaryFolder().data([circle(users: 60, length: 6)])
    let backtest = Backtest(plan: .leaveOneOut, learner: learner(negatives), maximumEpochs: 40, patience: 10)
    let report = try backtest.run(data)
    #expect(try #require(try metric("HR@5", of: "rodpod", report)) > 0.95)
    #expect(try #require(try metric("HR@5", of: "markov", report)) > 0.95)
    #expect(try #require(try metric("HR@5", of: "popularity", report)) < 0.6)
  }

  /// Every user takes two items on one day, the second of which the first tells. Day by day both are predicted from the days before.
  @Test func whatAUserDidEarlierInADayIsNotKnownWhenTheDayIsPredicted() throws {
    let visits = (0..<60).flatMap { user in (0..<2).map { (user, user % 20 + 20 * $0, user * day) } }
    let data = try TemporaryFolder().data([visits])
    for (block, expected) in [(Prequential.Block.day, 20), (.event, 10)] {
      let plan = Backtest.Plan.prequential(warmup: 100.0 / 120, block: block)
      let object = try decoded(Backtest(plan: plan, learner: learner(), maximumEpochs: 1).run(data))
      let slices = try #require(object["slices"] as? [String: [String: Any]])
      #expect(object["cases"] as? Int == 20 && slices["users_without_history"]?["count"] as? Int == expected)
    }
  }

  @Test func theReportHoldsWhatItPromises() throws {
    let data = try TemporaryFolder().data([circle(users: 12, length: 5)])
    let report = try Backtest(plan: .leaveOneOut, learner: learner(), maximumEpochs: 2, seeds: [3, 4]).run(data)
    let object = try decoded(report)
    #expect(object["protocol"] as? String == "leave-one-out")
    #expect(object["seed"] as? Int == 3)
    #expect(object["users"] as? Int == 12)
    #expect(object["items"] as? Int == 20)
    #expect(object["events"] as? Int == 60)
    let results = try #require(object["results"] as? [String: [String: Double]])
    #expect(Set(results.keys) == ["rodpod", "popularity", "recent_popularity", "markov", "item_knn"])
    let names: Set = ["HR@5", "NDCG@5", "HR@10", "NDCG@10", "MRR@5", "HR@20", "NDCG@20", "MRR@20"]
    for metrics in results.values {
      #expect(Set(metrics.keys) == names)
      #expect(metrics.values.allSatisfy { 0...1 ~= $0 })
    }
    let training = try #require(object["training"] as? [String: Any])
    // Two seeds, two passes, two targets of each user: the first event has no context, the last two are held back.
    #expect(training["examples"] as? Int == 2 * 2 * 12 * 2)
    #expect(training["wall_seconds"] is Double && training["examples_per_second"] is Double)
    #expect(try #require(object["peak_rss_bytes"] as? Int) > 1 << 20)
    #expect((object["standard_deviation"] as? [String: Double]).map { Set($0.keys) } == names)
    #expect(Set(try #require(object["slices"] as? [String: Any]).keys) == ["later_day", "new_items"])
    #expect(report.description.contains("rodpod") && report.description.contains("item_knn"))
  }

  @Test func theSameSeedGivesTheSameRanksAndAnotherSeedOthers() throws {
    let data = try TemporaryFolder().data([circle(users: 30, length: 6)])
    func ranks(_ seed: UInt64) throws -> String {
      try Backtest(plan: .leaveOneOut, learner: learner(.stochastic), maximumEpochs: 2, seeds: [seed], skipsBaselines: true).run(data)
        .ranks(named: "run").encoded
    }
    #expect(try ranks(5) == ranks(5))
    #expect(try ranks(5) != ranks(6))
  }

  @Test func validationAndTestAreAskedForDifferentTargets() throws {
    let data = try TemporaryFolder().data([circle(users: 10, length: 5)])
    func targets(_ onValidation: Bool) throws -> [Int] {
      let backtest = Backtest(plan: .leaveOneOut, learner: learner(), maximumEpochs: 1, skipsBaselines: true, onValidation: onValidation)
      return try backtest.run(data).ranks(named: "run").encoded.split(separator: "\n").dropFirst().compactMap { Int($0.split(separator: "\t")[0]) }
    }
    #expect(try targets(true) == (0..<10).map { $0 * 5 + 3 })
    #expect(try targets(false) == (0..<10).map { $0 * 5 + 4 })
  }

  @Test func aDayIsScoredBeforeAnythingOfItIsLearned() throws {
    // On the third day item 9 comes up for the first time, twice: event by event the second one can be known, in blocks of a day it can't.
    var events = (0..<30).map { (user: $0, item: $0 % 3, time: $0) } + (0..<30).map { (user: $0, item: 3 + $0 % 3, time: day + $0) }
    events += [(user: 0, item: 9, time: 2 * day + 1), (user: 1, item: 9, time: 2 * day + 2)]
    let data = try TemporaryFolder().data([events])
    func newItemHits(_ block: Prequential.Block) throws -> Double? {
      let backtest = Backtest(plan: .prequential(warmup: 60.0 / 62, block: block), learner: learner(), stride: 1, maximumEpochs: 1)
      let report = try backtest.run(data)
      let slices = try #require(try decoded(report)["slices"] as? [String: [String: Any]])
      let group = try #require(slices["new_items"])
      #expect(group["count"] as? Int == 2)
      return try metric("HR@20", of: "rodpod", report, in: group)
    }
    #expect(try newItemHits(.day) == 0)
    #expect(try newItemHits(.event) == 0.5)
  }

  @Test func usersWithoutHistoryAreGivenWhatIsPopular() throws {
    let events = (0..<40).flatMap { user in [(user: user, item: 1, time: user * 10), (user: user, item: 2 + user % 5, time: user * 10 + 1)] }
    let data = try TemporaryFolder().data([events])
    let report = try Backtest(plan: .prequential(warmup: 0.5, block: .event), learner: learner(), stride: 4, maximumEpochs: 1).run(data)
    let slices = try #require(try decoded(report)["slices"] as? [String: [String: Any]])
    let group = try #require(slices["users_without_history"])
    #expect(group["count"] as? Int == 20)
    #expect(try metric("NDCG@5", of: "rodpod", report, in: group) == 1)
    #expect(try metric("NDCG@5", of: "recent_popularity", report, in: group) == 1)
  }

  @Test func aSeenItemIsAMissUnlessRepeatsAreAllowed() throws {
    let events = (0..<40).flatMap { user in (0..<4).map { (user: user, item: user % 4, time: user * 10 + $0) } }
    let data = try TemporaryFolder().data([events])
    func hits(_ allowsRepeats: Bool) throws -> (Double?, Double?) {
      let report = try Backtest(
        plan: .leaveOneOut, learner: learner(), allowsRepeats: allowsRepeats, maximumEpochs: 10
      ).run(data)
      return (try metric("HR@5", of: "rodpod", report), try metric("HR@5", of: "markov", report))
    }
    #expect(try hits(false) == (0, 0))
    #expect(try hits(true) == (1, 1))
  }

  @Test func periodsAreTestedBeforeTheyAreLearnedAndDropWhatIsNew() throws {
    let first = circle(users: 30, length: 4)
    let second = circle(users: 30, length: 4).map { (user: $0.user + 100, item: $0.item, time: $0.time + 100 * day) }
    // Item 50 is new in the third period: its events are no cases.
    let third = circle(users: 10, length: 3).flatMap { [$0, (user: $0.user, item: 50, time: $0.time + 1)] }
      .map { (user: $0.user + 200, item: $0.item, time: $0.time + 200 * day) }
    let data = try TemporaryFolder().data([first, second, third])
    let report = try Backtest(plan: .periods(heldOut: 0), learner: learner(), maximumEpochs: 30).run(data)
    let periods = try #require(try decoded(report)["periods"] as? [[String: Any]])
    #expect(periods.map { $0["period"] as? Int } == [1, 2])
    #expect(periods.map { $0["cases"] as? Int } == [30 * 3, 10 * 2])
    let values = try periods.map { try #require(try metric("HR@5", of: "rodpod", report, in: $0)) }
    let mean = try #require(try metric("HR@5", of: "rodpod", report))
    #expect(abs(mean - values.reduce(0, +) / 2) < 1e-12)
    #expect(values[0] > 0.9)
  }

  @Test func heldOutUsersAreNeverLearnedAndTellWhatIsForgotten() throws {
    let periods = (0..<3).map { period in
      circle(users: 40, length: 4).map { (user: $0.user + 1000 * period, item: $0.item, time: $0.time + period * 100 * day) }
    }
    let data = try TemporaryFolder().data(periods)
    func examples(_ heldOut: Double) throws -> (Int, [[String: Any]]?) {
      let report = try Backtest(plan: .periods(heldOut: heldOut), learner: learner(), maximumEpochs: 1, skipsBaselines: true).run(data)
      let object = try decoded(report)
      return (try #require((object["training"] as? [String: Any])?["examples"] as? Int), object["forgetting"] as? [[String: Any]])
    }
    let (all, none) = try examples(0)
    let (rest, forgetting) = try examples(0.5)
    #expect(all == 3 * 40 * 3)
    #expect(none == nil)
    let groups = try #require(forgetting)
    #expect(groups.map { $0["period"] as? Int } == [1, 2])
    let heldOutCases = groups.compactMap { $0["cases"] as? Int }.reduce(0, +)
    #expect(heldOutCases > 60 && heldOutCases < 180)
    #expect(rest < all - heldOutCases)
    // Nothing was learned between the last period's two scores.
    #expect(groups.last?["then"] as? [String: Double] == groups.last?["finally"] as? [String: Double])
  }

  @Test func twoRunsAreComparedCaseByCase() throws {
    let folder = TemporaryFolder()
    let data = try folder.data([circle(users: 60, length: 6)])
    let good = try Backtest(plan: .leaveOneOut, learner: learner(), maximumEpochs: 30, skipsBaselines: true).run(data)
    var poor = try Backtest(plan: .leaveOneOut, learner: learner(), maximumEpochs: 1, skipsBaselines: true).run(data)
    let file = try RankFile(path: folder.write(good.ranks(named: "good").encoded, to: "ranks"))
    try poor.compare(with: file)
    let tests = try #require(try decoded(poor)["comparisons"] as? [[String: Any]])
    let test = try #require(tests.first { $0["metric"] as? String == "NDCG@5" })
    #expect(try #require(test["difference"] as? Double) < -0.2)
    #expect(try #require(test["p_value"] as? Double) < 0.01)
    var other = try Backtest(
      plan: .leaveOneOut, learner: learner(), maximumEpochs: 1, skipsBaselines: true, onValidation: true
    ).run(data)
    #expect(throws: BacktestError.self) { try other.compare(with: file) }
  }
}
