import CRdKafka

/// A topic as it should be made.
public struct TopicSpecification: Hashable, Sendable {
  public var name: String
  public var partitionCount: Int
  /// -1 is the broker's default.
  public var replicationFactor: Int
  /// Kafka's topic configuration, for example `cleanup.policy`.
  public var configuration: [String: String]

  public init(_ name: String, partitionCount: Int, replicationFactor: Int = -1, configuration: [String: String] = [:]) {
    self.name = name
    self.partitionCount = partitionCount
    self.replicationFactor = replicationFactor
    self.configuration = configuration
  }
}

/// What became of a topic that should exist.
public enum TopicCreation: Sendable, Equatable {
  case created
  /// It was there before, with this many partitions.
  case alreadyExists(partitionCount: Int)
  case refused(KafkaError)
}

/// What a cluster says about itself.
public struct ClusterMetadata: Sendable {
  public struct Broker: Hashable, Sendable {
    public let id: Int32
    public let host: String
    public let port: Int32
  }

  public let brokers: [Broker]
  /// Partition counts by topic; topics which the broker reports with an error are left out.
  public let partitionCounts: [String: Int]
}

/// A member of a consumer group, as the broker knows it.
public struct GroupMember: Hashable, Sendable {
  public let id: String
  public let clientID: String
  public let host: String
}

/// Questions to the cluster and changes of its topics. The calls block; they may come from any thread.
public final class AdminClient: Sendable {
  private let handle: ClientHandle

  private var client: OpaquePointer { handle.pointer }

  /// - Throws: `invalidConfiguration`.
  public init(properties: [String: String], observers: ClientObservers = ClientObservers()) throws(KafkaError) {
    handle = try ClientHandle(type: RD_KAFKA_PRODUCER, properties: properties, observers: observers)
  }

  /// The brokers and topics of the cluster. That it answers shows that the cluster can be reached and lets this client in.
  /// - Throws: `authentication` or `tls` when that is why nothing was answered.
  public func metadata(within timeout: Duration) throws(KafkaError) -> ClusterMetadata {
    var result: UnsafePointer<rd_kafka_metadata>?
    // All topics: to ask for one would have a broker with automatic creation make it.
    let code = rd_kafka_metadata(client, 1, nil, &result, timeout.milliseconds)
    if code != RD_KAFKA_RESP_ERR_NO_ERROR {
      rd_kafka_poll(client, 0)
      if let cause = handle.context.takeErrors().last(where: { [.authentication, .tls].contains($0.code) }) { throw cause }
    }
    try KafkaError.check(code, "metadata", client: client)
    guard let metadata = result?.pointee else { return ClusterMetadata(brokers: [], partitionCounts: [:]) }
    defer { rd_kafka_metadata_destroy(result) }
    let brokers = UnsafeBufferPointer(start: metadata.brokers, count: Int(metadata.broker_cnt))
    let topics = UnsafeBufferPointer(start: metadata.topics, count: Int(metadata.topic_cnt))
    return ClusterMetadata(
      brokers: brokers.map { .init(id: $0.id, host: String(cString: $0.host), port: $0.port) },
      partitionCounts: Dictionary(
        topics.filter { $0.err == RD_KAFKA_RESP_ERR_NO_ERROR }.map { (String(cString: $0.topic), Int($0.partition_cnt)) },
        uniquingKeysWith: max))
  }

  /// Makes those of the topics that do not exist. Existing ones are left as they are.
  /// - Throws: when the cluster cannot be asked at all. What it refuses for one topic is that topic's outcome.
  public func ensureTopics(
    _ topics: [TopicSpecification], within timeout: Duration
  ) throws(KafkaError) -> [String: TopicCreation] {
    let present = try metadata(within: timeout).partitionCounts
    var outcomes: [String: TopicCreation] = [:]
    var requests: [OpaquePointer?] = []
    defer { rd_kafka_NewTopic_destroy_array(&requests, requests.count) }
    for topic in topics {
      if let partitionCount = present[topic.name] {
        outcomes[topic.name] = .alreadyExists(partitionCount: partitionCount)
        continue
      }
      let (request, message) = withMessageBuffer {
        rd_kafka_NewTopic_new(topic.name, Int32(clamping: topic.partitionCount), Int32(clamping: topic.replicationFactor), $0, $1)
      }
      guard let request else {
        outcomes[topic.name] = .refused(KafkaError(code: .invalidConfiguration, message: message))
        continue
      }
      requests.append(request)
      for (name, value) in topic.configuration.sorted(by: { $0.key < $1.key }) {
        try KafkaError.check(rd_kafka_NewTopic_set_config(request, name, value), "\(topic.name): \(name)=\(value)")
      }
    }
    guard !requests.isEmpty else { return outcomes }
    let answers = try perform(RD_KAFKA_ADMIN_OP_CREATETOPICS, within: timeout) { options, queue in
      rd_kafka_CreateTopics(client, &requests, requests.count, options, queue)
    } read: { event in
      var count = 0
      let results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count)
      return topicErrors(results, count)
    }
    for (name, error) in answers {
      // Somebody else may have made it in the meantime, or made it without letting this client see it.
      outcomes[name] =
        switch error {
        case nil: .created
        case let error? where error.code == .topicAlreadyExists:
          .alreadyExists(partitionCount: topics.first { $0.name == name }?.partitionCount ?? 0)
        case let error?: .refused(error)
        }
    }
    return outcomes
  }

  /// Raises a topic's number of partitions.
  public func raisePartitions(of topic: String, to count: Int, within timeout: Duration) throws(KafkaError) {
    let (request, message) = withMessageBuffer { rd_kafka_NewPartitions_new(topic, count, $0, $1) }
    guard let request else { throw KafkaError(code: .invalidConfiguration, message: message) }
    defer { rd_kafka_NewPartitions_destroy(request) }
    var requests: [OpaquePointer?] = [request]
    let answers = try perform(RD_KAFKA_ADMIN_OP_CREATEPARTITIONS, within: timeout) { options, queue in
      rd_kafka_CreatePartitions(client, &requests, 1, options, queue)
    } read: { event in
      var count = 0
      let results = rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(event), &count)
      return topicErrors(results, count)
    }
    for case let error? in answers.values { throw error }
  }

  /// Deletes topics with all that is in them.
  /// - Returns: why not, for those that were not deleted.
  @discardableResult
  public func deleteTopics(_ names: [String], within timeout: Duration) throws(KafkaError) -> [String: KafkaError] {
    var requests: [OpaquePointer?] = names.map { rd_kafka_DeleteTopic_new($0) }
    defer { rd_kafka_DeleteTopic_destroy_array(&requests, requests.count) }
    let answers = try perform(RD_KAFKA_ADMIN_OP_DELETETOPICS, within: timeout) { options, queue in
      rd_kafka_DeleteTopics(client, &requests, requests.count, options, queue)
    } read: { event in
      var count = 0
      let results = rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &count)
      return topicErrors(results, count)
    }
    return answers.compactMapValues { $0 }
  }

  /// The settings of a topic as they apply, defaults among them.
  public func topicConfiguration(_ name: String, within timeout: Duration) throws(KafkaError) -> [String: String] {
    var request = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, name)
    defer { rd_kafka_ConfigResource_destroy(request) }
    let answer: Result<[String: String], KafkaError> = try perform(RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, within: timeout) {
      options, queue in
      rd_kafka_DescribeConfigs(client, &request, 1, options, queue)
    } read: { event in
      var count = 0
      guard
        let resources = rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event), &count), count > 0,
        let resource = resources[0]
      else { return .success([:]) }
      let code = rd_kafka_ConfigResource_error(resource)
      guard code == RD_KAFKA_RESP_ERR_NO_ERROR else {
        return .failure(KafkaError(code, rd_kafka_ConfigResource_error_string(resource).map { String(cString: $0) }))
      }
      var entryCount = 0
      let entries = rd_kafka_ConfigResource_configs(resource, &entryCount)
      var settings: [String: String] = [:]
      for entry in UnsafeBufferPointer(start: entries, count: entryCount) {
        guard let name = rd_kafka_ConfigEntry_name(entry), let value = rd_kafka_ConfigEntry_value(entry) else { continue }
        settings[String(cString: name)] = String(cString: value)
      }
      return .success(settings)
    }
    return try answer.get()
  }

  /// The members of a consumer group; none when there is no such group.
  public func groupMembers(_ group: String, within timeout: Duration) throws(KafkaError) -> [GroupMember] {
    var result: UnsafePointer<rd_kafka_group_list>?
    try KafkaError.check(rd_kafka_list_groups(client, group, &result, timeout.milliseconds), "group \(group)", client: client)
    guard let list = result?.pointee else { return [] }
    defer { rd_kafka_group_list_destroy(result) }
    var members: [GroupMember] = []
    for info in UnsafeBufferPointer(start: list.groups, count: Int(list.group_cnt)) {
      try KafkaError.check(info.err, "group \(group)", client: client)
      members += UnsafeBufferPointer(start: info.members, count: Int(info.member_cnt)).map {
        GroupMember(
          id: String(cString: $0.member_id), clientID: String(cString: $0.client_id), host: String(cString: $0.client_host))
      }
    }
    return members
  }

  /// Sends an admin request and waits for its answer.
  private func perform<Answer>(
    _ operation: rd_kafka_admin_op_t, within timeout: Duration, send: (_ options: OpaquePointer?, _ queue: OpaquePointer?) -> Void,
    read: (_ event: OpaquePointer) -> Answer
  ) throws(KafkaError) -> Answer {
    let queue = rd_kafka_queue_new(client)
    defer { rd_kafka_queue_destroy(queue) }
    let options = rd_kafka_AdminOptions_new(client, operation)
    defer { rd_kafka_AdminOptions_destroy(options) }
    let (code, message) = withMessageBuffer {
      rd_kafka_AdminOptions_set_request_timeout(options, max(1, timeout.milliseconds), $0, $1)
    }
    guard code == RD_KAFKA_RESP_ERR_NO_ERROR else { throw KafkaError(code, message) }
    send(options, queue)
    // librdkafka answers at its own timeout; this one is a little later, for the answer to arrive.
    guard let event = rd_kafka_queue_poll(queue, timeout.milliseconds + 1000) else {
      throw KafkaError(code: .timedOut, message: "no answer within \(timeout)")
    }
    defer { rd_kafka_event_destroy(event) }
    let failure = rd_kafka_event_error(event)
    guard failure == RD_KAFKA_RESP_ERR_NO_ERROR else {
      throw KafkaError(failure, rd_kafka_event_error_string(event).map { String(cString: $0) }, client: client)
    }
    return read(event)
  }
}

private func topicErrors(_ results: UnsafeMutablePointer<OpaquePointer?>?, _ count: Int) -> [String: KafkaError?] {
  var errors: [String: KafkaError?] = [:]
  for result in UnsafeBufferPointer(start: results, count: count) {
    guard let name = rd_kafka_topic_result_name(result) else { continue }
    let code = rd_kafka_topic_result_error(result)
    errors[String(cString: name)] = .some(
      code == RD_KAFKA_RESP_ERR_NO_ERROR
        ? nil : KafkaError(code, rd_kafka_topic_result_error_string(result).map { String(cString: $0) }))
  }
  return errors
}
