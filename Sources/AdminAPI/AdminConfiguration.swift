/// Where the admin server listens, who may ask, and how much.
public struct AdminConfiguration: Sendable {
  /// A host name or an IP address, IPv6 without brackets.
  public var host: String
  /// Port 0 lets the system choose.
  public var port: Int
  /// What a client must present as `Authorization: Bearer …`; nil lets everyone in who can connect, allowed on loopback only.
  public var token: String?
  public var limits: Limits

  /// Bounds on what one client can make the server do.
  public struct Limits: Sendable {
    /// The longest path with query. An id of 64 KiB fits with every byte percent-encoded.
    public var uriBytes = 193 << 10
    /// The longest header field, and all of them together.
    public var headerBytes = 200 << 10
    public var headerCount = 64
    /// The longest request body. Where none is asked for, a short one is read and left aside.
    public var bodyBytes = 64 << 10
    /// Connections at once; more wait in the kernel's queue.
    public var connections = 64
    /// For a request to arrive whole, and again for its answer to be found.
    public var requestTime: Duration = .seconds(10)
    /// How long a connection may stay open between requests.
    public var idleTime: Duration = .seconds(30)

    public init() {}
  }

  public init(host: String = "127.0.0.1", port: Int = 9464, token: String? = nil, limits: Limits = Limits()) {
    self.host = host
    self.port = port
    self.token = token
    self.limits = limits
  }

  /// Reads `host:port` or `[ipv6]:port`.
  /// - Throws: ``AdminError`` with `invalidAddress`.
  public init(listen: String, token: String? = nil, limits: Limits = Limits()) throws(AdminError) {
    let invalid = AdminError(.invalidAddress, "'\(listen)' is not HOST:PORT or [IPV6]:PORT with a port from 0 to 65535")
    guard let colon = listen.lastIndex(of: ":"), let port = UInt16(listen[listen.index(after: colon)...]) else { throw invalid }
    var host = listen[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") {
      host = host.dropFirst().dropLast()
    } else if host.contains(":") {
      throw invalid
    }
    guard !host.isEmpty else { throw invalid }
    self.init(host: String(host), port: Int(port), token: token, limits: limits)
  }

  /// Whether only this machine can connect.
  public var isLoopback: Bool { AdminConfiguration.isLoopback(host) }

  /// - Throws: ``AdminError`` with `tokenRequired` when others could connect and no token is set, or the token is empty.
  public func validate() throws(AdminError) {
    if token?.isEmpty == true { throw AdminError(.tokenRequired, "the token is empty") }
    guard token != nil || isLoopback else {
      throw AdminError(.tokenRequired, "listening on \(host), which is not a loopback address, needs a token")
    }
  }

  /// `localhost`, 127.0.0.0/8 or ::1.
  static func isLoopback(_ host: some StringProtocol) -> Bool {
    if host.lowercased() == "localhost" || host == "::1" { return true }
    let octets = host.split(separator: ".", omittingEmptySubsequences: false).map { UInt8($0) }
    return octets.count == 4 && octets[0] == 127 && octets.allSatisfy { $0 != nil }
  }
}

/// Why the admin server does not start.
public struct AdminError: Error, Sendable, Equatable, CustomStringConvertible {
  public enum Code: Sendable {
    /// The address to listen on cannot be read.
    case invalidAddress
    /// Others than this machine could connect, and there is no token.
    case tokenRequired
  }

  public var code: Code
  public var message: String

  public init(_ code: Code, _ message: String) {
    self.code = code
    self.message = message
  }

  public var description: String { message }
}
