import Kafka
import Logging
import Pipeline
import Settings

/// Writes records to Kafka, at a bounded rate, and counts what the broker has acknowledged.
final class EventSender {
  private let producer: Producer
  private let servers: String
  private let rate: Double?
  private let start = ContinuousClock.now
  private(set) var sent = 0
  private(set) var acknowledged = 0
  /// The first record that the broker did not take.
  private var failure: KafkaError?

  /// Makes the daemon's topics where they are missing and may be made.
  ///
  /// - Parameter rate: records a second at most; nil is as fast as the broker takes them.
  /// - Throws: ``PipelineError`` with `unavailable` when the broker can't be reached, `configuration` for a wrong `kafka.properties`.
  init(settings: Settings, rate: Double?) throws(PipelineError) {
    self.rate = rate
    servers = settings.kafka.bootstrapServers
    do {
      producer = try Producer(properties: settings.kafka.producerProperties)
      try Topics(settings: settings, logger: Logger(label: "rodpod"))
        .ensure(patience: .seconds(10), isStopping: { false })
    } catch {
      throw PipelineError(clientError: error, servers: servers)
    }
  }

  /// Queues a record; waits while the rate or the queue's room demands it.
  ///
  /// - Parameter timestamp: milliseconds since 1970; nil is now.
  /// - Throws: ``PipelineError`` with `unavailable` when the broker takes no more.
  func send(
    _ topic: String, key: [UInt8]?, value: [UInt8]?, headers: [Header] = [], timestamp: Int64? = nil
  ) throws(PipelineError) {
    if let rate {
      let due = start + .seconds(Double(sent) / rate)
      while ContinuousClock.now < due { take(producer.poll(timeout: due - .now)) }
    }
    do {
      while case .queueFull = try producer.produce(topic: topic, key: key, value: value, headers: headers, timestamp: timestamp) {
        take(producer.poll(timeout: .milliseconds(100)))
      }
    } catch {
      throw PipelineError(.unavailable, "Kafka at \(servers) does not take a record of \(topic): \(error)")
    }
    sent += 1
    take(producer.poll(timeout: .zero))
    try check()
  }

  /// Waits until the broker has all.
  func finish() throws(PipelineError) {
    let deadline = ContinuousClock.now + .seconds(60)
    while producer.outstandingCount > 0, producer.fatalError == nil, ContinuousClock.now < deadline {
      take(producer.flush(within: .milliseconds(500)))
    }
    try check()
    guard producer.outstandingCount == 0 else {
      throw PipelineError(
        .unavailable, "Kafka at \(servers) has acknowledged \(acknowledged) of \(sent) records: \(producer.fatalError?.description ?? "no answer")")
    }
  }

  func close() { producer.close(within: .seconds(2)) }

  private func take(_ result: ProducerPollResult) {
    for report in result.deliveries {
      switch report.result {
      case .success: acknowledged += 1
      case .failure(let error): failure = failure ?? error
      }
    }
  }

  private func check() throws(PipelineError) {
    if let failure { throw PipelineError(.unavailable, "Kafka at \(servers) has not taken a record: \(failure)") }
  }
}

extension PipelineError {
  /// What a client of Kafka could not do before it ran.
  init(clientError error: any Error, servers: String) {
    switch error {
    case let error as KafkaError where error.code == .invalidConfiguration: self.init(.configuration, "kafka.properties: \(error)")
    case let error as KafkaError: self.init(.unavailable, "Kafka at \(servers) can't be reached: \(error)")
    default: self.init(error)
    }
  }
}
