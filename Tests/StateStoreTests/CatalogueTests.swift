import StateStore
import TestSupport
import Testing

struct CatalogueTests {
  private let folder = TemporaryFolder()

  private static let sofa = ItemDescription(
    title: "Sofa", categories: ["Living room", "Seats"], brand: "Acme", price: 499.5, available: false,
    features: ["text": [0.25, -1], "image": []])

  private func edit<Result>(
    _ store: StateStore, _ body: (WriteTransaction) throws(StateStoreError) -> Result
  ) throws -> Result {
    try store.write { (transaction) throws(StateStoreError) in try body(transaction) }
  }

  private func changes(_ store: StateStore, since: UInt64 = 0, limit: Int = .max) throws -> [CatalogueItem] {
    try store.read { (view) throws(StateStoreError) in try view.catalogueChanges(since: since, limit: limit) }
  }

  @Test func anItemIsNumberedOnceInTheOrderOfSight() throws {
    let store = try StateStore.open(at: folder.path)
    let numbers = try edit(store) { (transaction) throws(StateStoreError) in
      [try transaction.registerItem("a"), try transaction.describeItem("b", Self.sofa), try transaction.registerItem("a")]
    }
    #expect(numbers.map(\.rawValue) == [1, 2, 1])
    try store.read { (view) throws(StateStoreError) in
      #expect(try view.itemNumber(of: "b")?.rawValue == 2)
      #expect(try view.itemID(numbers[0]) == "a")
      #expect(try view.item(id: "b")?.description == Self.sofa)
      #expect(try view.item(id: "b")?.row == 1)
      #expect(try view.rowCount() == 2)
    }
  }

  @Test func aRetiredItemGivesItsRowBackAndKeepsItsNumber() throws {
    let store = try StateStore.open(at: folder.path)
    try edit(store) { (transaction) throws(StateStoreError) in
      for id in ["a", "b", "c", "d"] { _ = try transaction.registerItem(id) }
      try transaction.retireItem("c")
      try transaction.retireItem("b")
      _ = try transaction.registerItem("e")
      try transaction.describeItem("b", Self.sofa)
      _ = try transaction.registerItem("f")
    }
    let items = try changes(store)
    #expect(items.map(\.id) == ["a", "d", "c", "e", "b", "f"])
    #expect(items.map(\.row) == [0, 3, nil, 1, 2, 4])
    #expect(items.map(\.number.rawValue) == [1, 4, 3, 5, 2, 6])
    for item in items where item.row != nil { #expect(item.rowSince == item.change, "\(item.id)") }
  }

  @Test func aTombstoneForAnUnknownItemRetiresItAheadOfItsInteractions() throws {
    let store = try StateStore.open(at: folder.path)
    try edit(store) { (transaction) throws(StateStoreError) in
      let number = try transaction.retireItem("a")
      #expect(try transaction.registerItem("a") == number)
      #expect(try transaction.item(number)?.state == .retired)
    }
    #expect(try changes(store).map(\.row) == [nil])
  }

  @Test func changesNameEachItemOnceAtItsNewestChange() throws {
    let store = try StateStore.open(at: folder.path)
    try edit(store) { (transaction) throws(StateStoreError) in
      for id in ["a", "b", "c"] { _ = try transaction.registerItem(id) }
    }
    let seen = try #require(try changes(store).last?.change)
    #expect(try changes(store, since: seen).isEmpty)
    try edit(store) { (transaction) throws(StateStoreError) in
      try transaction.describeItem("a", Self.sofa)
      try transaction.describeItem("b", Self.sofa)
      try transaction.describeItem("a", Self.sofa)
      try transaction.retireItem("b")
      try transaction.retireItem("b")
    }
    let after = try changes(store, since: seen)
    #expect(after.map(\.id) == ["a", "b"])
    #expect(try changes(store, since: seen, limit: 1) == [after[0]])
    #expect(try store.read { (view) throws(StateStoreError) in try view.lastCatalogueChange() } == after.last?.change)
    // The row of an item that only changed is as old as it was.
    #expect(after[0].rowSince < seen)
    #expect(try changes(store).count == 3)
  }

  @Test func interactionTypesKeepTheirCodes() throws {
    let store = try StateStore.open(at: folder.path)
    let codes = try edit(store) { (transaction) throws(StateStoreError) in
      [try transaction.interactionTypeCode("view"), try transaction.interactionTypeCode("buy"), try transaction.interactionTypeCode("view")]
    }
    #expect(codes.map(\.rawValue) == [0, 1, 0])
    try edit(store) { (transaction) throws(StateStoreError) in
      for number in 2..<256 { _ = try transaction.interactionTypeCode("type-\(number)") }
    }
    for name in ["more", ""] {
      let refused = code { try edit(store) { (transaction) throws(StateStoreError) in try transaction.interactionTypeCode(name) } }
      #expect(refused == .invalidValue)
    }
    #expect(try edit(store) { (transaction) throws(StateStoreError) in try transaction.interactionTypeCode("type-255") }.rawValue == 255)
  }
}
