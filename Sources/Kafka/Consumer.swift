import CRdKafka

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// What the owner of a consumer does when partitions come and go. Both run inside `Consumer.poll`, on the polling thread, and the
/// group waits for them; `revoked` runs inside `Consumer.close` as well.
public struct RebalanceHandlers {
  /// Says where to start reading the partitions that were just assigned. Those left out start at the group's committed offset. When
  /// it throws, nothing is read and the error is in `PollResult.rebalanceFailure`.
  public var assigned: (_ consumer: Consumer, _ partitions: [TopicPartition]) throws -> [TopicPartition: StartPosition]
  /// Called while the partitions are still the consumer's: finish what is in hand and commit it. With `lost` they already belong to
  /// somebody else, and nothing may be committed to Kafka any more.
  public var revoked: (_ consumer: Consumer, _ partitions: [TopicPartition], _ lost: Bool) -> Void

  public init(
    assigned: @escaping (_ consumer: Consumer, _ partitions: [TopicPartition]) throws -> [TopicPartition: StartPosition] = { _, _ in [:] },
    revoked: @escaping (_ consumer: Consumer, _ partitions: [TopicPartition], _ lost: Bool) -> Void = { _, _, _ in }
  ) {
    self.assigned = assigned
    self.revoked = revoked
  }
}

/// What a call of `Consumer.poll` met, besides the messages.
public struct PollResult {
  /// An offset which the broker does not have (any more): messages were lost upstream, or the topic was made again.
  public struct OutOfRange: Sendable {
    public let partition: TopicPartition
    /// The offset that was asked for.
    public let offset: Int64
    /// librdkafka's own words, which say where reading goes on.
    public let message: String
    /// With `auto.offset.reset=error` the partition is not read any more, until the consumer is made again.
    public let isStopped: Bool
  }

  /// An error of the client (`partition` nil) or of one partition.
  public struct Failure: Sendable {
    public let partition: TopicPartition?
    public let error: KafkaError
  }

  public var messageCount = 0
  /// Bytes of the messages' keys and values.
  public var byteCount = 0
  /// Partitions read to their end, when `enable.partition.eof` is set.
  public var endOfPartition: [TopicPartition] = []
  public var outOfRange: [OutOfRange] = []
  public var errors: [Failure] = []
  /// Offset commits that Kafka refused. They are advisory: the next commit makes up for them.
  public var commitFailures: [KafkaError] = []
  /// What `RebalanceHandlers.assigned` threw: no partition is being read.
  public var rebalanceFailure: (any Error)?
}

/// A member of a consumer group.
///
/// It belongs to one thread, on which it is made, polled and closed, and on which its handlers run (hence not `Sendable`).
/// It must be polled all the time, also while everything is paused, or the group expels it after `max.poll.interval.ms`.
/// Offsets are kept by the owner: `commit` only tells Kafka for lag tools, and where nothing else is known.
public final class Consumer {
  /// Topics by index, first those subscribed to in their order: `Message.topicIndex` points here.
  public private(set) var topics: [String] = []
  /// The partitions being read.
  public private(set) var assignment: [TopicPartition] = [] {
    didSet { handle.context.pacing?.assigned(assignment) }
  }
  public private(set) var paused: Set<TopicPartition> = []

  private let handle: ClientHandle
  private let handlers: RebalanceHandlers
  private var rebalanceFailure: (any Error)?
  private var topicNames: [UnsafeMutablePointer<CChar>] = []
  private var lastTopicIndex = 0
  private var isClosed = false

  private var client: OpaquePointer {
    get throws(KafkaError) {
      guard !isClosed else { throw KafkaError(code: .wrongState, message: "the consumer is closed") }
      return handle.pointer
    }
  }

  /// Makes the client; it connects when it subscribes.
  /// - Parameter properties: librdkafka's. Unless given, `auto.offset.reset` is `earliest` and `partition.assignment.strategy` is
  ///   `range`. Offsets are never committed or stored automatically, whatever is given.
  /// - Throws: `invalidConfiguration`.
  public init(
    properties: [String: String], handlers: RebalanceHandlers = RebalanceHandlers(), observers: ClientObservers = ClientObservers()
  ) throws(KafkaError) {
    self.handlers = handlers
    handle = try ClientHandle(
      type: RD_KAFKA_CONSUMER, properties: properties, 
      defaults: ["partition.assignment.strategy": "range", "auto.offset.reset": "earliest"],
      forced: ["enable.auto.commit": "false", "enable.auto.offset.store": "false"],
      observers: observers)
    // From here `poll` serves the callbacks of the client as well.
    rd_kafka_poll_set_consumer(handle.pointer)
    handle.context.rebalance = { [unowned self] code, partitions in rebalance(code, partitions) }
  }

  deinit { topicNames.forEach { free($0) } }

  /// Joins the group for these topics, in place of those before. Names are literal: no patterns.
  public func subscribe(_ topics: [String]) throws(KafkaError) {
    if let pattern = topics.first(where: { $0.hasPrefix("^") }) {
      throw KafkaError(code: .invalidConfiguration, message: "\(pattern): a topic's name, not a pattern, is needed")
    }
    let client = try client
    for topic in topics { intern(topic) }
    try withPartitionList(topics.map { TopicPartition($0, -1) }) { list throws(KafkaError) in
      try KafkaError.check(rd_kafka_subscribe(client, list), "subscribe", client: client)
    }
  }

  /// Reads just these partitions, without a group's say.
  /// - Throws: `wrongState` when there is an assignment: to make another while librdkafka still stops the first would abort the process
  ///   in this version (`rktp_started` in rdkafka_assignment.c).
  public func assign(_ positions: [TopicPartition: StartPosition]) throws(KafkaError) {
    let client = try client
    guard assignment.isEmpty else { throw KafkaError(code: .wrongState, message: "assign: partitions are assigned already") }
    let sorted = positions.sorted { $0.key < $1.key }
    for (partition, _) in sorted { intern(partition.topic) }
    try withPartitionList(sorted.map { ($0.key, $0.value.raw) }) { list throws(KafkaError) in
      try KafkaError.check(rd_kafka_assign(client, list), "assign", client: client)
    }
    assignment = sorted.map(\.key)
    paused = []
  }

  /// Waits up to `timeout` for a message, then takes what is ready without waiting, each handed to `body` in its partition's order.
  /// Rebalance handlers, the statistics observer and the results of commits are served on the way.
  /// - Parameters:
  ///   - maximumCount: messages at most; notices (end of partition, errors) count too.
  ///   - maximumBytes: no further message is taken once keys and values add up to this.
  public func poll(
    maximumCount: Int, maximumBytes: Int = .max, timeout: Duration, _ body: (borrowing Message) -> Void
  ) -> PollResult {
    var result = PollResult()
    guard let client = try? client else { return result }
    var wait = timeout.milliseconds
    var taken = 0
    // Not rd_kafka_consume_batch_queue: together with pausing it skips offsets in this version.
    while taken < maximumCount, result.byteCount < maximumBytes, let raw = rd_kafka_consumer_poll(client, wait) {
      defer { rd_kafka_message_destroy(raw) }
      wait = 0
      taken += 1
      guard raw.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR else {
        take(notice: raw, of: client, into: &result)
        continue
      }
      let message = Message(raw: raw, topicIndex: topicIndex(of: raw.pointee.rkt))
      result.messageCount += 1
      result.byteCount += message.byteCount
      body(message)
    }
    let context = handle.context
    result.errors += context.takeErrors().map { .init(partition: nil, error: $0) }
    if !context.commitFailures.isEmpty { swap(&result.commitFailures, &context.commitFailures) }
    result.outOfRange += context.takeOffsetResets()
    swap(&result.rebalanceFailure, &rebalanceFailure)
    return result
  }

  /// Stops delivering these partitions until `resume`. What was fetched ahead is thrown away, so pause seldom.
  public func pause(_ partitions: some Sequence<TopicPartition>) throws(KafkaError) {
    let client = try client
    let wanted = partitions.filter { assignment.contains($0) && !paused.contains($0) }
    guard !wanted.isEmpty else { return }
    try withPartitionList(wanted) { list throws(KafkaError) in
      try KafkaError.check(rd_kafka_pause_partitions(client, list), "pause", client: client)
    }
    paused.formUnion(wanted)
  }

  /// Goes on with those of the partitions that are paused. The others are left alone: in this version of librdkafka, resuming a
  /// partition that is not paused rewinds it.
  public func resume(_ partitions: some Sequence<TopicPartition>) throws(KafkaError) {
    let client = try client
    let wanted = partitions.filter(paused.contains)
    guard !wanted.isEmpty else { return }
    try withPartitionList(wanted) { list throws(KafkaError) in
      try KafkaError.check(rd_kafka_resume_partitions(client, list), "resume", client: client)
    }
    paused.subtract(wanted)
  }

  /// Moves the reading of an assigned partition. No message from before the move comes after it.
  /// - Throws: `wrongState` for a partition which is not being read (yet).
  public func seek(_ partition: TopicPartition, to position: StartPosition) throws(KafkaError) {
    let client = try client
    try withPartitionList([(key: partition, value: position.raw)]) { list throws(KafkaError) in
      // Without a bound: finite ones are a thousand times too short in this version. The wait is for a thread, not for the network.
      if let error = KafkaError(consuming: rd_kafka_seek_partitions(client, list, -1)) { throw error }
      if let code = list.firstError { try KafkaError.check(code, "seek \(partition)", client: client) }
    }
  }

  /// Tells Kafka, without waiting, the next offset to read of each partition. Advisory: a refusal comes in a later
  /// `PollResult.commitFailures` (`ILLEGAL_GENERATION` when the group has moved on meanwhile) and harms nothing.
  public func commit(_ offsets: [TopicPartition: Int64]) throws(KafkaError) {
    let client = try client
    guard !offsets.isEmpty else { return }
    try withPartitionList(offsets) { list throws(KafkaError) in
      try KafkaError.check(rd_kafka_commit(client, list, 1), "commit", client: client)
    }
  }

  /// The offsets that the group has committed to Kafka. Partitions without one are left out.
  public func committedOffsets(
    of partitions: [TopicPartition], within timeout: Duration
  ) throws(KafkaError) -> [TopicPartition: Int64] {
    let client = try client
    return try withPartitionList(partitions) { list throws(KafkaError) in
      try KafkaError.check(rd_kafka_committed(client, list, timeout.milliseconds), "committed offsets", client: client)
      var offsets: [TopicPartition: Int64] = [:]
      for element in list.elements {
        try KafkaError.check(element.err, "committed offset of \(element.topicPartition)", client: client)
        if element.offset >= 0 { offsets[element.topicPartition] = element.offset }
      }
      return offsets
    }
  }

  /// Asks the broker for a partition's watermarks.
  public func watermarks(of partition: TopicPartition, within timeout: Duration) throws(KafkaError) -> Watermarks {
    let client = try client
    var low: Int64 = 0
    var high: Int64 = 0
    let code = rd_kafka_query_watermark_offsets(client, partition.topic, partition.partition, &low, &high, timeout.milliseconds)
    try KafkaError.check(code, "watermarks of \(partition)", client: client)
    return Watermarks(low: low, high: high)
  }

  /// Messages of each assigned partition that are still to be read, as of the last answer to a fetch: it asks nobody. Partitions of
  /// which nothing has been read since their assignment are left out.
  public func lags() -> [TopicPartition: Int64] {
    guard let client = try? client else { return [:] }
    return withPartitionList(assignment) { list in
      guard rd_kafka_position(client, list) == RD_KAFKA_RESP_ERR_NO_ERROR else { return [:] }
      var lags: [TopicPartition: Int64] = [:]
      for element in list.elements where element.offset >= 0 {
        var low: Int64 = -1
        var high: Int64 = -1
        let code = rd_kafka_get_watermark_offsets(client, element.topic, element.partition, &low, &high)
        if code == RD_KAFKA_RESP_ERR_NO_ERROR, high >= 0 { lags[element.topicPartition] = max(0, high - element.offset) }
      }
      return lags
    }
  }

  /// The error after which this consumer reads nothing more, for example because another took its `group.instance.id`.
  public var fatalError: KafkaError? { (try? client).flatMap(KafkaError.fatal) }

  /// Revokes what is assigned (with the handler), says goodbye to the group unless membership is static, and frees the client.
  /// - Returns: false when librdkafka did not end within `bound` after the handler: it is left to itself then, and the process
  ///   should end soon.
  @discardableResult
  public func close(within bound: Duration) -> Bool {
    guard !isClosed else { return true }
    revoke()
    isClosed = true
    handle.context.rebalance = nil
    return handle.destroy(within: bound) { client in _ = rd_kafka_consumer_close(client) }
  }

  private func rebalance(_ code: rd_kafka_resp_err_t, _ list: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>) {
    switch code {
    case RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS:
      let partitions = list.topicPartitions
      do {
        let positions = try handlers.assigned(self, partitions)
        try assign(
          Dictionary(partitions.map { ($0, positions[$0] ?? .committed) }, uniquingKeysWith: { first, _ in first }))
      } catch {
        rebalanceFailure = error
        unassign()
      }
    case RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS:
      revoke()
      unassign()
    default:
      handle.context.report(KafkaError(code, client: handle.pointer))
      revoke()
      unassign()
    }
  }

  private func revoke() {
    guard !assignment.isEmpty else { return }
    handlers.revoked(self, assignment, rd_kafka_assignment_lost(handle.pointer) != 0)
    assignment = []
    paused = []
  }

  private func unassign() {
    let code = rd_kafka_assign(handle.pointer, nil)
    if code != RD_KAFKA_RESP_ERR_NO_ERROR { handle.context.report(KafkaError(code, client: handle.pointer)) }
  }

  private func take(
    notice raw: UnsafeMutablePointer<rd_kafka_message_t>, of client: OpaquePointer, into result: inout PollResult
  ) {
    let partition = raw.pointee.rkt.map { TopicPartition(String(cString: rd_kafka_topic_name($0)), raw.pointee.partition) }
    let text = rd_kafka_message_errstr(raw).map { String(cString: $0) } ?? ""
    switch (raw.pointee.err, partition) {
    case (RD_KAFKA_RESP_ERR__PARTITION_EOF, let partition?):
      result.endOfPartition.append(partition)
    case (RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET, let partition?) where raw.pointee.offset >= 0:
      result.outOfRange.append(.init(partition: partition, offset: raw.pointee.offset, message: text, isStopped: true))
    default:
      result.errors.append(.init(partition: partition, error: KafkaError(raw.pointee.err, text, client: client)))
    }
  }

  /// A few topics, long runs of the same one: comparing names costs less than making a string, and unlike the handle's address a name
  /// stays true when a topic is deleted and made again.
  private func topicIndex(of topic: OpaquePointer?) -> Int {
    guard let name = rd_kafka_topic_name(topic) else { return lastTopicIndex }
    if lastTopicIndex < topicNames.count, strcmp(topicNames[lastTopicIndex], name) == 0 { return lastTopicIndex }
    lastTopicIndex = topicNames.firstIndex { strcmp($0, name) == 0 } ?? intern(String(cString: name))
    return lastTopicIndex
  }

  @discardableResult
  private func intern(_ topic: String) -> Int {
    if let index = topics.firstIndex(of: topic) { return index }
    guard let name = strdup(topic) else { Swift.fatalError("out of memory") }
    topicNames.append(name)
    topics.append(topic)
    return topics.count - 1
  }
}

extension PollResult.OutOfRange {
  /// Reads the one trace that librdkafka leaves when it resets an offset by itself: a warning `topic [partition]: offset reset (at
  /// offset N, broker …) to …`. Resets of which nothing is lost (no offset was committed yet) are not logged.
  init?(_ line: LogLine) {
    guard line.facility == "OFFSET", let match = line.message.firstMatch(of: /(\S+) \[(\d+)\]: offset reset \(at offset (\d+)/),
      let partition = Int32(match.2), let offset = Int64(match.3)
    else { return nil }
    self.init(partition: TopicPartition(String(match.1), partition), offset: offset, message: line.message, isStopped: false)
  }
}
