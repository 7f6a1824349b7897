import ArgumentParser
import Foundation
import class Recommender.OnlineLearner
import struct Recommender.Safetensors
import StateStore

/// `rodpod checkpoint`: the model as files.
struct CheckpointCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "checkpoint",
    abstract: "Lists, verifies or exports the model's checkpoints.",
    discussion: "Example: rodpod checkpoint export model --store /var/lib/rodpod",
    subcommands: [List.self, Verify.self, Export.self])

  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "The checkpoints that the store knows, oldest first.")
    @OptionGroup var options: InspectCommand.Options

    func run() throws {
      let store = try options.store.open()
      let entries = try entries(of: store, options.store)
      try options.show([
        "checkpoints": entries.map { ["name": $0.name, "model": $0.modelVersion, "cursor": $0.cursor, "sha256": hex($0.sha256)] as [String: Any] }
      ])
    }
  }

  struct Verify: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Reads each checkpoint whole and compares its SHA-256 with the store's.", discussion: "Exits with 74 when one is damaged.")
    @OptionGroup var options: StoreOptions

    func run() throws {
      let store = try options.open()
      let entries = try entries(of: store, options)
      let files = try options.reading { () throws(StateStoreError) in try CheckpointFiles(folder: store.path + "/checkpoints") }
      var damaged = 0
      for entry in entries {
        do {
          let bytes = try files.read(entry)
          _ = try OnlineLearner.modelConfiguration(ofCheckpoint: bytes)
          print("\(entry.name): intact, \(bytes.count) bytes")
        } catch {
          print("\(entry.name): \(error)")
          damaged += 1
        }
      }
      if entries.isEmpty { print("the store has no checkpoint") }
      if damaged > 0 { throw ExitCode(Exit.inputOutput) }
    }
  }

  struct Export: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Writes the newest intact checkpoint to a new folder, with the items' ids and a description, to be read elsewhere.",
      discussion: "The model is a safetensors file. Example: rodpod checkpoint export model --store /var/lib/rodpod")

    @Argument(help: "The folder to make.") var folder: String
    @OptionGroup var options: StoreOptions

    func run() throws {
      let store = try options.open()
      let entries = try entries(of: store, options)
      let files = try options.reading { () throws(StateStoreError) in try CheckpointFiles(folder: store.path + "/checkpoints") }
      guard let (entry, bytes) = files.newestIntact(of: entries).intact else {
        complain("the store has no intact checkpoint")
        throw ExitCode(Exit.inputOutput)
      }
      let rows: [UInt32]
      do {
        rows = try Safetensors(decoding: bytes).values("catalogue.owners", "U32", as: UInt32.self)
      } catch {
        complain("the checkpoint \(entry.name) can't be read: \(error)")
        throw ExitCode(Exit.inputOutput)
      }
      let ids = try options.reading { () throws(StateStoreError) in
        try store.read { (transaction) throws(StateStoreError) in
          var ids: [String] = []
          for number in rows { ids.append(try transaction.itemID(ItemNumber(rawValue: number)) ?? "") }
          return ids
        }
      }
      do {
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
        try Data(bytes).write(to: URL(filePath: folder + "/model.safetensors"))
        let table = ids.enumerated().map { "\($0)\t\($1)\n" }.joined()
        try Data(("row\titem\n" + table).utf8).write(to: URL(filePath: folder + "/items.tsv"))
        try Data(Self.description(entry).utf8).write(to: URL(filePath: folder + "/README.md"))
      } catch {
        complain("\(folder): \(error.localizedDescription)")
        throw ExitCode(Exit.inputOutput)
      }
      print("\(entry.name) is in \(folder): model.safetensors, items.tsv, README.md")
    }

    private static func description(_ entry: CheckpointEntry) -> String {
      """
      # A model of rodpod

      Checkpoint `\(entry.name)`, model version \(entry.modelVersion), learned up to interaction \(entry.cursor) of the journal.

      - `model.safetensors`: `safetensors.numpy.load_file("model.safetensors")` reads it. `item.embedding`, `item.bias` have a row for each item;
        `item.*` else are the tower over the items' content, `encoder.*` the causal transformer, `neighborhood.*` the counts;
        `adam.*`, `reference.*`, `reservoir.*` and `random.state` are the learner's own state. The metadata has the model's shape as JSON.
      - `items.tsv`: the item of each row; a row without an item is free.

      """
    }
  }
}

private func entries(of store: StateStore, _ options: StoreOptions) throws -> [CheckpointEntry] {
  try options.reading { () throws(StateStoreError) in
    try store.read { (transaction) throws(StateStoreError) in try transaction.checkpoints() }.sorted { $0.modelVersion < $1.modelVersion }
  }
}

/// Bytes as lower-case hexadecimal digits.
func hex(_ bytes: [UInt8]) -> String {
  bytes.map { byte in String(byte >> 4, radix: 16) + String(byte & 15, radix: 16) }.joined()
}
