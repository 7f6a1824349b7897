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
/// by turns. What one core can do: by the CPU time of all threads, librdkafka's among them.
func ingestBenchmark(_ report: Report) throws {
  let broker = try waitFor { try await Broker.start() }
  defer { try? broker.stop() }
  let count = 1_000_000
  let stream = try Stream(broker, "interactions")
  try stream.send(InteractionMessages(count: count, users: 100_000, items: 100_000, inOrder: true))
  var (bare, ingest): ([Double], [Double]) = ([], [])
  for _ in 0..<3 {
    bare.append(try stream.consume(count))
    ingest.append(try IngestRun(stream).ingest(count))
  }
  report.add("ingest.bare_consumer.events_per_second", bare.sorted()[1], unit: "events/s")
  report.add("ingest.events_per_second", ingest.sorted()[1], unit: "events/s")
  report.add("ingest.bare_consumer_fraction", ingest.sorted()[1] / bare.sorted()[1], unit: "of bare")
}

/// The daemon's consumer with a store of its own; the folder goes with it.
private final class IngestRun {
  private let folder: URL
  private let settings: Settings
  private let metrics = PipelineMetrics(k: 10)
  private var commits: [(events: UInt64, time: Double)] = []

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

  /// - Returns: events for each second of CPU time, from the first commit to the last.
  func ingest(_ count: Int) throws -> Double {
    let store = try StateStore.open(at: settings.store.path, options: StateStore.Options(settings))
    let learner = OnlineLearner(LearnerConfiguration())
    defer { learner.stop() }
    let service = try IngestService(
      settings: LiveSettings(settings), store: store, shared: SharedState(snapshot: learner.snapshot), metrics: metrics,
      logger: Logger(label: "bench") { _ in SwiftLogNoOpLogHandler() }, heartbeat: Watchdog().register("ingest", bound: .seconds(60)),
      isStopping: { [metrics] in metrics.current.events >= UInt64(count) },
      onCommit: { [unowned self] in commits.append((metrics.current.events, processTime())) }, onRanks: { _ in })
    try service.run()
    let totals = metrics.current
    try check(totals.interactions == UInt64(count), "of \(count) events \(totals.interactions) were taken in")
    guard let first = commits.first, let last = commits.last, last.time > first.time else { throw BenchmarkError("there was one commit") }
    return Double(last.events - first.events) / (last.time - first.time)
  }
}
