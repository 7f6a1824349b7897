import Events
import Foundation
import Kafka
import StateStore
import Testing
import TestBroker
import TestSupport

extension DaemonProcessTests {
  /// The brokers refuse, move and forget.
  @Suite struct KafkaFaultTests {
    private func views(_ range: Range<Int>, partition: ((Int) -> Int32)? = nil) -> [Record] {
      viewRecords(range, users: 6, items: 40, partition: partition)
    }

    /// A daemon's configuration at a mock cluster, whose topics are there: it takes no admin calls.
    private func installation(at cluster: MockCluster, partitions: Int = 1) throws -> Installation {
      let installation = try Installation(
        bootstrapServers: cluster.bootstrapServers,
        configuration: [
          "kafka.properties": "{reconnect.backoff.max.ms: 200, retry.backoff.ms: 20, fetch.error.backoff.ms: 20, topic.metadata.refresh.interval.ms: 500}",
        ])
      for name in ["interactions", "items", "recommendations", "dead_letters"] {
        try cluster.createTopic(installation.topic(name), partitionCount: partitions)
      }
      return installation
    }

    /// Ends the daemon in order and expects that each of so many interactions has counted once, and that no list is owed.
    private func expectAllCountedOnce(_ count: Int, _ installation: Installation, _ daemon: ChildProcess) async throws {
      try await installation.waitUntilSettled()
      #expect(installation.metric("rodpod_ingest_interactions_total") == Double(count))
      #expect(installation.metric("rodpod_ingest_duplicates_total") == 0)
      #expect(installation.metric("rodpod_learner_interactions_total") == Double(count))
      #expect(installation.ask("/readyz")?.status == 200)
      #expect(try installation.deadLetters().isEmpty)
      var last: [String: UInt64] = [:]
      for (user, list) in try installation.published() {
        let revision = try #require(list).revision
        #expect(revision > last[user] ?? 0, "\(user)")
        last[user] = revision
      }
      #expect(Set(last.keys).isSuperset(of: (0..<6).map { "u-\($0)" }))
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
    }

    @Test func leadersThatMoveCostNothing() async throws {
      let cluster = try MockCluster(brokerCount: 3)
      let installation = try installation(at: cluster, partitions: 2)
      let daemon = try await installation.startAndWait()
      for round in 0..<9 {
        for name in ["interactions", "recommendations"] {
          for partition in 0..<2 {
            try cluster.setLeader(of: TopicPartition(installation.topic(name), Int32(partition)), to: 1 + (round + partition) % 3)
          }
        }
        try installation.produce(views(round * 40..<(round + 1) * 40), to: "interactions")
        if round.isMultiple(of: 3) { try await installation.waitUntilSettled() }
      }
      try await expectAllCountedOnce(360, installation, daemon)
    }

    @Test func slowBrokersSlowItDownAndCostNothing() async throws {
      let cluster = try MockCluster()
      let installation = try installation(at: cluster)
      let daemon = try await installation.startAndWait()
      try installation.produce(views(0..<60), to: "interactions")
      try await installation.waitUntilSettled()
      try cluster.setRoundTripTime(.milliseconds(1500), ofBroker: 1)
      try installation.produce(views(60..<120), to: "interactions")
      try await waitUntil("all is consumed") { try installation.committedRecords() == 120 }
      #expect(installation.ask("/healthz")?.status == 200)
      #expect(installation.ask("/readyz")?.status == 200)
      try cluster.setRoundTripTime(.zero, ofBroker: 1)
      try await expectAllCountedOnce(120, installation, daemon)
    }

    @Test(.enabled(if: Gateway.isAvailable, "python3 and openssl are needed: make test-dependencies"))
    func aQuotaHoldsItBackAndCostsNothing() async throws {
      let broker = try await Broker.start()
      // Less than the lists of six users need, and far less than the events.
      let gateway = try await Gateway(before: broker, quota: 10_000)
      let installation = try Installation(
        bootstrapServers: broker.bootstrapServers,
        configuration: ["kafka.bootstrap_servers": gateway.address, "ranker.debounce_ms": "0"])
      let daemon = try await installation.startAndWait()
      for round in 0..<4 {
        try installation.produce(views(round * 100..<(round + 1) * 100), to: "interactions")
        try await waitUntil("the round is consumed") { try installation.committedRecords() == (round + 1) * 100 }
        #expect(installation.ask("/healthz")?.status == 200)
        #expect(installation.ask("/readyz")?.status == 200)
      }
      #expect(installation.metric("rodpod_kafka_throttle_seconds_total") ?? 0 > 1)
      #expect(daemon.standardError.contains(/WARNING .*it is over its quota.*for=/))
      try await expectAllCountedOnce(400, installation, daemon)
    }

    @Test func refusedReadingIsSaidAndGoesOnOnceItIsAllowed() async throws {
      let cluster = try MockCluster()
      let installation = try installation(at: cluster)
      let daemon = try await installation.startAndWait()
      try installation.produce(views(0..<30), to: "interactions")
      try await installation.waitUntilSettled()
      cluster.fail(.fetch, with: Array(repeating: .topicAuthorizationFailed, count: 4))
      try await waitUntil("it says that it may not read; \(daemon.standardError.suffix(1000))") {
        daemon.standardError.contains(/ERROR .*Kafka reports an error.*TOPIC_AUTHORIZATION_FAILED/)
      }
      #expect(installation.ask("/healthz")?.status == 200)
      #expect(installation.ask("/v1/users/u-1")?.status == 200)
      try installation.produce(views(30..<60), to: "interactions")
      try await expectAllCountedOnce(60, installation, daemon)
    }

    @Test func refusedWritingIsSaidAndTheListsAreOwedUntilItIsAllowed() async throws {
      let cluster = try MockCluster()
      let installation = try installation(at: cluster)
      // So that what is refused are the daemon's lists, not this test's events.
      installation.configuration["ranker.debounce_ms"] = "2000"
      let daemon = try await installation.startAndWait()
      try installation.produce(views(0..<30), to: "interactions")
      cluster.fail(.produce, with: Array(repeating: .topicAuthorizationFailed, count: 4))
      try await waitUntil("it says that it may not write; \(daemon.standardError.suffix(1000))") {
        daemon.standardError.contains(/ERROR .*a list was not delivered.*TOPIC_AUTHORIZATION_FAILED/)
      }
      #expect(installation.metric("rodpod_ranker_deliveries_failed_total") ?? 0 > 0)
      #expect(installation.ask("/healthz")?.status == 200)
      try await expectAllCountedOnce(30, installation, daemon)
    }

    @Test func aRefusedGroupIsSaidAndGoesOnOnceItIsAllowed() async throws {
      let cluster = try MockCluster()
      let installation = try installation(at: cluster)
      cluster.fail(.joinGroup, with: Array(repeating: .groupAuthorizationFailed, count: 3))
      let daemon = try await installation.startAndWait()
      try await waitUntil("it says that it may not join; \(daemon.standardError.suffix(1000))") {
        daemon.standardError.contains(/ERROR .*GROUP_AUTHORIZATION_FAILED/)
      }
      try installation.produce(views(0..<30), to: "interactions")
      try await expectAllCountedOnce(30, installation, daemon)
    }

    @Test func partitionsThatAreAddedAreReadFromTheirBeginning() async throws {
      let broker = try await Broker.shared()
      let admin = try AdminClient(properties: ["bootstrap.servers": broker.bootstrapServers])
      for start in ["earliest", "latest"] {
        let installation = try Installation(
          bootstrapServers: broker.bootstrapServers,
          configuration: ["kafka.start_at": start, "kafka.properties": "{topic.metadata.refresh.interval.ms: 500}"])
        var daemon = try await installation.startAndWait()
        try await waitUntil("partitions are assigned") { daemon.standardError.contains("partitions are assigned") }
        try installation.produce(views(0..<30), to: "interactions")
        try await installation.waitUntilSettled()
        // What comes before the daemon knows the partition counts too.
        try admin.raisePartitions(of: installation.topic("interactions"), to: 3, within: .seconds(10))
        try await waitUntil("the broker has them") {
          try admin.metadata(within: .seconds(5)).partitionCounts[installation.topic("interactions")] == 3
        }
        try installation.produce(views(30..<90) { Int32($0 % 3) }, to: "interactions")
        try await installation.waitUntilSettled()
        #expect(installation.metric("rodpod_ingest_interactions_total") == 90, "\(start)")
        daemon.send(SIGTERM)
        #expect(try await daemon.exitCode() == 0)

        // And after a restart.
        try admin.raisePartitions(of: installation.topic("interactions"), to: 4, within: .seconds(10))
        try await waitUntil("the broker has them") {
          try admin.metadata(within: .seconds(5)).partitionCounts[installation.topic("interactions")] == 4
        }
        try installation.produce(views(90..<120) { _ in 3 }, to: "interactions")
        daemon = try await installation.startAndWait()
        try await installation.waitUntilSettled()
        #expect(installation.metric("rodpod_ingest_interactions_total") == 30, "\(start)")
        daemon.send(SIGTERM)
        #expect(try await daemon.exitCode() == 0)
      }
    }

    @Test func withTheLatestStartWhatComesWhileItIsAwayIsRead() async throws {
      let installation = try Installation(
        bootstrapServers: try await Broker.shared().bootstrapServers, configuration: ["kafka.start_at": "latest", "topics.partitions": "2"])
      let admin = try AdminClient(properties: ["bootstrap.servers": installation.bootstrapServers])
      _ = try admin.ensureTopics([TopicSpecification(installation.topic("interactions"), partitionCount: 2, replicationFactor: 1)], within: .seconds(30))
      try installation.produce(views(0..<30) { Int32($0 % 2) }, to: "interactions")
      for life in 0..<2 {
        let daemon = try await installation.startAndWait()
        try await waitUntil("partitions are assigned") { daemon.standardError.contains("partitions are assigned") }
        if life == 0 { try installation.produce(views(30..<40) { _ in 0 }, to: "interactions") }
        try await installation.waitUntilSettled()
        #expect(installation.metric("rodpod_ingest_interactions_total") == 10)
        daemon.send(SIGTERM)
        #expect(try await daemon.exitCode() == 0)
        // The partition of which nothing has been read so far.
        if life == 0 { try installation.produce(views(40..<50) { _ in 1 }, to: "interactions") }
      }
    }

    @Test func aTopicThatIsMadeAnewIsReadFromItsBeginningAndThatIsSaid() async throws {
      let installation = try Installation(
        bootstrapServers: try await Broker.shared().bootstrapServers,
        configuration: ["kafka.properties": "{topic.metadata.refresh.interval.ms: 500}"])
      let admin = try AdminClient(properties: ["bootstrap.servers": installation.bootstrapServers])
      let topic = installation.topic("interactions")
      let daemon = try await installation.startAndWait()
      try installation.produce(views(0..<60), to: "interactions")
      try await installation.waitUntilSettled()

      #expect(try admin.deleteTopics([topic], within: .seconds(20)).isEmpty)
      try await waitUntil("it is said that the topic is gone; \(daemon.standardError.suffix(2000))") {
        daemon.standardError.contains(/(WARNING|ERROR) .*UNKNOWN_TOPIC/)
      }
      #expect(installation.ask("/healthz")?.status == 200)
      _ = try admin.ensureTopics([TopicSpecification(topic, partitionCount: 1, replicationFactor: 1)], within: .seconds(30))
      try installation.produce(views(60..<90), to: "interactions")
      try await waitUntil("the new topic's records are in the state; \(daemon.standardError.suffix(3000))") {
        installation.metric("rodpod_ingest_interactions_total") == 90
      }
      #expect(daemon.standardError.contains(/ERROR .*records were lost upstream.*offset=60/))
      #expect(installation.metric("rodpod_ingest_offsets_out_of_range_total") == 1)
      try await installation.waitUntilSettled()
      #expect(installation.ask("/readyz")?.status == 200)
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
    }
  }
}
