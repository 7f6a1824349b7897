import Foundation
import TestBroker
import TestSupport

/// Another program that a test starts. It is killed with this object.
///
/// It belongs to one test (hence not `Sendable`).
final class ForeignProcess {
  private let process = Process()

  var isRunning: Bool { process.isRunning }

  /// - Parameters:
  ///   - path: of the program.
  ///   - output, errors, input: files.
  init(_ path: String, _ arguments: [String], input: URL? = nil, output: URL, errors: URL) throws {
    process.executableURL = URL(filePath: path)
    process.arguments = arguments
    process.standardInput = try input.map { try FileHandle(forReadingFrom: $0) } ?? FileHandle.nullDevice
    process.standardOutput = try Self.file(output)
    process.standardError = try Self.file(errors)
    try process.runUnmasked()
  }

  deinit {
    guard process.isRunning else { return }
    kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
  }

  func exitCode(within bound: Duration = .seconds(60)) async throws -> Int32 {
    try await waitUntil("\(process.executableURL?.lastPathComponent ?? "") ends", within: bound) { !process.isRunning }
    return process.terminationStatus
  }

  private static func file(_ url: URL) throws -> FileHandle {
    guard FileManager.default.createFile(atPath: url.path, contents: nil) else { throw CocoaError(.fileWriteUnknown) }
    return try FileHandle(forWritingTo: url)
  }

}

/// A program that a test needs and that may be missing.
enum ForeignProgram {
  /// The repository.
  static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
  static let browser = "/usr/bin/chromium"
  static let strace = "/usr/bin/strace"
  /// Where `make test` unpacks Debian's package.
  static let prometheus = root.appending(path: ".prometheus/usr/bin/prometheus").path
  static let promtool = root.appending(path: ".prometheus/usr/bin/promtool").path

  static func isThere(_ path: String) -> Bool { FileManager.default.isExecutableFile(atPath: path) }
}
