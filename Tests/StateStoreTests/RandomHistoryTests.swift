import StateStore
import TestSupport
import Testing

/// Random histories, held against a plain model in memory that does everything the slow, obvious way.
struct RandomHistoryTests {
  private let folder = TemporaryFolder()
  private static let length = 5
  private static let bound: Int64 = 300

  private struct Model {
    struct User {
      var partition: Int32 = 0
      var interactions: [Interaction] = []
      var last: UInt64 = 0
    }

    var users: [String: User] = [:]
    var journal: [JournalRecord] = []
    var nextSequence: UInt64 = 1
    var pools: [String: PoolRecord] = [:]
    var floor: UInt64 = 0
    var marks: [String: StaleMark] = [:]
    var items: [String: (number: UInt32, row: UInt32?, state: CatalogueItem.State, change: UInt64)] = [:]
    var freeRows: Set<UInt32> = []
    var rowCount: UInt32 = 0
    var nextChange: UInt64 = 1
    var offsets: [Int32: Int64] = [:]

    mutating func append(_ event: UserInteraction) -> AppendOutcome {
      var user = users[event.user] ?? User()
      let new = event.interaction
      if user.interactions.contains(where: { $0.item == new.item && $0.type == new.type && $0.time == new.time }) { return .duplicate }
      if let newest = user.interactions.last?.time, new.time < newest - bound { return .tooLate(newest: newest) }
      let context = user.interactions.filter { $0.time <= new.time }
      user.interactions = Array((context + [new] + user.interactions.filter { $0.time > new.time }).suffix(length))
      user.partition = event.partition
      user.last = nextSequence
      users[event.user] = user
      journal.append(
        JournalRecord(
          sequence: nextSequence,
          entry: .interaction(
            TrainingExample(user: event.user, partition: event.partition, target: new, context: context, shown: event.shown))))
      nextSequence += 1
      return .appended(sequence: user.last)
    }

    mutating func forget(_ user: String) {
      floor = max(floor, pools[user]?.revision ?? 0)
      users[user] = nil
      pools[user] = nil
      marks[user] = nil
      journal.removeAll { if case .interaction(let example) = $0.entry { example.user == user } else { false } }
      journal.append(JournalRecord(sequence: nextSequence, entry: .forget(UserFingerprint(user))))
      nextSequence += 1
    }

    mutating func mark(_ user: String, _ mark: StaleMark) {
      marks[user] = StaleMark(sequence: mark.sequence, asOf: mark.asOf, dueTime: min(mark.dueTime, marks[user]?.dueTime ?? .max))
    }

    mutating func setItem(_ id: String, _ state: CatalogueItem.State) {
      if state == .undescribed, items[id] != nil { return }
      if let item = items[id], item.state == state { return }
      var item = items[id] ?? (UInt32(items.count + 1), nil, state, 0)
      item.state = state
      if state == .retired {
        if let row = item.row { freeRows.insert(row) }
        item.row = nil
      } else if item.row == nil {
        if let row = freeRows.min() {
          freeRows.remove(row)
          item.row = row
        } else {
          item.row = rowCount
          rowCount += 1
        }
      }
      item.change = nextChange
      nextChange += 1
      items[id] = item
    }
  }

  /// The same random step in the model and in the store.
  private func step(
    _ generator: inout SeededGenerator, _ model: inout Model, _ transaction: WriteTransaction
  ) throws(StateStoreError) {
    let user = generator.below(30) == 0 ? String(repeating: "long", count: 200) : "user-\(generator.below(6))"
    let id = "item-\(generator.below(12))"
    if generator.below(4) == 0 { try lookUpTogether(&generator, model, transaction) }
    switch generator.below(20) {
    case 0..<8:
      let interaction = Interaction(
        UInt32(generator.below(4)), type: UInt8(generator.below(2)), time: Int64(generator.below(1_000)),
        value: generator.below(3) == 0 ? 1.5 : nil)
      let shown = (0..<generator.below(3)).map { ItemNumber(rawValue: UInt32($0)) }
      let event = UserInteraction(user: user, partition: Int32(generator.below(3)), interaction: interaction, shown: shown)
      let expected = model.append(event)
      #expect(try transaction.append(event) == expected)
    case 8..<11:
      let asOf = AsOf(topic: "t", partition: 0, offset: Int64(generator.below(100)), time: 3)
      let mark = StaleMark(sequence: UInt64(generator.below(5)), asOf: asOf, dueTime: Int64(generator.below(20)) - 10)
      model.mark(user, mark)
      try transaction.markStale(user, mark)
    case 11..<13:
      let sequence = UInt64(generator.below(5))
      let expected = model.marks[user]?.sequence == sequence
      if expected { model.marks[user] = nil }
      #expect(try transaction.clearStale(user, ifSequence: sequence) == expected)
    case 13..<15:
      let newest = model.pools[user]?.revision ?? model.floor
      #expect(try transaction.revision(of: user) == newest)
      let revision = newest + UInt64(generator.below(3))
      let pool = PoolRecord(modelVersion: 3, revision: revision, items: [8, 9].map { ItemNumber(rawValue: $0) }, scores: [0.5, 0.25], madeTime: 1)
      model.pools[user] = pool
      try transaction.putPool(pool, of: user)
    case 15:
      if generator.below(3) == 0 {
        model.forget(user)
        try transaction.forget(user)
      }
    case 16:
      let limit = generator.below(4)
      let bound = model.nextSequence - UInt64(generator.below(Int(model.nextSequence)))
      let removed = min(limit, model.journal.count { $0.sequence < bound })
      model.journal.removeFirst(removed)
      #expect(try transaction.trimJournal(keepingFrom: bound, limit: limit) == removed)
    case 17:
      model.setItem(id, .undescribed)
      _ = try transaction.registerItem(id)
    case 18:
      if generator.below(2) == 0 {
        model.setItem(id, .retired)
        try transaction.retireItem(id)
      } else {
        let description = ItemDescription(title: "\(generator.below(2))")
        model.setItem(id, .described(description))
        try transaction.describeItem(id, description)
      }
    default:
      let offset = PartitionOffset(topic: "t", partition: Int32(generator.below(3)), next: Int64(generator.below(100)))
      model.offsets[offset.partition] = offset.next
      try transaction.setOffset(offset)
    }
    #expect(try transaction.sequence(of: user)?.interactions ?? [] == model.users[user]?.interactions ?? [])
    var interactions = [Interaction(9, time: 9)]
    try transaction.readInteractions(of: try transaction.user(user), into: &interactions)
    #expect(interactions == model.users[user]?.interactions ?? [])
  }

  private func lookUpTogether(_ generator: inout SeededGenerator, _ model: Model, _ transaction: WriteTransaction) throws(StateStoreError) {
    let ids: [String?] = (0..<generator.below(6)).map { _ in
      switch generator.below(8) {
      case 0: nil
      case 1: ""
      case 2: String(repeating: "long", count: 200)
      default: "user-\(generator.below(8))"
      }
    }
    let users = try transaction.users(ids)
    #expect(users.count == ids.count)
    for (id, user) in zip(ids, users) {
      #expect((user != nil) == (id?.hasPrefix("user") ?? false), "an id that is none, or has a hash for its key, is left for later")
      guard let user, let id else { continue }
      var interactions: [Interaction] = []
      try transaction.readInteractions(of: user, into: &interactions)
      #expect(interactions == model.users[id]?.interactions ?? [])
      let item = ItemNumber(rawValue: UInt32(8 + generator.below(3)))
      let ranked = try transaction.rank(of: item, inPoolOf: user)
      #expect(ranked.hasPool == (model.pools[id] != nil) && ranked.rank == model.pools[id]?.items.firstIndex(of: item))
    }
  }

  private func expect(_ store: StateStore, equals model: Model) throws {
    try store.read { (view) throws(StateStoreError) in
      var sequences: [String: UserSequence] = [:]
      for sequence in try view.sequences(limit: .max) { sequences[sequence.user] = sequence }
      #expect(sequences.count == model.users.count)
      for (id, user) in model.users {
        #expect(
          sequences[id]
            == UserSequence(user: id, partition: user.partition, interactions: user.interactions, lastJournalSequence: user.last))
      }
      #expect(try view.readJournal(from: 0, limit: .max) == model.journal)
      let stale = try view.staleUsers(limit: .max, dueBefore: .max)
      #expect(stale.map(\.mark.dueTime) == stale.map(\.mark.dueTime).sorted())
      #expect(Dictionary(uniqueKeysWithValues: stale.map { ($0.user, $0.mark) }) == model.marks)
      for (user, pool) in model.pools { #expect(try view.pool(of: user) == pool) }
      let items = try view.catalogueChanges(since: 0, limit: .max)
      let expected = model.items.sorted { $0.value.change < $1.value.change }
      #expect(items.map(\.id) == expected.map(\.key))
      #expect(items.map(\.row) == expected.map(\.value.row))
      #expect(items.map(\.state) == expected.map(\.value.state))
      #expect(items.map(\.number.rawValue) == expected.map(\.value.number))
      #expect(items.map(\.change) == expected.map(\.value.change))
      #expect(try view.rowCount() == Int(model.rowCount))
      let offsets = try view.offsets()
      #expect(Dictionary(uniqueKeysWithValues: offsets.map { ($0.partition, $0.next) }) == model.offsets)
    }
    #expect(try store.info().pools == model.pools.count)
  }

  @Test(arguments: 1...6 as ClosedRange<UInt64>)
  func theStoreDoesWhatThePlainModelDoes(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let options = StateStore.Options(initialBytes: 1 << 18, sequenceLength: Self.length, lateInteractionBound: Self.bound)
    var store: StateStore? = try StateStore.open(at: folder.path, options: options)
    var model = Model()
    for _ in 0..<60 {
      // A transaction may run again when the map grows, so it begins from the same generator and model each time.
      let before = (generator, model)
      let steps = 1 + generator.below(30)
      let isGivenUp = generator.below(5) == 0
      do {
        try store?.write { (transaction) throws(StateStoreError) in
          (generator, model) = before
          for _ in 0..<steps { try step(&generator, &model, transaction) }
          if isGivenUp { throw StateStoreError(.io, "given up") }
        }
      } catch {
        guard error.message == "given up" else { throw error }
        model = before.1
      }
      _ = generator.next()
      if generator.below(8) == 0 {
        store = nil
        store = try StateStore.open(at: folder.path, options: options)
      }
      try expect(#require(store), equals: model)
    }
  }
}
