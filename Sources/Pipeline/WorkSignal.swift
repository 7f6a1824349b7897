import DaemonSupport

/// Wakes a service's thread when there may be work; several wake-ups before it looks count as one.
final class WorkSignal: Sendable {
  private let queue = BoundedQueue<Void>(capacity: 1)

  func wake() { _ = queue.push((), timeout: .zero) }

  /// Returns when woken, when the time is up, or when closed.
  func wait(_ timeout: Duration) { _ = queue.pop(timeout: timeout) }

  /// From now on nobody waits any more.
  func close() { queue.close() }

  var isClosed: Bool { queue.isClosed }
}
