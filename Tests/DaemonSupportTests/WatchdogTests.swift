import DaemonSupport
import Logging
import Synchronization
import Testing
import TestSupport

/// A clock that moves when told.
private final class ManualClock: Sendable {
  private let time = Mutex(Duration.seconds(100))
  func now() -> Duration { time.withLock { $0 } }
  func advance(by duration: Duration) { time.withLock { $0 += duration } }
}

struct WatchdogTests {
  @Test func aPartIsStalledOnceItsBoundHasPassedWithoutABeat() {
    let clock = ManualClock()
    let watchdog = Watchdog(now: clock.now)
    let ingest = watchdog.register("ingest", bound: .seconds(10))
    let learner = watchdog.register("learner", bound: .seconds(30))

    clock.advance(by: .seconds(10))
    #expect(watchdog.stalls().isEmpty)
    clock.advance(by: .seconds(1))
    #expect(watchdog.stalls().map(\.description) == ["ingest has made no progress for 11 s"])
    ingest.beat()
    #expect(watchdog.stalls().isEmpty)
    clock.advance(by: .seconds(20))
    #expect(watchdog.stalls().map(\.name) == ["ingest", "learner"])
    learner.beat()
    #expect(watchdog.stalls().map(\.name) == ["ingest"])
  }

  @Test func anIdlePartIsNotExpectedToBeatUntilItDoes() {
    let clock = ManualClock()
    let watchdog = Watchdog(now: clock.now)
    let ranker = watchdog.register("ranker", bound: .seconds(10))

    ranker.idle()
    clock.advance(by: .seconds(1000))
    #expect(watchdog.stalls().isEmpty)
    ranker.beat()
    clock.advance(by: .seconds(11))
    #expect(watchdog.stalls().map(\.name) == ["ranker"])
  }

  @Test func systemdIsFedOnlyWhileAllPartsMakeProgress() {
    let systemd = DatagramReceiver(path: temporarySocketPath())
    let notifier = SystemdNotifier(environment: ["NOTIFY_SOCKET": systemd.path])
    let clock = ManualClock()
    let watchdog = Watchdog(now: clock.now)
    let learner = watchdog.register("learner", bound: .seconds(10))
    let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    watchdog.feedOnce(notifier, logger: logger)
    #expect(systemd.receiveText() == "WATCHDOG=1")
    clock.advance(by: .seconds(42))
    watchdog.feedOnce(notifier, logger: logger)
    #expect(systemd.receiveText() == "STATUS=stalled: learner has made no progress for 42 s")
    learner.beat()
    watchdog.feedOnce(notifier, logger: logger)
    #expect(systemd.receiveText() == "WATCHDOG=1")
  }

  @Test func feedingGoesOnUntilItIsCancelled() async {
    let systemd = DatagramReceiver(path: temporarySocketPath())
    let notifier = SystemdNotifier(environment: ["NOTIFY_SOCKET": systemd.path, "WATCHDOG_USEC": "2000"])
    let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    let feeding = Task { await Watchdog().feed(notifier, logger: logger) }
    // Feeding needs the cooperative pool, which other tests may hold for a while: nothing here may block it too.
    let deadline = ContinuousClock.now + .seconds(120)
    var received: [String] = []
    while received.count < 3, ContinuousClock.now < deadline {
      if let text = systemd.receiveTextIfAny() { received.append(text) } else { try? await Task.sleep(for: .milliseconds(1)) }
    }
    #expect(received == ["WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"])
    feeding.cancel()
    await feeding.value
  }
}
