@testable import AdminAPI
import Dispatch
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import NIOEmbedded

/// What a client sends on one connection of the admin server; the first byte says whether the server has a token.
let httpTarget = FuzzTarget(seeds: httpSeeds, feed: feedHTTP)

private let token = "t0ken"

@Sendable private func httpSeeds() -> [[UInt8]] {
  let body = #"{"items":["i-1","i/2"],"limit":5,"categories":["a"],"exclude":["x"]}"#
  return [
    "GET /healthz HTTP/1.1\r\nHost: localhost:9464\r\n\r\n",
    "GET /v1/users/u%2F1/recommendations?limit=7&category=a&category=b&exclude=i&fresh=true&explain=true HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "GET /v1/items/caf%C3%A9/similar?limit=1 HTTP/1.1\r\nHost: [::1]:1\r\nConnection: close\r\n\r\n",
    "DELETE /v1/users/u HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \(token)\r\n\r\nHEAD /v1/model HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "POST /v1/recommendations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer \(token)\r\n"
      + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "POST /v1/recommendations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
      + "12\r\n{\"items\":[\"i\"],\"l\r\n8\r\nimit\":3}\r\n0\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\n", "GET /v1/users/u HTTP/1.1\r\nHost: localhost\r\n\r\nGET /v1/items/i HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /status.json HTTP/1.1\r\nHost: localhost\r\n\r\nGET /openapi.yaml HTTP/1.1\r\n\r\n",
  ].flatMap { request in [0, 1].map { [$0] + Array(request.utf8) } }
}

@Sendable private func feedHTTP(_ bytes: [UInt8]) {
  guard let first = bytes.first else { return }
  let done = DispatchSemaphore(value: 0)
  Task.detached {
    await connect(Array(bytes.dropFirst()), token: first & 1 == 0 ? nil : token)
    done.signal()
  }
  done.wait()
}

private let silent = Logger(label: "fuzz") { _ in SwiftLogNoOpLogHandler() }

/// A connection as the server makes it, on a channel without a socket: what the client sends, then the end of its side.
private func connect(_ bytes: [UInt8], token: String?) async {
  let configuration = AdminConfiguration(token: token)
  let responder = AdminResponder(configuration: configuration, status: Status(), lookups: Lookups(), history: StatusHistory())
  let http = HTTP1Channel(
    responder: { request, writer, channel in
      let response = try await responder.respond(to: request, context: BasicRequestContext(source: .init(channel: channel, logger: silent)))
      promise(response.status != .internalServerError, "the request is answered with 500")
      try await writer.write(response: response.head, body: response.body)
    }, configuration: .init(configuration.limits))
  let channel = NIOAsyncTestingChannel()
  do {
    let connection = try await channel.eventLoop.flatSubmit { http.setup(channel: channel, logger: silent) }.get()
    try await channel.connect(to: SocketAddress(unixDomainSocketPath: "fuzz"))
    async let served: Void = http.handle(value: connection, logger: silent)
    // A parser's error is the pipeline's to answer.
    _ = try? await channel.writeInbound(ByteBuffer(bytes: bytes))
    channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
    await served
    _ = try? await channel.finish(acceptAlreadyClosed: true)
  } catch {
    fatalError("no connection: \(error)")
  }
}

private struct Status: StatusSource {
  func unreadyReasons() async -> [String] { ["a reason"] }
  func metricsText() async -> String { "rodpod_x_total 1\n" }
  func report() async -> StatusReport { StatusReport(version: "1", loss: .nan) }
}

/// Promises what the daemon relies on: ids are never empty, limits are within their bounds.
private struct Lookups: LookupService {
  private func list(_ options: ListOptions, _ ids: [String]) -> [ScoredItem] {
    promise((1...ListOptions.maximumLimit).contains(options.limit), "the limit \(options.limit)")
    promise(ids.allSatisfy { !$0.isEmpty }, "an empty id")
    return [ScoredItem(item: "i", score: .infinity)]
  }

  func recommendations(user: String, fresh: Bool, _ options: ListOptions) async throws -> RecommendationList {
    RecommendationList(user: user, items: list(options, [user]), source: .published)
  }

  func recommendations(session items: [String], _ options: ListOptions) async throws -> RecommendationList {
    promise((1...1000).contains(items.count), "\(items.count) items of a session")
    return RecommendationList(user: nil, items: list(options, []), source: .fresh)
  }

  func user(_ id: String) async throws -> UserDetails {
    guard id.utf8.count.isMultiple(of: 2) else { throw LookupError(.notFound) }
    return UserDetails(user: id, sequence: [])
  }

  func item(_ id: String) async throws -> ItemDetails { ItemDetails(item: id) }
  func similarItems(to id: String, _ options: ListOptions) async throws -> [ScoredItem] { list(options, [id]) }
  func forgetUser(_ id: String) async throws { promise(!id.isEmpty, "an empty id") }
  func model() async throws -> ModelDetails { ModelDetails(version: 1, steps: 1, parameters: 1, items: 1) }
}
