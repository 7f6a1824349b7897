import Foundation
import Kafka
import TestBroker
import TestSupport

/// `Tests/Fixtures/gateway/gateway.py` before a broker of this test's own: TLS, SASL and quotas towards the daemon. It ends with this object.
final class Gateway {
  let address: String
  private let port: Int
  private let folder: URL
  private let arguments: [String]
  private let hasPassword: Bool
  private var process: ForeignProcess?

  private static let python = "/usr/bin/python3"
  static let isAvailable = ForeignProgram.isThere(python) && ForeignProgram.isThere(CertificateAuthority.openssl)

  /// - Parameters:
  ///   - authority: signs the gateway's certificate; nil for no TLS.
  ///   - password: of the user `shop`; nil for no SASL.
  ///   - quota: bytes per second that each client id may fetch, and may produce; nil for no quota.
  init(before broker: Broker, authority: CertificateAuthority? = nil, password: String? = nil, quota: Int? = nil) async throws {
    folder = FileManager.default.temporaryDirectory.appending(path: uniqueName("rodpod-gateway"))
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    port = try freePort()
    address = "127.0.0.1:\(port)"
    hasPassword = password != nil
    var arguments = [
      ForeignProgram.root.appending(path: "Tests/Fixtures/gateway/gateway.py").path, "--broker",
      String(broker.bootstrapServers.drop { $0 != ":" }.dropFirst()), "--listen", "\(port)",
    ]
    if let authority {
      let (certificate, key) = try authority.certify(in: folder)
      arguments += ["--certificate", certificate, "--key", key]
    }
    if hasPassword { arguments += ["--user", "shop", "--password-file", folder.appending(path: "password").path] }
    if let quota { arguments += ["--quota", "\(quota)"] }
    self.arguments = arguments
    try await restart(password: password ?? "")
  }

  deinit {
    process = nil
    try? FileManager.default.removeItem(at: folder)
  }

  /// Ends all connections and lets those in that have this password.
  func restart(password: String) async throws {
    process = nil
    try password.write(to: folder.appending(path: "password"), atomically: true, encoding: .utf8)
    let errors = folder.appending(path: "err")
    let process = try ForeignProcess(Self.python, arguments, output: folder.appending(path: "out"), errors: errors)
    self.process = process
    try await waitUntil("the gateway listens", within: .seconds(30)) {
      guard process.isRunning else {
        throw ConditionNotMet(description: "the gateway ended: \((try? String(contentsOf: errors, encoding: .utf8)) ?? "")")
      }
      guard let descriptor = connectToLoopback(port: self.port, patience: 1) else { return false }
      close(descriptor)
      return true
    }
  }
}

/// Signs certificates for 127.0.0.1, with a key of its own.
final class CertificateAuthority {
  static let openssl = "/usr/bin/openssl"
  private let folder: URL

  /// The path of its own certificate, as `ssl.ca.location` takes it.
  var certificate: String { folder.appending(path: "authority.pem").path }

  init() throws {
    folder = FileManager.default.temporaryDirectory.appending(path: uniqueName("rodpod-authority"))
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    try run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
      "-subj", "/CN=an authority of the tests", "-keyout", folder.appending(path: "authority.key").path, "-out", certificate)
  }

  deinit { try? FileManager.default.removeItem(at: folder) }

  /// - Returns: the paths of a certificate and its key.
  func certify(in place: URL) throws -> (certificate: String, key: String) {
    let (certificate, key, request) = (place.appending(path: "server.pem").path, place.appending(path: "server.key").path, place.appending(path: "server.csr").path)
    try run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=127.0.0.1",
      "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", request)
    try run("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", folder.appending(path: "authority.key").path,
      "-days", "2", "-copy_extensions", "copy", "-out", certificate)
    return (certificate, key)
  }

  private func run(_ arguments: String...) throws {
    let process = Process()
    process.executableURL = URL(filePath: Self.openssl)
    process.arguments = arguments
    process.standardError = FileHandle.nullDevice
    try process.runUnmasked()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else { throw ConditionNotMet(description: "openssl \(arguments) ended with \(process.terminationStatus)") }
  }
}
