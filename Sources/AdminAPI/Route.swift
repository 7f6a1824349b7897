import HTTPTypes

/// What a request asks for, read from its method and its raw, still percent-encoded path.
enum Route: Equatable, Sendable {
  case health
  case readiness
  case metrics
  case statusPage
  case statusReport
  case recommendations(user: String)
  case user(String)
  case forgetUser(String)
  case item(String)
  case similarItems(String)
  case model

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
    let routes = Route.routes(at: segments)
    guard !routes.isEmpty else { throw .notFound }
    // HEAD is GET without the body (RFC 9110, section 9.3.2).
    guard let route = routes[method == .head ? .get : method] else {
      var allowed = Array(routes.keys)
      if routes[.get] != nil { allowed.append(.head) }
      throw .methodNotAllowed(allowed.sorted { $0.rawValue < $1.rawValue })
    }
    self = route
  }

  private static func routes(at segments: [String]) -> [HTTPRequest.Method: Route] {
    // An empty id is no id.
    if segments.count > 1, segments.contains("") { return [:] }
    switch (segments.count, segments.first, segments.dropFirst().first, segments.last) {
    case (1, "", _, _): return [.get: .statusPage]
    case (1, "healthz", _, _): return [.get: .health]
    case (1, "readyz", _, _): return [.get: .readiness]
    case (1, "metrics", _, _): return [.get: .metrics]
    case (1, "status.json", _, _): return [.get: .statusReport]
    case (2, "v1", "model", _): return [.get: .model]
    case (3, "v1", "users", let id?): return [.get: .user(id), .delete: .forgetUser(id)]
    case (3, "v1", "items", let id?): return [.get: .item(id)]
    case (4, "v1", "users", "recommendations"): return [.get: .recommendations(user: segments[2])]
    case (4, "v1", "items", "similar"): return [.get: .similarItems(segments[2])]
    default: return [:]
    }
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
