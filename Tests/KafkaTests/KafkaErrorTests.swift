import Kafka
import Testing

@Suite struct KafkaErrorTests {
  @Test func codesHaveTheirNames() {
    #expect(KafkaError.Code.illegalGeneration.description == "ILLEGAL_GENERATION")
    #expect(KafkaError.Code.transport.description == "_TRANSPORT")
  }

  @Test func onlyWhatPassesByItselfIsRetriable() {
    #expect(KafkaError(code: .transport, message: "").isRetriable)
    #expect(KafkaError(code: .coordinatorLoading, message: "").isRetriable)
    #expect(!KafkaError(code: .messageTooLarge, message: "").isRetriable)
    #expect(!KafkaError(code: .topicAuthorizationFailed, message: "").isRetriable)
    #expect(!KafkaError(code: .transport, message: "", isFatal: true).isRetriable)
  }

  @Test(arguments: [
    ["no.such.property": "1"],
    ["session.timeout.ms": "soon"],
    ["partition.assignment.strategy": "cooperative-sticky"],
    ["client.rack": "a"],
    ["log_level": "3"],
    ["client.id": String(repeating: "x", count: 129)],
    ["auto.offset.reset": "sometimes"],
  ])
  func aBadOrDangerousPropertyIsRefusedByName(properties: [String: String]) {
    let error = #expect(throws: KafkaError.self) { try Consumer(properties: properties) }
    #expect(error?.code == .invalidConfiguration)
    #expect(properties.keys.allSatisfy { error?.message.contains($0) == true })
  }
}
