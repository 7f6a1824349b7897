import Backtest
import Foundation
import Logging
import Pipeline
import Settings
import StateStore
import TestSupport
import Testing

struct FirstModelTests {
  private let folder: TemporaryFolder
  private var settings = Settings()
  private let now: Int64 = 1_700_000_000_000
  private let quiet: Logger = {
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    return logger
  }()

  init() throws {
    folder = TemporaryFolder()
    settings.store.path = folder.path + "/store"
    settings.store.mapSizeBytes = 32 << 20
    settings.model.hiddenSize = 16
    settings.model.layerCount = 1
    settings.model.headCount = 1
    settings.model.innerSize = 32
    settings.model.maximumSequenceLength = 4
    settings.learner.batchSize = 16
    settings.learner.learningRate = 1e-2
    settings.learner.windowInteractions = 100
  }

  /// Every user walks a circle of 20 items from a place of their own.
  private func circle(users: Int = 60, length: Int = 6) -> [(user: Int, item: Int, time: Int)] {
    (0..<users).flatMap { user in (0..<length).map { (user, (user * 7 + $0) % 20, $0 * 86_400 + user) } }
  }

  private func train(_ data: BacktestData, epochs: Int = 30) throws -> FirstModelReport {
    try FirstModel(settings: settings, maximumEpochs: epochs, patience: 10).train(data, now: now, logger: quiet)
  }

  private func refusal(_ data: BacktestData) -> BacktestError? {
    let error = #expect(throws: BacktestError.self) { try train(data) }
    #expect(!FileManager.default.fileExists(atPath: settings.store.path))
    return error
  }

  private func store() throws -> StateStore { try StateStore.open(at: settings.store.path, options: StateStore.Options(settings)) }

  @Test func theModelKnowsTheRuleAndTheStoreTheUsers() throws {
    let lines = circle().map { "u\($0.user)\ti\($0.item)\t\($0.time)\t\($0.item % 2 == 0 ? "purchase" : "view")\n" }
    let events = try folder.write("user\titem\ttime\ttype\n" + lines.joined(), to: "events.tsv")
    // The table's order is not that of the events, and one of its items has none.
    let described = (10..<20).map { "i\($0)\tTitle \($0)\tB\($0 % 2)\tc|B0\n" }
    let items = try folder.write("item\ttitle\tbrand\tcategories\nunsold\tU\t\t\n" + described.joined(), to: "items.tsv")
    let report = try train(BacktestData.read(interactions: [events], items: items))
    #expect(report.users == 60 && report.items == 21 && report.interactions == 360 && report.repeats == 0 && report.untypedAs == nil)
    #expect(report.passes > 0)
    #expect(try #require(report.validationNDCG) > 0.8)
    #expect(report.description.contains("60 users, 21 items, 360 interactions"))

    let store = try store()
    #expect(FileManager.default.fileExists(atPath: report.checkpoint))
    let (types, item, undescribed, sequence, mark, checkpoints, journal) = try store.read { (transaction) throws(StateStoreError) in
      (
        try transaction.interactionTypes(), try transaction.item(id: "i12"), try transaction.item(id: "i5"),
        try transaction.sequence(of: "u1"), try transaction.staleMark(of: "u1"), try transaction.checkpoints(),
        try transaction.journalBounds()
      )
    }
    #expect(item?.description?.title == "Title 12" && item?.description?.brand == "B0" && item?.description?.categories == ["c"])
    #expect(undescribed?.state == .undescribed)
    let names = try store.read { (transaction) throws(StateStoreError) in
      try sequence?.interactions.map { (interaction) throws(StateStoreError) in try transaction.itemID(interaction.item) }
    }
    // The last four of six.
    #expect(names == ["i9", "i10", "i11", "i12"])
    #expect(sequence?.interactions.map { types[Int($0.type.rawValue)] } == ["view", "purchase", "view", "purchase"])
    #expect(sequence?.interactions.last?.time == Int64(5 * 86_400 + 1) * 1000)
    #expect(mark != nil)
    #expect(checkpoints.map(\.cursor) == [361] && journal == 261...360)
  }

  @Test func aHistoryWithoutTimesOrTypesKeepsItsOrder() throws {
    let events = try folder.write("session\titem\n" + circle().map { "u\($0.user)\ti\($0.item)\n" }.joined(), to: "events.tsv")
    let report = try train(BacktestData.read(interactions: [events]))
    #expect(report.untypedAs == "view")
    #expect(try #require(report.validationNDCG) > 0.8)
    let own = try store().read { (transaction) throws(StateStoreError) in
      try transaction.sequence(of: "u1")?.interactions.map { (interaction) throws(StateStoreError) in
        (id: try transaction.itemID(interaction.item), time: interaction.knownTime)
      }
    }
    #expect(own?.map(\.id) == ["i9", "i10", "i11", "i12"])
    #expect(own?.allSatisfy { $0.time == nil } == true)
  }

  @Test func whatOverlappingFilesRepeatCountsOnce() throws {
    let data = try folder.data([circle(), Array(circle().prefix(90))])
    let report = try train(data, epochs: 1)
    #expect(report.interactions == 360 && report.repeats == 90)
    #expect(try store().info().users == 60)
  }

  @Test func typesThatAreNotConfiguredAreRefused() throws {
    let events = try folder.write("user,item,type\nu,a,view\nu,b,gift\nu,c,wish\n", to: "events.csv")
    let error = refusal(try BacktestData.read(interactions: [events]))
    #expect(error?.code == .configuration)
    #expect(error?.description.contains("\"gift\", \"wish\"") == true)
    let untyped = try folder.write("user,item\nu,a\nu,b\n", to: "untyped.csv")
    let named = #expect(throws: BacktestError.self) {
      try FirstModel(settings: settings, defaultType: "gift").train(BacktestData.read(interactions: [untyped]), now: now, logger: quiet)
    }
    #expect(named?.code == .configuration)
  }

  @Test func featuresThatTheConfigurationDoesNotNameAreRefusedWithWhatToConfigure() throws {
    let lines = circle().map { "u\($0.user)\ti\($0.item)\t\($0.time)\n" }
    let events = try folder.write("user\titem\ttime\n" + lines.joined(), to: "events.tsv")
    let items = try folder.write("item\n" + (0..<20).map { "i\($0)\n" }.joined(), to: "items.tsv")
    let matrix = try folder.write(npy((0..<20).map { [Float($0), 1] }), to: "text.npy")
    let data = try BacktestData.read(interactions: [events], items: items, features: [("text", matrix)])
    for configured in [[:], ["text": 3, "image": 5]] as [[String: Int]] {
      var other = self
      other.settings.model.modalities = configured
      let error = other.refusal(data)
      #expect(error?.code == .configuration)
      #expect(error?.description.contains(configured.isEmpty ? "{text: 2}" : "{image: 5, text: 2}") == true)
    }
    // The stream may bring what the history lacks.
    var fitting = self
    fitting.settings.model.modalities = ["text": 2, "image": 5]
    _ = try fitting.train(data, epochs: 1)
    let features = try store().read { (transaction) throws(StateStoreError) in try transaction.item(id: "i7")?.description?.features }
    #expect(features == ["text": [7, 1]])
  }

  @Test func aHistoryThatTeachesNothingIsRefused() throws {
    let error = refusal(try folder.data([(0..<9).map { (user: $0, item: $0 % 3, time: $0) }]))
    #expect(error?.code == .data)
    // The second one only repeats the first.
    #expect(refusal(try folder.data([[(user: 1, item: 1, time: 1), (user: 1, item: 1, time: 1)]]))?.code == .data)
  }

  @Test(arguments: [(-5, "before 1970"), (1_700_001_000, "in the future")])
  func timesThatNoEventCanHaveAreRefused(time: Int, reason: String) throws {
    let error = refusal(try folder.data([circle() + [(user: 7, item: 13, time: time)]]))
    #expect(error?.code == .data)
    #expect(error?.description.contains("\"u7\" with item \"i13\"") == true && error?.description.contains(reason) == true)
  }
}
