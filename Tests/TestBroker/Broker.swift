import Foundation
import Kafka
import TestSupport

/// A broker for tests: the one that `RODPOD_TEST_BOOTSTRAP` names, or a noida-db process of this test run's own.
///
/// Its binary is looked for in `RODPOD_TEST_BROKER_BINARY`, then in `.kafka` at the package's root, where `make test` installs it.
public final class Broker: Sendable {
  public struct Unavailable: Error, CustomStringConvertible {
    public let description: String
  }

  public let bootstrapServers: String
  /// Nil for a broker that these tests did not start.
  private let server: BrokerServer?

  private init(bootstrapServers: String, server: BrokerServer?) {
    self.bootstrapServers = bootstrapServers
    self.server = server
  }

  /// The broker that all tests of this process use, each with topics and groups of its own (`uniqueName`). It ends with the process.
  /// - Throws: when there is none; a test without a broker has failed.
  public static func shared() async throws -> Broker { try await sharedBroker.value }

  private static let sharedBroker = Task {
    guard let bootstrap = ProcessInfo.processInfo.environment["RODPOD_TEST_BOOTSTRAP"], !bootstrap.isEmpty else {
      return try await start()
    }
    let broker = Broker(bootstrapServers: bootstrap, server: nil)
    try await broker.waitUntilReachable()
    return broker
  }

  /// Starts a broker for one test alone, which may stop, kill and restart it. It ends with this object, or with the process. It is
  /// always noida-db: what a test does to it could not be done to a broker that somebody else runs.
  public static func start() async throws -> Broker {
    let server = try BrokerServer(binary: locateBinary())
    let broker = Broker(bootstrapServers: "127.0.0.1:\(server.port)", server: server)
    try await broker.waitUntilReachable()
    return broker
  }

  /// Stops the broker in order: it keeps all it has acknowledged.
  public func stop() throws { try owned().end(with: SIGTERM) }

  /// Kills the broker: it may lose what it acknowledged in the last second.
  public func kill() throws { try owned().end(with: SIGKILL) }

  /// Starts a stopped broker again, with the same address and data.
  public func restart() async throws {
    try owned().launch()
    try await waitUntilReachable()
  }

  private func owned() throws -> BrokerServer {
    guard let server else { throw Unavailable(description: "\(bootstrapServers) is not this test's to stop") }
    return server
  }

  private func waitUntilReachable() async throws {
    let admin = try AdminClient(properties: ["bootstrap.servers": bootstrapServers])
    try await waitUntil("the broker at \(bootstrapServers) answers", within: .seconds(30)) {
      (try? admin.metadata(within: .seconds(1))) != nil
    }
  }

  private static func locateBinary() throws -> URL {
    if let path = ProcessInfo.processInfo.environment["RODPOD_TEST_BROKER_BINARY"], !path.isEmpty {
      guard FileManager.default.isExecutableFile(atPath: path) else {
        throw Unavailable(description: "RODPOD_TEST_BROKER_BINARY=\(path) cannot be run; `make test` installs a broker by itself")
      }
      return URL(filePath: path)
    }
    let packageRoot = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    for root in [URL(filePath: FileManager.default.currentDirectoryPath), packageRoot] {
      let library = root.appending(path: ".kafka/lib")
      let pythons = (try? FileManager.default.contentsOfDirectory(at: library, includingPropertiesForKeys: nil)) ?? []
      for python in pythons {
        let binary = python.appending(path: "site-packages/noida_db/noida-db")
        if FileManager.default.isExecutableFile(atPath: binary.path) { return binary }
      }
    }
    throw Unavailable(
      description: "no Kafka broker for the tests: run `make test`, which installs one, or set RODPOD_TEST_BOOTSTRAP to an address")
  }
}
