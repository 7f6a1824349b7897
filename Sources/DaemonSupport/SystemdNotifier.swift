import FoundationEssentials

/// Tells systemd how the service is, by the protocol of sd_notify(3): one datagram to `$NOTIFY_SOCKET`. Without that variable every
/// call does nothing.
public struct SystemdNotifier: Sendable {
  private let socket: DatagramSocket?
  /// Within this time systemd wants a ``watchdog()``; nil when it does not watch this process (sd_watchdog_enabled(3)).
  public let watchdogInterval: Duration?

  public init(environment: [String: String] = ProcessInfo.processInfo.environment) {
    if let path = environment["NOTIFY_SOCKET"], path.hasPrefix("/") || path.hasPrefix("@") {
      socket = try? DatagramSocket(path: path)
    } else {
      socket = nil
    }
    let isMine = environment["WATCHDOG_PID"].map { Int32($0) == ProcessInfo.processInfo.processIdentifier } ?? true
    let microseconds = environment["WATCHDOG_USEC"].flatMap { Int64($0) } ?? 0
    watchdogInterval = isMine && microseconds > 0 ? .microseconds(microseconds) : nil
  }

  /// Start-up, or a reload, is complete.
  public func ready(status: String? = nil) {
    notify(["READY=1"] + statusLine(status))
  }

  /// The configuration is being read again; ``ready(status:)`` ends it.
  public func reloading() {
    let (seconds, attoseconds) = monotonicNow().components
    let microseconds = seconds * 1_000_000 + attoseconds / 1_000_000_000_000
    notify(["RELOADING=1", "MONOTONIC_USEC=\(microseconds)"])
  }

  /// The service is shutting down.
  public func stopping(status: String? = nil) {
    notify(["STOPPING=1"] + statusLine(status))
  }

  /// One line for `systemctl status`.
  public func status(_ text: String) {
    notify(statusLine(text))
  }

  /// The service is alive: starts the watchdog's time anew.
  public func watchdog() {
    notify(["WATCHDOG=1"])
  }

  /// Start, reload or stop takes longer: systemd waits at least this long from now.
  public func extendTimeout(by duration: Duration) {
    let (seconds, attoseconds) = duration.components
    notify(["EXTEND_TIMEOUT_USEC=\(seconds * 1_000_000 + attoseconds / 1_000_000_000_000)"])
  }

  private func statusLine(_ text: String?) -> [String] {
    // A line break would start another assignment.
    text.map { ["STATUS=" + $0.split(whereSeparator: \.isNewline).joined(separator: " ")] } ?? []
  }

  private func notify(_ assignments: [String]) {
    // What systemd does not hear it notices by its own timeouts; there is nobody else to tell.
    try? socket?.send(Array(assignments.joined(separator: "\n").utf8))
  }
}
