import ArgumentParser
import Events
import Foundation
import Pipeline
import StateStore

struct InspectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Shows what the store holds of a user, an item, a pool, the offsets or the model.",
    discussion: "Example: rodpod inspect user u-17 --store /var/lib/rodpod --json",
    subcommands: [UserVerb.self, ItemVerb.self, PoolVerb.self, OffsetsVerb.self, ModelVerb.self])

  /// Store and form of the answer.
  struct Options: ParsableArguments {
    @OptionGroup var store: StoreOptions
    @Flag(help: "Print one JSON object instead of text.")
    var json = false

    /// Prints the fields as lines, or as JSON.
    func show(_ fields: KeyValuePairs<String, Any>) throws {
      if json {
        let object = Dictionary(uniqueKeysWithValues: fields.map { ($0.key, $0.value) })
        let data = try JSONSerialization.data(withJSONObject: object, options: [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes])
        print(String(decoding: data, as: UTF8.self))
        return
      }
      for (name, value) in fields {
        if let rows = value as? [[String: Any]] {
          print("\(name):")
          for row in rows { print("  " + row.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: "  ")) }
        } else {
          print("\(name): \(value)")
        }
      }
    }

    func missing(_ what: String) throws -> Never {
      complain("the store has no \(what)")
      throw ExitCode(1)
    }
  }

  struct UserVerb: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "user", abstract: "A user's last interactions, oldest first.")
    @Argument(help: "The user's id.") var id: String
    @OptionGroup var options: Options

    func run() throws {
      let store = try options.store.open()
      let found = try options.store.reading { () throws(StateStoreError) in
        try store.read { (transaction) throws(StateStoreError) -> (UserSequence, [[String: Any]], StaleMark?)? in
          guard let sequence = try transaction.sequence(of: id) else { return nil }
          let types = try transaction.interactionTypes()
          var rows: [[String: Any]] = []
          for interaction in sequence.interactions {
            var row: [String: Any] = [
              "item": try transaction.itemID(interaction.item) ?? "?", "time": interaction.knownTime.map { Timestamp.rfc3339($0) } ?? "-",
              "type": types.indices.contains(Int(interaction.type.rawValue)) ? types[Int(interaction.type.rawValue)] : "?",
            ]
            if let title = try transaction.item(interaction.item)?.description?.title, !title.isEmpty { row["title"] = title }
            if let value = interaction.value { row["value"] = value }
            rows.append(row)
          }
          return (sequence, rows, try transaction.staleMark(of: id))
        }
      }
      guard let (sequence, rows, mark) = found else { try options.missing("user '\(id)'") }
      try options.show([
        "user": id, "partition": sequence.partition, "last_journal_sequence": sequence.lastJournalSequence, "stale": mark != nil,
        "interactions": rows,
      ])
    }
  }

  struct ItemVerb: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "item", abstract: "What is known of an item.")
    @Argument(help: "The item's id.") var id: String
    @OptionGroup var options: Options

    func run() throws {
      let store = try options.store.open()
      let found = try options.store.reading { () throws(StateStoreError) in
        try store.read { (transaction) throws(StateStoreError) in try transaction.item(id: id) }
      }
      guard let item = found else { try options.missing("item '\(id)'") }
      let description = item.description
      let state =
        switch item.state {
        case .undescribed: "undescribed"
        case .described: "described"
        case .retired: "retired"
        }
      try options.show([
        "item": id, "number": item.number.rawValue, "row": item.row.map { "\($0)" } ?? "-", "state": state, "title": description?.title ?? "",
        "categories": description?.categories ?? [], "brand": description?.brand ?? "", "price": description?.price.map { "\($0)" } ?? "",
        "available": description?.available ?? (item.row != nil),
        "features": (description?.features ?? [:]).mapValues { $0.count },
      ])
    }
  }

  struct PoolVerb: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "pool", abstract: "A user's candidate pool, best first.")
    @Argument(help: "The user's id.") var id: String
    @OptionGroup var options: Options

    func run() throws {
      let store = try options.store.open()
      let found = try options.store.reading { () throws(StateStoreError) in
        try store.read { (transaction) throws(StateStoreError) -> (PoolRecord, [[String: Any]])? in
          guard let pool = try transaction.pool(of: id) else { return nil }
          var rows: [[String: Any]] = []
          for (number, score) in zip(pool.items, pool.scores) {
            var row: [String: Any] = ["item": try transaction.itemID(number) ?? "?", "score": score]
            if let title = try transaction.item(number)?.description?.title, !title.isEmpty { row["title"] = title }
            rows.append(row)
          }
          return (pool, rows)
        }
      }
      guard let (pool, rows) = found else { try options.missing("pool of user '\(id)'") }
      try options.show([
        "user": id, "model": pool.modelVersion, "revision": pool.revision, "made": Timestamp.rfc3339(pool.madeTime),
        "published": pool.published.map { Timestamp.rfc3339($0.time) } ?? "-", "items": rows,
      ])
    }
  }

  struct OffsetsVerb: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "offsets", abstract: "Where consumption goes on.")
    @OptionGroup var options: Options

    func run() throws {
      let store = try options.store.open()
      let offsets = try options.store.reading { () throws(StateStoreError) in try store.read { (transaction) throws(StateStoreError) in try transaction.offsets() } }
      try options.show(["offsets": offsets.map { ["topic": $0.topic, "partition": $0.partition, "next": $0.next] as [String: Any] }])
    }
  }

  struct ModelVerb: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "model", abstract: "The checkpoints and the learner's cursor.")
    @OptionGroup var options: Options

    func run() throws {
      let store = try options.store.open()
      let (entries, next, bounds, rows) = try options.store.reading { () throws(StateStoreError) in
        try store.read { (transaction) throws(StateStoreError) in
          (
            try transaction.checkpoints(), try transaction.nextJournalSequence(), try transaction.journalBounds(),
            try transaction.rowCount()
          )
        }
      }
      let newest = entries.max { $0.modelVersion < $1.modelVersion }
      try options.show([
        "model": newest?.modelVersion ?? 0, "cursor": newest?.cursor ?? 0, "next_journal_sequence": next,
        "journal": bounds.map { "\($0.lowerBound)…\($0.upperBound)" } ?? "empty", "item_rows": rows,
        "checkpoints": entries.map { ["name": $0.name, "model": $0.modelVersion, "cursor": $0.cursor] as [String: Any] },
      ])
    }
  }
}
