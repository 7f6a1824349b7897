import DaemonSupport
import Glibc
import Testing
import TestSupport

struct SystemdNotifierTests {
  @Test(arguments: [temporarySocketPath(), "@rodpod-test-\(getpid())"])
  func eachStateIsOneDatagramToASocketOfEitherNamespace(path: String) {
    let systemd = DatagramReceiver(path: path)
    let notifier = SystemdNotifier(environment: ["NOTIFY_SOCKET": path])

    notifier.ready(status: "learning")
    #expect(systemd.receiveText() == "READY=1\nSTATUS=learning")
    notifier.status("two\nlines\r\nREADY=1")
    #expect(systemd.receiveText() == "STATUS=two lines READY=1")
    notifier.watchdog()
    #expect(systemd.receiveText() == "WATCHDOG=1")
    notifier.extendTimeout(by: .milliseconds(1500))
    #expect(systemd.receiveText() == "EXTEND_TIMEOUT_USEC=1500000")
    notifier.stopping()
    #expect(systemd.receiveText() == "STOPPING=1")
  }

  @Test func reloadingCarriesTheMonotonicTime() throws {
    let systemd = DatagramReceiver(path: temporarySocketPath())
    var before = timespec()
    clock_gettime(CLOCK_MONOTONIC, &before)
    SystemdNotifier(environment: ["NOTIFY_SOCKET": systemd.path]).reloading()
    var after = timespec()
    clock_gettime(CLOCK_MONOTONIC, &after)

    let lines = systemd.receiveText().split(separator: "\n")
    #expect(lines.first == "RELOADING=1")
    let value = try #require(lines.last?.split(separator: "=").last.flatMap { Int($0) })
    #expect(lines.last == "MONOTONIC_USEC=\(value)")
    let range = (before.tv_sec * 1_000_000 + before.tv_nsec / 1000)...(after.tv_sec * 1_000_000 + after.tv_nsec / 1000)
    #expect(range.contains(value))
  }

  @Test(arguments: [[:], ["NOTIFY_SOCKET": ""], ["NOTIFY_SOCKET": "/nowhere/socket"], ["NOTIFY_SOCKET": "vsock:2:1"]])
  func withoutAListenerEveryCallDoesNothing(environment: [String: String]) {
    let notifier = SystemdNotifier(environment: environment)
    notifier.ready(status: "fine")
    notifier.watchdog()
    #expect(notifier.watchdogInterval == nil)
  }

  @Test func theWatchdogIntervalIsReadWhenItIsMeantForThisProcess() {
    #expect(SystemdNotifier(environment: ["WATCHDOG_USEC": "30000000"]).watchdogInterval == .seconds(30))
    #expect(SystemdNotifier(environment: ["WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "\(getpid())"]).watchdogInterval == .seconds(30))
    #expect(SystemdNotifier(environment: ["WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"]).watchdogInterval == nil)
    #expect(SystemdNotifier(environment: ["WATCHDOG_USEC": "0"]).watchdogInterval == nil)
    #expect(SystemdNotifier(environment: ["WATCHDOG_USEC": "soon"]).watchdogInterval == nil)
  }
}
