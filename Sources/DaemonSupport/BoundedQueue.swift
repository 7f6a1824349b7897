/// A first-in, first-out queue of bounded length between threads. Blocks its callers: for dedicated threads, not for Swift's
/// cooperative pool.
///
/// It is cancelled by ``close()``: pushers are turned away at once, poppers get what is left and then ``Pop/closed``.
public final class BoundedQueue<Element: Sendable>: Sendable {
  /// What became of a push.
  public enum Push: Sendable, Equatable {
    case pushed, timedOut, closed
  }

  /// What a pop found.
  public enum Pop: Sendable {
    case element(Element)
    case timedOut
    /// The queue is closed and empty.
    case closed
  }

  private struct State {
    /// A ring: `elements[(head + i) % capacity]` is the element number i.
    var elements: [Element?]
    var head = 0
    var count = 0
    var isClosed = false
  }

  /// The most elements that it holds.
  public let capacity: Int
  private let state: Monitor<State>

  /// - Parameter capacity: at least 1.
  public init(capacity: Int) {
    precondition(capacity > 0, "a queue holds at least one element")
    self.capacity = capacity
    state = Monitor(State(elements: Array(repeating: nil, count: capacity)))
  }

  /// Appends an element, waiting while the queue is full.
  /// - Parameter timeout: how long to wait at most; nil waits for ever, zero does not wait.
  public func push(_ element: Element, timeout: Duration? = nil) -> Push {
    state.change(when: { [capacity] in $0.count < capacity || $0.isClosed }, timeout: timeout) { [capacity] state in
      if state.isClosed { return .closed }
      state.elements[(state.head + state.count) % capacity] = element
      state.count += 1
      return .pushed
    } ?? .timedOut
  }

  /// Takes the oldest element, waiting while the queue is empty.
  /// - Parameter timeout: how long to wait at most; nil waits for ever, zero does not wait.
  public func pop(timeout: Duration? = nil) -> Pop {
    state.change(when: { $0.count > 0 || $0.isClosed }, timeout: timeout) { [capacity] state in
      guard state.count > 0, let element = state.elements[state.head] else { return .closed }
      state.elements[state.head] = nil
      state.head = (state.head + 1) % capacity
      state.count -= 1
      return .element(element)
    } ?? .timedOut
  }

  /// Ends the queue and wakes everyone who waits. Calling it again does nothing.
  public func close() {
    state.change { $0.isClosed = true }
  }

  /// How many elements wait.
  public var count: Int { state.read(\.count) }

  /// Whether ``close()`` was called.
  public var isClosed: Bool { state.read(\.isClosed) }
}
