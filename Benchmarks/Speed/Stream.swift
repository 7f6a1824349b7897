import Dispatch
import Events
import Kafka
import Synchronization
import TestBroker
import TestSupport

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Topics of one benchmark on a broker, and what it sends there.
struct Stream {
  let bootstrapServers: String
  let topic: String
  let partitions: Int

  /// noida-db answers a fetch with all that there is.
  static let fetching = ["receive.message.max.bytes": "1000000000"]

  /// Makes the topic.
  init(_ broker: Broker, _ name: String, partitions: Int = 4) throws {
    bootstrapServers = broker.bootstrapServers
    topic = uniqueName(name)
    self.partitions = partitions
    let admin = try AdminClient(properties: ["bootstrap.servers": bootstrapServers])
    _ = try admin.ensureTopics([TopicSpecification(topic, partitionCount: partitions, replicationFactor: 1)], within: .seconds(30))
  }

  /// Sends all messages and waits until the broker has them.
  func send(_ messages: InteractionMessages) throws {
    let records = messages.expected.indices.lazy.map { index in
      Record(key: Array(messages.expected[index].user.utf8), value: messages.message(index))
    }
    try produceAll(records, to: topic, bootstrapServers: bootstrapServers, within: .seconds(300))
  }

  /// Reads so many messages from the start and does nothing with them: what librdkafka can do with this broker.
  func consume(_ count: Int) throws -> EventRate {
    let stopwatch = Stopwatch()
    let consumer = try Consumer(properties: ["bootstrap.servers": bootstrapServers, "group.id": uniqueName("bench")].merging(Self.fetching) { $1 })
    defer { consumer.close(within: .seconds(5)) }
    try consumer.assign(Dictionary(uniqueKeysWithValues: (0..<Int32(partitions)).map { (TopicPartition(topic, $0), .beginning) }))
    var bytes = 0
    var taken = 0
    while taken < count {
      let result = consumer.poll(maximumCount: 10_000, timeout: .milliseconds(100)) { bytes += $0.byteCount }
      taken += result.messageCount
    }
    guard bytes > 0 else { throw BenchmarkError("nothing was read") }
    return stopwatch.rate(of: taken)
  }
}

/// How many events a second.
struct EventRate {
  /// Of the CPU time of all threads of this process: what one core would do.
  var cpu: Double
  /// By the clock, with the broker and whatever else there is on the same machine.
  var clock: Double
}

/// From its making on.
struct Stopwatch {
  private let start = ContinuousClock.now
  private let startCPU = Self.processTime()

  func rate(of events: Int) -> EventRate {
    EventRate(cpu: Double(events) / (Self.processTime() - startCPU), clock: Double(events) / ((.now - start) / .seconds(1)))
  }

  /// In seconds.
  private static func processTime() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }
}

/// Waits for asynchronous work on the calling thread, which stays the one that is timed.
func waitFor<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) throws -> Value {
  let done = DispatchSemaphore(value: 0)
  let result = Mutex<Result<Value, any Error>?>(nil)
  Task {
    let value: Result<Value, any Error>
    do { value = .success(try await body()) } catch { value = .failure(error) }
    result.withLock { $0 = value }
    done.signal()
  }
  done.wait()
  guard let value = result.withLock({ $0 }) else { throw BenchmarkError("nothing came of it") }
  return try value.get()
}
