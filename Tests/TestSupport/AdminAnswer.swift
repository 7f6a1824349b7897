import Foundation

/// An answer of the admin server.
public struct AdminAnswer {
  public var status: Int
  public var body: String

  public func json() throws -> [String: Any] { try JSONSerialization.jsonObject(with: Data(body.utf8)) as? [String: Any] ?? [:] }

  /// The value of a metric's sample as it stands in the text, such as `rodpod_x_total{reason="y"}`.
  public func metric(_ sample: String) -> Double? {
    body.split(separator: "\n").first { $0.hasPrefix(sample + " ") }.flatMap { Double($0.dropFirst(sample.count + 1)) }
  }
}

/// Asks the admin server on this machine, with a connection of its own.
/// - Returns: nil when nobody answers.
/// - Parameter json: a body.
public func askAdmin(_ path: String, method: String = "GET", json: String? = nil, port: Int) -> AdminAnswer? {
  guard let descriptor = connectToLoopback(port: port, patience: 10) else { return nil }
  defer { close(descriptor) }
  let fields = json.map { "Content-Type: application/json\r\nContent-Length: \($0.utf8.count)\r\n" } ?? ""
  let request = Array(
    "\(method) \(path) HTTP/1.1\r\nHost: 127.0.0.1:\(port)\r\nConnection: close\r\n\(fields)\r\n\(json ?? "")".utf8)
  guard send(descriptor, request, request.count, Int32(MSG_NOSIGNAL)) == request.count else { return nil }
  var received: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 1 << 16)
  while true {
    let count = recv(descriptor, &buffer, buffer.count, 0)
    guard count > 0 else { break }
    received += buffer[..<count]
  }
  let text = String(decoding: received, as: UTF8.self)
  guard let end = text.range(of: "\r\n\r\n"), let code = text.split(separator: " ").dropFirst().first.flatMap({ Int($0) }) else { return nil }
  return AdminAnswer(status: code, body: String(text[end.upperBound...]))
}

/// A TCP connection to this machine, which is the caller's to close.
/// - Parameter patience: the seconds that one read may wait.
/// - Returns: nil when nobody listens.
public func connectToLoopback(port: Int, patience seconds: Int) -> Int32? {
  let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  guard descriptor >= 0 else { return nil }
  var patience = timeval(tv_sec: seconds, tv_usec: 0)
  setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_port = in_port_t(port).bigEndian
  address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
  let status = withUnsafePointer(to: &address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
  }
  guard status == 0 else {
    close(descriptor)
    return nil
  }
  return descriptor
}
