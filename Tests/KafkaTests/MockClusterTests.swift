import Kafka
import Testing
import TestBroker
import TestSupport

@Suite struct MockClusterTests {
  private func consumerProperties(_ cluster: MockCluster) -> [String: String] {
    [
      "bootstrap.servers": cluster.bootstrapServers, "group.id": "g", "fetch.wait.max.ms": "20", "reconnect.backoff.ms": "20",
      "reconnect.backoff.max.ms": "50",
    ]
  }

  private func produce(_ values: Range<UInt8>, _ cluster: MockCluster) throws {
    try produceAll(values.map { Record(key: [$0], value: [$0]) }, to: "t", bootstrapServers: cluster.bootstrapServers)
  }

  @Test func aGroupReadsWhatWasProduced() async throws {
    let cluster = try MockCluster()
    try cluster.createTopic("t", partitionCount: 2)
    try produce(0..<20, cluster)
    let recording = Recording()
    let consumer = try Consumer(properties: consumerProperties(cluster), handlers: recording.handlers)
    try consumer.subscribe(["t"])
    try await waitUntil("all messages") {
      recording.poll(consumer)
      return recording.messages.count >= 20
    }
    #expect(Set(recording.messages.map(\.value)) == Set((0..<20).map { [$0] }))
    #expect(recording.events.first == .assigned([TopicPartition("t", 0), TopicPartition("t", 1)]))
    #expect(consumer.close(within: .seconds(10)))
    let admin = try AdminClient(properties: ["bootstrap.servers": cluster.bootstrapServers])
    #expect(try admin.metadata(within: .seconds(10)).partitionCounts["t"] == 2)
  }

  @Test func aRefusedCommitIsReportedAndTheConsumerGoesOn() async throws {
    let cluster = try MockCluster()
    try cluster.createTopic("t", partitionCount: 1)
    try produce(0..<2, cluster)
    let recording = Recording()
    let consumer = try Consumer(properties: consumerProperties(cluster), handlers: recording.handlers)
    defer { consumer.close(within: .seconds(5)) }
    try consumer.subscribe(["t"])
    try await waitUntil("the messages") {
      recording.poll(consumer)
      return recording.messages.count == 2
    }
    cluster.fail(.offsetCommit, with: [.groupAuthorizationFailed])
    try consumer.commit([TopicPartition("t", 0): 1])
    var failures: [KafkaError] = []
    try await waitUntil("the refusal") {
      failures += recording.poll(consumer).commitFailures
      return !failures.isEmpty
    }
    #expect(failures.map(\.code) == [.groupAuthorizationFailed])
    try consumer.commit([TopicPartition("t", 0): 2])
    try await waitUntil("the next commit") {
      failures += recording.poll(consumer).commitFailures
      return try consumer.committedOffsets(of: [TopicPartition("t", 0)], within: .seconds(5)) == [TopicPartition("t", 0): 2]
    }
    #expect(failures.count == 1)
  }

  @Test func aPassingErrorIsRetriedAndTheMessageArrivesOnce() async throws {
    let cluster = try MockCluster()
    try cluster.createTopic("t", partitionCount: 1)
    cluster.fail(.produce, with: [.notLeader, .transport, .coordinatorLoading])
    cluster.fail(.initProducerID, with: [.coordinatorLoading])
    try produce(0..<5, cluster)
    #expect(try readAll("t", bootstrapServers: cluster.bootstrapServers).map(\.value) == (0..<5).map { [$0] })
  }

  @Test func aFencedProducerIsFatalAndItsSuccessorDelivers() async throws {
    let cluster = try MockCluster()
    try cluster.createTopic("t", partitionCount: 1)
    let producer = try Producer(properties: ["bootstrap.servers": cluster.bootstrapServers])
    cluster.fail(.produce, with: [.outOfOrderSequenceNumber])
    #expect(try producer.produce(topic: "t", key: [1], value: [1], token: 1) == .enqueued)
    var result = ProducerPollResult()
    try await waitUntil("the report and the fatal error") {
      let more = producer.poll(timeout: .milliseconds(20))
      result.deliveries += more.deliveries
      result.errors += more.errors
      return !result.deliveries.isEmpty && result.errors.contains { $0.isFatal }
    }
    #expect(throws: KafkaError.self) { try result.deliveries[0].result.get() }
    #expect(producer.fatalError?.isFatal == true)
    let error = #expect(throws: KafkaError.self) { try producer.produce(topic: "t", key: [1], value: [1]) }
    #expect(error?.isFatal == true)
    #expect(error?.isRetriable == false)
    #expect(producer.close(within: .seconds(10)))
    try produce(1..<2, cluster)
  }

  @Test func aTopicThatCannotBeMadeIsRefusedWithItsReason() throws {
    let cluster = try MockCluster()
    let admin = try AdminClient(properties: ["bootstrap.servers": cluster.bootstrapServers])
    let outcomes = Result { try admin.ensureTopics([TopicSpecification("t", partitionCount: 1)], within: .seconds(2)) }
    #expect(throws: KafkaError.self) { try outcomes.get() }
  }

  @Test func closingEndsInTimeWithoutABroker() async throws {
    let cluster = try MockCluster()
    try cluster.createTopic("t", partitionCount: 1)
    try produce(0..<1, cluster)
    let recording = Recording()
    let consumer = try Consumer(properties: consumerProperties(cluster), handlers: recording.handlers)
    try consumer.subscribe(["t"])
    try await waitUntil("a message") {
      recording.poll(consumer)
      return !recording.messages.isEmpty
    }
    try cluster.takeDown(broker: 1)
    let clock = ContinuousClock()
    let start = clock.now
    consumer.close(within: .milliseconds(500))
    #expect(clock.now - start < .seconds(5))
    #expect(recording.events.last == .revoked([TopicPartition("t", 0)], lost: false))
  }
}
