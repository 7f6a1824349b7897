import CRdKafka

/// One partition of a topic.
public struct TopicPartition: Hashable, Sendable, Comparable, CustomStringConvertible {
  public var topic: String
  public var partition: Int32

  public init(_ topic: String, _ partition: Int32) {
    self.topic = topic
    self.partition = partition
  }

  public static func < (a: Self, b: Self) -> Bool { (a.topic, a.partition) < (b.topic, b.partition) }

  public var description: String { "\(topic)[\(partition)]" }
}

/// Where the reading of a partition starts.
public enum StartPosition: Hashable, Sendable {
  /// The offset of the first message to read.
  case offset(Int64)
  case beginning
  case end
  /// The offset committed to Kafka by the group; without one, what `auto.offset.reset` says.
  case committed

  var raw: Int64 {
    switch self {
    case .offset(let offset): offset
    case .beginning: Int64(RD_KAFKA_OFFSET_BEGINNING)
    case .end: Int64(RD_KAFKA_OFFSET_END)
    case .committed: Int64(RD_KAFKA_OFFSET_STORED)
    }
  }
}

/// Offsets of a partition's log: `low` is the first message still there, `high` the one that is written next.
public struct Watermarks: Hashable, Sendable {
  public let low: Int64
  public let high: Int64

  public init(low: Int64, high: Int64) {
    self.low = low
    self.high = high
  }
}

/// Calls `body` with a C list of partitions. Those without an offset get librdkafka's "invalid" one.
func withPartitionList<R, E: Error>(
  _ partitions: some Sequence<(key: TopicPartition, value: Int64)>,
  _ body: (UnsafeMutablePointer<rd_kafka_topic_partition_list_t>) throws(E) -> R
) throws(E) -> R {
  guard let list = rd_kafka_topic_partition_list_new(8) else { fatalError("out of memory") }
  defer { rd_kafka_topic_partition_list_destroy(list) }
  for (key, offset) in partitions {
    rd_kafka_topic_partition_list_add(list, key.topic, key.partition).pointee.offset = offset
  }
  return try body(list)
}

func withPartitionList<R, E: Error>(
  _ partitions: some Sequence<TopicPartition>, _ body: (UnsafeMutablePointer<rd_kafka_topic_partition_list_t>) throws(E) -> R
) throws(E) -> R {
  try withPartitionList(partitions.map { ($0, Int64(RD_KAFKA_OFFSET_INVALID)) }, body)
}

extension UnsafeMutablePointer<rd_kafka_topic_partition_list_t> {
  var elements: UnsafeBufferPointer<rd_kafka_topic_partition_t> {
    UnsafeBufferPointer(start: pointee.elems, count: Int(pointee.cnt))
  }

  var topicPartitions: [TopicPartition] { elements.map(\.topicPartition) }

  /// The first error among the list's partitions.
  var firstError: rd_kafka_resp_err_t? {
    elements.lazy.map(\.err).first { $0 != RD_KAFKA_RESP_ERR_NO_ERROR }
  }
}

extension rd_kafka_topic_partition_t {
  var topicPartition: TopicPartition { TopicPartition(String(cString: topic), partition) }
}
