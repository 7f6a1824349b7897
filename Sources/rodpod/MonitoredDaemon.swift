import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import Settings

/// A running daemon, asked by HTTP at its admin address.
struct MonitoredDaemon: Sendable {
  /// Why there are no figures.
  struct NoAnswer: Error, CustomStringConvertible {
    var description: String
  }

  private let host: String
  private let port: Int
  private let token: String?
  private static let patience = Duration.seconds(5)

  /// - Throws: `NoAnswer` if the token's file can't be read.
  init(_ admin: Settings.Admin) throws(NoAnswer) {
    (host, port) = admin.address
    guard !admin.tokenFile.isEmpty else {
      token = nil
      return
    }
    do {
      token = try String(contentsOfFile: admin.tokenFile, encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
    } catch {
      throw NoAnswer(description: "the token's file \(admin.tokenFile) can't be read: \(error.localizedDescription)")
    }
  }

  var name: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

  /// The daemon's figures of this moment.
  func look() async throws(NoAnswer) -> DaemonFigures {
    let instant = ContinuousClock.now
    let metrics = try await get("/metrics")
    let readiness = try await get("/readyz")
    guard metrics.status == .ok else {
      let hint = metrics.status == .unauthorized ? "; it wants its token: --token-file" : ""
      throw NoAnswer(description: "the daemon at \(name) answers with \(metrics.status)\(hint)")
    }
    let reasons = try? JSONDecoder().decode(Readiness.self, from: Data(readiness.body.utf8)).reasons
    return DaemonFigures(metrics.body, reasons: reasons ?? [], instant: instant)
  }

  private struct Readiness: Decodable { var reasons: [String] }

  private func get(_ path: String) async throws(NoAnswer) -> (status: HTTPResponseStatus, body: String) {
    do {
      return try await withThrowingTaskGroup(of: (HTTPResponseStatus, String).self) { group in
        group.addTask { try await request(path) }
        group.addTask {
          try await Task.sleep(for: Self.patience)
          throw NoAnswer(description: "nothing within \(Self.patience)")
        }
        defer { group.cancelAll() }
        return try await group.next() ?? (.noContent, "")
      }
    } catch {
      throw NoAnswer(description: "no daemon answers at \(name): \(error)")
    }
  }

  private func request(_ path: String) async throws -> (HTTPResponseStatus, String) {
    let channel = try await ClientBootstrap(group: NIOSingletons.posixEventLoopGroup)
      .connect(host: host, port: port) { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHTTPClientHandlers()
          return try NIOAsyncChannel<HTTPClientResponsePart, HTTPClientRequestPart>(wrappingChannelSynchronously: channel)
        }
      }
    var headers = HTTPHeaders([("host", name), ("connection", "close")])
    if let token { headers.add(name: "authorization", value: "Bearer \(token)") }
    let head = HTTPRequestHead(version: .http1_1, method: .GET, uri: path, headers: headers)
    return try await channel.executeThenClose { inbound, outbound in
      // Together: a request without a body is whole with its head, and the daemon may answer it and close before an end that comes later.
      try await outbound.write(contentsOf: [.head(head), .end(nil)])
      var status = HTTPResponseStatus.noContent
      var body = ""
      for try await part in inbound {
        switch part {
        case .head(let head): status = head.status
        case .body(let buffer): body += String(buffer: buffer)
        case .end: return (status, body)
        }
      }
      throw NoAnswer(description: "it closed the connection in the middle of its answer")
    }
  }
}

/// Samples of a daemon's metrics, in Prometheus text format.
struct DaemonFigures: Sendable {
  struct Series: Sendable {
    var labels: [String: String]
    var value: Double
  }

  /// Why the daemon is not ready; empty when it is.
  let reasons: [String]
  let instant: ContinuousClock.Instant
  private let families: [String: [Series]]

  init(_ text: String, reasons: [String], instant: ContinuousClock.Instant) {
    self.reasons = reasons
    self.instant = instant
    var families: [String: [Series]] = [:]
    for line in text.split(separator: "\n") where !line.hasPrefix("#") {
      guard let space = line.lastIndex(of: " "), let value = Double(line[line.index(after: space)...]) else { continue }
      let sample = line[..<space]
      let name = sample.prefix { $0 != "{" }
      families[String(name), default: []].append(Series(labels: Self.labels(sample.dropFirst(name.count)), value: value))
    }
    self.families = families
  }

  var version: String { series("rodpod_build_info").first?.labels["version"] ?? "" }

  func series(_ name: String) -> [Series] { families[name] ?? [] }

  func value(_ name: String, _ labels: [String: String]) -> Double? { series(name).first { $0.labels == labels }?.value }

  subscript(_ name: String) -> Double? { value(name, [:]) }

  /// `{a="1",b="2"}`. The daemon's label values have neither quotes nor backslashes.
  private static func labels(_ text: Substring) -> [String: String] {
    var labels: [String: String] = [:]
    for pair in text.matches(of: #/([A-Za-z_]\w*)="([^"]*)"/#) { labels[String(pair.output.1)] = String(pair.output.2) }
    return labels
  }
}
