import Events
import Foundation
import Kernels
import Settings
import StateStore
import TestSupport
import Testing

@testable import Pipeline
@testable import Recommender

struct LearningTests {
  let folder = TemporaryFolder()

  private func settings(_ change: (inout Settings) -> Void = { _ in }) -> Settings {
    var settings = Settings.small(folder)
    change(&settings)
    return settings
  }

  /// So many interactions of some users.
  private func play(_ scene: Scene, _ count: Int, users: Int = 6, seed: UInt64 = 1) throws {
    var random = SeededGenerator(seed: seed &+ UInt64(scene.stream.next))
    for _ in 0..<count { try scene.interact("user \(random.below(users))", "item \(random.below(20))", type: UInt8(random.below(3))) }
  }

  @discardableResult
  private func learnAll(_ learning: Learning) throws -> (targets: Int, sampledOut: Int, steps: Int) {
    var result = (targets: 0, sampledOut: 0, steps: 0)
    while let progress = try learning.step(partial: true) {
      result.targets += progress.report.newTargets
      result.sampledOut += progress.sampledOut
      result.steps += 1
    }
    return result
  }

  @Test func aStrideWaitsUntilThereIsEnoughUnlessAPartWillDo() throws {
    let scene = try Scene(settings())
    #expect(try scene.learning.step(partial: true) == nil)
    try play(scene, 15)
    #expect(try scene.learning.step(partial: false) == nil)
    try play(scene, 1)
    #expect(try scene.learning.step(partial: false)?.report.newTargets == 16)
    try play(scene, 3)
    #expect(try scene.learning.backlog() == 3)
    #expect(try scene.learning.step(partial: true)?.report.newTargets == 3)
    #expect(try scene.learning.backlog() == 0)
  }

  @Test func everyInteractionIsLearnedOnceOverARestart() throws {
    let settings = settings { $0.learner.maxUserShare = 1 }
    var targets = 0
    var cursor: UInt64 = 0
    do {
      let scene = try Scene(settings)
      try play(scene, 70)
      while let progress = try scene.learning.step(partial: false) { targets += progress.report.newTargets }
      try scene.learning.checkpoint()
      cursor = scene.learning.learner.cursor
      #expect(cursor == 65)
    }
    let scene = try Scene(settings)
    #expect(scene.learning.learner.cursor == cursor)
    #expect(try scene.learning.backlog() == 6)
    scene.clock += 1_000_000
    try play(scene, 50, seed: 2)
    targets += try learnAll(scene.learning).targets
    #expect(targets == 120)
    #expect(scene.learning.learner.cursor == 121)
  }

  @Test func afterADeathLearningGoesOnFromTheLastCheckpointAndSkipsNothing() throws {
    let settings = settings()
    do {
      let scene = try Scene(settings)
      try play(scene, 32)
      try learnAll(scene.learning)
      try scene.learning.checkpoint()
      try play(scene, 48)
      try learnAll(scene.learning)
      #expect(scene.learning.learner.cursor == 81)
    }
    let scene = try Scene(settings)
    #expect(scene.learning.learner.cursor == 33)
    #expect(try learnAll(scene.learning).targets == 48)
  }

  @Test func aRestartChangesNothingOfTheModel() throws {
    let settings = settings()
    var bytes: [UInt8] = []
    do {
      let scene = try Scene(settings)
      for item in 0..<20 where item % 3 > 0 { try scene.describe("item \(item)", categories: ["c\(item % 4)"]) }
      try play(scene, 64)
      try learnAll(scene.learning)
      try scene.retire("item 4")
      try play(scene, 16)
      try learnAll(scene.learning)
      try scene.learning.checkpoint()
      bytes = try scene.learning.learner.checkpoint()
    }
    for _ in 0..<2 {
      let scene = try Scene(settings)
      #expect(try scene.learning.learner.checkpoint() == bytes)
      try scene.learning.checkpoint()
      #expect(try scene.store.checkpoints().count == 1)
    }
  }

  @Test func aDamagedCheckpointGivesWayToTheOneBefore() throws {
    let settings = settings()
    do {
      let scene = try Scene(settings)
      for _ in 0..<2 {
        try play(scene, 32)
        try learnAll(scene.learning)
        try scene.learning.checkpoint()
      }
      let newest = try #require(try scene.store.checkpoints().last)
      let path = settings.store.path + "/checkpoints/" + newest.name
      var data = try Data(contentsOf: URL(filePath: path))
      data[data.count / 2] ^= 1
      try data.write(to: URL(filePath: path))
    }
    let scene = try Scene(settings)
    #expect(scene.learning.learner.cursor == 33)
    #expect(try learnAll(scene.learning).targets == 32)
  }

  @Test func aCheckpointOfAnotherModelIsRefusedByName() throws {
    var settings = settings()
    do {
      let scene = try Scene(settings)
      try play(scene, 16)
      try learnAll(scene.learning)
      try scene.learning.checkpoint()
    }
    settings.model.innerSize = 24
    let error = #expect(throws: PipelineError.self) { try Scene(settings) }
    #expect(error?.code == .configuration)
    #expect(error?.message.contains("checkpoint-") == true)
  }

  @Test func aForgottenUsersExamplesLeaveTheReservoir() throws {
    let scene = try Scene(settings())
    try play(scene, 48, users: 3)
    try learnAll(scene.learning)
    let number = UserFingerprint("user 1").number
    #expect(scene.learning.learner.reservoir.examples.contains { $0.user == number })
    try scene.forget("user 1")
    try learnAll(scene.learning)
    #expect(!scene.learning.learner.reservoir.examples.contains { $0.user == number })
    #expect(!scene.learning.learner.reservoir.examples.isEmpty)
    #expect(scene.learning.learner.cursor == 50)
  }

  @Test func aForgottenUsersExamplesLeaveTheKeptCheckpointsToo() throws {
    let settings = settings { $0.learner.checkpointKeep = 2 }
    let number = UserFingerprint("user 1").number
    func users(_ scene: Scene) throws -> [Set<UInt64>] {
      let files = try CheckpointFiles(folder: scene.store.path + "/checkpoints")
      return try scene.store.checkpoints().map { entry in
        let learner = try OnlineLearner(scene.learning.learner.configuration, checkpoint: files.read(entry))
        return Set(learner.reservoir.examples.map(\.user))
      }
    }
    do {
      let scene = try Scene(settings)
      for _ in 0..<3 {
        try play(scene, 32, users: 3)
        try learnAll(scene.learning)
        try scene.learning.checkpoint()
      }
      let before = try users(scene)
      #expect(before.count == 3, "the last two and the good one")
      #expect(before.allSatisfy { $0.contains(number) })
      try scene.forget("user 1")
      try learnAll(scene.learning)
      try scene.learning.checkpoint()
      let after = try users(scene)
      #expect(after.count == 3)
      #expect(after.allSatisfy { !$0.contains(number) && !$0.isEmpty })
      #expect(try CheckpointFiles(folder: scene.store.path + "/checkpoints").list() == scene.store.checkpoints().map(\.name).sorted(), "no file is left that nothing names")
      #expect(try scene.learning.rollBack() != nil)
    }
    let again = try Scene(settings)
    #expect(again.learning.learner.cursor == 98)
  }

  @Test func aForgetIsNotPassedOverWhereInteractionsAre() throws {
    let scene = try Scene(settings { $0.learner.maxLagInteractions = 20 })
    try play(scene, 16, users: 2)
    try learnAll(scene.learning)
    try play(scene, 101, users: 1, seed: 3)
    try scene.forget("user 1")
    try play(scene, 101, users: 1, seed: 4)
    let total = try learnAll(scene.learning)
    #expect(total.sampledOut > 0)
    let number = UserFingerprint("user 1").number
    #expect(!scene.learning.learner.reservoir.examples.contains { $0.user == number })
  }

  @Test func beyondTheAllowedLagInteractionsAreSampledAndTheLearnerCatchesUp() throws {
    let scene = try Scene(settings { $0.learner.maxLagInteractions = 40 })
    try play(scene, 40)
    #expect(try scene.learning.step(partial: false)?.sampledOut == 0, "at the bound every interaction is learned from")
    try play(scene, 16)
    try play(scene, 300)
    let first = try #require(try scene.learning.step(partial: false))
    // 340 wait: nine times the lag's worth, so one of nine.
    #expect(first.report.newTargets == 16)
    #expect(first.sampledOut == 8 * 16)
    var learned = first.report.newTargets
    var passed = first.sampledOut
    while let progress = try scene.learning.step(partial: true) {
      learned += progress.report.newTargets
      passed += progress.sampledOut
      if try scene.learning.backlog() <= 40 - 16 { #expect(try scene.learning.step(partial: true)?.sampledOut ?? 0 == 0); break }
    }
    #expect(learned + passed <= 340)
    #expect(passed > 0 && learned > 16)
    #expect(try scene.learning.backlog() <= 40)
  }

  @Test func aBacklogBetweenOneAndTwoLagsIsSampledToo() throws {
    let scene = try Scene(settings { $0.learner.maxLagInteractions = 40 })
    try play(scene, 70)
    #expect(try scene.learning.step(partial: false)?.sampledOut == 16)
  }

  @Test func inTheDeterministicModeNothingIsSampledOut() throws {
    let scene = try Scene(
      settings {
        $0.learner.maxLagInteractions = 20
        $0.learner.deterministic = true
      })
    try play(scene, 160)
    let total = try learnAll(scene.learning)
    #expect(total.targets == 160 && total.sampledOut == 0 && total.steps == 10)
  }

  @Test func typesWithoutWeightAreNoTargets() throws {
    let scene = try Scene(settings { $0.events.types = [.init("view", weight: 0), .init("click", weight: 1), .init("purchase", weight: 3)] })
    try play(scene, 64)
    let views = try scene.store.journal().count { record in
      if case .interaction(let example) = record.entry { example.target.type.rawValue == 0 } else { false }
    }
    #expect(views > 10)
    #expect(try learnAll(scene.learning).targets == 64 - views)
    #expect(scene.learning.learner.cursor == 65)
    #expect(scene.learning.learner.reservoir.examples.allSatisfy { $0.events.last?.type != 0 })
  }

  @Test func trimmingKeepsWhatARestartNeedsAndNoMore() throws {
    let settings = settings {
      $0.learner.windowInteractions = 60
      $0.learner.checkpointKeep = 2
    }
    do {
      let scene = try Scene(settings)
      for round in 0..<12 {
        try play(scene, 32, seed: UInt64(round))
        try learnAll(scene.learning)
        try scene.learning.checkpoint()
        scene.learning.markGood()
        let entries = try scene.store.checkpoints()
        let files = try FileManager.default.contentsOfDirectory(atPath: settings.store.path + "/checkpoints")
        #expect(Set(files) == Set(entries.map(\.name)))
        #expect(entries.count <= 3)
        let oldest = try #require(entries.map(\.cursor).min())
        let bounds = try #require(try scene.store.read { (view) throws(StateStoreError) in try view.journalBounds() })
        #expect(bounds.lowerBound == (oldest > 60 ? oldest - 60 : 1), "the window before the oldest cursor, in round \(round)")
      }
      #expect(try #require(try scene.store.journal().first).sequence > 200)
      #expect(try scene.store.checkpoints().count == 2)
    }
    let scene = try Scene(settings)
    #expect(try scene.learning.backlog() == 0)
    try play(scene, 16, seed: 99)
    let report = try #require(try scene.learning.step(partial: false)).report
    #expect(report.replayed == 8 + 4, "recent ones from the window, old ones from the reservoir")
  }

  @Test func theGoodCheckpointOutlivesNewerOnesUntilAnotherIsGood() throws {
    let scene = try Scene(
      settings {
        $0.learner.checkpointKeep = 2
        $0.learner.windowInteractions = 10
      })
    func round() throws {
      try play(scene, 16)
      try learnAll(scene.learning)
      try scene.learning.checkpoint()
    }
    try round()
    scene.learning.markGood()
    let good = try #require(try scene.store.checkpoints().first)
    for _ in 0..<5 { try round() }
    #expect(try scene.store.checkpoints().contains(good))
    #expect(try scene.store.checkpoints().count == 3)
    #expect(try #require(scene.store.journal().first).sequence > good.cursor, "it does not keep the journal from being trimmed")
    scene.learning.markGood()
    try round()
    try round()
    #expect(try !scene.store.checkpoints().contains(good))
  }

  @Test func rollingBackTakesTheGoodModelAndKeepsTheCursor() throws {
    let scene = try Scene(settings())
    #expect(try scene.learning.rollBack() == nil, "there is none to go back to")
    try play(scene, 32)
    try learnAll(scene.learning)
    try scene.learning.checkpoint()
    let good = scene.learning.learner.trainer.everything
    try scene.describe("new item", categories: ["c"])
    try play(scene, 48)
    try learnAll(scene.learning)
    let version = scene.learning.learner.snapshot.version
    #expect(scene.learning.learner.trainer.everything != good)
    let name = try #require(try scene.learning.rollBack())
    #expect(name == (try scene.store.checkpoints().first?.name))
    #expect(scene.learning.learner.cursor == 81)
    #expect(scene.learning.learner.snapshot.version > version)
    #expect(scene.learning.learner.trainer.everything[0] == good[0])
    #expect(scene.learning.learner.catalogue.row(of: try scene.store.number(of: "new item").rawValue) != nil)
    try play(scene, 16)
    #expect(try learnAll(scene.learning).targets == 16, "what led astray is not learned again")
  }

  @Test func rollingBackDoesNotBringForgottenUsersBack() throws {
    let scene = try Scene(settings())
    try play(scene, 32, users: 3)
    try learnAll(scene.learning)
    try scene.learning.checkpoint()
    let number = UserFingerprint("user 1").number
    #expect(scene.learning.learner.reservoir.examples.contains { $0.user == number })
    try scene.forget("user 1")
    try play(scene, 32, users: 1)
    try learnAll(scene.learning)
    _ = try scene.learning.rollBack()
    #expect(!scene.learning.learner.reservoir.examples.contains { $0.user == number })
    #expect(!scene.learning.learner.reservoir.examples.isEmpty)
  }

  @Test func theLearnersCatalogueFollowsTheStore() throws {
    let scene = try Scene(settings { $0.model.modalities = ["text": 2] })
    try scene.apply([
      scene.stream.record(.describe(Events.ItemDescription(item: "a", categories: ["x"], features: [.init(name: "text", values: [1, 2])]))),
      scene.stream.record(.describe(Events.ItemDescription(item: "b", features: [.init(name: "unknown", values: [1])]))),
    ])
    #expect(try scene.learning.followCatalogue())
    let catalogue = scene.learning.learner.catalogue
    let a = Int(try #require(catalogue.row(of: try scene.store.number(of: "a").rawValue)))
    let b = Int(try #require(catalogue.row(of: try scene.store.number(of: "b").rawValue)))
    #expect(catalogue.features[0].rows(a..<a + 1).array == [1, 2])
    #expect(catalogue.isDescribed(row: a) && !catalogue.isDescribed(row: b))
    #expect(try !scene.learning.followCatalogue())
    try scene.retire("a")
    try scene.learning.followCatalogue()
    #expect(catalogue.row(of: try scene.store.number(of: "a").rawValue) == nil)
  }

  /// An item that its first interaction and its description bring between two strides is one thing, whoever looked in between.
  @Test func anItemDescribedBeforeItWasLearnedStartsByItsContentAlone() throws {
    let scene = try Scene(settings())
    try play(scene, 16)
    try learnAll(scene.learning)
    try scene.interact("u", "late")
    try scene.learning.followCatalogue()
    scene.learning.learner.refreshSnapshot()
    try scene.describe("late", categories: ["c"])
    try scene.learning.followCatalogue()
    scene.learning.learner.refreshSnapshot()
    let row = Int(try #require(scene.learning.learner.catalogue.row(of: try scene.store.number(of: "late").rawValue)))
    #expect(scene.learning.learner.trainer.parameters.itemEmbedding.rows(row..<row + 1).array.allSatisfy { $0 == 0 })
  }
}

extension Trainer {
  /// Every number that learning changes in the dense part and in the item tables' moments.
  fileprivate var everything: [[UInt32]] {
    [parameters.dense.buffer.array, optimizer.firstMoment.buffer.array, optimizer.secondMoment.buffer.array].map { $0.map(\.bitPattern) }
  }
}
