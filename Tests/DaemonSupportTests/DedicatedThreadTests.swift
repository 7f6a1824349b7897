import DaemonSupport
import Foundation
import Synchronization
import Testing

struct DedicatedThreadTests {
  private struct Failure: Error, Equatable {}

  @Test func theThreadBearsItsNameCutToWhatTheKernelKeeps() throws {
    let name = Mutex("")
    let thread = try DedicatedThread(name: "rodpod-learner-of-preferences") {
      let own = try String(contentsOfFile: "/proc/thread-self/comm", encoding: .utf8)
      name.withLock { $0 = own }
    }
    #expect(try thread.join(timeout: .seconds(30)))
    #expect(name.withLock { $0 } == "rodpod-learner-\n")
    #expect(thread.isFinished)
  }

  @Test func joiningGivesUpAtItsDeadlineAndSucceedsAfterTheEnd() throws {
    let gate = BoundedQueue<Void>(capacity: 1)
    let thread = try DedicatedThread(name: "waits") { _ = gate.pop() }
    #expect(try thread.join(timeout: .milliseconds(5)) == false)
    #expect(!thread.isFinished)
    gate.close()
    #expect(try thread.join(timeout: .seconds(30)))
    #expect(try thread.join())
  }

  @Test func whatTheClosureThrowsReachesEveryoneWhoWaits() async throws {
    let gate = BoundedQueue<Void>(capacity: 1)
    let thread = try DedicatedThread(name: "fails") {
      _ = gate.pop()
      throw Failure()
    }
    let early = Task { try await thread.finish() }
    gate.close()
    await #expect(throws: Failure()) { try await early.value }
    await #expect(throws: Failure()) { try await thread.finish() }
    #expect(throws: Failure()) { try thread.join() }
  }

  @Test func theStackIsAsLargeAsAsked() throws {
    // Each level keeps 1 KiB: far more than the 16 KiB that is the smallest stack.
    @Sendable func descend(_ depth: Int) -> Int {
      withUnsafeTemporaryAllocation(byteCount: 1024, alignment: 8) { buffer in
        buffer[0] = UInt8(truncatingIfNeeded: depth)
        return depth == 0 ? 0 : descend(depth - 1) + Int(buffer[0] & 1)
      }
    }
    let result = Mutex(0)
    let thread = try DedicatedThread(name: "deep", stackBytes: 64 << 20) {
      let sum = descend(20_000)
      result.withLock { $0 = sum }
    }
    #expect(try thread.join(timeout: .seconds(30)))
    #expect(result.withLock { $0 } == 10_000)
  }

  @Test(arguments: [(ThreadPriority.normal, policy: 0, niceness: 0), (.low, 0, 10), (.idle, 5, 0)])
  func thePriorityIsTheThreadsAndThatOfThoseWhichItMakes(priority: ThreadPriority, policy: Int, niceness: Int) throws {
    let own = try schedulingOfThisThread()[1]
    let found = Mutex<[[Int?]]>([])
    @Sendable func look() throws {
      let seen = try schedulingOfThisThread()
      found.withLock { $0.append(seen) }
    }
    let thread = try DedicatedThread(name: "prioritised", priority: priority) {
      try look()
      _ = try DedicatedThread(name: "its child") { try look() }.join()
    }
    #expect(try thread.join(timeout: .seconds(30)))
    // Tests may themselves run nicely.
    let expected = [policy, priority == .low ? niceness : own]
    #expect(found.withLock { $0 } == [expected, expected])
  }

  @Test func anImpossibleStackIsAnError() {
    let error = #expect(throws: SystemError.self) { try DedicatedThread(name: "tiny", stackBytes: 1) {} }
    #expect(error?.number == EINVAL)
  }
}

/// Policy (5 is SCHED_IDLE) and niceness as the kernel has them: fields 41 and 19 of proc_pid_stat(5), the second being the thread's name in brackets.
func schedulingOfThisThread() throws -> [Int?] {
  let fields = try String(contentsOfFile: "/proc/thread-self/stat", encoding: .utf8).split(separator: ")")[1].split(separator: " ")
  return [Int(fields[38]), Int(fields[16])]
}
