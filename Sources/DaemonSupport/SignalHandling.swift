// A dispatch source may be used from any thread, but is not declared Sendable.
@preconcurrency import Dispatch
import Glibc

/// The signals that a daemon answers to.
public enum ProcessSignal: Sendable, CaseIterable {
  /// SIGTERM: stop.
  case terminate
  /// SIGINT: stop, from a terminal.
  case interrupt
  /// SIGHUP: read the configuration again.
  case hangup

  /// The signal's number.
  public var number: Int32 {
    switch self {
    case .terminate: SIGTERM
    case .interrupt: SIGINT
    case .hangup: SIGHUP
    }
  }

  /// The signals as they come, in place of what they do by default, from the moment this returns. Ends when the task that reads it is
  /// cancelled; the default actions do not come back then.
  public static func stream(of signals: [ProcessSignal] = allCases) -> AsyncStream<ProcessSignal> {
    AsyncStream { continuation in
      let queue = DispatchQueue(label: "signals")
      let registrations = DispatchGroup()
      let sources = signals.map { signal in
        registrations.enter()
        let source = DispatchSource.makeSignalSource(signal: signal.number, queue: queue)
        source.setEventHandler { continuation.yield(signal) }
        source.setRegistrationHandler { registrations.leave() }
        source.resume()
        return source
      }
      // A signal that came before its source is registered would still end the process.
      registrations.wait()
      continuation.onTermination = { _ in
        for source in sources { source.cancel() }
      }
    }
  }

  /// Makes writing to a closed connection an error of the call (EPIPE) instead of the end of the process.
  public static func ignoreBrokenPipes() {
    signal(SIGPIPE, SIG_IGN)
  }
}
