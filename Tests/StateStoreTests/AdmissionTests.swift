import TestSupport
import Testing

import StateStore

/// The catalogue stays within its bound, whatever ids come.
struct AdmissionTests {
  private let folder = TemporaryFolder()
  private static let day: Int64 = 86_400_000
  private static let sofa = ItemDescription(title: "Sofa")

  private func open(_ maximumItems: Int, admission: Int = 2) throws -> StateStore {
    try StateStore.open(at: folder.path, options: StateStore.Options(maximumItems: maximumItems, admissionInteractions: admission))
  }

  @discardableResult
  private func edit<Result>(
    _ store: StateStore, _ body: (WriteTransaction) throws(StateStoreError) -> Result
  ) throws -> Result {
    try store.write { (transaction) throws(StateStoreError) in try body(transaction) }
  }

  private func row(_ id: String, _ store: StateStore) throws -> UInt32? {
    try store.read { (view) throws(StateStoreError) in try view.item(id: id)?.row }
  }

  @Test func fromHalfOfTheRowsOnAnUnknownItemIsLetInWhenItIsSeenAgain() throws {
    let store = try open(4, admission: 3)
    for id in ["a", "b"] { #expect(try edit(store) { (it) throws(StateStoreError) in try it.admitItem(id, at: 0) } != nil) }
    // Whether the writer remembers or not: the counts are in the store.
    #expect(try edit(store) { (it) throws(StateStoreError) in try it.admitItem("c", at: 0) } == nil)
    #expect(try edit(store) { (it) throws(StateStoreError) in try it.admitItem("c", at: 0) } == nil)
    #expect(try edit(store) { (it) throws(StateStoreError) in try it.admitItem("d", at: 0) } == nil)
    #expect(try edit(store) { (it) throws(StateStoreError) in try it.admitItem("c", at: 0) }?.rawValue == 3)
    #expect(try row("c", store) == 2)
    #expect(try row("d", store) == nil)
    // What the storefront describes is let in at once.
    try edit(store) { (it) throws(StateStoreError) in try it.describeItem("d", Self.sofa) }
    #expect(try row("d", store) == 3)
  }

  @Test func atTheLimitTheItemThatWasLongestUnusedMakesRoomAndComesBackWithItsNumber() throws {
    let store = try open(3, admission: 1)
    try edit(store) { (it) throws(StateStoreError) in
      for (id, day) in [("a", 1), ("b", 2), ("c", 3), ("a", 4)] { _ = try it.admitItem(id, at: Int64(day) * Self.day) }
    }
    let number = try store.read { (view) throws(StateStoreError) in try view.itemNumber(of: "b") }
    let before = try store.read { (view) throws(StateStoreError) in try view.lastCatalogueChange() }
    try edit(store) { (it) throws(StateStoreError) in _ = try it.admitItem("d", at: 4 * Self.day) }
    #expect(try ["a", "b", "c", "d"].map { try row($0, store) } == [0, nil, 2, 1])
    // Followers hear of both.
    let changes = try store.read { (view) throws(StateStoreError) in try view.catalogueChanges(since: before, limit: 9) }
    #expect(changes.map(\.id) == ["b", "d"])
    #expect(try edit(store) { (it) throws(StateStoreError) in try it.admitItem("b", at: 5 * Self.day) } == number)
    #expect(try ["a", "b", "c", "d"].map { try row($0, store) } == [0, 2, nil, 1])
  }

  @Test func describedItemsMakeNoRoom() throws {
    let store = try open(2, admission: 1)
    try edit(store) { (it) throws(StateStoreError) in
      try it.describeItem("a", Self.sofa)
      _ = try it.admitItem("b", at: 0)
      try it.describeItem("c", Self.sofa)
      #expect(try it.admitItem("d", at: 0) == nil)
    }
    #expect(try ["a", "b", "c", "d"].map { try row($0, store) } == [0, nil, 1, nil])
    #expect(code { try edit(store) { (it) throws(StateStoreError) in try it.describeItem("d", Self.sofa) } } == .catalogueFull)
    #expect(code { try edit(store) { (it) throws(StateStoreError) in try it.registerItem("d") } } == .catalogueFull)
    // A tombstone makes room.
    try edit(store) { (it) throws(StateStoreError) in
      try it.retireItem("a")
      try it.describeItem("d", Self.sofa)
    }
    #expect(try row("d", store) == 0)
  }

  @Test func whatWasUnusedForLongIsReleasedTheOldestFirst() throws {
    let store = try open(100)
    try edit(store) { (it) throws(StateStoreError) in
      for day in 1...9 { _ = try it.admitItem("\(day)", at: Int64(day) * Self.day) }
      try it.describeItem("2", Self.sofa)
      #expect(try it.releaseItems(unusedSince: 6 * Self.day, limit: 3) == 3)
    }
    #expect(try (1...9).filter { try row("\($0)", store) == nil } == [1, 3, 4])
    try edit(store) { (it) throws(StateStoreError) in #expect(try it.releaseItems(unusedSince: 6 * Self.day, limit: 3) == 1) }
    #expect(try (1...9).filter { try row("\($0)", store) == nil } == [1, 3, 4, 5])
    // It is seen again.
    try edit(store) { (it) throws(StateStoreError) in _ = try it.admitItem("4", at: 9 * Self.day) }
    #expect(try row("4", store) == 0)
  }

  @Test func whatIsToBeUsedYetIsNotReleased() throws {
    let store = try open(100)
    let number = try edit(store) { (it) throws(StateStoreError) in
      let number = try it.registerItem("of a history")
      #expect(try it.releaseItems(unusedSince: 100 * Self.day, limit: 9) == 0)
      return number
    }
    #expect(try row("of a history", store) == 0)
    try edit(store) { (it) throws(StateStoreError) in
      #expect(try it.admitItem("of a history", at: 5 * Self.day) == number)
      #expect(try it.releaseItems(unusedSince: 100 * Self.day, limit: 9) == 1)
    }
    #expect(try row("of a history", store) == nil)
  }

  /// Against a plain model of the rules, with the store closed and opened in between.
  @Test(arguments: 0..<8 as Range<UInt64>)
  func theRowsAreThoseOfAPlainModel(seed: UInt64) throws {
    struct Item {
      var isDescribed = false
      var isRetired = false
      var hasRow = false
      var lastUse = 0
      var number = 0
    }
    var random = SeededGenerator(seed: seed)
    var items: [String: Item] = [:]
    var seen: [String: Int] = [:]
    let maximum = 12
    let admission = 1 + Int(seed % 3)
    var store: StateStore? = try open(maximum, admission: admission)
    var time = 1
    func inUse() -> Int { items.values.filter(\.hasRow).count }
    func longestUnused() -> String? {
      items.filter { $0.value.hasRow && !$0.value.isDescribed }.min { ($0.value.lastUse, $0.value.number) < ($1.value.lastUse, $1.value.number) }?.key
    }
    func mayEnter(_ id: String) -> Bool {
      guard inUse() >= maximum / 2 else { return true }
      seen[id, default: 0] += 1
      return seen[id, default: 0] >= admission && (inUse() < maximum || longestUnused() != nil)
    }
    func takeRow(_ id: String) -> Bool {
      if inUse() >= maximum {
        guard let other = longestUnused() else { return false }
        items[other]?.hasRow = false
      }
      items[id]?.hasRow = true
      return true
    }
    for step in 0..<600 {
      if step % 150 == 149 {
        store = nil
        store = try open(maximum, admission: admission)
      }
      let open = try #require(store)
      let id = "\(Int.random(in: 0..<40, using: &random))"
      let new = Item(number: items.count)
      time += Int.random(in: 0...1, using: &random)
      switch Int.random(in: 0..<20, using: &random) {
      case 0:
        try edit(open) { (it) throws(StateStoreError) in try it.retireItem(id) }
        items[id, default: new].hasRow = false
        items[id]?.isRetired = true
        items[id]?.isDescribed = false
      case 1:
        let before = items
        items[id, default: new].isDescribed = true
        items[id]?.isRetired = false
        if items[id]?.hasRow == true || takeRow(id) {
          try edit(open) { (it) throws(StateStoreError) in _ = try it.describeItem(id, Self.sofa) }
        } else {
          #expect(code { try edit(open) { (it) throws(StateStoreError) in try it.describeItem(id, Self.sofa) } } == .catalogueFull)
          items = before
        }
      case 2:
        let bound = time - 8
        try edit(open) { (it) throws(StateStoreError) in try it.releaseItems(unusedSince: Int64(bound) * Self.day, limit: 99) }
        for (id, item) in items where item.hasRow && !item.isDescribed && item.lastUse < bound { items[id]?.hasRow = false }
      default:
        let admitted = try edit(open) { (it) throws(StateStoreError) in try it.admitItem(id, at: Int64(time) * Self.day) } != nil
        if let item = items[id] {
          #expect(admitted)
          guard !item.isDescribed, !item.isRetired else { break }
          if !item.hasRow { guard mayEnter(id), takeRow(id) else { break } }
          items[id]?.lastUse = time
        } else {
          let enters = mayEnter(id)
          #expect(admitted == enters)
          guard enters else { break }
          items[id] = Item(lastUse: time, number: new.number)
          #expect(takeRow(id))
        }
      }
      var rows: Set<UInt32> = []
      for (id, item) in items {
        let row = try row(id, open)
        #expect((row != nil) == item.hasRow, "step \(step), item \(id)")
        if let row { #expect(rows.insert(row).inserted) }
      }
      #expect(rows.count <= maximum)
      #expect(rows.allSatisfy { $0 < maximum })
    }
  }
}
