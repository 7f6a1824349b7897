import Foundation
import Kafka
import Settings
import StateStore
import TestBroker
import TestSupport

/// The built daemon beside this program, with a store and topics of its own; its folder goes with it.
final class DaemonRun {
  let name = uniqueName("bench")
  private let folder: URL
  private let bootstrapServers: String
  private let process = Process()
  private let adminPort: Int
  /// The daemon does not outlive this program.
  private var watchdog: Watchdog?

  init(_ broker: Broker) throws {
    bootstrapServers = broker.bootstrapServers
    adminPort = try freePort()
    folder = FileManager.default.temporaryDirectory.appending(path: "rodpod-\(name)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  }

  deinit {
    stop()
    try? FileManager.default.removeItem(at: folder)
  }

  /// Creates the topics that are written to. This broker writes all that it holds to its file about once a second, so they hold little.
  func createTopics() throws {
    let specifications = [("interactions", 60_000), ("recommendations", 1_000)].map { topic, milliseconds in
      TopicSpecification(
        "\(name)-\(topic)", partitionCount: Settings().topics.partitions, replicationFactor: 1,
        configuration: ["retention.ms": "\(milliseconds)", "segment.ms": "\(milliseconds / 3)", "segment.bytes": "200000"])
    }
    let admin = try AdminClient(properties: ["bootstrap.servers": bootstrapServers])
    for (topic, outcome) in try admin.ensureTopics(specifications, within: .seconds(30)) {
      if case .refused(let error) = outcome { throw BenchmarkError("the topic \(topic) can't be created: \(error)") }
    }
  }

  /// Starts the daemon and waits until it is ready; its defaults, but for where its things are.
  ///
  /// - Returns: how long that took.
  func start() throws -> Duration {
    let configuration = """
      kafka:
        bootstrap_servers: \(bootstrapServers)
        group_id: \(name)
        properties:
          receive.message.max.bytes: "1000000000"
      topics:
        interactions: \(name)-interactions
        items: \(name)-items
        recommendations: \(name)-recommendations
        dead_letters: \(name)-dead-letters
      store:
        path: \(storePath)
      admin:
        listen: 127.0.0.1:\(adminPort)
      log:
        format: text
      """
    let file = folder.appending(path: "rodpod.yaml")
    try configuration.write(to: file, atomically: true, encoding: .utf8)
    guard FileManager.default.createFile(atPath: log.path, contents: nil) else { throw BenchmarkError("\(log.path) can't be written") }
    process.executableURL = URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent().appending(path: "rodpod")
    process.arguments = ["run", "--config", file.path]
    process.standardError = try FileHandle(forWritingTo: log)
    let start = ContinuousClock.now
    try process.runUnmasked()
    watchdog = try Watchdog(of: process.processIdentifier, removing: folder)
    let (process, log) = (process, log)
    try waitFor {
      try await waitUntil("the daemon is ready", within: .seconds(60)) {
        try check(process.isRunning, "the daemon has ended: \(Self.text(log).suffix(3000))")
        return Self.text(log).contains("rodpod is ready")
      }
    }
    return .now - start
  }

  func stop() {
    guard process.isRunning else { return }
    process.terminate()
    process.waitUntilExit()
    watchdog?.dismiss()
  }

  /// What is in memory beside files: neither LMDB's pages nor the program, in bytes.
  func anonymousBytes() throws -> Double {
    let status = try String(contentsOfFile: "/proc/\(process.processIdentifier)/status", encoding: .utf8)
    for line in status.split(separator: "\n") where line.hasPrefix("RssAnon:") {
      if let kilobytes = line.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap({ Double($0) }) { return kilobytes * 1024 }
    }
    throw BenchmarkError("the daemon's memory can't be read")
  }

  /// Events taken in and interactions learned from since the start.
  func figures() throws -> (events: Double, learned: Double) {
    func value(_ name: String) throws -> Double {
      guard let value = askAdmin("/metrics", port: adminPort)?.metric(name) else { throw BenchmarkError("the daemon does not tell \(name)") }
      return value
    }
    return (try value("rodpod_ingest_events_total"), try value("rodpod_learner_interactions_total"))
  }

  /// Items and users with a past, before the start.
  func fill(users: Int, events: Int, items: Int) throws {
    let store = try StateStore.open(at: storePath, options: StateStore.Options(initialBytes: 4 << 30))
    try store.write { (transaction) throws(StateStoreError) in
      for item in 0..<items { _ = try transaction.registerItem("sku-\(item)") }
      for name in InteractionMessages.types { _ = try transaction.interactionTypeCode(name) }
    }
    var random = SystemRandomNumberGenerator()
    let now = Int64(Date().timeIntervalSince1970 * 1000)
    for event in 0..<events {
      try store.write { (transaction) throws(StateStoreError) in
        for user in 0..<users {
          let interaction = Interaction(
            item: ItemNumber(rawValue: UInt32.random(in: 0..<UInt32(items), using: &random)), type: InteractionTypeCode(rawValue: 0),
            time: now - Int64(events - event) * 60_000)
          try transaction.append(UserInteraction(user: "u-\(user)", partition: 0, interaction: interaction))
        }
      }
    }
  }

  /// The end of its log.
  var said: String { String(Self.text(log).suffix(3000)) }

  private var storePath: String { folder.appending(path: "store").path }
  private var log: URL { folder.appending(path: "log") }
  private static func text(_ file: URL) -> String { (try? Data(contentsOf: file)).map { String(decoding: $0, as: UTF8.self) } ?? "" }
}
