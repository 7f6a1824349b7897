import Foundation
import Kafka
import Synchronization
import Testing
import TestBroker
import TestSupport

@Suite struct ConsumerTests {
  private func numbered(_ range: Range<Int>, partition: Int32 = 0) -> [Record] {
    range.map { Record("k\($0)", "v\($0)", partition: partition) }
  }

  @Test func readingStartsAtTheOffsetsThatTheHandlerGives() async throws {
    let broker = try await Broker.shared()
    let topic = try broker.makeTopic("start", partitionCount: 3)
    for partition in 0..<3 as Range<Int32> {
      try produceAll(numbered(0..<10, partition: partition), to: topic, bootstrapServers: broker.bootstrapServers)
    }
    let recording = Recording()
    recording.start = [TopicPartition(topic, 0): .offset(4), TopicPartition(topic, 1): .end]
    let consumer = try Consumer(properties: broker.consumerProperties(group: uniqueName("g")), handlers: recording.handlers)
    defer { consumer.close(within: .seconds(5)) }
    try consumer.subscribe([topic])
    // Partition 2 has neither a given nor a committed offset: it starts at the earliest.
    try await waitUntil("partitions 0 and 2 are read") {
      recording.poll(consumer)
      return recording.messages.count >= 16
    }
    #expect(recording.messages.filter { $0.partition == 0 }.map(\.offset) == Array(4..<10))
    #expect(recording.messages.filter { $0.partition == 2 }.map(\.offset) == Array(0..<10))
    #expect(recording.messages.allSatisfy { $0.partition != 1 })
    #expect(consumer.assignment == (0..<3).map { TopicPartition(topic, $0) })
    // Where the end is gets asked for in the background: messages until then are before it.
    try await waitUntil("a new message of partition 1") {
      try produceAll(numbered(10..<11, partition: 1), to: topic, bootstrapServers: broker.bootstrapServers)
      recording.poll(consumer)
      return recording.messages.contains { $0.partition == 1 }
    }
    #expect(recording.messages.allSatisfy { $0.partition != 1 || $0.offset >= 10 })
  }

  @Test func aLogKeepsMessagesWhole() async throws {
    let broker = try await Broker.shared()
    let topic = try broker.makeTopic("log")
    let records = [
      Record("a", "1", headers: [Header("h", "x"), Header("null", nil)]), Record("a", nil), Record(nil, "middle"), Record("", ""), Record("b", "last"),
    ]
    try produceAll(records, to: topic, bootstrapServers: broker.bootstrapServers)
    let consumer = try Consumer(properties: broker.consumerProperties(group: uniqueName("g")))
    defer { consumer.close(within: .seconds(5)) }
    try consumer.assign([TopicPartition(topic, 0): .beginning])
    var log = MessageLog()
    var copies: [OwnedMessage] = []
    try await waitUntil("all messages") {
      _ = consumer.poll(maximumCount: 10, timeout: .milliseconds(20)) { message in
        copies.append(message.copy())
        #expect(log.append(message, headers: message.headers, topic: consumer.topics[message.topicIndex]) == copies.count - 1)
      }
      return copies.count == records.count
    }
    #expect(copies.indices.map { log[$0] } == copies)
    log.removeAll()
    copies.removeAll()
    try produceAll([Record("c", "of the next batch")], to: topic, bootstrapServers: broker.bootstrapServers)
    try await waitUntil("the next message") {
      _ = consumer.poll(maximumCount: 10, timeout: .milliseconds(20)) { message in
        copies.append(message.copy())
        #expect(log.append(message, headers: [], topic: topic) == 0)
      }
      return copies.count == 1
    }
    #expect(log[0] == copies[0])
  }

  @Test func messagesCarryTopicTimeAndTombstones() async throws {
    let broker = try await Broker.shared()
    // The messages are years old.
    let topics = try ["first", "second"].map { try broker.makeTopic($0, configuration: ["retention.ms": "-1"]) }
    let producer = try Producer(properties: ["bootstrap.servers": broker.bootstrapServers])
    defer { producer.close(within: .seconds(5)) }
    for (topic, value) in zip(topics, [[UInt8]("x".utf8), nil]) {
      #expect(try producer.produce(topic: topic, key: Array("k".utf8), value: value, timestamp: 1_700_000_000_123) == .enqueued)
    }
    #expect(producer.flush(within: .seconds(10)).deliveries.count == 2)
    let consumer = try Consumer(properties: broker.consumerProperties(group: uniqueName("g")))
    defer { consumer.close(within: .seconds(5)) }
    try consumer.assign(Dictionary(uniqueKeysWithValues: topics.map { (TopicPartition($0, 0), .beginning) }))
    var seen: [String: Int] = [:]
    try await waitUntil("both messages") {
      _ = consumer.poll(maximumCount: 10, timeout: .milliseconds(20)) { message in
        let size = message.withValue { $0?.byteCount ?? -1 }
        #expect(message.withKey { $0?.unsafeLoad(as: UInt8.self) } == UInt8(ascii: "k"))
        #expect(message.timestamp == MessageTimestamp(milliseconds: 1_700_000_000_123, kind: .createTime))
        seen[consumer.topics[message.topicIndex]] = size
      }
      return seen.count == 2
    }
    #expect(seen == [topics[0]: 1, topics[1]: -1])
  }

  @Test func aPollStopsAtItsCountAndAtItsBytes() async throws {
    let broker = try await Broker.shared()
    let topic = try broker.makeTopic("bounds")
    try produceAll((0..<50).map { _ in Record("k", "123456789") }, to: topic, bootstrapServers: broker.bootstrapServers)
    let consumer = try Consumer(properties: broker.consumerProperties(group: uniqueName("g")))
    defer { consumer.close(within: .seconds(5)) }
    try consumer.assign([TopicPartition(topic, 0): .beginning])
    var counts: [Int] = []
    try await waitUntil("the first messages") {
      counts.append(consumer.poll(maximumCount: 7, timeout: .milliseconds(20)) { _ in }.messageCount)
      return counts.last != 0
    }
    #expect(counts.allSatisfy { $0 <= 7 })
    let result = consumer.poll(maximumCount: 100, maximumBytes: 25, timeout: .seconds(5)) { _ in }
    #expect(result.messageCount == 3)
    #expect(result.byteCount == 30)
  }

  @Test func theEndOfAPartitionIsAValueAndLagCountsDownToZero() async throws {
    let broker = try await Broker.shared()
    let topic = try broker.makeTopic("eof")
    let partition = TopicPartition(topic, 0)
    try produceAll(numbered(0..<5), to: topic, bootstrapServers: broker.bootstrapServers)
    let consumer = try Consumer(properties: broker.consumerProperties(group: uniqueName("g"), ["enable.partition.eof": "true"]))
    defer { consumer.close(within: .seconds(5)) }
    try consumer.assign([partition: .beginning])
    try await waitUntil("one message") { consumer.poll(maximumCount: 1, timeout: .milliseconds(20)) { _ in }.messageCount == 1 }
    #expect(consumer.lags() == [partition: 4])
    try await waitUntil("the end") { consumer.poll(maximumCount: 100, timeout: .milliseconds(20)) { _ in }.endOfPartition == [partition] }
    #expect(consumer.lags() == [partition: 0])
    #expect(try consumer.watermarks(of: partition, within: .seconds(5)) == Watermarks(low: 0, high: 5))
  }

  @Test func anOffsetThatTheBrokerDoesNotHaveIsReportedAndReadingGoesOnAsThePolicySays() async throws {
    let broker = try await Broker.shared()
    let topic = try broker.makeTopic("range")
    let partition = TopicPartition(topic, 0)
    try produceAll(numbered(0..<5), to: topic, bootstrapServers: broker.bootstrapServers)
    let recording = Recording()
    let consumer = try Consumer(properties: broker.consumerProperties(group: uniqueName("g")))
    defer { consumer.close(within: .seconds(5)) }
    try consumer.assign([partition: .offset(1000)])
    var reports: [PollResult.OutOfRange] = []
    try await waitUntil("the messages from the beginning") {
      reports += recording.poll(consumer).outOfRange
      return recording.messages.count == 5
    }
    #expect(reports.map(\.partition) == [partition])
    #expect(reports.map(\.offset) == [1000])
    #expect(reports.map(\.isStopped) == [false])
    #expect(recording.offsets == Array(0..<5))
  }

  @Test func withResetErrorAPartitionStopsWhereItsOffsetIsOutOfRange() async throws {
    let broker = try await Broker.shared()
    let topic = try broker.makeTopic("error")
    let partition = TopicPartition(topic, 0)
    try produceAll(numbered(0..<5), to: topic, bootstrapServers: broker.bootstrapServers)
    let consumer = try Consumer(properties: broker.consumerProperties(group: uniqueName("g"), ["auto.offset.reset": "error"]))
    defer { consumer.close(within: .seconds(5)) }
    try consumer.assign([partition: .offset(1000)])
    var reports: [PollResult.OutOfRange] = []
    try await waitUntil("the report") {
      reports += consumer.poll(maximumCount: 10, timeout: .milliseconds(20)) { _ in Issue.record("a message came") }.outOfRange
      return !reports.isEmpty
    }
    #expect(reports.map(\.partition) == [partition])
    #expect(reports.map(\.offset) == [1000])
    #expect(reports.map(\.isStopped) == [true])
    let error = #expect(throws: KafkaError.self) { try consumer.seek(partition, to: .offset(3)) }
    #expect(error?.code == .wrongState)
  }

  @Test func seekingBackReadsAgainWithoutStrayMessages() async throws {
    let broker = try await Broker.shared()
    let topic = try broker.makeTopic("seek")
    let partition = TopicPartition(topic, 0)
    try produceAll(numbered(0..<50), to: topic, bootstrapServers: broker.bootstrapServers)
    let recording = Recording()
    let consumer = try Consumer(properties: broker.consumerProperties(group: uniqueName("g")))
    defer { consumer.close(within: .seconds(5)) }
    try consumer.assign([partition: .offset(10)])
    try await waitUntil("ten messages") {
      recording.poll(consumer, maximumCount: 10 - recording.messages.count)
      return recording.messages.count == 10
    }
    try consumer.seek(partition, to: .offset(3))
    try await waitUntil("the rest") {
      recording.poll(consumer, maximumCount: 7)
      return recording.messages.count >= 57
    }
    #expect(recording.offsets == Array(10..<20) + Array(3..<50))
  }

  @Test func pausedPartitionsAreSilentAndResumingLosesAndRepeatsNothing() async throws {
    let broker = try await Broker.shared()
    let topic = try broker.makeTopic("pause")
    let partition = TopicPartition(topic, 0)
    try produceAll(numbered(0..<20), to: topic, bootstrapServers: broker.bootstrapServers)
    let recording = Recording()
    let consumer = try Consumer(properties: broker.consumerProperties(group: uniqueName("g")))
    defer { consumer.close(within: .seconds(5)) }
    try consumer.assign([partition: .beginning])
    try await waitUntil("some messages") {
      recording.poll(consumer, maximumCount: 5)
      return recording.messages.count >= 5
    }
    let before = recording.messages.count
    try consumer.pause([partition])
    #expect(consumer.paused == [partition])
    #expect(recording.poll(consumer, timeout: .milliseconds(300)).messageCount == 0)
    #expect(recording.messages.count == before)
    try consumer.resume([partition])
    try await waitUntil("the rest") {
      recording.poll(consumer, maximumCount: 5)
      // Resuming what is not paused must not rewind.
      try consumer.resume([partition])
      return recording.messages.count >= 20
    }
    #expect(recording.offsets == Array(0..<20))
  }

  @Test func offsetsCommittedInTheRevokeHandlerAreThereForTheNextMember() async throws {
    let broker = try await Broker.shared()
    let topic = try broker.makeTopic("commit")
    let partition = TopicPartition(topic, 0)
    let group = uniqueName("g")
    try produceAll(numbered(0..<10), to: topic, bootstrapServers: broker.bootstrapServers)
    let first = Recording()
    first.onRevoke = { consumer in #expect(throws: Never.self) { try consumer.commit([partition: 6]) } }
    let consumer = try Consumer(properties: broker.consumerProperties(group: group), handlers: first.handlers)
    try consumer.subscribe([topic])
    try await waitUntil("all messages") {
      first.poll(consumer)
      return first.messages.count == 10
    }
    #expect(consumer.close(within: .seconds(10)))
    #expect(first.events.first == .assigned([partition]))
    #expect(first.events.last == .revoked([partition], lost: false))
    #expect(first.poll(consumer).messageCount == 0)
    let error = #expect(throws: KafkaError.self) { try consumer.commit([partition: 7]) }
    #expect(error?.code == .wrongState)

    let second = Recording()
    let next = try Consumer(properties: broker.consumerProperties(group: group), handlers: second.handlers)
    defer { next.close(within: .seconds(5)) }
    #expect(try next.committedOffsets(of: [partition], within: .seconds(10)) == [partition: 6])
    try next.subscribe([topic])
    try await waitUntil("the rest") {
      second.poll(next)
      return second.messages.count == 4
    }
    #expect(second.offsets == Array(6..<10))
  }

  @Test func aSecondMemberTakesItsShareAfterTheFirstHasBeenAskedToLetGo() async throws {
    let broker = try await Broker.shared()
    let topic = try broker.makeTopic("share", partitionCount: 2)
    let all = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
    let group = uniqueName("g")
    let admin = try AdminClient(properties: ["bootstrap.servers": broker.bootstrapServers])
    let first = Recording()
    let second = Recording()
    var heldAtRevoke: [TopicPartition] = []
    first.onRevoke = { consumer in
      heldAtRevoke = consumer.assignment
      // Some brokers refuse a commit at this moment: it must not disturb the rebalance.
      #expect(throws: Never.self) { try consumer.commit([all[0]: 0]) }
    }
    let a = try Consumer(properties: broker.consumerProperties(group: group), handlers: first.handlers)
    try a.subscribe([topic])
    try await waitUntil("the first member has both partitions") {
      first.poll(a)
      return a.assignment == all
    }
    #expect(try admin.groupMembers(group, within: .seconds(10)).count == 1)
    let b = try Consumer(properties: broker.consumerProperties(group: group), handlers: second.handlers)
    try b.subscribe([topic])
    try await waitUntil("each member has one partition", within: .seconds(60)) {
      first.poll(a)
      second.poll(b)
      return a.assignment.count == 1 && b.assignment.count == 1
    }
    #expect(heldAtRevoke == all)
    #expect(Set(a.assignment + b.assignment) == Set(all))
    #expect(first.events == [.assigned(all), .revoked(all, lost: false), .assigned(a.assignment)])
    #expect(try admin.groupMembers(group, within: .seconds(10)).count == 2)
    #expect(b.close(within: .seconds(10)))
    try await waitUntil("the first member has both again", within: .seconds(60)) {
      first.poll(a)
      return a.assignment == all
    }
    #expect(a.close(within: .seconds(10)))
    #expect(try admin.groupMembers(group, within: .seconds(10)).isEmpty)
  }

  @Test func aStaticMemberComesBackToItsPartitionsWithoutARebalance() async throws {
    let broker = try await Broker.shared()
    let topic = try broker.makeTopic("static")
    let partition = TopicPartition(topic, 0)
    try produceAll(numbered(0..<10), to: topic, bootstrapServers: broker.bootstrapServers)
    let properties = broker.consumerProperties(group: uniqueName("g"), ["group.instance.id": "daemon"])
    var next: Int64 = 0
    for round in 0..<3 as Range<Int64> {
      let recording = Recording()
      recording.start = [partition: .offset(next)]
      let consumer = try Consumer(properties: properties, handlers: recording.handlers)
      try consumer.subscribe([topic])
      try await waitUntil("round \(round)") {
        recording.poll(consumer, maximumCount: 3)
        return recording.messages.count >= 3
      }
      #expect(recording.offsets == Array(next..<next + 3))
      next += 3
      #expect(consumer.close(within: .seconds(10)))
    }
  }

  @Test func aStaticMemberIsFencedByAnotherOfItsName() async throws {
    let broker = try await Broker.shared()
    let topic = try broker.makeTopic("fenced")
    let properties = broker.consumerProperties(group: uniqueName("g"), ["group.instance.id": "daemon"])
    let first = Recording()
    let old = try Consumer(properties: properties, handlers: first.handlers)
    defer { old.close(within: .seconds(5)) }
    try old.subscribe([topic])
    try await waitUntil("the first is assigned") {
      first.poll(old)
      return !old.assignment.isEmpty
    }
    let second = Recording()
    let new = try Consumer(properties: properties, handlers: second.handlers)
    defer { new.close(within: .seconds(5)) }
    try new.subscribe([topic])
    try await waitUntil("the first is fenced") {
      first.poll(old)
      second.poll(new)
      return old.fatalError != nil
    }
    #expect(old.fatalError?.code == .fencedInstance)
    #expect(old.fatalError?.isFatal == true)
    #expect(new.fatalError == nil)
  }

  @Test func aSecondAssignmentIsRefused() throws {
    let consumer = try Consumer(properties: ["bootstrap.servers": "127.0.0.1:1", "group.id": "g"])
    defer { consumer.close(within: .seconds(5)) }
    try consumer.assign([TopicPartition("t", 0): .beginning])
    let error = #expect(throws: KafkaError.self) { try consumer.assign([TopicPartition("t", 1): .beginning]) }
    #expect(error?.code == .wrongState)
    #expect(consumer.assignment == [TopicPartition("t", 0)])
  }

  @Test func whenTheStartOffsetsCannotBeHadNothingIsReadAndTheReasonIsReported() async throws {
    struct NoOffsets: Error {}
    let broker = try await Broker.shared()
    let topic = try broker.makeTopic("refuse")
    try produceAll(numbered(0..<3), to: topic, bootstrapServers: broker.bootstrapServers)
    let consumer = try Consumer(
      properties: broker.consumerProperties(group: uniqueName("g")),
      handlers: RebalanceHandlers(assigned: { _, _ in throw NoOffsets() }))
    defer { consumer.close(within: .seconds(5)) }
    try consumer.subscribe([topic])
    var failure: (any Error)?
    try await waitUntil("the failure") {
      failure = consumer.poll(maximumCount: 10, timeout: .milliseconds(20)) { _ in Issue.record("a message came") }.rebalanceFailure
      return failure != nil
    }
    #expect(failure is NoOffsets)
    #expect(consumer.assignment.isEmpty)
    #expect(consumer.poll(maximumCount: 10, timeout: .milliseconds(200)) { _ in }.messageCount == 0)
  }

  @Test func aBrokerThatStopsAndStartsAgainCostsNoMessage() async throws {
    let broker = try await Broker.start()
    let topic = try broker.makeTopic("restart")
    try produceAll(numbered(0..<5), to: topic, bootstrapServers: broker.bootstrapServers)
    let recording = Recording()
    let consumer = try Consumer(
      properties: broker.consumerProperties(group: uniqueName("g"), ["reconnect.backoff.max.ms": "200"]),
      handlers: recording.handlers)
    defer { consumer.close(within: .seconds(5)) }
    try consumer.subscribe([topic])
    try await waitUntil("the first five") {
      recording.poll(consumer)
      return recording.messages.count == 5
    }
    try broker.stop()
    var errors: [KafkaError] = []
    try await waitUntil("the loss of the broker is reported") {
      errors += recording.poll(consumer).errors.map(\.error)
      return errors.contains { $0.code == .allBrokersDown || $0.code == .transport }
    }
    #expect(errors.allSatisfy { $0.isRetriable })
    try await broker.restart()
    try produceAll(numbered(5..<8), to: topic, bootstrapServers: broker.bootstrapServers)
    try await waitUntil("the rest") {
      recording.poll(consumer)
      return Set(recording.offsets) == Set(0..<8)
    }
  }

  @Test func aFetchThatWasAnsweredTooEarlyIsFollowedByTheTimeThatItShouldHaveTaken() throws {
    let pacing = try #require(FetchPacing(["fetch.min.bytes": "1000", "fetch.wait.max.ms": "10"]))
    // What is assigned is not known yet.
    #expect(pacing.pause(size: 18, after: 100) == 400)
    pacing.assigned([TopicPartition("ab", 0), TopicPartition("ab", 1), TopicPartition("c", 0)])
    let empty = 18 + 8 + 7 + 8 + 3 * 42
    #expect(pacing.pause(size: empty, after: 100) == 9_900)
    #expect(pacing.pause(size: empty, after: 10_000) == 0)
    #expect(pacing.pause(size: empty, after: 500_000) == 0)
    // The time is not known.
    #expect(pacing.pause(size: empty, after: -1) == 0)
    // Perhaps a record.
    #expect(pacing.pause(size: empty + 1, after: 100) == 400)
    #expect(pacing.pause(size: empty + 1, after: 501) == 0)
    pacing.assigned((0..<100).map { TopicPartition("ab", $0) })
    #expect(pacing.pause(size: 999, after: 0) == 10_000)
    #expect(pacing.pause(size: 1_000, after: 0) == 0)
    // A broker may answer each fetch at once.
    #expect(FetchPacing(["fetch.wait.max.ms": "10"]) == nil)
    #expect(FetchPacing(["fetch.min.bytes": "1", "fetch.wait.max.ms": "10"]) == nil)
    #expect(FetchPacing(["fetch.min.bytes": "2", "fetch.wait.max.ms": "0"]) == nil)
    let patient = try #require(FetchPacing(["fetch.min.bytes": "200"]))
    patient.assigned([TopicPartition("ab", 0)])
    #expect(patient.pause(size: 60, after: 0) == 100_000)
  }

  /// Whatever the broker does: the one that these tests start answers at once.
  @Test func aBrokerWithNothingIsAskedAsSeldomAsTheConsumerSays() async throws {
    let broker = try await Broker.shared()
    let topic = try broker.makeTopic("idle", partitionCount: 3)
    let documents = Mutex<[String]>([])
    let consumer = try Consumer(
      properties: broker.consumerProperties(
        group: uniqueName("g"), ["fetch.wait.max.ms": "40", "fetch.min.bytes": "65536", "statistics.interval.ms": "100"]),
      observers: ClientObservers(statistics: { json in documents.withLock { $0.append(json) } }))
    defer { consumer.close(within: .seconds(5)) }
    try consumer.assign(Dictionary(uniqueKeysWithValues: (0..<3).map { (TopicPartition(topic, $0), .beginning) }))
    try await waitUntil("a second of fetches") {
      _ = consumer.poll(maximumCount: 10, timeout: .milliseconds(50)) { _ in }
      guard let first = documents.withLock({ $0.first { Self.sum(of: "Fetch", in: $0) > 0 } }), let last = documents.withLock({ $0.last }) else { return false }
      return Self.sum(of: "ts", in: last) - Self.sum(of: "ts", in: first) > 1_000_000
    }
    let (first, last) = try documents.withLock { all in
      (try #require(all.first { Self.sum(of: "Fetch", in: $0) > 0 }), try #require(all.last))
    }
    let elapsed = Self.sum(of: "ts", in: last) - Self.sum(of: "ts", in: first)
    let fetches = Self.sum(of: "Fetch", in: last) - Self.sum(of: "Fetch", in: first)
    #expect(fetches > 2)
    #expect(fetches <= elapsed / 40_000 + 2, "\(fetches) fetches in \(elapsed) µs")
    // What comes is read all the same.
    try produceAll(numbered(0..<5), to: topic, bootstrapServers: broker.bootstrapServers)
    var offsets: [Int64] = []
    try await waitUntil("the messages") {
      _ = consumer.poll(maximumCount: 10, timeout: .milliseconds(20)) { offsets.append($0.offset) }
      return offsets.count == 5
    }
    #expect(offsets == Array(0..<5))
  }

  /// Of librdkafka's statistics, the sum of all numbers with this name.
  private static func sum(of name: String, in document: String) -> Int {
    document.components(separatedBy: "\"\(name)\":").dropFirst().reduce(0) { $0 + (Int($1.drop { $0 == " " }.prefix { $0.isNumber }) ?? 0) }
  }

  @Test func logLinesAndStatisticsReachTheObservers() async throws {
    let broker = try await Broker.shared()
    let lines = Mutex<[LogLine]>([])
    let documents = Mutex<[String]>([])
    let consumer = try Consumer(
      properties: broker.consumerProperties(group: uniqueName("g"), ["statistics.interval.ms": "50", "debug": "consumer"]),
      observers: ClientObservers(
        log: { line in lines.withLock { $0.append(line) } }, statistics: { json in documents.withLock { $0.append(json) } }))
    defer { consumer.close(within: .seconds(5)) }
    try await waitUntil("statistics") {
      _ = consumer.poll(maximumCount: 1, timeout: .milliseconds(20)) { _ in }
      return documents.withLock { !$0.isEmpty }
    }
    #expect(documents.withLock { $0[0].hasPrefix("{") && $0[0].hasSuffix("}") && $0[0].contains("\"topics\"") })
    #expect(lines.withLock { $0.contains { $0.severity == 7 && !$0.facility.isEmpty && !$0.message.isEmpty } })
  }
}
