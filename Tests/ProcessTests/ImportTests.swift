import Events
import Foundation
import Kafka
import Testing
import TestBroker
import TestSupport

extension DaemonProcessTests {
  /// `rodpod import`, `rodpod dlq` and `rodpod top`, beside a daemon.
  @Suite struct ImportTests {
    private func write(_ lines: [String], _ name: String, in installation: Installation) throws -> String {
      let file = installation.folder.appending(path: name)
      try Data((lines.joined(separator: "\n") + "\n").utf8).write(to: file)
      return file.path
    }

    private func prepared(_ changes: [String: String] = [:]) async throws -> Installation {
      let installation = try Installation(bootstrapServers: try await Broker.shared().bootstrapServers, configuration: changes)
      try installation.writeConfiguration()
      return installation
    }

    private func event(_ user: String, _ item: String, type: String = "view", time: Int = 1_700_000_000) -> String {
      #"{"user":"\#(user)","item":"\#(item)","type":"\#(type)","time":\#(time)}"#
    }

    @Test func jsonLinesAreSentAsTheyAreAndKeyedByTheirUser() async throws {
      let installation = try await prepared()
      let lines = [event("u-1", "i-1"), "  ", event("u-2", "i-2").replacing(",", with: " , "), #"{"user":"u-1","type":"forget"}"#]
      let file = try write(lines, "events.jsonl", in: installation)
      let outcome = try await installation.rodpod("import", "--config", installation.configurationFile, file)
      #expect(outcome.code == 0, "\(outcome.errors)")
      #expect(outcome.output.hasPrefix("3 events are in the topic '\(installation.topic("interactions"))'"), "\(outcome.output)")
      let messages = try readAll(installation.topic("interactions"), bootstrapServers: installation.bootstrapServers)
      #expect(messages.map { String(decoding: $0.key ?? [], as: UTF8.self) } == ["u-1", "u-2", "u-1"])
      #expect(messages.map { String(decoding: $0.value ?? [], as: UTF8.self) } == lines.filter { $0.hasPrefix("{") })
    }

    @Test func tablesBecomeEventsThatTheDaemonTakes() async throws {
      let installation = try await prepared()
      let events = try write(
        ["user,item,type,time,value", "u-1,i-1,purchase,1700000000,2.5", "u-1,i-2,,1700000001,"], "events.csv", in: installation)
      let items = try write(["item,title,brand,categories", #"i-1,"Kettle, red",Acme,kitchen|tea"#], "items.csv", in: installation)
      let config = installation.configurationFile
      #expect(try await installation.rodpod("import", "--items", items, "--config", config).code == 0)
      let outcome = try await installation.rodpod("import", events, "--type", "click", "--config", config)
      #expect(outcome.code == 0, "\(outcome.errors)")
      let daemon = try await installation.startAndWait()
      try await installation.waitUntilConsumed()
      let rows = try #require(try await installation.inspect("user", "u-1")["interactions"] as? [[String: Any]])
      #expect(rows.map { $0["type"] as? String } == ["purchase", "click"] && rows[0]["value"] as? Double == 2.5)
      let item = try await installation.inspect("item", "i-1")
      #expect(item["title"] as? String == "Kettle, red" && item["brand"] as? String == "Acme")
      #expect(item["categories"] as? [String] == ["kitchen", "tea"])
      #expect(try installation.deadLetters().isEmpty)
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
    }

    @Test func whatWouldNotBeAcceptedStopsTheImportOrIsLeftOut() async throws {
      let installation = try await prepared()
      let file = try write([event("u-1", "i-1"), event("u-2", "i-2", type: "teleport"), event("u-3", "i-3")], "e.jsonl", in: installation)
      let config = installation.configurationFile
      let stopped = try await installation.rodpod("import", file, "--config", config)
      #expect(stopped.code == 65 && stopped.errors.contains("\(file):2: unknown_type"), "\(stopped.errors)")
      #expect(try readAll(installation.topic("interactions"), bootstrapServers: installation.bootstrapServers).count == 1)
      let skipping = try await installation.rodpod("import", file, "--skip-rejected", "--config", config)
      #expect(skipping.code == 0 && skipping.output.contains("2 events") && skipping.output.contains("unknown_type: 1"), "\(skipping.output)")
      #expect(try readAll(installation.topic("interactions"), bootstrapServers: installation.bootstrapServers).count == 3)
    }

    @Test func theRateIsKept() async throws {
      let installation = try await prepared()
      let file = try write((0..<30).map { event("u-\($0)", "i") }, "e.jsonl", in: installation)
      let start = ContinuousClock.now
      let outcome = try await installation.rodpod("import", file, "--rate", "20", "--config", installation.configurationFile)
      #expect(outcome.code == 0, "\(outcome.errors)")
      // The last of 30 is due after 29 intervals.
      #expect(ContinuousClock.now - start >= .milliseconds(1450))
    }

    @Test func errorsSayWhatIsWrongByTheirExitCode() async throws {
      let installation = try await prepared()
      let config = installation.configurationFile
      let file = try write([event("u", "i")], "e.jsonl", in: installation)
      let missing = try await installation.rodpod("import", file + ".not", "--config", config)
      #expect(missing.code == 74 && missing.errors.contains("cannot be opened"), "\(missing.errors)")
      let nobody = "kafka.bootstrap_servers=127.0.0.1:\(try freePort())"
      for verb in [["import", file], ["dlq", "list"], ["dlq", "replay"]] {
        let outcome = try await installation.run(verb + ["--config", config, "--set", nobody])
        #expect(outcome.code == 69 && outcome.errors.contains("127.0.0.1"), "\(verb): \(outcome.errors)")
      }
      #expect(try await installation.rodpod("import", file, "--rate", "0").code == 64)
      #expect(try await installation.rodpod("dlq", "list", "--reason", "bored").code == 64)
      let silent = try await installation.rodpod("top", "--once", "--address", "127.0.0.1:\(try freePort())")
      #expect(silent.code == 69 && silent.errors.contains("no daemon answers at 127.0.0.1"), "\(silent.errors)")
    }

    @Test func deadLettersAreListedAndReplayedOnceTheyWouldBeAccepted() async throws {
      let installation = try await prepared()
      var daemon = try await installation.startAndWait()
      let trace = Header("trace", "t-1")
      try installation.produce(
        [Record("u-1", event("u-1", "i-1", type: "wish"), headers: [trace]), Record("u-2", "no JSON"), Record("u-3", event("u-3", "i-3"))],
        to: "interactions")
      try await installation.waitUntilConsumed()
      let config = installation.configurationFile
      let listed = try await installation.rodpod("dlq", "list", "--config", config)
      #expect(listed.code == 0 && listed.output.contains("2 dead letters"), "\(listed.output)\(listed.errors)")
      #expect(listed.output.contains("\(installation.topic("interactions"))[0]@0  unknown_type: type is the string \"wish\""), "\(listed.output)")
      let chosen = try await installation.rodpod("dlq", "list", "--config", config, "--reason", "not_json", "--json")
      #expect(try chosen.json()["value"] as? String == "no JSON" && chosen.json()["origin_offset"] as? Int == 1)

      let refused = try await installation.rodpod("dlq", "replay", "--config", config)
      #expect(refused.code == 0 && refused.output.hasPrefix("0 dead letters are sent again, 2 would still not be accepted"), "\(refused.output)")

      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
      installation.configuration["events.types"] = "{view: 1, wish: 2}"
      daemon = try await installation.startAndWait()
      let planned = try await installation.rodpod("dlq", "replay", "--config", config, "--from-beginning", "--dry-run")
      #expect(planned.output.hasPrefix("1 dead letters would be sent again, 1 would still not be accepted"), "\(planned.output)")
      let replayed = try await installation.rodpod("dlq", "replay", "--config", config, "--from-beginning")
      #expect(replayed.code == 0 && replayed.output.hasPrefix("1 dead letters are sent again, 1 would"), "\(replayed.output)\(replayed.errors)")
      try await installation.waitUntilConsumed()
      let rows = try await installation.inspect("user", "u-1")["interactions"] as? [[String: Any]]
      #expect(rows?.map { $0["type"] as? String } == ["wish"])
      let again = try readAll(installation.topic("interactions"), bootstrapServers: installation.bootstrapServers).last
      #expect(again?.headers == [trace] && again?.key == Array("u-1".utf8))

      // The replay's end is kept, so that the next one finds nothing.
      let later = try await installation.rodpod("dlq", "replay", "--config", config)
      #expect(later.output.hasPrefix("0 dead letters are sent again, 0 would"), "\(later.output)")
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
    }

    @Test func topShowsTheRunningDaemon() async throws {
      let installation = try await prepared()
      let daemon = try await installation.startAndWait()
      try installation.produce([Record("u-1", event("u-1", "i-1")), Record("u-2", "no JSON")], to: "interactions")
      try await installation.waitUntilConsumed()
      let outcome = try await installation.rodpod("top", "--once", "--config", installation.configurationFile)
      #expect(outcome.code == 0, "\(outcome.errors)")
      #expect(outcome.output.hasPrefix("rodpod 0.1.0 at 127.0.0.1:\(installation.adminPort), ready, up "), "\(outcome.output)")
      #expect(outcome.output.contains("2 in all") && outcome.output.contains("dead letters 1 (not_json 1)"), "\(outcome.output)")
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
    }
  }
}
