import Backtest
import Datasets
import Foundation
import Recommender
import TestSupport
import Testing

struct BacktestDataTests {
  @Test func featuresNeedTheItemTableAndOneRowForEachItem() throws {
    let folder = TemporaryFolder()
    let events = try folder.write("user\titem\nu\ta\n", to: "events.tsv")
    let items = try folder.write("item\ttitle\na\tA\nb\tB\n", to: "items.tsv")
    let matrix = try folder.write(npy([[1, 2], [3, 4], [5, 6]]), to: "features.npy")
    let withoutTable = #expect(throws: BacktestError.self) { try BacktestData.read(interactions: [events], features: [("text", matrix)]) }
    #expect(withoutTable?.code == .usage)
    let misfit = #expect(throws: BacktestError.self) {
      try BacktestData.read(interactions: [events], items: items, features: [("text", matrix)])
    }
    #expect(misfit?.description.contains("3 rows") == true)
    _ = try folder.write(npy([[1, 2], [3, 4]]), to: "features.npy")
    let data = try BacktestData.read(interactions: [events], items: items, features: [("text", matrix)])
    #expect(data.modalities == ["text": 2])
    #expect(!data.hasAttributes)
  }

  @Test func aBadLineIsNamed() throws {
    let folder = TemporaryFolder()
    let events = try folder.write("user\titem\ttime\nu\ta\t1\nu\tb\tnoon\n", to: "events.tsv")
    let error = #expect(throws: DatasetError.self) { try BacktestData.read(interactions: [events]) }
    #expect(error?.line == 3)
  }

  @Test func typeWeightsFollowTheHistorysNames() throws {
    let folder = TemporaryFolder()
    let events = try folder.write("user,item,type\nu,a,view\nu,b,purchase\nv,a,gift\n", to: "events.csv")
    let data = try BacktestData.read(interactions: [events])
    let weights = data.typeWeights(["purchase": 4, "view": 0.5])
    #expect(zip(data.history.typeNames, weights).map { "\($0) \($1)" } == [" 1.0", "view 0.5", "purchase 4.0", "gift 1.0"])
  }

  @Test func aProtocolThatTheDataDoNotAllowIsRefused() throws {
    let folder = TemporaryFolder()
    let short = try BacktestData.read(interactions: [folder.write("user\titem\nu\ta\nu\tb\n", to: "events.tsv")])
    for plan in [Backtest.Plan.leaveOneOut, .periods(heldOut: 0), .prequential(warmup: 0.5, block: .day)] {
      let error = #expect(throws: BacktestError.self) { try Backtest(plan: plan, learner: LearnerConfiguration()).run(short) }
      #expect(error?.code == .data)
    }
  }

  /// A new item's content is enough to recommend it: the second half of each kind is sold only after the warm-up.
  @Test func describedItemsAreFoundBeforeTheirFirstEvent() throws {
    let folder = TemporaryFolder()
    let items = try folder.write(
      "item\tcategories\n" + (0..<40).map { "i\($0)\tkind\($0 % 4)\n" }.joined(), to: "items.tsv")
    var lines = ["user\titem\ttime"]
    // Users stay with one kind; on the last day they take an item that nobody has had.
    for user in 0..<80 {
      for step in 0..<4 { lines.append("u\(user)\ti\((user % 4) + 4 * ((user / 4 + step) % 6))\t\(step * 86_400 + user)") }
    }
    for user in 0..<16 { lines.append("u\(user)\ti\(24 + user)\t\(10 * 86_400 + user)") }
    let events = try folder.write(lines.joined(separator: "\n") + "\n", to: "events.tsv")
    let learner = LearnerConfiguration(
      model: ModelConfiguration(hiddenSize: 16, layerCount: 1, headCount: 1, innerSize: 32, maximumSequenceLength: 10, expertCount: 0),
      objective: ObjectiveConfiguration(negatives: .none), optimizer: OptimizerConfiguration(learningRate: 1e-2, dropout: 0), batchSize: 16,
      reservoirRatio: 0, replayTargets: 1)
    func newItemHits(_ data: BacktestData) throws -> Double? {
      let backtest = Backtest(
        plan: .prequential(warmup: 320.0 / 336, block: .day), learner: learner, maximumEpochs: 20, patience: 20, skipsBaselines: true)
      let report = try backtest.run(data)
      let slices = try #require(try decoded(report)["slices"] as? [String: [String: Any]])
      return try metric("HR@20", of: "rodpod", report, in: slices["new_items"] ?? [:])
    }
    #expect(try newItemHits(BacktestData.read(interactions: [events])) == 0)
    #expect(try #require(try newItemHits(BacktestData.read(interactions: [events], items: items))) > 0.9)
  }

  /// Nothing of an item is known before its first event, so no list can have held it, whatever the model has learned meanwhile.
  @Test func anItemThatCameAfterTheSnapshotIsNoHit() throws {
    let folder = TemporaryFolder()
    let lines = (0..<600).map { "u\($0 % 20)\ti\($0)\t\($0 * 60)" }
    let events = try folder.write("user\titem\ttime\n" + lines.joined(separator: "\n") + "\n", to: "events.tsv")
    let learner = LearnerConfiguration(
      model: ModelConfiguration(
        hiddenSize: 16, layerCount: 1, headCount: 1, innerSize: 32, maximumSequenceLength: 10, expertCount: 0, neighbourCount: 8))
    let backtest = Backtest(plan: .prequential(warmup: 0, block: .event), learner: learner, stride: 64, skipsBaselines: true)
    let report = try backtest.run(BacktestData.read(interactions: [events]))
    #expect(try metric("HR@20", of: "rodpod", report) == 0)
  }
}
