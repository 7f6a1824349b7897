/// What a thread gets where cores are short.
public enum ThreadPriority: Sendable {
  /// As much as any other thread.
  case normal
  /// A tenth of that (a niceness of 10).
  case low
  /// What others leave over, and the kernel counts a core that runs nothing else as free (`SCHED_IDLE`).
  case idle
}

/// A thread of its own for blocking calls and long computation, which must not sit on Swift's cooperative pool.
///
/// It runs its closure once. Stopping is the closure's affair: close the queue that it reads, or set a flag that it checks.
public final class DedicatedThread: Sendable {
  private enum State {
    case running([CheckedContinuation<Void, any Error>])
    case finished(Result<Void, any Error>)

    var isFinished: Bool {
      if case .finished = self { true } else { false }
    }
  }

  /// The name that `ps -L` and a debugger show; the kernel keeps its first 15 bytes.
  public let name: String
  private let state = Monitor(State.running([]))

  /// Starts the thread.
  /// - Parameters:
  ///   - stackBytes: the stack's size, 8 MiB unless told.
  ///   - priority: of the thread and those that it makes.
  /// - Throws: ``SystemError`` when the thread cannot be made.
  public init(
    name: String, stackBytes: Int = 8 << 20, priority: ThreadPriority = .normal, _ body: @escaping @Sendable () throws -> Void
  ) throws(SystemError) {
    self.name = name
    let state = state
    try startThread(name: name, stackBytes: stackBytes) {
      takePriority(priority)
      let result = Result { try body() }
      let waiting = state.change { state -> [CheckedContinuation<Void, any Error>] in
        guard case .running(let waiting) = state else { return [] }
        state = .finished(result)
        return waiting
      }
      for continuation in waiting { continuation.resume(with: result) }
    }
  }

  /// Whether the closure has returned or thrown.
  public var isFinished: Bool { state.read(\.isFinished) }

  /// Blocks the calling thread until the closure has ended, at most `timeout` (nil: for ever).
  /// - Returns: false when the time ran out first.
  /// - Throws: what the closure threw.
  public func join(timeout: Duration? = nil) throws -> Bool {
    let result: Result<Void, any Error>? = state.change(when: \.isFinished, timeout: timeout) { state in
      guard case .finished(let result) = state else { return .success(()) }
      return result
    }
    guard let result else { return false }
    try result.get()
    return true
  }

  /// Suspends until the closure has ended, without blocking a thread. It does not react to cancellation: stop the closure instead.
  /// - Throws: what the closure threw.
  public func finish() async throws {
    try await withCheckedThrowingContinuation { continuation in
      let result = state.change { state -> Result<Void, any Error>? in
        switch state {
        case .running(let waiting):
          state = .running(waiting + [continuation])
          return nil
        case .finished(let result):
          return result
        }
      }
      if let result { continuation.resume(with: result) }
    }
  }
}
