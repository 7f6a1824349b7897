import Events
import Foundation
import Kafka
import StateStore
import Testing
import TestBroker
import TestSupport

extension DaemonProcessTests {
  /// The disk, the store's files and the load do what they must not.
  @Suite struct FaultTests {
    private func view(_ user: String, _ item: String, at time: Int) -> Record {
      Record(Events.Interaction(user: user, item: item, type: 0, time: 1_700_000_000_000 + Int64(time)), type: "view")
    }

    private func views(_ range: Range<Int>, users: Int) -> [Record] {
      range.map { view("u-\($0 % users)", "i-\($0 * 31 % 300)", at: $0) }
    }

    private func installation(_ configuration: [String: String] = [:]) async throws -> Installation {
      try Installation(bootstrapServers: try await Broker.shared().bootstrapServers, configuration: configuration)
    }

    /// A life of the daemon in which it takes in these records and all that waits, up to an orderly end.
    @discardableResult
    private func live(_ installation: Installation, taking records: [Record] = []) async throws -> ChildProcess {
      let daemon = try await installation.startAndWait()
      try installation.produce(records, to: "interactions")
      try await installation.waitUntilSettled()
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
      return daemon
    }

    /// Plays the same topics to a daemon that nothing happens to, and compares what came of them.
    private func expectTheStateOfAQuietRun(_ installation: Installation) async throws {
      let digest = try await installation.digest()
      let reference = try Installation(bootstrapServers: installation.bootstrapServers)
      for key in ["topics.interactions", "topics.items"] { reference.configuration[key] = installation.configuration[key] }
      let daemon = try await reference.startAndWait()
      try await reference.waitUntilConsumed()
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
      #expect(try await reference.digest() == digest)
    }

    @Test func aLogThatCannotBeWrittenHoldsNothingUp() async throws {
      let installation = try await installation()
      let daemon = try installation.start(log: "/dev/full")
      try await waitUntil("it is ready") { installation.ask("/readyz")?.status == 200 }
      try installation.produce(views(0..<500, users: 40), to: "interactions")
      try await installation.waitUntilSettled()
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
      try await expectTheStateOfAQuietRun(installation)
    }

    @Test(.enabled(if: Disk.isAvailable, "only root may mount a file system"))
    func onAFullDiskItStandsStillAnswersAndGoesOnWhenThereIsRoom() async throws {
      let disk = try Disk(megabytes: 64)
      let installation = try await installation(["store.path": disk.folder.appending(path: "store").path])
      var daemon = try await installation.startAndWait()
      try installation.produce(views(0..<500, users: 40), to: "interactions")
      try await installation.waitUntilSettled()
      try disk.fill()
      try installation.produce(views(500..<20_500, users: 2_000), to: "interactions")
      try await waitUntil("it says that it stands still; \(daemon.standardError.suffix(1000))") {
        daemon.standardError.contains(/ERROR .*consumption stands still.*has no room/)
      }
      #expect(installation.ask("/healthz")?.status == 200)
      #expect(installation.ask("/readyz")?.status == 503)
      #expect(installation.ask("/readyz")?.body.contains("no room") == true)
      #expect(installation.ask("/v1/users/u-1")?.status == 200)
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0, "\(daemon.standardError.suffix(1000))")

      // It starts on the full disk too, and goes on by itself when there is room.
      daemon = try installation.start()
      try await waitUntil("it stands still again; \(daemon.standardError.suffix(1000))") {
        daemon.standardError.contains("consumption stands still") || !daemon.isRunning
      }
      #expect(daemon.isRunning, "\(daemon.standardError.suffix(1000))")
      try disk.free()
      try await installation.waitUntilSettled()
      #expect(installation.ask("/readyz")?.status == 200)
      #expect(try installation.deadLetters().isEmpty)
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
      try await expectTheStateOfAQuietRun(installation)
      installation.closeStore()
      withExtendedLifetime(disk) {}
    }

    @Test(.enabled(if: ForeignProgram.isThere(ForeignProgram.strace), "strace is needed: make test-dependencies"))
    func whileEverySyncTakesSecondsItAnswersIsAliveAndLosesNothing() async throws {
      let systemd = DatagramReceiver(path: temporarySocketPath())
      let installation = try await installation()
      let daemon = try await installation.startAndWait(environment: ["NOTIFY_SOCKET": systemd.path, "WATCHDOG_USEC": "4000000"])
      try installation.produce(views(0..<500, users: 40), to: "interactions")
      try await installation.waitUntilSettled()
      let calls = installation.folder.appending(path: "calls")
      let tracer = try ForeignProcess(
        ForeignProgram.strace,
        [
          "-f", "-q", "-p", "\(daemon.processIdentifier)", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:delay_enter=2s",
          "-o", calls.path,
        ], output: installation.folder.appending(path: "tracer.out"), errors: installation.folder.appending(path: "tracer.err"))
      try installation.produce(views(500..<2_500, users: 200), to: "interactions")
      while systemd.receiveTextIfAny() != nil {}
      var (lastFed, hungriest, slowest) = (ContinuousClock.now, Duration.zero, Duration.zero)
      try await waitUntil("all is in the state; \(daemon.standardError.suffix(1000))") {
        let asked = ContinuousClock.now
        for path in ["/healthz", "/readyz", "/v1/users/u-1"] { #expect(installation.ask(path)?.status == 200, "\(path)") }
        slowest = max(slowest, .now - asked)
        while let text = systemd.receiveTextIfAny() {
          guard text == "WATCHDOG=1" else { continue }
          hungriest = max(hungriest, .now - lastFed)
          lastFed = .now
        }
        return try installation.committedRecords() == 2_500
      }
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0, "\(daemon.standardError.suffix(1000))")
      let count = try String(contentsOf: calls, encoding: .utf8).split(separator: "\n").count { $0.contains("(DELAYED)") }
      print("FaultTests: \(count) syncs took 2 s longer; three answers took \(slowest) at most, the watchdog waited \(hungriest) at most")
      #expect(count > 2)
      #expect(slowest < .seconds(2))
      #expect(hungriest < .seconds(4))
      #expect(daemon.loggedErrors == [])
      try await expectTheStateOfAQuietRun(installation)
      withExtendedLifetime(tracer) {}
    }

    @Test func aStoreAtItsMaximumStandsStillAndGoesOnWithALargerOne() async throws {
      let installation = try await installation([
        // Some batches have a place.
        "store.map_size_bytes": "\(1 << 20)", "store.max_bytes": "\(2 << 20)", "store.commit_max_events": "5000",
      ])
      var daemon = try await installation.startAndWait()
      try installation.produce(views(0..<60_000, users: 10_000), to: "interactions")
      try await waitUntil("it stands still; \(daemon.standardError.suffix(1000))") {
        daemon.standardError.contains(/ERROR .*consumption stands still.*maximum size/) || !daemon.isRunning
      }
      #expect(daemon.isRunning, "\(daemon.standardError.suffix(1000))")
      #expect(installation.ask("/readyz")?.status == 503)
      #expect(installation.ask("/v1/users/u-1")?.status == 200)
      #expect(installation.metric("rodpod_store_map_bytes") ?? .infinity <= Double(2 << 20) * 17 / 16)
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0, "\(daemon.standardError.suffix(1000))")

      installation.closeStore()
      installation.configuration["store.max_bytes"] = "\(256 << 20)"
      daemon = try await installation.startAndWait()
      try await installation.waitUntilSettled()
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
      try await expectTheStateOfAQuietRun(installation)
    }

    @Test func aStoreThatIsFullOfItsJournalMakesRoomByItself() async throws {
      let installation = try await installation([
        "store.map_size_bytes": "\(1 << 20)", "store.max_bytes": "\(3 << 20)", "learner.window_interactions": "500",
        "learner.stride": "64", "pool.size": "20",
        // A batch is written whole: one that has no place in an empty store would wait for ever.
        "store.commit_max_events": "500",
      ])
      let daemon = try await installation.startAndWait()
      // The journal of all of it would take more than the store may have.
      for part in 0..<10 { try installation.produce(views(part * 4_000..<(part + 1) * 4_000, users: 200), to: "interactions") }
      try await installation.waitUntilSettled()
      #expect(installation.ask("/readyz")?.status == 200)
      #expect(installation.metric("rodpod_ingest_interactions_total") == 40_000)
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
      installation.closeStore()
      try await expectTheStateOfAQuietRun(installation)
    }

    @Test(.enabled(if: Disk.isAvailable, "only root may mount a file system"))
    func aFolderThatCannotBeWrittenEndsTheStartInWords() async throws {
      let disk = try Disk(megabytes: 16)
      let installation = try await installation(["store.path": disk.folder.appending(path: "store").path])
      try disk.remountReadOnly()
      let daemon = try installation.start()
      #expect(try await daemon.exitCode() == 74)
      #expect(daemon.standardError.contains("Read-only file system"))
      #expect(daemon.standardError.contains(installation.storePath))
    }

    @Test func damagedCheckpointsGiveWayToTheOneBeforeAndThatIsSaid() async throws {
      let installation = try await installation()
      for life in 0..<3 {
        try await live(installation, taking: views(life * 300..<(life + 1) * 300, users: 30))
      }
      let folder = installation.storePath + "/checkpoints/"
      let names = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
      #expect(names.count >= 3)
      let (newestName, nameBefore) = (names[names.count - 1], names[names.count - 2])
      func start() async throws -> (log: String, model: [String: Any]) {
        let daemon = try await live(installation)
        return (daemon.standardError, try await installation.inspect("model"))
      }
      var newest = try Data(contentsOf: URL(filePath: folder + newestName))
      newest[newest.count / 2] ^= 1
      try newest.write(to: URL(filePath: folder + newestName))
      var (log, model) = try await start()
      #expect(log.contains(/ERROR .*a checkpoint is damaged/) && log.contains(newestName))
      #expect(log.contains("the model goes on from a checkpoint") && log.contains(nameBefore))
      #expect(model["cursor"] as? Int == 901, "what the damaged one had learned is learned again")

      for name in try FileManager.default.contentsOfDirectory(atPath: folder) {
        try Data(contentsOf: URL(filePath: folder + name)).prefix(1000).write(to: URL(filePath: folder + name))
      }
      (log, model) = try await start()
      #expect(log.contains(/ERROR .*no checkpoint is intact/))
      #expect(model["cursor"] as? Int == 901)
    }

    /// Whatever a disk makes of the store's file: an answer or a refusal in words. LMDB has no checksums, though: where a page's head was
    /// overwritten it may follow a wild offset, which ends the process by SIGSEGV.
    @Test func aDamagedStoreIsRefusedInWords() async throws {
      var generator = SeededGenerator(seed: tortureSeed(of: "damage"))
      let installation = try await installation()
      try await live(installation, taking: views(0..<3_000, users: 300))
      let intact = try Data(contentsOf: URL(filePath: installation.storePath + "/data.mdb"))
      let copy = installation.folder.appending(path: "copy").path
      try FileManager.default.createDirectory(atPath: copy, withIntermediateDirectories: false)
      var ends: [String: Int] = [:]
      let count = ProcessInfo.processInfo.environment["RODPOD_TORTURE_DAMAGE"].flatMap { Int($0) } ?? 40
      for number in 0..<count {
        var damaged = intact
        if number.isMultiple(of: 2) {
          damaged = damaged.prefix(Int.random(in: 1..<intact.count, using: &generator))
        } else {
          let page = Int.random(in: 0..<intact.count / 4096, using: &generator) * 4096
          for index in page..<page + 64 where Bool.random(using: &generator) { damaged[index] = .random(in: 0...255, using: &generator) }
        }
        try damaged.write(to: URL(filePath: copy + "/data.mdb"))
        let outcome = try await installation.rodpod("state", "digest", "--store", copy)
        let isOverwritten = !number.isMultiple(of: 2)
        if isOverwritten, outcome.code == -SIGSEGV {
          ends["overwritten and SIGSEGV", default: 0] += 1
          continue
        }
        #expect([0, 74].contains(outcome.code), "\(number) ends with \(outcome.code): \(outcome.errors)")
        // Of a file cut within its first pages nothing is left that says it was a store.
        let isExplained = ["rodpod restore", "holds no store"].contains { outcome.errors.contains($0) }
        #expect(outcome.code == 0 || isExplained, "\(outcome.errors)")
        ends[isOverwritten ? "overwritten" : "cut short", default: 0] += outcome.code == 74 ? 1 : 0
      }
      print("FaultTests: of \(count / 2) each, refused: \(ends)")
      #expect(ends["cut short", default: 0] > 0)
    }

    @Test func linksInTheStateFolderAreNotFollowed() async throws {
      for name in ["data.mdb", "lock.mdb", "writer.lock", "checkpoints"] {
        let installation = try await installation()
        let elsewhere = installation.folder.appending(path: "elsewhere")
        if name == "checkpoints" {
          try FileManager.default.createDirectory(at: elsewhere, withIntermediateDirectories: false)
        } else {
          try Data().write(to: elsewhere)
        }
        try FileManager.default.createDirectory(atPath: installation.storePath, withIntermediateDirectories: false)
        try FileManager.default.createSymbolicLink(atPath: "\(installation.storePath)/\(name)", withDestinationPath: elsewhere.path)
        let daemon = try installation.start()
        #expect(try await daemon.exitCode() == 74, "\(name)")
        #expect(daemon.standardError.contains("link"), "\(name): \(daemon.standardError)")
        let size = (try? Data(contentsOf: elsewhere).count) ?? 0
        #expect(size == 0, "\(name)")
        #expect(try name != "checkpoints" || FileManager.default.contentsOfDirectory(atPath: elsewhere.path).isEmpty)
      }
    }

    @Test func whatItWritesIsForItsUserAlone() async throws {
      let installation = try await installation()
      try await live(installation, taking: views(0..<300, users: 30))
      let backup = installation.folder.appending(path: "backup").path
      #expect(try await installation.rodpod("backup", backup, "--store", installation.storePath).code == 0)
      for folder in [installation.storePath, backup] {
        var entries = [folder]
        for case let name as String in try #require(FileManager.default.enumerator(atPath: folder)) { entries.append("\(folder)/\(name)") }
        #expect(entries.count > 4)
        for entry in entries {
          let attributes = try FileManager.default.attributesOfItem(atPath: entry)
          let expected = attributes[.type] as? FileAttributeType == .typeDirectory ? 0o700 : 0o600
          #expect(attributes[.posixPermissions] as? Int == expected, "\(entry)")
        }
      }
    }

    @Test func aForgottenUserIsInNoFileOfACompactedStore() async throws {
      let installation = try await installation(["learner.checkpoint_keep": "1", "learner.window_interactions": "400", "learner.stride": "32"])
      var daemon = try await installation.startAndWait()
      let user = "gone-\(UUID().uuidString)"
      let long = "gone-" + String(repeating: "\(UUID().uuidString)/", count: 30)
      try installation.produce(views(0..<200, users: 10), to: "interactions")
      try installation.produce((0..<40).map { view($0.isMultiple(of: 2) ? user : long, "i-\($0)", at: 1_000 + $0) }, to: "interactions")
      try await installation.waitUntilSettled()
      func traces(_ folder: String) throws -> [String] {
        var found: [String] = []
        for case let name as String in try #require(FileManager.default.enumerator(atPath: folder)) {
          guard let bytes = try? Data(contentsOf: URL(filePath: "\(folder)/\(name)")) else { continue }
          for id in [user, long] {
            let number = UserFingerprint(id).bytes.prefix(8)
            // Checkpoints tell users apart by the first bytes of the fingerprint, low byte first.
            let inCheckpoint = name.hasSuffix(".safetensors") && bytes.range(of: Data(number.reversed())) != nil
            if bytes.range(of: Data(id.utf8)) != nil || inCheckpoint { found.append("\(name): \(id.prefix(20))") }
          }
        }
        return found
      }
      let before = installation.folder.appending(path: "before").path
      #expect(try await installation.rodpod("backup", before, "--store", installation.storePath).code == 0)
      #expect(try traces(before).count >= 4, "it looks in the right place")

      try installation.produce([Record(user, nil), Record(long, nil)], to: "interactions")
      try installation.produce(views(2_000..<2_100, users: 10), to: "interactions")
      try await installation.waitUntilSettled()
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
      let after = installation.folder.appending(path: "after").path
      #expect(try await installation.rodpod("backup", after, "--store", installation.storePath).code == 0)
      #expect(try traces(after) == [])
      // Restored, it is a store that goes on.
      try FileManager.default.removeItem(atPath: installation.storePath)
      #expect(try await installation.rodpod("restore", after, "--store", installation.storePath).code == 0)
      installation.closeStore()
      daemon = try await installation.startAndWait()
      try await installation.waitUntilSettled()
      #expect(try traces(installation.storePath) == [])
      withExtendedLifetime(daemon) {}
    }

    @Test func noSecretAndNoUserIsInTheLogs() async throws {
      let secret = "s3cret-\(UUID().uuidString)"
      let installation = try await installation(["log.level": "trace"])
      let file = installation.folder.appending(path: "password").path
      try secret.write(toFile: file, atomically: true, encoding: .utf8)
      installation.configuration["kafka.properties"] =
        "{security.protocol: sasl_plaintext, sasl.mechanism: PLAIN, sasl.username: shop, sasl.password: 'file:\(file)'}"
      let daemon = try await installation.startAndWait()
      let user = "ada-\(UUID().uuidString)"
      try installation.produce((0..<20).map { view(user, "i-\($0)", at: $0) }, to: "interactions")
      try installation.produce(
        [Record(user, "{\"user\": \"\(user)\", \"item\": \"i\", \"type\": \"stare\", \"time\": 1}"), Record(user, nil)], to: "interactions")
      try await installation.waitUntilSettled()
      _ = installation.ask("/v1/users/\(user)")
      let metrics = try #require(installation.ask("/metrics")).body
      let model = try #require(installation.ask("/v1/model")).body
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
      let configuration = try await installation.rodpod("check-config", "--config", installation.configurationFile)
      #expect(configuration.code == 0)
      for text in [daemon.standardError, daemon.standardOutput, metrics, model, configuration.output, configuration.errors] {
        #expect(!text.contains(secret))
      }
      for text in [daemon.standardError, daemon.standardOutput, metrics] { #expect(!text.contains(user)) }

      installation.configuration["admin.token_file"] = file
      let guarded = try installation.start()
      try await waitUntil("it asks for the token") { installation.ask("/metrics")?.status == 401 }
      guarded.send(SIGTERM)
      #expect(try await guarded.exitCode() == 0)
      #expect(!guarded.standardError.contains(secret))
    }

    /// Ten times as much as can be learned: all of it comes into the state, and the learner samples.
    @Test func underOverloadIngestGoesOnLearningSamplesAndMemoryStaysBounded() async throws {
      let installation = try await installation([
        "model.hidden_size": "64", "model.layer_count": "2", "model.inner_size": "256", "learner.max_lag_interactions": "2000",
        "learner.checkpoint_interval_ms": "5000", "learner.max_user_share": "1",
      ])
      let daemon = try await installation.startAndWait()
      try installation.produce(views(0..<2_000, users: 500), to: "interactions")
      try await installation.waitUntilSettled()
      let before = try daemon.peakMemory()
      for part in 0..<6 { try installation.produce(views(2_000 + part * 20_000..<2_000 + (part + 1) * 20_000, users: 500), to: "interactions") }
      try await installation.waitUntilConsumed()
      let backlog = try #require(installation.metric("rodpod_learner_backlog_interactions"))
      try await installation.waitUntilSettled()
      let (learned, sampledOut) = (
        installation.metric("rodpod_learner_interactions_total") ?? 0, installation.metric("rodpod_learner_sampled_out_interactions_total") ?? 0
      )
      print("FaultTests: overload: \(learned) learned, \(sampledOut) sampled out, a backlog of \(backlog) when all was consumed, "
        + "peak memory \(before >> 10) KiB before and \(try daemon.peakMemory() >> 10) KiB after")
      #expect(learned + sampledOut == 122_000)
      #expect(sampledOut > 0)
      #expect(try daemon.peakMemory() < before + 256 << 20)
      #expect(installation.ask("/readyz")?.status == 200)
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
    }
  }
}
