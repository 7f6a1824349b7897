import Kafka
import Logging
import Settings
import Synchronization

extension Settings.Kafka {
  /// What every client needs: the connection, then whatever is passed through.
  package var clientProperties: [String: String] {
    ["bootstrap.servers": bootstrapServers, "client.id": clientID, "socket.nagle.disable": "true"].merging(properties) { $1 }
  }

  var consumerProperties: [String: String] {
    var result = [
      "group.id": groupID, "partition.assignment.strategy": "range",
      "auto.offset.reset": startAt == .earliest ? "earliest" : "latest",
      "queued.max.messages.kbytes": String(max(1, queuedMaxBytes / 1024)),
      // A broker that answers as soon as it has one event makes a round trip of nearly every event, at the cost of a third of a core at 2,000
      // events a second on either side. So it gathers them, but not for long.
      "fetch.min.bytes": "65536", "fetch.wait.max.ms": "4",
    ]
    // Static membership: a restarted daemon takes its partitions up again without a rebalance.
    if !groupInstanceID.isEmpty { result["group.instance.id"] = groupInstanceID }
    return result.merging(clientProperties.filter { !Self.producerOnly.contains($0.key) }) { $1 }
  }

  /// Of a consumer beside the daemon's, that reads a topic to its end.
  package func readerProperties(group: String) -> [String: String] {
    let wanted = ["group.id": group, "enable.partition.eof": "true", "auto.offset.reset": "earliest", "fetch.wait.max.ms": "100"]
    return clientProperties.filter { !Self.producerOnly.contains($0.key) && $0.key != "group.instance.id" }.merging(wanted) { $1 }
  }

  /// How large a message may be is the topic's to say, hence librdkafka's highest bound.
  package var producerProperties: [String: String] {
    ["linger.ms": "1", "compression.type": "lz4", "message.max.bytes": "1000000000"]
      .merging(clientProperties.filter { !Self.consumerOnly.contains($0.key) }) { $1 }
  }

  private static let producerOnly: Set<String> = [
    "acks", "batch.size", "batch.num.messages", "compression.codec", "compression.level", "compression.type", "delivery.timeout.ms",
    "enable.gapless.guarantee", "enable.idempotence", "linger.ms", "max.in.flight", "message.timeout.ms", "partitioner",
    "queue.buffering.max.kbytes", "queue.buffering.max.messages", "queue.buffering.max.ms", "request.required.acks", "request.timeout.ms",
    "retries", "retry.backoff.ms", "transactional.id",
  ]
  private static let consumerOnly: Set<String> = [
    "auto.offset.reset", "check.crcs", "fetch.error.backoff.ms", "fetch.max.bytes", "fetch.message.max.bytes", "fetch.min.bytes",
    "fetch.wait.max.ms", "group.id", "group.instance.id", "heartbeat.interval.ms", "isolation.level", "max.partition.fetch.bytes",
    "max.poll.interval.ms", "partition.assignment.strategy", "queued.max.messages.kbytes", "queued.min.messages", "session.timeout.ms",
  ]
}

extension KafkaError {
  /// What somebody has to allow does not pass by itself.
  var logLevel: Logger.Level { code.isRefusal ? .error : .warning }
}

extension ClientObservers {
  /// librdkafka's own lines go to the daemon's log (they come on its threads), and the time that brokers' quotas take to its figures.
  static func daemon(_ logger: Logger, _ metrics: PipelineMetrics) -> ClientObservers {
    let lastWarning = Mutex(ContinuousClock.Instant?.none)
    var observers = logging(to: logger)
    observers.throttled = { duration in
      guard duration > .zero else { return }
      metrics.throttled(for: duration)
      let isDue = lastWarning.withLock { last in
        guard last.map({ ContinuousClock.now - $0 >= .seconds(60) }) ?? true else { return false }
        last = .now
        return true
      }
      if isDue { logger.warning("Kafka holds this client back: it is over its quota", metadata: ["for": "\(duration)"]) }
    }
    return observers
  }

  /// librdkafka's own lines, by their severity.
  static func logging(to logger: Logger) -> ClientObservers {
    ClientObservers(log: { line in
      let level: Logger.Level =
        switch line.severity {
        case ...2: .critical
        case 3: .error
        case 4: .warning
        case 5: .notice
        case 6: .info
        default: .debug
        }
      logger.log(level: level, "\(line.message)", metadata: ["facility": "\(line.facility)"])
    })
  }
}
