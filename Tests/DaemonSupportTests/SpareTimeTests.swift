import DaemonSupport
import Foundation
import Synchronization
import Testing

struct SpareTimeTests {
  /// Works or does not for a moment at a time, until the priority changes.
  private static func untilChange(_ spare: inout SpareTime, _ moment: () -> Void) -> Bool {
    let deadline = ContinuousClock.now + .seconds(60)
    while ContinuousClock.now < deadline {
      spare.begin()
      moment()
      if spare.end() { return true }
    }
    return false
  }

  @Test func whoeverGetsLessThanATenthIsIdleNoMoreUntilTheyHaveHadIt() throws {
    let policies = Mutex<[Int?]>([])
    let thread = try DedicatedThread(name: "spare") {
      var spare = SpareTime()
      let first = try schedulingOfThisThread()[0]
      policies.withLock { $0.append(first) }
      // Where limits forbid coming back, the priority is low throughout.
      guard first == 5 else { return }
      // Nothing of the processor is used up, as by one who waits for it.
      #expect(Self.untilChange(&spare) { usleep(20_000) })
      let low = try schedulingOfThisThread()[0]
      #expect(Self.untilChange(&spare) {
        let start = threadProcessorTime()
        while threadProcessorTime() - start < .milliseconds(20) {}
      })
      let last = try schedulingOfThisThread()[0]
      policies.withLock { $0 += [low, last] }
    }
    #expect(try thread.join(timeout: .seconds(180)))
    let found = policies.withLock { $0 }
    #expect(found == [5, 0, 5] || (found == [0] && geteuid() != 0))
  }
}
