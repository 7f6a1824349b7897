import Kafka
package import Logging
package import Settings

/// Sees to it that the topics are there, with the settings that they need.
package struct Topics {
  let settings: Settings
  let logger: Logger

  package init(settings: Settings, logger: Logger) {
    self.settings = settings
    self.logger = logger
  }

  /// What the topics that rodpod writes take: letters are as large as what came in, and lists may name long ids. Below what a broker takes
  /// in one request (100 MiB).
  private static let maximumMessageBytes = 64 << 20

  /// What an operator can do about it.
  private static func hint(_ error: KafkaError) -> String {
    switch error.code {
    case .authentication: "; see sasl.mechanism, sasl.username and sasl.password in kafka.properties, and restart"
    case .tls: "; see security.protocol and ssl.ca.location in kafka.properties, and restart"
    default: ""
    }
  }

  /// Creates what is missing; waits for the broker, up to `patience`.
  ///
  /// - Throws: ``PipelineError`` with `unavailable` when the broker can't be reached or a topic is missing and can't be created.
  package func ensure(patience: Duration, isStopping: () -> Bool, beat: () -> Void = {}) throws {
    let client = try AdminClient(properties: settings.kafka.clientProperties, observers: .logging(to: logger))
    let deadline = ContinuousClock.now + patience
    var metadata: ClusterMetadata?
    while metadata == nil {
      beat()
      do {
        // The connection outlives an attempt, so a slow broker gets there all the same.
        metadata = try client.metadata(within: .seconds(2))
      } catch {
        let explanation = "\(error)\(Self.hint(error))"
        guard ContinuousClock.now < deadline, !isStopping() else {
          throw PipelineError(.unavailable, "Kafka at \(settings.kafka.bootstrapServers) can't be reached: \(explanation)")
        }
        logger.warning("Kafka can't be reached yet", metadata: ["error": "\(explanation)"])
      }
    }
    let topics = settings.topics
    let names = [topics.interactions, topics.items, topics.recommendations, topics.deadLetters]
    let missing = names.filter { metadata?.partitionCounts[$0] == nil }
    guard !missing.isEmpty else { return }
    guard settings.kafka.createTopics else {
      throw PipelineError(
        .unavailable,
        "topics are missing and kafka.create_topics is false: \(missing.joined(separator: ", ")). Create them; those of items and "
          + "recommendations with cleanup.policy=compact")
    }
    let compacted = [topics.items, topics.recommendations]
    let written = [topics.recommendations, topics.deadLetters]
    let specifications = missing.map { name in
      var configuration = ["cleanup.policy": compacted.contains(name) ? "compact" : "delete"]
      if written.contains(name) { configuration["max.message.bytes"] = String(Self.maximumMessageBytes) }
      return TopicSpecification(
        name, partitionCount: topics.partitions, replicationFactor: topics.replicationFactor, configuration: configuration)
    }
    for (name, outcome) in try client.ensureTopics(specifications, within: .seconds(30)) {
      switch outcome {
      case .created: logger.info("a topic was created", metadata: ["topic": "\(name)", "partitions": "\(topics.partitions)"])
      case .alreadyExists: break
      case .refused(let error):
        throw PipelineError(.unavailable, "the topic '\(name)' is missing and can't be created: \(error)")
      }
    }
  }
}
