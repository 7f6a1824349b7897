import CRdKafka

/// librdkafka's built-in brokers, inside this process: for a demonstration without a Kafka, and for tests of faults.
///
/// Each partition keeps its newest 5 MB only, nothing is stored, and a fetch which finds nothing waits its whole `fetch.wait.max.ms`.
/// Topics cannot be made through `AdminClient`: use `createTopic`. The cluster ends with this object.
///
/// `@unchecked Sendable`: the cluster runs on a thread of its own, to which librdkafka hands each of these calls.
public final class MockCluster: @unchecked Sendable {
  /// The requests of Kafka's protocol that can be made to fail, by their numbers there.
  public enum Request: Int16, Sendable {
    case produce = 0
    case fetch = 1
    case listOffsets = 2
    case metadata = 3
    case offsetCommit = 8
    case offsetFetch = 9
    case findCoordinator = 10
    case joinGroup = 11
    case heartbeat = 12
    case initProducerID = 22
  }

  /// Addresses for `bootstrap.servers`.
  public let bootstrapServers: String
  public let brokerCount: Int

  private let handle: ClientHandle
  private let cluster: OpaquePointer

  public init(brokerCount: Int = 1, observers: ClientObservers = ClientObservers()) throws(KafkaError) {
    handle = try ClientHandle(type: RD_KAFKA_PRODUCER, properties: [:], observers: observers)
    guard let cluster = rd_kafka_mock_cluster_new(handle.pointer, Int32(brokerCount)) else {
      throw KafkaError(code: .wrongState, message: "the mock cluster could not start")
    }
    self.cluster = cluster
    self.brokerCount = brokerCount
    bootstrapServers = String(cString: rd_kafka_mock_cluster_bootstraps(cluster))
  }

  deinit { rd_kafka_mock_cluster_destroy(cluster) }

  public func createTopic(_ name: String, partitionCount: Int) throws(KafkaError) {
    try KafkaError.check(
      rd_kafka_mock_topic_create(cluster, name, Int32(partitionCount), Int32(min(brokerCount, 3))), "create \(name)")
  }

  /// The next requests of this kind fail, one with each of the errors. `transport` has the broker close the connection.
  public func fail(_ request: Request, with codes: [KafkaError.Code]) {
    rd_kafka_mock_push_request_errors_array(cluster, request.rawValue, codes.count, codes.map(\.raw))
  }

  /// Hands a partition to another broker (numbered from 1), as an election does.
  public func setLeader(of partition: TopicPartition, to broker: Int) throws(KafkaError) {
    try KafkaError.check(
      rd_kafka_mock_partition_set_leader(cluster, partition.topic, partition.partition, Int32(broker)), "leader of \(partition)")
  }

  /// Disconnects the clients of a broker (numbered from 1) and lets none in any more. There is no way back: its port may be another socket's
  /// by then, on which librdkafka ends the process.
  public func takeDown(broker id: Int) throws(KafkaError) {
    try KafkaError.check(rd_kafka_mock_broker_set_down(cluster, Int32(id)), "broker \(id) down")
  }

  /// Lets each answer of a broker wait. It slows a client down without failing it.
  public func setRoundTripTime(_ duration: Duration, ofBroker id: Int) throws(KafkaError) {
    try KafkaError.check(rd_kafka_mock_broker_set_rtt(cluster, Int32(id), duration.milliseconds), "round-trip time of broker \(id)")
  }
}
