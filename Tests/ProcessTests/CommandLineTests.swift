import Events
import Foundation
import Kafka
import Testing
import TestBroker
import TestSupport

extension DaemonProcessTests {
  @Suite struct CommandLineTests {
    @Test func exitCodesTellWhatWasWrong() async throws {
      // It waits for the broker as long as an operator's restart may take, which is the time that the others have.
      let unreachable = try Installation(bootstrapServers: "127.0.0.1:\(try freePort())")
      let waiting = try unreachable.start()
      let installation = try Installation(bootstrapServers: "127.0.0.1:1")

      for arguments in [["run", "--nonsense"], ["fly"], ["inspect", "user"], ["state", "digest"]] {
        let process = try ChildProcess(arguments, output: installation.folder.appending(path: uniqueName("usage")))
        #expect(try await process.exitCode() == 64, "\(arguments)")
        #expect(process.standardError.contains("Usage: rodpod"), "\(arguments)")
      }
      for arguments in [["--help"], ["--version"], ["run", "--help"], ["default-config"]] {
        let process = try ChildProcess(arguments, output: installation.folder.appending(path: uniqueName("help")))
        #expect(try await process.exitCode() == 0, "\(arguments)")
        #expect(!process.standardOutput.isEmpty, "\(arguments)")
      }

      let wrong = [
        "topics.partitions": "0", "learner.stride": "many", "model.hidden_size": "15", "kafka.start_at": "sometimes", "admin.listen": "here",
        "events.no_such_key": "1", "no_such_section.key": "1",
      ]
      installation.configuration.merge(wrong) { $1 }
      try installation.writeConfiguration()
      for verb in ["check-config", "run"] {
        let outcome = try await installation.rodpod(verb, "--config", installation.configurationFile)
        #expect(outcome.code == 78)
        for key in wrong.keys where key != "no_such_section.key" && key != "model.hidden_size" {
          #expect(outcome.errors.contains(key), "\(verb): \(key) in \(outcome.errors)")
        }
        #expect(outcome.errors.contains("no_such_section"))
      }
      #expect(try await installation.rodpod("run", "--config", installation.folder.path + "/none.yaml").code == 78)
      #expect(!FileManager.default.fileExists(atPath: installation.storePath))
      // Only librdkafka knows its properties.
      let outcome = try await installation.rodpod(
        "run", "--set", "kafka.properties.no.such.property=1", "--set", "store.path=\(installation.storePath)")
      #expect(outcome.code == 78)
      #expect(outcome.errors.contains("no.such.property"))

      #expect(try await waiting.exitCode(within: .seconds(90)) == 69)
      #expect(waiting.standardError.contains(unreachable.bootstrapServers))
    }

    @Test func validateReportsWhatWouldGoToTheDeadLetters() async throws {
      let installation = try Installation(bootstrapServers: "127.0.0.1:1")
      let file = installation.folder.path + "/events.jsonl"
      let lines = [
        #"{"user": "u", "item": "a", "type": "view", "time": 1700000000}"#, "", #"{"user": "u", "type": "view", "time": 1700000000}"#,
        #"{"user": "u", "item": "a", "type": "dance", "time": 1700000000}"#, "not json", #"{"user": "u", "type": "forget"}"#,
      ]
      try lines.joined(separator: "\n").write(toFile: file, atomically: true, encoding: .utf8)
      let outcome = try await installation.rodpod("validate", file)
      #expect(outcome.code == 65)
      for expected in ["\(file):3: missing_field", "\(file):4: unknown_type", "\(file):5: not_json", "2 would be accepted, 3 would go"] {
        #expect(outcome.output.contains(expected), "\(expected) in \(outcome.output)")
      }
      let items = installation.folder.path + "/items.jsonl"
      try #"{"item": "a", "features": {"text": [1, 2]}}"#.write(toFile: items, atomically: true, encoding: .utf8)
      #expect(try await installation.rodpod("validate", "--items", items).code == 0)
      #expect(try await installation.rodpod("validate", "--items", "--set", "model.modalities={text: 3}", items).code == 65)
      #expect(try await installation.rodpod("validate", installation.folder.path + "/none.jsonl").code == 74)
      #expect(try await installation.rodpod("validate").code == 64)
    }

    @Test func verbsThatLookIntoAStoreThatIsNotThereSaySo() async throws {
      let installation = try Installation(bootstrapServers: "127.0.0.1:1")
      for arguments in [["state", "digest"], ["inspect", "user", "u"], ["inspect", "offsets"]] {
        let process = try ChildProcess(
          arguments + ["--store", installation.storePath], output: installation.folder.appending(path: uniqueName("verb")))
        #expect(try await process.exitCode() == 74, "\(arguments)")
        #expect(process.standardError.contains(installation.storePath), "\(arguments)")
      }
      #expect(!FileManager.default.fileExists(atPath: installation.storePath))
    }

    @Test func inspectShowsWhatIsStoredWhileTheDaemonRuns() async throws {
      let installation = try Installation(bootstrapServers: try await Broker.shared().bootstrapServers)
      let daemon = try await installation.startAndWait()
      try installation.produce(
        (0..<30).map {
          Record(
            Events.ItemDescription(
              item: "i-\($0)", title: "Title \($0)", categories: ["a", "b"], brand: "B", price: 9.5, available: $0 != 2,
              features: [.init(name: "image", values: [1, 2, 3])]))
        }, to: "items")
      try await installation.waitUntilRankable(30)
      try installation.produce(
        [
          Record(Events.Interaction(user: "u", item: "i-1", type: 0, time: 1_700_000_000_000, value: 2.5), type: "view"),
          Record(Events.Interaction(user: "u", item: "i-2", type: 0, time: 1_700_000_001_000), type: "purchase"),
        ], to: "interactions")
      try await installation.waitUntilSettled()

      let user = try await installation.inspect("user", "u")
      #expect(user["user"] as? String == "u")
      let rows = try #require(user["interactions"] as? [[String: Any]])
      #expect(rows.map { $0["item"] as? String } == ["i-1", "i-2"])
      #expect(rows.map { $0["type"] as? String } == ["view", "purchase"])
      #expect(rows.map { $0["time"] as? String } == ["2023-11-14T22:13:20.000Z", "2023-11-14T22:13:21.000Z"])
      #expect(rows.map { $0["title"] as? String } == ["Title 1", "Title 2"])
      #expect(rows.map { $0["value"] as? Double } == [2.5, nil])

      let item = try await installation.inspect("item", "i-2")
      #expect(item["title"] as? String == "Title 2" && item["brand"] as? String == "B")
      #expect(item["categories"] as? [String] == ["a", "b"])
      #expect(item["available"] as? Bool == false)
      #expect(item["features"] as? [String: Int] == ["image": 3])

      let pool = try await installation.inspect("pool", "u")
      let list = try #require(try installation.published().last { $0.user == "u" }?.list)
      #expect(pool["revision"] as? UInt64 == list.revision)
      let names = try #require(pool["items"] as? [[String: Any]]).compactMap { $0["item"] as? String }
      #expect(names.count == 28)
      #expect(list.items.map(\.item) == Array(names.prefix(20)))

      let offsets = try #require(try await installation.inspect("offsets")["offsets"] as? [[String: Any]])
      let next = Dictionary(uniqueKeysWithValues: offsets.compactMap { row in
        (row["topic"] as? String).flatMap { topic in (row["next"] as? Int).map { (topic, $0) } }
      })
      #expect(next == [installation.topic("interactions"): 2, installation.topic("items"): 30])

      let model = try await installation.inspect("model")
      #expect(model["cursor"] as? Int == 3 && model["next_journal_sequence"] as? Int == 3)
      #expect(model["item_rows"] as? Int == 30)

      for (arguments, expected) in [
        (["user", "u"], "item=i-1"), (["item", "i-2"], "title: Title 2"), (["pool", "u"], "revision: \(list.revision)"),
        (["offsets"], "next=30"), (["model"], "cursor: 3"),
      ] {
        let process = try ChildProcess(
          ["inspect"] + arguments + ["--store", installation.storePath], output: installation.folder.appending(path: uniqueName("text")))
        #expect(try await process.exitCode() == 0, "\(arguments)")
        #expect(process.standardOutput.contains(expected), "\(arguments): \(process.standardOutput)")
      }
      for arguments in [["user", "nobody"], ["item", "nothing"], ["pool", "nobody"]] {
        let process = try ChildProcess(
          ["inspect"] + arguments + ["--store", installation.storePath], output: installation.folder.appending(path: uniqueName("missing")))
        #expect(try await process.exitCode() == 1, "\(arguments)")
        #expect(process.standardError.contains(arguments[1]) && process.standardOutput.isEmpty, "\(arguments)")
      }
      let digest = try await installation.digest()
      #expect(digest.contains(/^[0-9a-f]{64}\n$/))
      withExtendedLifetime(daemon) {}
    }

    @Test func theEnvironmentOverridesTheFileAndAFlagOverridesBoth() async throws {
      let installation = try Installation(bootstrapServers: try await Broker.shared().bootstrapServers)
      let wanted = installation.configuration
      let name = uniqueName("environment")
      let port = try freePort()
      let store = installation.folder.appending(path: "elsewhere").path
      let environment = [
        "RODPOD_KAFKA_BOOTSTRAP_SERVERS": installation.bootstrapServers, "RODPOD_KAFKA_GROUP_ID": name, "RODPOD_STORE_PATH": store,
        "RODPOD_TOPICS_INTERACTIONS": "\(name)-interactions", "RODPOD_TOPICS_ITEMS": "\(name)-items",
        "RODPOD_TOPICS_RECOMMENDATIONS": "\(name)-recommendations", "RODPOD_TOPICS_DEAD_LETTERS": "\(name)-dead-letters",
        "RODPOD_ADMIN_LISTEN": "127.0.0.1:\(port)", "RODPOD_RANKER_TOP_K": "7", "RODPOD_KAFKA_PROPERTIES_SOCKET_KEEPALIVE_ENABLE": "true",
      ]
      installation.configuration["kafka.bootstrap_servers"] = "127.0.0.1:1"
      let daemon = try installation.start(["--set", "ranker.top_k=4"], environment: environment)
      try await waitUntil("it is ready, \(daemon.standardError)") { askAdmin("/readyz", port: port)?.status == 200 || !daemon.isRunning }
      #expect(daemon.isRunning, "\(daemon.standardError)")
      try produceAll(
        (0..<9).map { Record(Events.ItemDescription(item: "i-\($0)")) }, to: "\(name)-items", bootstrapServers: installation.bootstrapServers)
      try await waitUntil("the items can be recommended") { askAdmin("/v1/model", port: port)?.body.contains(#""items":9,"#) == true }
      try produceAll(
        [
          Record(Events.Interaction(user: "u", item: "i-0", type: 0, time: 1_700_000_000_000), type: "view"),
          Record("u", "rubbish"),
        ], to: "\(name)-interactions", bootstrapServers: installation.bootstrapServers)
      try await waitUntil("the list") {
        try readAll("\(name)-recommendations", bootstrapServers: installation.bootstrapServers)
          .contains { try $0.key == Array("u".utf8) && $0.value.map { try Recommendation(json: $0) }?.items.count == 4 }
      }
      try await waitUntil("the dead letter") {
        try readAll("\(name)-dead-letters", bootstrapServers: installation.bootstrapServers).map(\.value) == [Array("rubbish".utf8)]
      }
      #expect(FileManager.default.fileExists(atPath: store + "/data.mdb"))
      let admin = try AdminClient(properties: ["bootstrap.servers": installation.bootstrapServers])
      #expect(try admin.groupMembers(name, within: .seconds(30)).count == 1)
      let topics = try admin.metadata(within: .seconds(30)).partitionCounts
      #expect(topics[wanted["topics.interactions"] ?? ""] == nil)
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
    }
  }
}
