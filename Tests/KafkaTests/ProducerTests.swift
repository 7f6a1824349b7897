import Kafka
import Testing
import TestBroker
import TestSupport

@Suite struct ProducerTests {
  @Test func whatWasProducedIsReadBackWhole() async throws {
    let broker = try await Broker.shared()
    let topic = try broker.makeTopic("whole")
    // A null and an empty value, key or header differ.
    let records = [
      Record("a", "1", headers: [Header("h", "x"), Header("h", "y"), Header("null", nil), Header("empty", [])]),
      Record("a", nil), Record(nil, ""), Record("", "2"),
    ]
    let deliveries = try produceAll(records, to: topic, bootstrapServers: broker.bootstrapServers)
    #expect(deliveries.map(\.offset) == [0, 1, 2, 3])
    let messages = try readAll(topic, bootstrapServers: broker.bootstrapServers)
    #expect(messages.map(\.offset) == [0, 1, 2, 3])
    #expect(messages.map { Record(key: $0.key, value: $0.value, headers: $0.headers) } == records)
    #expect(lastValues(messages) == [[]: [UInt8]("2".utf8)])
  }

  @Test func everyMessageGetsOneReportWithItsToken() async throws {
    let broker = try await Broker.shared()
    let topic = try broker.makeTopic("tokens", partitionCount: 4)
    let producer = try Producer(properties: ["bootstrap.servers": broker.bootstrapServers])
    defer { producer.close(within: .seconds(5)) }
    let tokens = Set((0..<1000).map { UInt64.max - $0 })
    for token in tokens {
      #expect(try producer.produce(topic: topic, key: Array("\(token)".utf8), value: [1], token: token) == .enqueued)
    }
    var reported: [UInt64] = []
    try await waitUntil("all reports") {
      for report in producer.poll(timeout: .milliseconds(20)).deliveries {
        #expect(throws: Never.self) { try report.result.get() }
        reported.append(report.token)
      }
      return reported.count >= tokens.count
    }
    #expect(reported.count == tokens.count)
    #expect(Set(reported) == tokens)
    #expect(producer.outstandingCount == 0)
  }

  @Test func aKeyGoesToThePartitionThatJavaClientsChoose() async throws {
    let broker = try await Broker.shared()
    let topic = try broker.makeTopic("murmur", partitionCount: 10)
    // Values of org.apache.kafka.common.utils.UtilsTest.testMurmur2, as toPositive(hash) % 10.
    let hashes: [(String, Int32)] = [
      ("21", -973_932_308), ("foobar", -790_332_482), ("a-little-bit-long-string", -985_981_536),
      ("a-little-bit-longer-string", -1_486_304_829), ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
    ]
    let deliveries = try produceAll(hashes.map { Record($0.0, "") }, to: topic, bootstrapServers: broker.bootstrapServers)
    #expect(deliveries.map(\.partition) == hashes.map { ($0.1 & 0x7fff_ffff) % 10 })
  }

  @Test func aFullQueueIsAnOutcomeAndATooLargeMessageAnError() throws {
    let producer = try Producer(properties: [
      "bootstrap.servers": "127.0.0.1:1", "queue.buffering.max.messages": "2", "message.max.bytes": "2000",
    ])
    defer { producer.close(within: .seconds(5)) }
    let outcomes = try (0..<3).map { _ in try producer.produce(topic: "t", key: nil, value: [1]) }
    #expect(outcomes == [.enqueued, .enqueued, .queueFull])
    #expect(producer.outstandingCount == 2)
    let error = #expect(throws: KafkaError.self) {
      try producer.produce(topic: "t", key: nil, value: Array(repeating: 0, count: 3000), headers: [Header("h", "x")])
    }
    #expect(error?.code == .messageTooLarge)
    #expect(error?.isRetriable == false)
  }

  @Test func withoutABrokerAFlushEndsInTimeAndTheReportsComeAtTheTimeout() async throws {
    let producer = try Producer(properties: ["bootstrap.servers": "127.0.0.1:1", "message.timeout.ms": "300"])
    #expect(try producer.produce(topic: "t", key: nil, value: [1], token: 7) == .enqueued)
    var result = producer.flush(within: .milliseconds(10))
    #expect(result.deliveries.isEmpty)
    #expect(producer.outstandingCount == 1)
    try await waitUntil("the report") {
      let more = producer.poll(timeout: .milliseconds(20))
      result.deliveries += more.deliveries
      result.errors += more.errors
      return !result.deliveries.isEmpty
    }
    #expect(result.deliveries.map(\.token) == [7])
    let error = #expect(throws: KafkaError.self) { try result.deliveries[0].result.get() }
    #expect(error?.code == .messageTimedOut)
    #expect(result.errors.contains { $0.isRetriable })
    #expect(producer.close(within: .seconds(10)))
    #expect(throws: KafkaError.self) { try producer.produce(topic: "t", key: nil, value: nil) }
  }
}
