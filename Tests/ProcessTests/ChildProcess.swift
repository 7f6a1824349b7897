import Foundation
import Testing
import TestBroker
import TestSupport

/// A run of the built `rodpod`, whose output goes to files. It is killed with this object.
///
/// It belongs to one test (hence not `Sendable`).
final class ChildProcess {
  private let process = Process()
  private let folder: URL

  var isRunning: Bool { process.isRunning }
  var processIdentifier: Int32 { process.processIdentifier }
  var standardOutput: String { text("out") }
  /// The log, and what is complained about.
  var standardError: String { text("err") }

  /// What was logged as an error.
  var loggedErrors: [Substring] {
    standardError.split(separator: "\n").filter { line in [" ERROR ", " CRITICAL "].contains { line.contains($0) } }
  }

  /// - Parameters:
  ///   - folder: made for the two files of output.
  ///   - environment: over that of the tests, of which `RODPOD_…` is left out.
  ///   - log: a device to which it writes its log, in place of the file.
  init(_ arguments: [String], output folder: URL, environment: [String: String] = [:], log: String? = nil) throws {
    self.folder = folder
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    process.executableURL = try Self.locateBinary()
    process.arguments = arguments
    process.environment = Self.environment.merging(environment) { $1 }
    process.standardInput = FileHandle.nullDevice
    let output = try file("out")
    let errors = if let log { try FileHandle(forWritingTo: URL(filePath: log)) } else { try file("err") }
    process.standardOutput = output
    process.standardError = errors
    try process.runUnmasked()
    // The child has its own. A thousand lives in one test would be two thousand open files.
    try output.close()
    try errors.close()
  }

  deinit {
    guard process.isRunning else { return }
    kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
  }

  /// That of the tests, without what would be settings.
  static var environment: [String: String] { ProcessInfo.processInfo.environment.filter { !$0.key.hasPrefix("RODPOD_") } }

  /// The most memory that the running process has had resident, in bytes.
  func peakMemory() throws -> Int {
    let status = try String(contentsOfFile: "/proc/\(processIdentifier)/status", encoding: .utf8)
    guard let kilobytes = status.firstMatch(of: /VmHWM:\s+(\d+) kB/).flatMap({ Int($0.1) }) else { throw CocoaError(.fileReadCorruptFile) }
    return kilobytes << 10
  }

  func send(_ signal: Int32) { kill(process.processIdentifier, signal) }

  /// - Returns: the exit code, or the signal that ended the process, negated.
  func exitCode(within bound: Duration = .seconds(60)) async throws -> Int32 {
    do {
      try await waitUntil("rodpod ends", within: bound) { !process.isRunning }
    } catch {
      Issue.record("what it said up to then: \(standardError.suffix(3000))")
      throw error
    }
    return process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
  }

  private func file(_ name: String) throws -> FileHandle {
    let url = folder.appending(path: name)
    guard FileManager.default.createFile(atPath: url.path, contents: nil) else { throw CocoaError(.fileWriteUnknown) }
    return try FileHandle(forWritingTo: url)
  }

  private func text(_ name: String) -> String {
    (try? Data(contentsOf: folder.appending(path: name))).map { String(decoding: $0, as: UTF8.self) } ?? ""
  }

  /// The binary that `RODPOD_BINARY` names, or the one which was built together with these tests and lies beside them.
  static func locateBinary() throws -> URL {
    if let path = ProcessInfo.processInfo.environment["RODPOD_BINARY"], !path.isEmpty { return URL(filePath: path) }
    var folder = URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent()
    while folder.path != "/" {
      let binary = folder.appending(path: "rodpod")
      var isFolder: ObjCBool = false
      if FileManager.default.fileExists(atPath: binary.path, isDirectory: &isFolder), !isFolder.boolValue { return binary }
      folder = folder.deletingLastPathComponent()
    }
    throw ConditionNotMet(description: "no binary rodpod beside the tests: build it, or name one by RODPOD_BINARY")
  }
}

/// What a run came to that ended by itself.
struct Outcome {
  var code: Int32
  var output: String
  var errors: String

  func json() throws -> [String: Any] {
    try JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any] ?? [:]
  }
}
