import Events
import Foundation
import Kafka
import StateStore
import Testing
import TestBroker
import TestSupport

extension DaemonProcessTests {
  /// `rodpod train`, and a daemon that goes on with its store.
  @Suite struct TrainTests {
    private static let itemCount = 30
    private static let userCount = 90
    private static let steps = 5
    /// Some days ago, in seconds.
    private let start = Int(Date().timeIntervalSince1970) - 20 * 86_400

    /// Every user walks a circle of items from a place of their own.
    private func item(_ user: Int, _ step: Int) -> String { "i-\((user * 7 + step) % Self.itemCount)" }

    private func write(_ lines: [String], _ name: String, in installation: Installation) throws -> String {
      let file = installation.folder.appending(path: name)
      try Data((lines.joined(separator: "\n") + "\n").utf8).write(to: file)
      return file.path
    }

    private func writeHistory(in installation: Installation) throws -> (interactions: String, items: String) {
      var lines = ["user,item,type,time"]
      for step in 0..<Self.steps {
        for user in 0..<Self.userCount { lines.append("u-\(user),\(item(user, step)),view,\(start + step * 86_400 + user)") }
      }
      let items = ["item,title,categories"] + (0..<Self.itemCount).map { "i-\($0),Title \($0),c-\($0 % 3)" }
      return (try write(lines, "history.csv", in: installation), try write(items, "items.csv", in: installation))
    }

    /// A vector of four numbers for each item: one for its category, and one for the parity of its number.
    private func writeFeatures(in installation: Installation) throws -> String {
      let vectors = (0..<Self.itemCount).map { (item: Int) -> [Float] in
        (0..<3).map { (category: Int) -> Float in category == item % 3 ? 1 : 0 } + [Float(item % 2)]
      }
      let file = installation.folder.appending(path: "text.npy")
      try numpyFile(vectors).write(to: file)
      return file.path
    }

    /// Whether the list begins with what comes next on the user's circle.
    private func follows(_ list: Recommendation?, _ user: Int, after step: Int) -> Bool {
      list?.items.prefix(3).map(\.item).contains(item(user, step + 1)) == true
    }

    @Test func aDaemonOnATrainedStoreServesTheHistorysUsersAndLearnsOn() async throws {
      let installation = try Installation(
        bootstrapServers: try await Broker.shared().bootstrapServers,
        configuration: ["learner.learning_rate": "0.01", "learner.batch_size": "16", "model.modalities": "{text: 4}"])
      try installation.writeConfiguration()
      let (interactions, items) = try writeHistory(in: installation)
      let arguments = [
        "train", "--interactions", interactions, "--items", items, "--features", "text=\(try writeFeatures(in: installation))", "--store",
        installation.storePath, "--config", installation.configurationFile, "--epochs", "40",
      ]
      let training = try await installation.run(arguments + ["--json"])
      #expect(training.code == 0, "\(training.errors)")
      let report = try training.json()
      #expect(report["users"] as? Int == Self.userCount && report["items"] as? Int == Self.itemCount)
      #expect(report["interactions"] as? Int == Self.userCount * Self.steps)
      #expect(try #require(report["validation_ndcg_at_10"] as? Double) > 0.6)
      let model = try await installation.inspect("model")
      let version = try #require(model["model"] as? UInt64)
      #expect(version > 0 && model["cursor"] as? Int == Self.userCount * Self.steps + 1)

      #expect(try await installation.inspect("item", "i-7")["features"] as? [String: Int] == ["text": 4])

      let daemon = try await installation.startAndWait()
      // Nothing is in the topics: the lists come from the history alone.
      try await installation.waitUntilSettled()
      let lists = Dictionary(try installation.published().map { ($0.user, $0.list) }, uniquingKeysWith: { $1 })
      #expect((0..<Self.userCount).count { follows(lists["u-\($0)"] ?? nil, $0, after: Self.steps - 1) } > Self.userCount * 9 / 10)
      for user in 0..<Self.userCount {
        let list = try #require(lists["u-\(user)"] ?? nil)
        #expect(list.asOf == nil && list.model == version)
        #expect(!list.items.map(\.item).contains(item(user, 0)))
      }
      #expect(installation.ask("/v1/users/u-3")?.body.contains("Title ") == true)

      // One step further on the circle, by Kafka.
      try installation.produce(
        (0..<Self.userCount).map { user in
          let time = Int64(start + Self.steps * 86_400 + user) * 1000
          return Record(Events.Interaction(user: "u-\(user)", item: item(user, Self.steps), type: 0, time: time), type: "view")
        }, to: "interactions")
      try await installation.waitUntilSettled()
      let renewed = Dictionary(try installation.published().map { ($0.user, $0.list) }, uniquingKeysWith: { $1 })
      #expect((0..<Self.userCount).count { follows(renewed["u-\($0)"] ?? nil, $0, after: Self.steps) } > Self.userCount * 9 / 10)
      let list = try #require(renewed["u-3"] ?? nil)
      #expect(list.asOf?.topic == installation.topic("interactions") && list.revision > 1)
      #expect(try #require(try await installation.inspect("model")["model"] as? UInt64) > version)
      #expect(try installation.deadLetters().isEmpty)

      // A copy of the running daemon's store, and back from it.
      let backup = installation.folder.path + "/backup"
      let restored = installation.folder.path + "/restored"
      let copied = try await installation.rodpod("backup", backup, "--store", installation.storePath)
      #expect(copied.code == 0, "\(copied.errors)")
      #expect(try await installation.rodpod("backup", backup, "--store", installation.storePath).code == 74)
      #expect(try await installation.rodpod("restore", backup, "--store", restored).code == 0)
      let digests = (
        try await installation.rodpod("state", "digest", "--store", backup).output,
        try await installation.rodpod("state", "digest", "--store", restored).output
      )
      #expect(digests.0 == digests.1 && digests.0.trimmingCharacters(in: .newlines).count == 64)
      let verified = try await installation.rodpod("checkpoint", "verify", "--store", restored)
      #expect(verified.code == 0 && verified.output.contains("intact"))
      let exported = installation.folder.path + "/exported"
      #expect(try await installation.rodpod("checkpoint", "export", exported, "--store", restored).code == 0)
      let rows = try String(contentsOfFile: exported + "/items.tsv", encoding: .utf8).split(separator: "\n")
      #expect(rows.first == "row\titem" && Set(rows.dropFirst().map { $0.split(separator: "\t")[1] }).count == Self.itemCount)
      #expect(try FileManager.default.contentsOfDirectory(atPath: exported).sorted() == ["README.md", "items.tsv", "model.safetensors"])
      let name = try #require(try FileManager.default.contentsOfDirectory(atPath: restored + "/checkpoints").max())
      let file = try FileHandle(forWritingTo: URL(filePath: restored + "/checkpoints/" + name))
      try file.seek(toOffset: 5_000)
      try file.write(contentsOf: [1, 2, 3, 4, 5])
      try file.close()
      let damaged = try await installation.rodpod("checkpoint", "verify", "--store", restored)
      #expect(damaged.code == 74 && damaged.output.contains("\(name): ") && damaged.output.contains("SHA-256"), "\(damaged.output)")

      // A store is never written over, be it in use or not.
      let inUse = try await installation.run(arguments)
      #expect(inUse.code == 74 && inUse.errors.contains("already holds a store"), "\(inUse.errors)")
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
      #expect(daemon.loggedErrors == [])
      let digest = try await installation.digest()
      let again = try await installation.run(arguments)
      #expect(again.code == 74 && again.errors.contains("already holds a store"), "\(again.errors)")
      #expect(try await installation.digest() == digest)
    }

    @Test func exitCodesTellWhatIsWrongWithAHistory() async throws {
      let installation = try Installation(bootstrapServers: "127.0.0.1:1")
      let (interactions, items) = try writeHistory(in: installation)
      let features = try writeFeatures(in: installation)
      let bad = try write(["user,item,time", "u,a,1", "u,b,noon"], "bad.csv", in: installation)
      let gifts = try write(["user,item,type", "u,a,gift", "u,b,gift"], "gifts.csv", in: installation)
      let single = try write(["user,item", "u,a", "v,b"], "single.csv", in: installation)
      let store = ["--store", installation.storePath]
      for (arguments, code, text) in [
        (store, 64, "--interactions"),
        (["--interactions", interactions], 64, "--store"),
        (store + ["--interactions", interactions, "--epochs", "0"], 64, "--epochs"),
        (store + ["--interactions", interactions, "--features", "text=\(items)"], 64, "item table"),
        (store + ["--interactions", bad], 74, "\(bad):3:"),
        (store + ["--interactions", installation.folder.path + "/none.csv"], 74, "none.csv"),
        (store + ["--interactions", single], 74, "two interactions"),
        (store + ["--interactions", gifts], 78, "\"gift\""),
        (store + ["--interactions", single, "--type", "gift"], 78, "\"gift\""),
        (store + ["--interactions", interactions, "--items", items, "--features", "text=\(features)"], 78, "model.modalities: {text: 4}"),
        (store + ["--interactions", interactions, "--set", "learner.stride=many"], 78, "learner.stride"),
        (["--store", installation.folder.path + "/no/where", "--interactions", interactions], 74, "/no/where"),
        (["--store", installation.folder.path, "--interactions", interactions], 74, "other things"),
      ] as [([String], Int32, String)] {
        let outcome = try await installation.run(["train"] + arguments)
        #expect(outcome.code == code, "\(arguments): \(outcome.errors)")
        #expect(outcome.errors.contains(text), "\(arguments): \(outcome.errors)")
        #expect(outcome.output.isEmpty)
      }
      #expect(!FileManager.default.fileExists(atPath: installation.storePath))

      let outcome = try await installation.run(["train", "--interactions", interactions, "--items", items, "--epochs", "1"] + store)
      #expect(outcome.code == 0, "\(outcome.errors)")
      #expect(outcome.output.contains("\(Self.userCount) users, \(Self.itemCount) items"))
      #expect(outcome.output.contains("store.path: \(installation.storePath)"))
    }
  }
}

/// A matrix of 32-bit numbers as NumPy writes it to a file.
func numpyFile(_ rows: [[Float]]) -> Data {
  var header = "{'descr': '<f4', 'fortran_order': False, 'shape': (\(rows.count), \(rows.first?.count ?? 0)), }"
  header += String(repeating: " ", count: 117 - header.count) + "\n"
  var bytes: [UInt8] = [0x93] + Array("NUMPY".utf8) + [1, 0, 118, 0] + Array(header.utf8)
  for number in rows.joined() { withUnsafeBytes(of: number.bitPattern.littleEndian) { bytes.append(contentsOf: $0) } }
  return Data(bytes)
}
