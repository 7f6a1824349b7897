import Kafka
import TestBroker
import TestSupport

extension Broker {
  /// Makes a topic of this test's own.
  func makeTopic(_ prefix: String, partitionCount: Int = 1, configuration: [String: String] = [:]) throws -> String {
    let topic = uniqueName(prefix)
    let admin = try AdminClient(properties: ["bootstrap.servers": bootstrapServers])
    let outcome = try admin.ensureTopics(
      [TopicSpecification(topic, partitionCount: partitionCount, configuration: configuration)], within: .seconds(20))
    guard outcome[topic] == .created else { throw ConditionNotMet(description: "\(topic): \(String(describing: outcome[topic]))") }
    return topic
  }

  /// Properties of a consumer which notices quickly.
  func consumerProperties(group: String, _ more: [String: String] = [:]) -> [String: String] {
    [
      "bootstrap.servers": bootstrapServers, "group.id": group, "fetch.wait.max.ms": "20", "session.timeout.ms": "6000",
      "heartbeat.interval.ms": "500",
    ].merging(more) { $1 }
  }
}

/// What a consumer under test was told and has read, in order.
final class Recording {
  enum Event: Equatable {
    case assigned([TopicPartition])
    case message(OwnedMessage)
    case revoked([TopicPartition], lost: Bool)
  }

  var events: [Event] = []
  var start: [TopicPartition: StartPosition] = [:]
  var onRevoke: (Consumer) -> Void = { _ in }

  var messages: [OwnedMessage] {
    events.compactMap { if case .message(let message) = $0 { message } else { nil } }
  }

  var offsets: [Int64] { messages.map(\.offset) }

  var handlers: RebalanceHandlers {
    RebalanceHandlers(
      assigned: { [self] _, partitions in
        events.append(.assigned(partitions))
        return start
      },
      revoked: { [self] consumer, partitions, lost in
        onRevoke(consumer)
        events.append(.revoked(partitions, lost: lost))
      })
  }

  /// Polls once and notes the messages.
  @discardableResult
  func poll(_ consumer: Consumer, maximumCount: Int = 1000, timeout: Duration = .milliseconds(20)) -> PollResult {
    consumer.poll(maximumCount: maximumCount, timeout: timeout) { events.append(.message($0.copy())) }
  }
}
