import AdminAPI
import Foundation
import Logging
import ServiceLifecycle
import Synchronization

/// A daemon that answers from values, and remembers what it was asked.
final class PlayedDaemon: StatusSource, LookupService {
  private struct State {
    var reasons: [String] = []
    var report = StatusReport(version: "1.2.3", events: 10, deadLetters: ["not_json": 2], loss: 0.5)
    var asked: [String] = []
  }

  private let state = Mutex(State())

  var reasons: [String] {
    get { state.withLock { $0.reasons } }
    set { state.withLock { $0.reasons = newValue } }
  }

  var report: StatusReport {
    get { state.withLock { $0.report } }
    set { state.withLock { $0.report = newValue } }
  }

  /// What was asked of the look-ups, with the ids as they arrived.
  var asked: [String] { state.withLock { $0.asked } }

  private func note(_ question: String) { state.withLock { $0.asked.append(question) } }

  func unreadyReasons() async -> [String] { reasons }
  func metricsText() async -> String { "# TYPE rodpod_x_total counter\nrodpod_x_total 1\n" }
  func report() async -> StatusReport { report }

  func recommendations(user: String, fresh: Bool, _ options: ListOptions) async throws -> RecommendationList {
    note("recommendations \(user) \(options.text)" + (fresh ? " fresh" : ""))
    let why = ScoredItem(
      item: "a/b", title: "A & B", score: 1.5, nearest: [ScoredItem(item: "of the sequence", score: 0.5)],
      parts: .init(encoder: 1, bias: 0.25, neighborhood: 0.25), idShare: 0.75)
    return RecommendationList(
      user: user, items: [options.explains ? why : ScoredItem(item: "a/b", title: "A & B", score: 1.5)], source: .published, revision: 7, model: 3,
      generatedAt: Date(timeIntervalSince1970: 1_700_000_000.5))
  }

  func recommendations(session items: [String], _ options: ListOptions) async throws -> RecommendationList {
    note("session \(items) \(options.text)")
    let nearest = [ScoredItem(item: "of the session", score: 0.5)]
    return RecommendationList(user: nil, items: [ScoredItem(item: "next", score: 2, nearest: nearest)], source: .fresh, model: 3)
  }

  func user(_ id: String) async throws -> UserDetails {
    note("user \(id)")
    switch id {
    case "missing": throw LookupError(.notFound, "no user \(id)")
    case "restoring": throw LookupError(.unavailable)
    case "broken": throw LookupError(.failed, "secret detail")
    case "odd": throw CancellationError()
    case "slow": try await Task.sleep(for: .seconds(3600))
    default: break
    }
    return UserDetails(
      user: id, sequence: [.init(item: "i", type: "view", time: Date(timeIntervalSince1970: 0))],
      changes: [
        .init(
          revision: 8, model: 4, generatedAt: Date(timeIntervalSince1970: 0),
          moves: [.init(item: "came", title: "T", from: nil, to: 1), .init(item: "fell", from: 1, to: 2), .init(item: "left", from: 2, to: nil)])
      ])
  }

  func item(_ id: String) async throws -> ItemDetails {
    note("item \(id)")
    return ItemDetails(item: id, title: "T", categories: ["c"], price: 39.9, features: ["text": 384])
  }

  func similarItems(to id: String, _ options: ListOptions) async throws -> [ScoredItem] {
    note("similar \(id) \(options.text)")
    return [ScoredItem(item: "near", score: 0.9)]
  }

  func forgetUser(_ id: String) async throws { note("forget \(id)") }

  func model() async throws -> ModelDetails {
    note("model")
    return ModelDetails(version: 3, steps: 100, parameters: 12, items: 2, hyperparameters: ["hidden_size": "64"])
  }
}

extension ListOptions {
  /// As it is noted: the limit, and what is not as usual.
  fileprivate var text: String {
    "\(limit)" + (categories.isEmpty ? "" : " of \(categories)") + (excluded.isEmpty ? "" : " without \(excluded)")
      + (explains ? " explained" : "")
  }
}

/// Runs a server on a free port while `body` talks to it, then stops it gracefully.
func withServer(
  _ daemon: PlayedDaemon = PlayedDaemon(), token: String? = nil, limits: AdminConfiguration.Limits = .init(),
  _ body: @Sendable (HTTPClient) async throws -> Void
) async throws {
  let (ports, continuation) = AsyncStream<Int>.makeStream()
  let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
  let server = try AdminServer(
    configuration: AdminConfiguration(port: 0, token: token, limits: limits), status: daemon, lookups: daemon, logger: logger,
    onListening: { continuation.yield($0) })
  let services = ServiceGroup(configuration: .init(services: [server], logger: logger))
  try await withThrowingTaskGroup(of: Void.self) { group in
    group.addTask {
      defer { continuation.finish() }
      try await services.run()
    }
    if let port = await ports.first(where: { _ in true }) {
      try await body(HTTPClient(port: port))
    }
    await services.triggerGracefulShutdown()
    try await group.waitForAll()
  }
}
