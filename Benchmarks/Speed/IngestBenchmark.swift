import DaemonSupport
import Kafka
import Logging
@testable import Pipeline
import Recommender
import Settings
import StateStore
import TestBroker
import TestSupport

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

/// `ingest`: JSON on a broker to interactions on disk, by the daemon's own service, beside a consumer that does nothing with what it reads,
/// by turns, from the start of either to its last event. What one core can do is told by the CPU time of all threads, librdkafka's among them.
func ingestBenchmark(_ report: Report) throws {
  let broker = try waitFor { try await Broker.start() }
  defer { try? broker.stop() }
  let count = 1_000_000
  let stream = try Stream(broker, "interactions")
  try stream.send(InteractionMessages(count: count, users: 100_000, items: 100_000, inOrder: true))
  var (bare, ingest): ([EventRate], [EventRate]) = ([], [])
  for _ in 0..<3 {
    bare.append(try stream.consume(count))
    ingest.append(try IngestRun(stream).ingest(count))
  }
  for (name, rate) in [("ingest", \EventRate.cpu), ("ingest.clock", \EventRate.clock)] {
    let (mine, others) = (ingest.map { $0[keyPath: rate] }.sorted()[1], bare.map { $0[keyPath: rate] }.sorted()[1])
    report.add("\(name).bare_consumer.events_per_second", others, unit: "events/s")
    report.add("\(name).events_per_second", mine, unit: "events/s")
    report.add("\(name).bare_consumer_fraction", mine / others, unit: "of bare")
  }
}

/// The daemon's consumer with a store of its own; the folder goes with it.
private final class IngestRun {
  private let folder: URL
  private let settings: Settings
  private let metrics = PipelineMetrics(k: 10)

  init(_ stream: Stream) throws {
    folder = FileManager.default.temporaryDirectory.appending(path: uniqueName("rodpod-bench"))
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    var settings = Settings()
    settings.kafka.bootstrapServers = stream.bootstrapServers
    settings.kafka.groupID = uniqueName("bench")
    settings.kafka.properties = Stream.fetching
    settings.topics.interactions = stream.topic
    settings.topics.items = stream.topic + "-items"
    settings.store.path = folder.path
    settings.events.types = InteractionMessages.types.map { Settings.InteractionType($0, weight: 1) }
    self.settings = settings
    let admin = try AdminClient(properties: ["bootstrap.servers": stream.bootstrapServers])
    _ = try admin.ensureTopics([TopicSpecification(settings.topics.items, partitionCount: 1)], within: .seconds(30))
  }

  deinit { try? FileManager.default.removeItem(at: folder) }

  /// From the start of the service to the last commit.
  func ingest(_ count: Int) throws -> EventRate {
    let store = try StateStore.open(at: settings.store.path, options: StateStore.Options(settings))
    let learner = OnlineLearner(LearnerConfiguration())
    defer { learner.stop() }
    let stopwatch = Stopwatch()
    var rate: EventRate?
    let service = try IngestService(
      settings: LiveSettings(settings), store: store, shared: SharedState(snapshot: learner.snapshot), metrics: metrics,
      logger: Logger(label: "bench") { _ in SwiftLogNoOpLogHandler() }, heartbeat: Watchdog().register("ingest", bound: .seconds(60)),
      isStopping: { [metrics] in metrics.current.events >= UInt64(count) }, onCommit: { rate = stopwatch.rate(of: count) }, onRanks: { _ in })
    try service.run()
    let totals = metrics.current
    try check(totals.interactions == UInt64(count), "of \(count) events \(totals.interactions) were taken in")
    guard let rate else { throw BenchmarkError("nothing was committed") }
    return rate
  }
}
