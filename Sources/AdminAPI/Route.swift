import HTTPTypes

/// What a request asks for, read from its method and its raw, still percent-encoded path.
enum Route: Equatable, Sendable {
  case health
  case readiness
  case metrics
  case statusPage
  case statusReport
  case openAPI
  case recommendations(user: String)
  case sessionRecommendations
  case user(String)
  case forgetUser(String)
  case item(String)
  case similarItems(String)
  case model

  /// Every route, as the OpenAPI document writes it; `{id}` stands for one segment that is not empty.
  static let table: [(method: HTTPRequest.Method, path: String, route: @Sendable (_ id: String) -> Route)] = [
    (.get, "/", { _ in .statusPage }),
    (.get, "/healthz", { _ in .health }),
    (.get, "/readyz", { _ in .readiness }),
    (.get, "/metrics", { _ in .metrics }),
    (.get, "/status.json", { _ in .statusReport }),
    (.get, "/openapi.yaml", { _ in .openAPI }),
    (.get, "/v1/model", { _ in .model }),
    (.post, "/v1/recommendations", { _ in .sessionRecommendations }),
    (.get, "/v1/users/{id}", { .user($0) }),
    (.delete, "/v1/users/{id}", { .forgetUser($0) }),
    (.get, "/v1/users/{id}/recommendations", { .recommendations(user: $0) }),
    (.get, "/v1/items/{id}", { .item($0) }),
    (.get, "/v1/items/{id}/similar", { .similarItems($0) }),
  ]

  /// Why a path leads nowhere.
  enum Failure: Error, Equatable {
    case notFound
    /// The path exists, the method does not; these do.
    case methodNotAllowed([HTTPRequest.Method])
    /// An id that is not valid percent-encoded UTF-8.
    case invalidEncoding
  }

  /// Splits first and decodes afterwards, so that an id may hold `/` as `%2F`.
  init(method: HTTPRequest.Method, path: String) throws(Failure) {
    var segments: [String] = []
    for raw in path.utf8.dropFirst().split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false) {
      guard let segment = percentDecoded(raw) else { throw .invalidEncoding }
      segments.append(segment)
    }
    var routes: [HTTPRequest.Method: Route] = [:]
    for entry in Self.table {
      if let id = Self.id(in: segments, by: entry.path) { routes[entry.method] = entry.route(id) }
    }
    guard !routes.isEmpty else { throw .notFound }
    // HEAD is GET without the body (RFC 9110, section 9.3.2).
    guard let route = routes[method == .head ? .get : method] else {
      var allowed = Array(routes.keys)
      if routes[.get] != nil { allowed.append(.head) }
      throw .methodNotAllowed(allowed.sorted { $0.rawValue < $1.rawValue })
    }
    self = route
  }

  /// The segment in the place of `{id}`, empty where the template has none; nil when the path is not of the template.
  private static func id(in segments: [String], by template: String) -> String? {
    let parts = template.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == segments.count else { return nil }
    var id = ""
    for (part, segment) in zip(parts, segments) {
      if part == "{id}" {
        // An empty id is no id.
        guard !segment.isEmpty else { return nil }
        id = segment
      } else if part != segment {
        return nil
      }
    }
    return id
  }

  /// Whether a client without the token may ask: liveness for supervisors, and the page, which holds no data of its own.
  var isOpen: Bool { self == .health || self == .statusPage }
}

/// Undoes percent-encoding (RFC 3986, section 2.1). A plus sign stays one. Nil when an escape is broken or the bytes are not UTF-8.
func percentDecoded(_ bytes: some Sequence<UInt8>) -> String? {
  func digit(_ byte: UInt8?) -> UInt8? {
    switch byte {
    case let byte? where (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte): byte - UInt8(ascii: "0")
    case let byte? where (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte): byte - UInt8(ascii: "a") + 10
    case let byte? where (UInt8(ascii: "A")...UInt8(ascii: "F")).contains(byte): byte - UInt8(ascii: "A") + 10
    default: nil
    }
  }
  var decoded: [UInt8] = []
  var iterator = bytes.makeIterator()
  while let byte = iterator.next() {
    guard byte == UInt8(ascii: "%") else {
      decoded.append(byte)
      continue
    }
    guard let high = digit(iterator.next()), let low = digit(iterator.next()) else { return nil }
    decoded.append(high << 4 | low)
  }
  return String(validating: decoded, as: UTF8.self)
}
