import StateStore
import TestSupport
import Testing

struct StateDigestTests {
  private let folder = TemporaryFolder()

  /// An event of either topic.
  private enum Event {
    case interaction(user: String, item: String, type: String, time: Int64, value: Float?)
    case forget(String)
    case describe(String, ItemDescription)
    case retire(String)
  }

  private static func interactions(_ generator: inout SeededGenerator) -> [Event] {
    (0..<600).map { index in
      let user = generator.below(40) == 0 ? String(repeating: "u", count: 700) : "user-\(generator.below(30))"
      if generator.below(50) == 0 { return .forget(user) }
      let time = Int64(index * 100 - generator.below(2_000))
      let value: Float? = generator.below(3) == 0 ? Float(generator.below(9)) : nil
      let type = ["view", "buy", "cart"][generator.below(3)]
      return .interaction(user: user, item: "item-\(generator.below(60))", type: type, time: time, value: value)
    }
  }

  private static func items(_ generator: inout SeededGenerator) -> [Event] {
    (0..<200).map { index in
      let id = "item-\(generator.below(80))"
      if generator.below(4) == 0 { return .retire(id) }
      return .describe(
        id,
        ItemDescription(
          title: "Title \(generator.below(3))", categories: ["c\(generator.below(4))"], price: generator.below(2) == 0 ? nil : 2.5,
          features: ["text": [Float(generator.below(5)), 1], "image": [0.5]]))
    }
  }

  /// Plays both topics in a random interleaving, in batches of random size with their offsets, some of them begun and given up,
  /// reopening now and then.
  private func play(_ topics: [String: [Event]], seed: UInt64, at path: String) throws -> [UInt8] {
    var generator = SeededGenerator(seed: seed)
    let options = StateStore.Options(initialBytes: 1 << 18, sequenceLength: 8, lateInteractionBound: 1_000)
    var store: StateStore? = try StateStore.open(at: path, options: options)
    while true {
      var next: [String: Int] = [:]
      try store?.read { (view) throws(StateStoreError) in for offset in try view.offsets() { next[offset.topic] = Int(offset.next) } }
      let open = topics.keys.sorted().filter { next[$0, default: 0] < topics[$0]!.count }
      guard let topic = open.randomElement(using: &generator), let events = topics[topic] else { break }
      let start = next[topic, default: 0]
      let batch = events[start..<min(start + 1 + generator.below(60), events.count)]
      let isGivenUp = generator.below(4) == 0
      do {
        try store?.write { (transaction) throws(StateStoreError) in
          for event in batch { try apply(event, transaction) }
          try transaction.setOffset(PartitionOffset(topic: topic, partition: 0, next: Int64(batch.endIndex)))
          if isGivenUp { throw StateStoreError(.io, "given up") }
        }
      } catch {
        guard error.message == "given up" else { throw error }
      }
      if generator.below(10) == 0 {
        store = nil
        store = try StateStore.open(at: path, options: options)
      }
    }
    return try #require(try store?.digest())
  }

  private func apply(_ event: Event, _ transaction: WriteTransaction) throws(StateStoreError) {
    switch event {
    case .interaction(let user, let item, let type, let time, let value):
      let interaction = Interaction(
        item: try transaction.registerItem(item), type: try transaction.interactionTypeCode(type), time: time, value: value)
      try transaction.append(UserInteraction(user: user, partition: 0, interaction: interaction))
    case .forget(let user): try transaction.forget(user)
    case .describe(let id, let description): try transaction.describeItem(id, description)
    case .retire(let id): try transaction.retireItem(id)
    }
  }

  @Test(arguments: 1...3 as ClosedRange<UInt64>)
  func oneHistoryHasOneDigestHoweverItIsInterleavedAndInterrupted(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let topics = ["interactions": Self.interactions(&generator), "items": Self.items(&generator)]
    let digests = try (0..<4 as Range<UInt64>).map { try play(topics, seed: seed * 100 + $0, at: "\(folder.path)/\($0)") }
    #expect(Set(digests).count == 1)
    // Numbers, rows and journal differ between the runs: or this test would show nothing.
    let numbers = try (0..<4).map { run in
      let store = try StateStore.open(at: "\(folder.path)/\(run)")
      return try store.read { (view) throws(StateStoreError) in try view.catalogueChanges(since: 0, limit: .max).map(\.number) }
    }
    #expect(Set(numbers).count > 1)
  }

  @Test func everyPartOfTheStateCounts() throws {
    let store = try StateStore.open(at: folder.path)
    var seen: Set<[UInt8]> = [try store.digest()]
    func step(_ name: String, _ body: (WriteTransaction) throws(StateStoreError) -> Void) throws {
      try store.write { (transaction) throws(StateStoreError) in try body(transaction) }
      #expect(seen.insert(try store.digest()).inserted, "\(name)")
    }
    func append(_ user: String, type: String, time: Int64, value: Float? = nil) throws {
      try step("\(user) \(type) \(time)") { (transaction) throws(StateStoreError) in
        try apply(.interaction(user: user, item: "a", type: type, time: time, value: value), transaction)
      }
    }
    try append("ada", type: "view", time: 1)
    try append("ada", type: "view", time: 2)
    try append("ada", type: "buy", time: 2)
    try append("ada", type: "buy", time: 3, value: 0)
    try append("bob", type: "view", time: 1)
    try step("described") { (transaction) throws(StateStoreError) in try transaction.describeItem("a", ItemDescription(title: "A")) }
    try step("available") { (transaction) throws(StateStoreError) in
      try transaction.describeItem("a", ItemDescription(title: "A", available: false))
    }
    try step("features") { (transaction) throws(StateStoreError) in
      try transaction.describeItem("a", ItemDescription(title: "A", available: false, features: ["t": [1]]))
    }
    try step("retired") { (transaction) throws(StateStoreError) in try transaction.retireItem("a") }
    try step("unknown retired") { (transaction) throws(StateStoreError) in try transaction.retireItem("b") }
    try step("offset") { (transaction) throws(StateStoreError) in
      try transaction.setOffset(PartitionOffset(topic: "t", partition: 0, next: 1))
    }
    try step("next offset") { (transaction) throws(StateStoreError) in
      try transaction.setOffset(PartitionOffset(topic: "t", partition: 0, next: 2))
    }
  }

  @Test func poolsMarksAndTheJournalDoNotCount() throws {
    let store = try StateStore.open(at: folder.path)
    try store.write { (transaction) throws(StateStoreError) in
      try apply(.interaction(user: "ada", item: "a", type: "view", time: 1, value: nil), transaction)
    }
    let before = try store.digest()
    let mark = StaleMark(sequence: 1, asOf: AsOf(topic: "t", partition: 0, offset: 0, time: 0), dueTime: 1)
    try store.write { (transaction) throws(StateStoreError) in
      try transaction.putPool(PoolRecord(modelVersion: 1, revision: 1, items: [], scores: [], madeTime: 0), of: "ada")
      try transaction.markStale("ada", mark)
      try transaction.trimJournal(keepingFrom: .max)
    }
    #expect(try store.digest() == before)
    #expect(before.count == 32)
  }
}
