import Kafka
import TestSupport

/// A message to write in a test. The value nil is a tombstone.
public struct Record: Sendable, Equatable {
  public var key: [UInt8]?
  public var value: [UInt8]?
  public var headers: [Header]
  public var partition: Int32?

  public init(key: [UInt8]?, value: [UInt8]?, headers: [Header] = [], partition: Int32? = nil) {
    self.key = key
    self.value = value
    self.headers = headers
    self.partition = partition
  }

  public init(_ key: String?, _ value: String?, headers: [Header] = [], partition: Int32? = nil) {
    self.init(key: key.map { Array($0.utf8) }, value: value.map { Array($0.utf8) }, headers: headers, partition: partition)
  }
}

/// Writes the records in their order and returns when the broker has acknowledged all of them.
/// - Returns: where each has come to lie, in the order of the records.
@discardableResult
public func produceAll(
  _ records: some Sequence<Record>, to topic: String, bootstrapServers: String, within bound: Duration = .seconds(60)
) throws -> [Delivery] {
  let producer = try Producer(properties: ["bootstrap.servers": bootstrapServers, "linger.ms": "1"])
  defer { producer.close(within: .seconds(5)) }
  var deliveries: [UInt64: Delivery] = [:]
  func take(_ result: ProducerPollResult) throws {
    for report in result.deliveries { deliveries[report.token] = try report.result.get() }
  }
  let deadline = ContinuousClock.now + bound
  var count: UInt64 = 0
  for record in records {
    while try producer.produce(
      topic: topic, partition: record.partition, key: record.key, value: record.value, headers: record.headers, token: count)
      == .queueFull
    {
      guard ContinuousClock.now < deadline else { throw ConditionNotMet(description: "the producer's queue stays full") }
      try take(producer.poll(timeout: .milliseconds(100)))
    }
    count += 1
  }
  while deliveries.count < Int(count) {
    guard ContinuousClock.now < deadline else {
      throw ConditionNotMet(description: "\(deliveries.count) of \(count) messages acknowledged within \(bound)")
    }
    try take(producer.flush(within: .milliseconds(100)))
  }
  return (0..<count).compactMap { deliveries[$0] }
}

/// Reads every message that a topic holds at the time of the call, in the order of partition and offset.
public func readAll(_ topic: String, bootstrapServers: String, within bound: Duration = .seconds(60)) throws -> [OwnedMessage] {
  let admin = try AdminClient(properties: ["bootstrap.servers": bootstrapServers])
  guard let partitionCount = try admin.metadata(within: bound).partitionCounts[topic] else { return [] }
  let consumer = try Consumer(properties: [
    "bootstrap.servers": bootstrapServers, "group.id": uniqueName("reader"), "enable.partition.eof": "true",
    "fetch.wait.max.ms": "50",
  ])
  defer { consumer.close(within: .seconds(5)) }
  var unfinished = Set((0..<partitionCount).map { TopicPartition(topic, Int32($0)) })
  try consumer.assign(Dictionary(uniqueKeysWithValues: unfinished.map { ($0, .beginning) }))
  var messages: [OwnedMessage] = []
  let deadline = ContinuousClock.now + bound
  while !unfinished.isEmpty {
    guard ContinuousClock.now < deadline else { throw ConditionNotMet(description: "\(topic) not read to its end within \(bound)") }
    let result = consumer.poll(maximumCount: 10_000, timeout: .milliseconds(100)) { messages.append($0.copy()) }
    unfinished.subtract(result.endOfPartition)
    if let fatal = consumer.fatalError { throw fatal }
  }
  return messages.sorted { ($0.partition, $0.offset) < ($1.partition, $1.offset) }
}

/// The last value of each key, as a compacted topic would keep it: keys whose last message is a tombstone are left out.
public func lastValues(_ messages: [OwnedMessage]) -> [[UInt8]: [UInt8]] {
  var values: [[UInt8]: [UInt8]] = [:]
  for message in messages { if let key = message.key { values[key] = message.value } }
  return values
}
