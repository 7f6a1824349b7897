import Events
import Foundation
import Kafka
import StateStore
import TestBroker
import TestSupport

/// All that one daemon needs: a folder with configuration and store, topics and a group of its own.
///
/// It belongs to one test (hence not `Sendable`). Its folder goes with it.
final class Installation {
  let bootstrapServers: String
  let folder: URL
  let adminPort: Int
  /// The configuration by its keys, as YAML writes the values. Written to the file at each start.
  var configuration: [String: String]
  private var runs = 0
  private var openStore: StateStore?

  /// A small model, one partition where order matters to a test, and little patience where waiting would only cost time.
  init(bootstrapServers: String, configuration changes: [String: String] = [:]) throws {
    self.bootstrapServers = bootstrapServers
    folder = FileManager.default.temporaryDirectory.appending(path: uniqueName("rodpod-process"))
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    adminPort = try freePort()
    let name = uniqueName("process")
    configuration = [
      "kafka.bootstrap_servers": bootstrapServers, "kafka.group_id": name,
      "topics.interactions": "\(name)-interactions", "topics.items": "\(name)-items", "topics.recommendations": "\(name)-recommendations",
      "topics.dead_letters": "\(name)-dead-letters", "topics.partitions": "1",
      "store.path": folder.appending(path: "store").path, "store.map_size_bytes": "\(256 << 20)",
      "model.hidden_size": "16", "model.layer_count": "1", "model.inner_size": "32", "model.maximum_sequence_length": "20",
      "learner.snapshot_interval_ms": "100", "learner.checkpoint_interval_ms": "200", "admin.listen": "127.0.0.1:\(adminPort)", "log.level": "debug", "log.format": "text",
    ].merging(changes) { $1 }
  }

  deinit { try? FileManager.default.removeItem(at: folder) }

  func topic(_ name: String) -> String { configuration["topics.\(name)"] ?? name }

  var configurationFile: String { folder.appending(path: "rodpod.yaml").path }
  var storePath: String { configuration["store.path"] ?? "" }

  func writeConfiguration() throws {
    let sections = Dictionary(grouping: configuration.sorted { $0.key < $1.key }) { $0.key.prefix { $0 != "." } }
    let lines = sections.sorted { $0.key < $1.key }.flatMap { section, entries in
      ["\(section):"] + entries.map { "  \($0.key.dropFirst(section.count + 1)): \($0.value)" }
    }
    try lines.joined(separator: "\n").appending("\n").write(toFile: configurationFile, atomically: true, encoding: .utf8)
  }

  /// Starts the daemon.
  func start(_ arguments: [String] = [], environment: [String: String] = [:], log: String? = nil) throws -> ChildProcess {
    try writeConfiguration()
    runs += 1
    return try ChildProcess(
      ["run", "--config", configurationFile] + arguments, output: folder.appending(path: "run-\(runs)"), environment: environment, log: log)
  }

  /// Starts the daemon and returns when it is ready.
  func startAndWait(_ arguments: [String] = [], environment: [String: String] = [:]) async throws -> ChildProcess {
    let daemon = try start(arguments, environment: environment)
    do {
      try await waitUntil("the daemon is ready", within: .seconds(60)) {
        daemon.standardError.contains("rodpod is ready") && self.ask("/readyz")?.status == 200 || !daemon.isRunning
      }
      guard daemon.isRunning else { throw ConditionNotMet(description: "the daemon has ended") }
    } catch {
      throw ConditionNotMet(description: "\(error); it says: \(daemon.standardError.suffix(4000))")
    }
    return daemon
  }

  /// Runs a verb to its end.
  func rodpod(_ arguments: String..., environment: [String: String] = [:], within bound: Duration = .seconds(60)) async throws -> Outcome {
    try await run(arguments, environment: environment, within: bound)
  }

  /// Runs a verb to its end.
  func run(_ arguments: [String], environment: [String: String] = [:], within bound: Duration = .seconds(60)) async throws -> Outcome {
    runs += 1
    let process = try ChildProcess(arguments, output: folder.appending(path: "run-\(runs)"), environment: environment)
    let code = try await process.exitCode(within: bound)
    return Outcome(code: code, output: process.standardOutput, errors: process.standardError)
  }

  func inspect(_ what: String...) async throws -> [String: Any] {
    runs += 1
    let process = try ChildProcess(
      ["inspect"] + what + ["--store", storePath, "--json"], output: folder.appending(path: "run-\(runs)"))
    let outcome = Outcome(code: try await process.exitCode(), output: process.standardOutput, errors: process.standardError)
    guard outcome.code == 0 else { throw ConditionNotMet(description: "inspect \(what) ends with \(outcome.code): \(outcome.errors)") }
    return try outcome.json()
  }

  func digest() async throws -> String {
    let outcome = try await rodpod("state", "digest", "--store", storePath)
    guard outcome.code == 0 else { throw ConditionNotMet(description: "no digest: \(outcome.errors)") }
    return outcome.output
  }

  func ask(_ path: String) -> AdminAnswer? { askAdmin(path, port: adminPort) }

  func metric(_ sample: String) -> Double? { ask("/metrics")?.metric(sample) }

  /// The daemon's store, opened beside it to look at it; nil while there is none. A process opens a store once.
  var store: StateStore? {
    if openStore == nil { openStore = try? StateStore.open(at: storePath, options: StateStore.Options(isReadOnly: true)) }
    return openStore
  }

  /// Lets go of the daemon's store, which the next look opens again.
  func closeStore() { openStore = nil }

  /// Records of both input topics that are in the state, as the stored offsets tell.
  func committedRecords() throws -> Int {
    let offsets = try store?.read { (transaction) throws(StateStoreError) in try transaction.offsets() } ?? []
    return offsets.reduce(0) { $0 + Int($1.next) }
  }

  /// Writes to one of the daemon's topics (by its key in the configuration) and returns when the broker has all.
  @discardableResult
  func produce(_ records: [Record], to name: String) throws -> [Delivery] {
    try produceAll(records, to: topic(name), bootstrapServers: bootstrapServers)
  }

  /// Where both input topics end.
  private func endOffsets() throws -> [TopicPartition: Int64] {
    let properties = ["bootstrap.servers": bootstrapServers, "group.id": uniqueName("watermarks")]
    let partitionCounts = try AdminClient(properties: properties).metadata(within: .seconds(30)).partitionCounts
    let consumer = try Consumer(properties: properties)
    defer { consumer.close(within: .seconds(5)) }
    var ends: [TopicPartition: Int64] = [:]
    for name in [topic("interactions"), topic("items")] {
      for number in 0..<Int32(partitionCounts[name] ?? 0) {
        let partition = TopicPartition(name, number)
        ends[partition] = try consumer.watermarks(of: partition, within: .seconds(30)).high
      }
    }
    return ends
  }

  /// Returns once every record of both input topics is in the state.
  func waitUntilConsumed(within bound: Duration = .seconds(120)) async throws {
    let ends = try endOffsets()
    try await waitUntil("every record is in the state, up to \(ends.sorted { $0.key < $1.key })", within: bound) {
      let offsets = try self.store?.read { (transaction) throws(StateStoreError) in try transaction.offsets() } ?? []
      let known = Dictionary(uniqueKeysWithValues: offsets.map { (TopicPartition($0.topic, $0.partition), $0.next) })
      return ends.allSatisfy { known[$0.key, default: 0] >= $0.value }
    }
  }

  /// Returns once the items are in the state and the newest snapshot knows as many.
  func waitUntilRankable(_ count: Int) async throws {
    try await waitUntilConsumed()
    try await waitUntil("\(count) items can be recommended") { self.ask("/v1/model")?.body.contains("\"items\":\(count),") == true }
  }

  /// Returns once every record of both input topics is in the state, is learned from and in a checkpoint, and no list is owed.
  func waitUntilSettled(within bound: Duration = .seconds(120)) async throws {
    try await waitUntilConsumed(within: bound)
    try await waitUntil("all is learned from, no user waits to be ranked, and the lag is 0", within: bound) {
      guard let store = self.store else { return false }
      let (cursor, next) = try store.learnerPosition()
      return try cursor >= next && store.info().staleUsers == 0 && self.metric("rodpod_ingest_lag_events") == 0
    }
  }

  /// The published lists in the order of the log, tombstones as nil.
  func published() throws -> [(user: String, list: Recommendation?)] {
    try readAll(topic("recommendations"), bootstrapServers: bootstrapServers).map { message in
      (String(decoding: message.key ?? [], as: UTF8.self), try message.value.map { try Recommendation(json: $0) })
    }
  }

  func deadLetters() throws -> [OwnedMessage] { try readAll(topic("dead_letters"), bootstrapServers: bootstrapServers) }
}

extension StateStore {
  /// Where learning would go on from the newest checkpoint, and the journal's end.
  func learnerPosition() throws(StateStoreError) -> (cursor: UInt64, next: UInt64) {
    try read { (transaction) throws(StateStoreError) in
      let newest = try transaction.checkpoints().max { $0.modelVersion < $1.modelVersion }
      return (max(newest?.cursor ?? 0, 1), try transaction.nextJournalSequence())
    }
  }
}

extension Record {
  init(_ interaction: Events.Interaction, type: String) {
    self.init(key: Array(interaction.user.utf8), value: interaction.json(typeName: type))
  }

  init(_ item: Events.ItemDescription) { self.init(key: Array(item.item.utf8), value: item.json()) }
}

/// Views of so many items by so many users, who take turns; numbers are times, too.
func viewRecords(_ range: Range<Int>, users: Int, items: Int, partition: ((Int) -> Int32)? = nil) -> [Record] {
  range.map { number in
    var record = Record(
      Events.Interaction(user: "u-\(number % users)", item: "i-\(number % items)", type: 0, time: 1_700_000_000_000 + Int64(number)),
      type: "view")
    record.partition = partition?(number)
    return record
  }
}
