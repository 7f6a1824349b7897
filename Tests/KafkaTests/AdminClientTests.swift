import Kafka
import Testing
import TestBroker
import TestSupport

@Suite struct AdminClientTests {
  @Test func missingTopicsAreMadeAsSpecifiedAndExistingOnesLeftAlone() async throws {
    let broker = try await Broker.shared()
    let admin = try AdminClient(properties: ["bootstrap.servers": broker.bootstrapServers])
    let old = try broker.makeTopic("old", partitionCount: 2)
    let new = uniqueName("new")
    let outcomes = try admin.ensureTopics(
      [
        TopicSpecification(old, partitionCount: 5),
        TopicSpecification(new, partitionCount: 3, replicationFactor: 1, configuration: ["cleanup.policy": "compact"]),
        TopicSpecification("not/a/name", partitionCount: 1),
      ], within: .seconds(20))
    #expect(outcomes[old] == .alreadyExists(partitionCount: 2))
    #expect(outcomes[new] == .created)
    guard case .refused(let error) = outcomes["not/a/name"] else { Issue.record("\(outcomes)"); return }
    #expect(!error.message.isEmpty)
    #expect(try admin.topicConfiguration(new, within: .seconds(10))["cleanup.policy"] == "compact")
    #expect(try admin.topicConfiguration(old, within: .seconds(10))["cleanup.policy"] == "delete")
    try await waitUntil("the new topic is seen") { try admin.metadata(within: .seconds(10)).partitionCounts[new] == 3 }
  }

  @Test func aDeletedTopicIsGone() async throws {
    let broker = try await Broker.shared()
    let admin = try AdminClient(properties: ["bootstrap.servers": broker.bootstrapServers])
    let topic = try broker.makeTopic("gone")
    let missing = uniqueName("never")
    let refused = try admin.deleteTopics([topic, missing], within: .seconds(20))
    #expect(refused.keys.sorted() == [missing])
    #expect(refused[missing]?.code == .unknownTopicOrPartition)
    try await waitUntil("the topic is gone") { try admin.metadata(within: .seconds(5)).partitionCounts[topic] == nil }
  }

  @Test func anAbsentGroupHasNoMembers() async throws {
    let broker = try await Broker.shared()
    let admin = try AdminClient(properties: ["bootstrap.servers": broker.bootstrapServers])
    #expect(try admin.groupMembers(uniqueName("nobody"), within: .seconds(10)).isEmpty)
  }

  @Test func anUnreachableClusterIsARetriableErrorWithinTheBound() throws {
    let admin = try AdminClient(properties: ["bootstrap.servers": "127.0.0.1:1"])
    let error = #expect(throws: KafkaError.self) { try admin.metadata(within: .milliseconds(200)) }
    #expect(error?.isRetriable == true)
  }
}
