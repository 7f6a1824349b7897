import Events
import Foundation
import Kafka
import StateStore
import Testing
import TestBroker
import TestSupport

extension DaemonProcessTests {
  @Suite struct KillTests {
    /// A moment of a life of the daemon at which it is killed.
    enum Moment {
      /// Once so many records of the whole stream are in the state.
      case progress(Int)
      /// So long after its start, ready or not.
      case age(Duration)
    }

    /// What one life left in the store.
    struct Remains {
      var committed: Int
      var cursor: UInt64
      var next: UInt64
    }

    /// How a life ends. A power cut takes away what the daemon had not synced, too.
    enum Death: String, CaseIterable {
      case kill, powerCut

      /// How many lives end so: `make torture` says more.
      var count: Int {
        let variable = self == .kill ? "RODPOD_TORTURE_KILLS" : "RODPOD_TORTURE_POWER_CUTS"
        return ProcessInfo.processInfo.environment[variable].flatMap { Int($0) } ?? (self == .kill ? 30 : 10)
      }
    }

    /// Most kills come wherever the stream is, spread over all of it; the others come early in a life, where it opens, restores and joins.
    static func moments(_ count: Int, recordCount: Int, using generator: inout SeededGenerator) -> [Moment] {
      var progress = (0..<count * 4 / 5).map { _ in Int.random(in: 0..<recordCount, using: &generator) }.sorted()[...]
      let isEarly = Array(repeating: true, count: count - progress.count) + Array(repeating: false, count: progress.count)
      return isEarly.shuffled(using: &generator).map { isEarly in
        isEarly ? .age(.milliseconds(Int.random(in: 0..<1200, using: &generator))) : .progress(progress.removeFirst())
      }
    }

    @Test func whateverIsKilledWheneverEveryEventCountsOnce() async throws { try await live(endingBy: .kill) }

    @Test(.enabled(if: Disk.isAvailable, "only root may mount a file system"))
    func afterAPowerCutTheStoreOpensAndEveryEventCountsOnce() async throws { try await live(endingBy: .powerCut) }

    private func live(endingBy death: Death) async throws {
      var generator = SeededGenerator(seed: tortureSeed(of: "\(death)"))
      let broker = try await Broker.shared()
      let stream = try MovieLens()
      let installation = try Installation(
        bootstrapServers: broker.bootstrapServers,
        configuration: [
          "topics.partitions": "4", "store.commit_max_events": "200", "store.commit_interval_ms": "0", "learner.stride": "1024",
          "learner.max_lag_interactions": "1000000", "learner.guard_relative_drop": "1", "learner.max_user_share": "1",
          "log.level": "info",
        ])
      let disk = try death == .powerCut ? Disk(megabytes: 512) : nil
      if let disk { installation.configuration["store.path"] = disk.folder.appending(path: "store").path }
      // Events as old as these would vanish where a topic's retention goes by their time.
      try createTopics(of: installation)
      let player = try MovieLensPlayer(stream, to: installation)

      var remains = Remains(committed: 0, cursor: 1, next: 1)
      var slowestStart = Duration.zero
      // How often a power cut took so many commits.
      var lost: [Int: Int] = [:]
      for (number, moment) in Self.moments(death.count, recordCount: stream.recordCount, using: &generator).enumerated() {
        let daemon = try installation.start()
        let start = ContinuousClock.now
        var isReady = false
        try await waitUntil("life \(number) comes to its end, \(moment); \(daemon.standardError.suffix(1000))", within: .seconds(600)) {
          let committed = try installation.committedRecords()
          let learned = try installation.store?.learnerPosition().cursor ?? 1
          // The stream runs on while the daemon is away, but not out of its reach: nor out of the learner's, so that kills meet learning.
          try player.play(upTo: min(committed, stream.items.count + Int(learned)) + 6000)
          if !isReady, daemon.standardError.contains("rodpod is ready") {
            isReady = true
            slowestStart = max(slowestStart, ContinuousClock.now - start)
          }
          #expect(daemon.isRunning, "the daemon ended by itself: \(daemon.standardError.suffix(2000))")
          return switch moment {
          case .progress(let count): committed >= count
          case .age(let age): ContinuousClock.now - start >= age
          }
        }
        daemon.send(SIGKILL)
        #expect(try await daemon.exitCode() == -SIGKILL)
        if let disk {
          // All but the last commit that was seen are on the disk.
          let seen = try installation.store?.info().commits ?? 0
          installation.closeStore()
          try disk.cutPower()
          lost[seen - (try installation.store?.info().commits ?? 0), default: 0] += 1
        }
        remains = try check(installation, daemon, before: remains, life: number)
      }

      print("KillTests: \(death.count) lives ended by \(death); the slowest start took \(slowestStart)\(disk == nil ? "" : "; lost commits: \(lost)")")
      #expect(lost.keys.allSatisfy { $0 <= 1 })
      let daemon = try await installation.startAndWait()
      try player.finish()
      try await installation.waitUntilSettled()
      let metrics = try #require(installation.ask("/metrics"))
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
      let end = try check(installation, daemon, before: remains, life: death.count)
      #expect(end.committed == stream.recordCount)
      #expect(end.next == UInt64(stream.interactions.count) + 1)
      #expect(end.cursor == end.next)
      #expect(metrics.metric("rodpod_learner_interactions_total") == Double(end.next - remains.cursor))
      #expect(metrics.metric("rodpod_learner_sampled_out_interactions_total") == 0)
      #expect(metrics.metric("rodpod_learner_non_finite_steps_total") == 0)

      let sequenceCount = try checkSequences(installation, stream)
      #expect(try installation.deadLetters().isEmpty)
      try await checkLists(installation, users: sequenceCount, using: &generator)
      try await compareWithAnUninterruptedRun(installation)
      installation.closeStore()
      withExtendedLifetime(disk) {}
    }

    private func createTopics(of installation: Installation) throws {
      let admin = try AdminClient(properties: ["bootstrap.servers": installation.bootstrapServers])
      let outcomes = try admin.ensureTopics(
        [
          TopicSpecification(
            installation.topic("interactions"), partitionCount: 4, replicationFactor: 1, configuration: ["retention.ms": "-1"]),
          TopicSpecification(
            installation.topic("items"), partitionCount: 4, replicationFactor: 1,
            configuration: ["retention.ms": "-1", "cleanup.policy": "compact"]),
        ], within: .seconds(30))
      #expect(outcomes.values.allSatisfy { $0 == .created })
    }

    /// What is in the store only ever grows, the learner lies within the journal, and each life went on where the checkpoint before it stood.
    private func check(_ installation: Installation, _ daemon: ChildProcess, before: Remains, life: Int) throws -> Remains {
      let committed = try installation.committedRecords()
      let position = try installation.store?.learnerPosition() ?? (cursor: 1, next: 1)
      let log = daemon.standardError
      #expect(committed >= before.committed, "life \(life)")
      #expect(position.cursor >= before.cursor, "life \(life)")
      #expect(position.cursor <= position.next, "life \(life)")
      #expect(position.next >= before.next, "life \(life)")
      if let match = log.firstMatch(of: /the model goes on from a checkpoint .*?cursor=(\d+)/) {
        #expect(UInt64(match.1).map { max($0, 1) } == before.cursor, "life \(life)")
      }
      for failure in ["a checkpoint is damaged", "a service can't go on", "rodpod can't start"] {
        #expect(!log.contains(failure), "life \(life): \(log)")
      }
      return Remains(committed: committed, cursor: position.cursor, next: position.next)
    }

    /// Every user's sequence is what the file says.
    ///
    /// - Returns: how many users there are.
    private func checkSequences(_ installation: Installation, _ stream: MovieLens) throws -> Int {
      let store = try #require(installation.store)
      var expected: [String: [String]] = [:]
      for interaction in stream.interactions { expected[interaction.user, default: []].append("\(interaction.item)@\(interaction.time)") }
      let found = try store.read { (transaction) throws(StateStoreError) in
        var found: [String: [String]] = [:]
        for sequence in try transaction.sequences(limit: .max) {
          var texts: [String] = []
          for interaction in sequence.interactions { texts.append("\(try transaction.itemID(interaction.item) ?? "?")@\(interaction.time)") }
          found[sequence.user] = texts
        }
        return found
      }
      #expect(found == expected.mapValues { Array($0.suffix(20)) })
      return found.count
    }

    /// Each user's revisions rise strictly in the order of the log, and the last list is that of the stored pool.
    private func checkLists(_ installation: Installation, users: Int, using generator: inout SeededGenerator) async throws {
      var last: [String: Recommendation] = [:]
      for (user, list) in try installation.published() {
        let list = try #require(list, "nobody was erased, \(user)")
        if let before = last[user] { #expect(list.revision > before.revision, "\(user)") }
        last[user] = list
      }
      last["_guest"] = nil
      #expect(last.count == users)
      let store = try #require(installation.store)
      for (user, list) in last {
        let pool = try #require(
          try store.read { (transaction) throws(StateStoreError) -> (revision: UInt64, items: [String])? in
            guard let pool = try transaction.pool(of: user) else { return nil }
            var items: [String] = []
            for number in pool.items.prefix(20) { items.append(try transaction.itemID(number) ?? "?") }
            return (pool.revision, items)
          })
        #expect(list.revision == pool.revision, "\(user)")
        #expect(list.items.map(\.item) == pool.items, "\(user)")
      }
      for user in last.keys.sorted().shuffled(using: &generator).prefix(5) {
        #expect(try await installation.inspect("pool", user)["revision"] as? UInt64 == last[user]?.revision)
      }
    }

    private func compareWithAnUninterruptedRun(_ installation: Installation) async throws {
      let reference = try Installation(bootstrapServers: installation.bootstrapServers, configuration: installation.configuration)
      reference.configuration["store.path"] = reference.folder.appending(path: "store").path
      reference.configuration["admin.listen"] = "127.0.0.1:\(reference.adminPort)"
      for key in ["kafka.group_id", "topics.recommendations", "topics.dead_letters"] {
        reference.configuration[key] = uniqueName("process-reference")
      }
      let daemon = try await reference.startAndWait()
      try await reference.waitUntilConsumed()
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
      #expect(try await installation.digest() == reference.digest())
    }
  }
}
