import Foundation
import Synchronization

/// A noida-db process with a port and a temporary folder of its own, which does not outlive this process however it ends.
final class BrokerServer: Sendable {
  let port: Int
  private let binary: URL
  private let folder: URL
  private let running = Mutex<Running?>(nil)

  /// `@unchecked Sendable`: Foundation's `Process` and `Pipe` are used under the mutex alone.
  private struct Running: @unchecked Sendable {
    let process: Process
    let watchdog: Watchdog
  }

  init(binary: URL) throws {
    self.binary = binary
    port = try freePort()
    folder = FileManager.default.temporaryDirectory.appending(path: "rodpod-broker-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    try launch()
  }

  deinit {
    end(with: SIGKILL)
    try? FileManager.default.removeItem(at: folder)
  }

  func launch() throws {
    try running.withLock { running in
      guard running == nil else { return }
      let log = folder.appending(path: "broker.log")
      let descriptor = open(log.path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
      guard descriptor >= 0 else { throw POSIXError(.init(rawValue: errno) ?? .EIO) }
      let output = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
      let process = Process()
      process.executableURL = binary
      process.arguments = [
        "start", "--only", "kafka", "--kafka-port", "\(port)", "--data-dir", folder.appending(path: "data").path,
      ]
      process.standardInput = FileHandle.nullDevice
      process.standardOutput = output
      process.standardError = output
      try process.runUnmasked()
      running = Running(process: process, watchdog: try Watchdog(of: process.processIdentifier, removing: folder))
    }
  }

  /// Sends the signal and waits until the process is gone.
  func end(with signal: Int32) {
    running.withLock { running in
      guard let ending = running else { return }
      kill(ending.process.processIdentifier, signal)
      ending.process.waitUntilExit()
      ending.watchdog.dismiss()
      running = nil
    }
  }
}

/// Kills a process and removes its folder when this process dies, be it by SIGKILL: a shell waits at a pipe which closes with us.
/// (Linux's parent-death signal is no help, as it follows the thread that forked.)
public struct Watchdog {
  private let shell = Process()
  private let pipe = Pipe()

  public init(of process: Int32, removing folder: URL) throws {
    // Other children must not inherit the end that we hold.
    _ = fcntl(pipe.fileHandleForWriting.fileDescriptor, F_SETFD, FD_CLOEXEC)
    shell.executableURL = URL(filePath: "/bin/sh")
    shell.arguments = ["-c", #"trap "" INT TERM HUP; read _ || { kill -9 "$0"; rm -rf "$1"; }"#, "\(process)", folder.path]
    shell.standardInput = pipe
    try shell.runUnmasked()
  }

  public func dismiss() {
    try? pipe.fileHandleForWriting.write(contentsOf: Data("\n".utf8))
    try? pipe.fileHandleForWriting.close()
    shell.waitUntilExit()
  }
}

extension Process {
  /// Starts the process with no signal blocked. A child inherits the signal mask of the thread that starts it, and the threads which
  /// run Swift's tasks block most signals: `run` alone would make a child that is deaf to SIGTERM.
  public func runUnmasked() throws {
    var none = sigset_t()
    var before = sigset_t()
    sigemptyset(&none)
    pthread_sigmask(SIG_SETMASK, &none, &before)
    defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
    try run()
  }
}

/// The ports from which servers of tests get theirs: below those that Linux gives to outgoing connections, so that none takes a server's port
/// before it listens or while it is started again.
private let serverPorts = 12_000..<32_000
private let portsTried = Atomic<Int>(Int.random(in: serverPorts))

/// A TCP port on the loopback address that nobody listens on at the moment, another one at each call.
public func freePort() throws -> Int {
  for _ in serverPorts {
    let port = serverPorts.lowerBound + portsTried.wrappingAdd(1, ordering: .relaxed).newValue % serverPorts.count
    if try isFree(port) { return port }
  }
  throw POSIXError(.EADDRINUSE)
}

private func isFree(_ port: Int) throws -> Bool {
  let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  guard descriptor >= 0 else { throw POSIXError(.init(rawValue: errno) ?? .EIO) }
  defer { close(descriptor) }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
  address.sin_port = in_port_t(port).bigEndian
  return withUnsafeBytes(of: &address) { bytes in
    bytes.baseAddress.map { bind(descriptor, $0.assumingMemoryBound(to: sockaddr.self), socklen_t(bytes.count)) == 0 } ?? false
  }
}
