import Foundation
import HTTPTypes
import Hummingbird
import Logging
import NIOHTTP1

/// Answers a request: checks who asks, finds the route, and turns values and errors into responses.
struct AdminResponder: HTTPResponder {
  typealias Context = BasicRequestContext

  private let limits: AdminConfiguration.Limits
  private let token: String?
  private let status: any StatusSource
  private let lookups: any LookupService
  private let history: StatusHistory

  init(configuration: AdminConfiguration, status: any StatusSource, lookups: any LookupService, history: StatusHistory) {
    limits = configuration.limits
    token = configuration.token
    self.status = status
    self.lookups = lookups
    self.history = history
  }

  /// - Throws: `HTTPParserError` for a body that is not HTTP, which the server answers with 400 before it closes the connection.
  func respond(to request: Request, context: BasicRequestContext) async throws -> Response {
    var response: Response
    do {
      response = try await answer(request)
    } catch let error as HTTPParserError {
      throw error
    } catch let problem as Problem {
      response = problem.response
    } catch {
      if (error as? LookupError)?.code != .notFound {
        context.logger.warning("a look-up failed", metadata: ["error": "\(error)"])
      }
      response = Problem(error).response
    }
    for (name, value) in Self.securityHeaders where response.headers[name] == nil { response.headers[name] = value }
    return request.method == .head ? response.createHeadResponse() : response
  }

  private func answer(_ request: Request) async throws -> Response {
    guard request.head.path?.utf8.count ?? 0 <= limits.uriBytes else { throw Problem(.uriTooLong, "The path is too long.") }
    if let length = request.headers[.contentLength], Int(length) ?? .max > limits.bodyBytes {
      throw Problem(.contentTooLarge, "The body is too long.")
    }
    let route: Route
    do throws(Route.Failure) {
      route = try Route(method: request.method, path: request.uri.path)
    } catch {
      // Nobody learns from an error what exists before they have shown the token.
      try authorise(request)
      throw Problem(error)
    }
    if !route.isOpen { try authorise(request) }
    return try await withTimeout { try await self.answer(route, request) }
  }

  private func answer(_ route: Route, _ request: Request) async throws -> Response {
    switch route {
    case .health:
      return Self.text("ok\n")
    case .readiness:
      let reasons = await status.unreadyReasons()
      return try Self.json(Readiness(ready: reasons.isEmpty, reasons: reasons), status: reasons.isEmpty ? .ok : .serviceUnavailable)
    case .metrics:
      return Self.text(await status.metricsText(), type: "text/plain; version=0.0.4; charset=utf-8")
    case .statusPage:
      // Only the style and the script that carry it are obeyed.
      let nonce = String(UInt64.random(in: .min ... .max), radix: 16) + String(UInt64.random(in: .min ... .max), radix: 16)
      let page = String(decoding: PackageResources.status_html, as: UTF8.self).replacing("{nonce}", with: nonce)
      var response = Self.text(page, type: "text/html; charset=utf-8")
      response.headers[.contentSecurityPolicy] = """
        default-src 'none'; style-src 'nonce-\(nonce)'; script-src 'nonce-\(nonce)'; connect-src 'self'; img-src data:; \
        base-uri 'none'; form-action 'none'; frame-ancestors 'none'
        """
      return response
    case .statusReport:
      let reasons = await status.unreadyReasons()
      return try Self.json(history.status(now: await status.report(), unreadyReasons: reasons))
    case .openAPI:
      return Response(
        status: .ok, headers: [.contentType: "application/yaml"],
        body: .init(byteBuffer: ByteBuffer(bytes: PackageResources.openapi_yaml)))
    case .recommendations(let user):
      let query = try Query(request.uri.query, names: ["limit", "category", "exclude", "fresh", "explain"])
      let options = ListOptions(
        limit: try query.limit(), categories: query.all("category"), excluded: query.all("exclude"), explains: try query.flag("explain"))
      return try Self.json(await lookups.recommendations(user: user, fresh: query.flag("fresh"), options))
    case .sessionRecommendations:
      let session = try await SessionRequest(body(of: request))
      return try Self.json(await lookups.recommendations(session: session.items, session.options))
    case .user(let id):
      return try Self.json(await lookups.user(id))
    case .forgetUser(let id):
      try await lookups.forgetUser(id)
      return Response(status: .noContent)
    case .item(let id):
      return try Self.json(await lookups.item(id))
    case .similarItems(let id):
      let query = try Query(request.uri.query, names: ["limit", "category", "exclude"])
      let options = ListOptions(limit: try query.limit(), categories: query.all("category"), excluded: query.all("exclude"))
      return try Self.json(SimilarItems(item: id, items: await lookups.similarItems(to: id, options)))
    case .model:
      return try Self.json(await lookups.model())
    }
  }

  /// Lets in who has the token. Without one the listening address is loopback; then the `Host` must be, too, or a web page could reach
  /// the daemon through its visitor's browser by pointing a name of its own at 127.0.0.1 (DNS rebinding).
  private func authorise(_ request: Request) throws(Problem) {
    guard let token else {
      guard let authority = request.head.authority, AdminConfiguration.isLoopback(Self.host(of: authority)) else {
        throw Problem(.misdirectedRequest, "Without a token, requests are answered only for a loopback host name.")
      }
      return
    }
    let parts = request.headers[.authorization]?.split(separator: " ", maxSplits: 1)
    guard let parts, parts.count == 2, parts[0].lowercased() == "bearer", Self.isEqual(parts[1], token) else {
      throw Problem(.unauthorized, "A valid bearer token is needed.", headers: [.wwwAuthenticate: "Bearer"])
    }
  }

  /// The host of `host:port`, without the brackets of an IPv6 address.
  private static func host(of authority: String) -> Substring {
    if authority.hasPrefix("["), let end = authority.firstIndex(of: "]") { return authority[..<end].dropFirst() }
    return authority.prefix { $0 != ":" }
  }

  /// Compares in a time that depends on the presented text's length only.
  private static func isEqual(_ presented: Substring, _ token: String) -> Bool {
    let expected = Array(token.utf8)
    var difference = presented.utf8.count ^ expected.count
    for (index, byte) in presented.utf8.enumerated() {
      difference |= Int(byte ^ expected[index % expected.count])
    }
    return difference == 0
  }

  private func body(of request: Request) async throws -> Data {
    // A form of another site can't send this type unasked.
    guard request.headers[.contentType]?.prefix(while: { $0 != ";" }).lowercased() == "application/json" else {
      throw Problem(.unsupportedMediaType, "The body's content type has to be application/json.")
    }
    return Data(try await request.body.collect(upTo: limits.bodyBytes).readableBytesView)
  }

  private func withTimeout(_ body: @escaping @Sendable () async throws -> Response) async throws -> Response {
    try await withThrowingTaskGroup(of: Response?.self) { tasks in
      tasks.addTask(operation: body)
      tasks.addTask { [limits] in
        try await Task.sleep(for: limits.requestTime)
        return nil
      }
      defer { tasks.cancelAll() }
      guard let first = try await tasks.next(), let response = first else {
        throw Problem(.serviceUnavailable, "The answer took too long.")
      }
      return response
    }
  }

  private static func text(_ text: String, type: String = "text/plain; charset=utf-8") -> Response {
    Response(status: .ok, headers: [.contentType: type], body: .init(byteBuffer: ByteBuffer(string: text)))
  }

  static func json(_ value: some Encodable, status: HTTPResponse.Status = .ok, type: String = "application/json") throws -> Response {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    encoder.dateEncodingStrategy = .custom { date, encoder in
      var container = encoder.singleValueContainer()
      try container.encode(date.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true)))
    }
    // JSON has no such numbers; a loss that has become NaN must not take the page with it.
    encoder.nonConformingFloatEncodingStrategy = .convertToString(positiveInfinity: "Infinity", negativeInfinity: "-Infinity", nan: "NaN")
    return Response(
      status: status, headers: [.contentType: type], body: .init(byteBuffer: ByteBuffer(bytes: try encoder.encode(value))))
  }

  private static let securityHeaders: [(HTTPField.Name, String)] = [
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"), ("x-content-type-options", "nosniff"),
    ("cache-control", "no-store"), ("x-frame-options", "DENY"), ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"), ("cross-origin-opener-policy", "same-origin"),
  ].compactMap { name, value in HTTPField.Name(name).map { ($0, value) } }
}

/// The body of `/readyz`.
private struct Readiness: Encodable {
  let ready: Bool
  let reasons: [String]
}

/// The body of `/v1/items/{id}/similar`.
private struct SimilarItems: Encodable {
  let item: String
  let items: [ScoredItem]
}
