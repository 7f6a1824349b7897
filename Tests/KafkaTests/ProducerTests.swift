import Kafka
import Testing
import TestSupport

@Suite struct ProducerTests {
  @Test func whatWasProducedIsReadBackWhole() async throws {
    let broker = try await Broker.shared()
    let topic = uniqueName("whole")
    let admin = try AdminClient(properties: ["bootstrap.servers": broker.bootstrapServers])
    _ = try admin.ensureTopics([TopicSpecification(topic, partitionCount: 1)], within: .seconds(20))
    let records = [
      Record("a", "1", headers: [Header("h", "x"), Header("h", "y"), Header("null", nil), Header("empty", [])]),
      Record("a", nil), Record(nil, ""), Record("", "2"),
    ]
    let deliveries = try produceAll(records, to: topic, bootstrapServers: broker.bootstrapServers)
    #expect(deliveries.map(\.offset) == [0, 1, 2, 3])
    let messages = try readAll(topic, bootstrapServers: broker.bootstrapServers)
    #expect(messages.map(\.offset) == [0, 1, 2, 3])
    #expect(messages.map { Record(key: $0.key, value: $0.value, headers: $0.headers) } == records)
  }
}
