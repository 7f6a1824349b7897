import Settings
import StateStore
import TestSupport
import Testing

@testable import Pipeline

struct CatalogueViewTests {
  let folder = TemporaryFolder()

  /// Whatever happened between two looks, the view is what the store says.
  @Test(arguments: 0..<12)
  func aViewThatLooksNowAndThenAgreesWithTheStore(seed: UInt64) throws {
    let settings = Settings.small(folder)
    let store = try StateStore.open(at: settings.store.path, options: StateStore.Options(settings))
    var random = SeededGenerator(seed: seed)
    var view = CatalogueView()
    var visited = 0
    for round in 0..<60 {
      let changes = random.below(12)
      try store.write { (transaction) throws(StateStoreError) in
        for change in 0..<changes {
          let id = "item \(random.below(14))"
          switch random.below(4) {
          case 0: try transaction.retireItem(id)
          case 1: _ = try transaction.registerItem(id)
          default:
            try transaction.describeItem(
              id, StoredItemDescription(title: "\(round) \(change)", categories: ["c\(random.below(3))"], available: random.below(4) > 0))
          }
        }
      }
      visited += try store.read { (transaction) throws(StateStoreError) in try view.follow(transaction) }
      let all = try store.read { (transaction) throws(StateStoreError) in try transaction.catalogueChanges(since: 0, limit: .max) }
      var allowed: [Int32: Bool] = [:]
      for item in all {
        let entry = try #require(view[item.number.rawValue])
        let isAvailable = item.state != .retired && item.description?.available ?? true
        #expect(entry.id == item.id && entry.available == isAvailable && entry.categories == item.description?.categories ?? [])
        #expect(view.row(of: item.number.rawValue) == item.row.map { Int32($0) })
        if let row = item.row { allowed[Int32(row)] = isAvailable }
      }
      for row in view.allowed.indices { #expect(view.allowed[row] == allowed[Int32(row)] ?? false, "row \(row) in round \(round)") }
      #expect(allowed.keys.allSatisfy { Int($0) < view.allowed.count })
    }
    #expect(visited > 60)
    #expect(try store.read { (transaction) throws(StateStoreError) in try view.follow(transaction) } == 0)
  }

  @Test func anItemThatMovedDoesNotTakeTheNewOwnersPlaceAway() throws {
    let settings = Settings.small(folder)
    let store = try StateStore.open(at: settings.store.path, options: StateStore.Options(settings))
    var view = CatalogueView()
    func write(_ body: (WriteTransaction) throws(StateStoreError) -> Void) throws {
      try store.write { (transaction) throws(StateStoreError) in try body(transaction) }
    }
    let description = StoredItemDescription(title: "")
    try write { (transaction) throws(StateStoreError) in try transaction.describeItem("moves", description) }
    _ = try store.read { (transaction) throws(StateStoreError) in try view.follow(transaction) }
    try write { (transaction) throws(StateStoreError) in
      try transaction.retireItem("moves")
      try transaction.describeItem("takes its row", description)
      try transaction.describeItem("moves", description)
    }
    _ = try store.read { (transaction) throws(StateStoreError) in try view.follow(transaction) }
    #expect(view.allowed == [true, true])
  }

  @Test func attributesAreToldApartByTheirKind() throws {
    let item = CatalogueItem(
      id: "a", number: StoredItemNumber(rawValue: 0), row: 0, rowSince: 1, change: 1,
      state: .described(StoredItemDescription(title: "", categories: ["acme", "tools"], brand: "acme")))
    #expect(item.attributeNames == ["brand:acme", "category:acme", "category:tools"])
  }
}
