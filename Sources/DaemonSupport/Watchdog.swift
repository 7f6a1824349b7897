public import Logging
import Synchronization

/// Watches that the named parts of the daemon make progress, and feeds systemd's watchdog only while all of them do.
public final class Watchdog: Sendable {
  /// One part's sign of life. Beating costs a clock reading and an atomic store.
  public final class Heartbeat: Sendable {
    /// The part's name.
    public let name: String
    /// The longest time that may pass between two beats while the part is not idle.
    public let bound: Duration
    private let now: @Sendable () -> Duration
    /// Nanoseconds of the monotonic clock at the last beat; `idleMark` while idle.
    private let lastBeat: Atomic<Int64>
    private static let idleMark = Int64.max

    fileprivate init(name: String, bound: Duration, now: @escaping @Sendable () -> Duration) {
      self.name = name
      self.bound = bound
      self.now = now
      lastBeat = Atomic(Heartbeat.nanoseconds(now()))
    }

    /// Progress was made; also ends being idle.
    public func beat() {
      lastBeat.store(Heartbeat.nanoseconds(now()), ordering: .relaxed)
    }

    /// There is nothing to do, and this may last: no beat is expected until the next one.
    public func idle() {
      lastBeat.store(Heartbeat.idleMark, ordering: .relaxed)
    }

    /// How long ago the last beat was, if that is longer than the bound.
    fileprivate func overdue() -> Duration? {
      let last = lastBeat.load(ordering: .relaxed)
      guard last != Heartbeat.idleMark else { return nil }
      let age = now() - .nanoseconds(last)
      return age > bound ? age : nil
    }

    private static func nanoseconds(_ duration: Duration) -> Int64 {
      duration.components.seconds * 1_000_000_000 + duration.components.attoseconds / 1_000_000_000
    }
  }

  /// A part that has not beaten within its bound.
  public struct Stall: Sendable, Equatable, CustomStringConvertible {
    public let name: String
    /// How long ago it last beat.
    public let age: Duration

    public var description: String { "\(name) has made no progress for \(age.components.seconds) s" }
  }

  private let now: @Sendable () -> Duration
  private let heartbeats = Mutex<[Heartbeat]>([])

  public convenience init() {
    self.init(now: monotonicNow)
  }

  /// - Parameter now: the time on a clock that never goes back.
  package init(now: @escaping @Sendable () -> Duration) {
    self.now = now
  }

  /// Adds a part. It counts as having beaten now.
  public func register(_ name: String, bound: Duration) -> Heartbeat {
    let heartbeat = Heartbeat(name: name, bound: bound, now: now)
    heartbeats.withLock { $0.append(heartbeat) }
    return heartbeat
  }

  /// The parts that have made no progress within their bound, in the order of registration.
  public func stalls() -> [Stall] {
    heartbeats.withLock { $0 }.compactMap { heartbeat in heartbeat.overdue().map { Stall(name: heartbeat.name, age: $0) } }
  }

  /// Feeds once if nothing is stalled; otherwise says in the log and in systemd's status what is.
  package func feedOnce(_ notifier: SystemdNotifier, logger: Logger) {
    let stalls = stalls()
    guard !stalls.isEmpty else { return notifier.watchdog() }
    let text = stalls.map(\.description).joined(separator: ", ")
    logger.critical("the watchdog is not fed", metadata: ["stalled": "\(text)"])
    notifier.status("stalled: \(text)")
  }

  /// Feeds at half of systemd's interval until its task is cancelled; returns at once when systemd does not watch.
  ///
  /// It runs on the cooperative pool on purpose: a pool that is blocked is a stall, too.
  public func feed(_ notifier: SystemdNotifier, logger: Logger) async {
    guard let interval = notifier.watchdogInterval else { return }
    while !Task.isCancelled {
      feedOnce(notifier, logger: logger)
      try? await Task.sleep(for: interval / 2)
    }
  }
}
