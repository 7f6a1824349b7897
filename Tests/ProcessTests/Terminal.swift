import Foundation
import TestBroker
import TestSupport

/// `rodpod` in a pseudo-terminal of its own. It is killed with this object.
///
/// It belongs to one test (hence not `Sendable`).
final class Terminal {
  private let process = Process()
  private let keyboard: FileHandle
  private let line: FileHandle
  private var received: [UInt8] = []

  /// All that was drawn so far, without carriage returns: the terminal adds some of its own.
  var drawn: String {
    var buffer = [UInt8](repeating: 0, count: 1 << 14)
    while case let count = read(keyboard.fileDescriptor, &buffer, buffer.count), count > 0 { received += buffer[..<count] }
    return String(decoding: received.filter { $0 != UInt8(ascii: "\r") }, as: UTF8.self)
  }

  /// How the terminal treats what is typed.
  var mode: termios {
    var mode = termios()
    tcgetattr(line.fileDescriptor, &mode)
    return mode
  }

  var isRunning: Bool { process.isRunning }

  init(_ arguments: [String], rows: UInt16, columns: UInt16) throws {
    var (ours, its): (Int32, Int32) = (0, 0)
    var size = winsize(ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0)
    guard openpty(&ours, &its, nil, nil, &size) == 0 else { throw POSIXError(.init(rawValue: errno) ?? .EIO) }
    // A look at what was drawn waits for nothing, and no child holds our end open.
    for descriptor in [ours, its] { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
    _ = fcntl(ours, F_SETFL, O_NONBLOCK)
    keyboard = FileHandle(fileDescriptor: ours, closeOnDealloc: true)
    line = FileHandle(fileDescriptor: its, closeOnDealloc: true)
    process.executableURL = try ChildProcess.locateBinary()
    process.arguments = arguments
    process.environment = ChildProcess.environment
    process.standardInput = line
    process.standardOutput = line
    process.standardError = line
    try process.runUnmasked()
  }

  deinit {
    guard process.isRunning else { return }
    kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
  }

  func type(_ keys: String) { keyboard.write(Data(keys.utf8)) }
  func send(_ signal: Int32) { kill(process.processIdentifier, signal) }

  func exitCode() async throws -> Int32 {
    try await waitUntil("rodpod ends; it has drawn: \(drawn.suffix(2000))", within: .seconds(30)) { !process.isRunning }
    return process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
  }
}
