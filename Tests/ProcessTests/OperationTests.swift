import Events
import Foundation
import Kafka
import StateStore
import Testing
import TestBroker
import TestSupport

extension DaemonProcessTests {
  @Suite struct OperationTests {
    private func view(_ user: String, _ item: String, at time: Int64) -> Record {
      Record(Events.Interaction(user: user, item: item, type: 0, time: 1_700_000_000_000 + time), type: "view")
    }

    @Test func healthReadinessMetricsAndAdvisoryOffsetsTellHowItStands() async throws {
      let installation = try Installation(
        bootstrapServers: try await Broker.shared().bootstrapServers, configuration: ["quality.log_interval_ms": "1000"])
      let daemon = try await installation.startAndWait()
      #expect(installation.ask("/healthz")?.body == "ok\n")
      #expect(installation.ask("/readyz")?.body == #"{"ready":true,"reasons":[]}"#)
      try installation.produce((0..<40).map { view("u-\($0 % 4)", "i-\($0 % 7)", at: Int64($0)) }, to: "interactions")
      try await installation.waitUntilSettled()

      let metrics = try #require(installation.ask("/metrics"))
      for (sample, value) in [
        ("rodpod_ingest_events_total", 40.0), ("rodpod_ingest_interactions_total", 40), ("rodpod_ingest_duplicates_total", 0),
        ("rodpod_ingest_lag_events", 0), ("rodpod_learner_interactions_total", 40), ("rodpod_ingest_offsets_out_of_range_total", 0),
        ("rodpod_learner_backlog_interactions", 0), ("rodpod_ranker_deliveries_failed_total", 0),
      ] {
        #expect(metrics.metric(sample) == value, "\(sample)")
      }
      // Commits, strides and lists depend on how the events fell together.
      for sample in [
        "rodpod_ingest_commit_seconds_count", "rodpod_learner_steps_total", "rodpod_learner_stride_seconds_count", "rodpod_model_version",
        "rodpod_learner_cross_entropy", "rodpod_ranker_users_total", "rodpod_ranker_batch_seconds_count",
        "rodpod_ranker_lists_published_total", "rodpod_store_used_bytes", "rodpod_store_map_bytes",
      ] {
        #expect(metrics.metric(sample) ?? 0 > 0, "\(sample)")
      }
      let samples = metrics.body.split(separator: "\n").filter { !$0.hasPrefix("#") }
      #expect(samples.allSatisfy { $0.hasPrefix("rodpod_") || $0.hasPrefix("process_") })
      for name in ["quality_hit_rate", "quality_ndcg", "quality_mrr"] {
        for recommender in ["rodpod", "recent_popularity"] {
          try await waitUntil("\(name) of \(recommender)") {
            installation.ask("/metrics")?.body.contains("rodpod_\(name){k=\"10\",recommender=\"\(recommender)\",slice=\"all\"}") == true
          }
        }
      }
      try await waitUntil("a line of figures in the log") { daemon.standardError.contains(/figures .*ndcg=/) }

      let lookAt = try Consumer(properties: [
        "bootstrap.servers": installation.bootstrapServers, "group.id": installation.configuration["kafka.group_id"] ?? "",
      ])
      defer { lookAt.close(within: .seconds(5)) }
      let partition = TopicPartition(installation.topic("interactions"), 0)
      try await waitUntil("the group's committed offset is the topic's end") {
        try lookAt.committedOffsets(of: [partition], within: .seconds(10)) == [partition: 40]
      }
      withExtendedLifetime(daemon) {}
    }

    @Test func itStopsOnTERMAndINTWithACheckpointOfAllThatWasLearned() async throws {
      let installation = try Installation(
        bootstrapServers: try await Broker.shared().bootstrapServers,
        configuration: ["learner.checkpoint_interval_ms": "86400000", "lifecycle.shutdown_timeout_ms": "20000"])
      for (life, signal) in [SIGTERM, SIGINT].enumerated() {
        let daemon = try await installation.startAndWait()
        let first = 30 * life
        try installation.produce((first..<first + 30).map { view("u-\($0 % 3)", "i-\($0)", at: Int64($0)) }, to: "interactions")
        try await waitUntil("all is learned") { installation.metric("rodpod_learner_interactions_total") == 30 }
        daemon.send(signal)
        #expect(try await daemon.exitCode(within: .seconds(30)) == 0)
        #expect(daemon.standardError.contains("rodpod has stopped"))
        #expect(daemon.loggedErrors == [])
        let model = try await installation.inspect("model")
        #expect(model["cursor"] as? Int == first + 31)
        #expect(model["next_journal_sequence"] as? Int == first + 31)
        let newest = try #require((model["checkpoints"] as? [[String: Any]])?.max { $0["model"] as? Int ?? 0 < $1["model"] as? Int ?? 0 })
        let file = try #require(newest["name"] as? String)
        #expect(FileManager.default.fileExists(atPath: installation.storePath + "/checkpoints/" + file))
      }
    }

    @Test func itStopsWhileItStillWaitsForKafka() async throws {
      let installation = try Installation(bootstrapServers: "127.0.0.1:\(try freePort())")
      let daemon = try installation.start()
      try await waitUntil("it waits") { daemon.standardError.contains("Kafka can't be reached yet") }
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode(within: .seconds(20)) == 0)
    }

    @Test func aHangupTakesOverWhatMayChangeAndRefusesTheRest() async throws {
      let installation = try Installation(
        bootstrapServers: try await Broker.shared().bootstrapServers,
        configuration: ["learner.learning_rate": "1e-8", "learner.stride": "1000000"])
      let daemon = try await installation.startAndWait()
      try installation.produce(
        (0..<30).map { Record(Events.ItemDescription(item: "i-\($0)")) }, to: "items")
      try await installation.waitUntilRankable(30)
      try installation.produce([view("u", "i-0", at: 0)], to: "interactions")
      try await installation.waitUntilSettled()
      #expect(try installation.published().last { $0.user == "u" }?.list?.items.count == 20)

      installation.configuration["ranker.top_k"] = "5"
      installation.configuration["store.map_size_bytes"] = "\(128 << 20)"
      try installation.writeConfiguration()
      daemon.send(SIGHUP)
      try await waitUntil("the change is taken over") {
        daemon.standardError.contains(/a setting is changed .*ranker.top_k: 20 -> 5/)
          && daemon.standardError.contains(/can't change at run time .*store.map_size_bytes: 268435456 -> 134217728/)
      }
      try installation.produce([view("u", "i-1", at: 1)], to: "interactions")
      try await installation.waitUntilSettled()
      #expect(try installation.published().last { $0.user == "u" }?.list?.items.count == 5)

      installation.configuration["ranker.top_k"] = "none"
      try installation.writeConfiguration()
      daemon.send(SIGHUP)
      try await waitUntil("the errors are reported") { daemon.standardError.contains("the configuration is left as it was") }
      #expect(daemon.standardError.contains("ranker.top_k"))
      #expect(installation.ask("/readyz")?.status == 200)
      try installation.produce([view("u", "i-2", at: 2)], to: "interactions")
      try await installation.waitUntilSettled()
      #expect(try installation.published().last { $0.user == "u" }?.list?.items.count == 5)
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
    }

    @Test func missingTopicsAreCreatedWithTheSettingsThatTheyNeed() async throws {
      let installation = try Installation(
        bootstrapServers: try await Broker.shared().bootstrapServers, configuration: ["topics.partitions": "3"])
      let daemon = try await installation.startAndWait()
      let admin = try AdminClient(properties: ["bootstrap.servers": installation.bootstrapServers])
      for (name, policy) in [("interactions", "delete"), ("items", "compact"), ("recommendations", "compact"), ("dead_letters", "delete")] {
        let topic = installation.topic(name)
        #expect(try admin.topicConfiguration(topic, within: .seconds(30))["cleanup.policy"] == policy, "\(name)")
        #expect(try admin.metadata(within: .seconds(30)).partitionCounts[topic] == 3, "\(name)")
      }
      withExtendedLifetime(daemon) {}
    }

    @Test func whereCreationIsForbiddenMissingTopicsAreReported() async throws {
      let installation = try Installation(
        bootstrapServers: try await Broker.shared().bootstrapServers, configuration: ["kafka.create_topics": "false"])
      let admin = try AdminClient(properties: ["bootstrap.servers": installation.bootstrapServers])
      _ = try admin.ensureTopics(
        [TopicSpecification(installation.topic("interactions"), partitionCount: 1, replicationFactor: 1)], within: .seconds(30))
      let daemon = try installation.start()
      #expect(try await daemon.exitCode() == 69)
      let complaint = try #require(daemon.standardError.split(separator: "\n").last)
      for name in ["items", "recommendations", "dead_letters"] { #expect(complaint.contains(installation.topic(name)), "\(name)") }
      #expect(!complaint.contains(installation.topic("interactions")))
      let partitions = try admin.metadata(within: .seconds(30)).partitionCounts
      #expect(partitions[installation.topic("items")] == nil)
    }

    @Test func aStoreHasOneDaemon() async throws {
      let installation = try Installation(bootstrapServers: try await Broker.shared().bootstrapServers)
      let daemon = try await installation.startAndWait()
      let second = try installation.start(["--set", "admin.listen=127.0.0.1:\(try freePort())", "--set", "kafka.group_id=another"])
      #expect(try await second.exitCode() == 74)
      #expect(second.standardError.contains(installation.storePath))
      #expect(installation.ask("/readyz")?.status == 200)
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
    }

    @Test func anAdminPortThatIsTakenEndsTheStart() async throws {
      let installation = try Installation(bootstrapServers: try await Broker.shared().bootstrapServers)
      let daemon = try await installation.startAndWait()
      let second = try installation.start([
        "--set", "store.path=\(installation.folder.appending(path: "other").path)", "--set", "kafka.group_id=\(uniqueName("other"))",
      ])
      #expect(try await second.exitCode() == 69)
      #expect(second.standardError.contains("127.0.0.1:\(installation.adminPort)"))
      withExtendedLifetime(daemon) {}
    }

    @Test func aSecondMemberOfTheGroupIsSaidClearlyAndCostsNothing() async throws {
      let installation = try Installation(
        bootstrapServers: try await Broker.shared().bootstrapServers, configuration: ["topics.partitions": "2"])
      let daemon = try await installation.startAndWait()
      let topic = installation.topic("interactions")
      let other = try Consumer(properties: [
        "bootstrap.servers": installation.bootstrapServers, "group.id": installation.configuration["kafka.group_id"] ?? "",
        "client.id": "intruder",
      ])
      try other.subscribe([topic, installation.topic("items")])
      try await waitUntil("the second member is reported", within: .seconds(90)) {
        _ = other.poll(maximumCount: 1, timeout: .milliseconds(20)) { _ in }
        return daemon.standardError.contains(/more than one member.*intruder/)
      }
      #expect(installation.metric("rodpod_kafka_group_members") == 2)
      #expect(!other.assignment.isEmpty)
      try produceAll(
        (0..<40).map { number in
          var record = view("u-\(number % 2)", "i-\(number)", at: Int64(number))
          record.partition = Int32(number % 2)
          return record
        }, to: topic, bootstrapServers: installation.bootstrapServers)
      // It leaves without a word to the group of what it read.
      other.close(within: .seconds(10))
      try await installation.waitUntilSettled()
      #expect(installation.metric("rodpod_ingest_interactions_total") == 40)
      withExtendedLifetime(daemon) {}
    }

    @Test func aBrokerThatGoesAwayAndComesBackCostsNothing() async throws {
      let broker = try await Broker.start()
      let installation = try Installation(bootstrapServers: broker.bootstrapServers)
      let daemon = try await installation.startAndWait()
      try installation.produce((0..<20).map { view("u-\($0 % 2)", "i-\($0)", at: Int64($0)) }, to: "interactions")
      try await installation.waitUntilSettled()
      try broker.stop()
      try await waitUntil("the loss is noticed") { daemon.standardError.contains(/(WARNING|ERROR) .*(Connect|Disconnected|refused)/) }
      #expect(installation.ask("/healthz")?.status == 200)
      try await broker.restart()
      try installation.produce((20..<40).map { view("u-\($0 % 2)", "i-\($0)", at: Int64($0)) }, to: "interactions")
      try await installation.waitUntilSettled()
      #expect(installation.metric("rodpod_ingest_interactions_total") == 40)
      #expect(installation.metric("rodpod_learner_interactions_total") == 40)
      var last: [String: UInt64] = [:]
      for (user, list) in try installation.published() {
        let revision = try #require(list).revision
        #expect(revision > last[user] ?? 0)
        last[user] = revision
      }
      #expect(try await installation.inspect("pool", "u-1")["revision"] as? UInt64 == last["u-1"])
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
    }
  }
}
