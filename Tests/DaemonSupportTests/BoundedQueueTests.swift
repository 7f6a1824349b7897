import DaemonSupport
import Synchronization
import Testing

struct BoundedQueueTests {
  @Test func elementsComeOutInTheOrderInWhichTheyWentInAcrossTheRingsEnd() {
    let queue = BoundedQueue<Int>(capacity: 3)
    var expected = 0
    for value in 0..<20 {
      #expect(queue.push(value, timeout: .zero) == .pushed)
      if queue.count == queue.capacity || value.isMultiple(of: 5) {
        #expect(popped(queue) == expected)
        expected += 1
      }
    }
  }

  @Test func aFullQueueTakesNothingAndAnEmptyOneGivesNothing() {
    let queue = BoundedQueue<Int>(capacity: 1)
    #expect(popped(queue) == nil)
    #expect(queue.push(1) == .pushed)
    #expect(queue.push(2, timeout: .zero) == .timedOut)
    #expect(queue.push(2, timeout: .milliseconds(5)) == .timedOut)
    #expect(popped(queue) == 1)
    #expect(queue.count == 0)
  }

  @Test func afterClosingPushesAreTurnedAwayAndWhatIsLeftCanStillBeTaken() {
    let queue = BoundedQueue<Int>(capacity: 4)
    #expect(queue.push(1) == .pushed)
    queue.close()
    queue.close()
    #expect(queue.isClosed)
    #expect(queue.push(2) == .closed)
    #expect(popped(queue) == 1)
    guard case .closed = queue.pop() else {
      Issue.record("a closed and empty queue says so")
      return
    }
  }

  @Test func closingWakesThreadsThatWait() throws {
    let full = BoundedQueue<Int>(capacity: 1)
    let empty = BoundedQueue<Int>(capacity: 1)
    #expect(full.push(0) == .pushed)
    let pushed = Mutex<BoundedQueue<Int>.Push?>(nil)
    let popped = Mutex(false)
    let pusher = try DedicatedThread(name: "pusher") {
      let outcome = full.push(1)
      pushed.withLock { $0 = outcome }
    }
    let popper = try DedicatedThread(name: "popper") {
      if case .closed = empty.pop() { popped.withLock { $0 = true } }
    }
    full.close()
    empty.close()
    #expect(try pusher.join(timeout: .seconds(30)))
    #expect(try popper.join(timeout: .seconds(30)))
    #expect(pushed.withLock { $0 } == .closed)
    #expect(popped.withLock { $0 })
  }

  @Test func severalThreadsPassEveryElementExactlyOnce() throws {
    let queue = BoundedQueue<Int>(capacity: 7)
    // A list for each consumer, read after it has ended: ThreadSanitizer does not see what Swift's Mutex orders.
    final class Seen: @unchecked Sendable { var values: [Int] = [] }
    let seen = [Seen(), Seen()]
    let producers = try (0..<2).map { producer in
      try DedicatedThread(name: "producer") {
        for value in 0..<2000 { _ = queue.push(producer * 2000 + value) }
      }
    }
    let consumers = try seen.map { seen in
      try DedicatedThread(name: "consumer") {
        while case .element(let value) = queue.pop() { seen.values.append(value) }
      }
    }
    for producer in producers { #expect(try producer.join(timeout: .seconds(60))) }
    queue.close()
    for consumer in consumers { #expect(try consumer.join(timeout: .seconds(60))) }
    #expect(seen.flatMap(\.values).sorted() == Array(0..<4000))
  }

  private func popped(_ queue: BoundedQueue<Int>) -> Int? {
    if case .element(let value) = queue.pop(timeout: .zero) { value } else { nil }
  }
}
