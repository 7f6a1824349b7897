import Foundation
import Glibc
import TestSupport

/// What came back on a connection.
struct Answer: Sendable {
  var status = 0
  /// Lower-case names; a later field replaces an earlier one.
  var headers: [String: String] = [:]
  var body = Data()

  func json() throws -> [String: Any] {
    try JSONSerialization.jsonObject(with: body) as? [String: Any] ?? [:]
  }

  var text: String { String(decoding: body, as: UTF8.self) }
}

/// A client that sends exactly the bytes it is given, over a socket of its own, on a thread of its own: what a library would tidy up
/// (paths, hosts, sizes) is what the tests are about.
struct HTTPClient: Sendable {
  let port: Int

  /// One request on one connection.
  /// - Parameter headers: whole lines; `Host` is added unless it is among them.
  func send(_ method: String, _ path: String, headers: [String] = [], body: String = "") async -> Answer {
    var lines = ["\(method) \(path) HTTP/1.1", "Connection: close"] + headers
    if !headers.contains(where: { $0.lowercased().hasPrefix("host:") }) { lines.append("Host: 127.0.0.1:\(port)") }
    if !body.isEmpty { lines.append("Content-Length: \(body.utf8.count)") }
    return Self.parse(await exchange([lines.joined(separator: "\r\n") + "\r\n\r\n" + body]).received)
  }

  func get(_ path: String, headers: [String] = []) async -> Answer { await send("GET", path, headers: headers) }

  /// Sends the pieces and reads until the server closes the connection, or, for a server that never does, 20 seconds have passed without
  /// a byte.
  func exchange(_ pieces: [String]) async -> (received: Data, isClosed: Bool) {
    await withCheckedContinuation { continuation in
      Thread.detachNewThread { [port] in
        continuation.resume(returning: Self.exchange(pieces, port: port))
      }
    }
  }

  private static func exchange(_ pieces: [String], port: Int) -> (received: Data, isClosed: Bool) {
    guard let descriptor = connectToLoopback(port: port, patience: 20) else { return (Data(), false) }
    defer { close(descriptor) }
    for piece in pieces {
      var rest = Array(piece.utf8)[...]
      while !rest.isEmpty {
        let sent = rest.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        guard sent > 0 else { break }
        rest = rest.dropFirst(sent)
      }
    }
    var received = Data()
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = recv(descriptor, &buffer, buffer.count, 0)
      guard count > 0 else { return (received, count == 0 || errno == ECONNRESET) }
      received.append(contentsOf: buffer[..<count])
    }
  }

  /// Reads one response with a known length.
  static func parse(_ data: Data) -> Answer {
    var answer = Answer()
    guard let end = data.firstRange(of: Data("\r\n\r\n".utf8)) else { return answer }
    let lines = String(decoding: data[..<end.lowerBound], as: UTF8.self).components(separatedBy: "\r\n")
    answer.status = lines.first?.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
    for line in lines.dropFirst() {
      guard let colon = line.firstIndex(of: ":") else { continue }
      answer.headers[line[..<colon].lowercased()] = line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
    }
    answer.body = Data(data[end.upperBound...])
    return answer
  }
}
