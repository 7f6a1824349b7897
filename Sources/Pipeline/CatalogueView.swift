import Recommender
import StateStore

/// The catalogue as one service sees it in memory: it follows the store's changes by their sequence.
struct CatalogueView {
  struct Entry {
    var id: String
    var row: Int32?
    var available: Bool
    var categories: [String]
  }

  /// By item number.
  private(set) var entries: [Entry?] = []
  /// By row: whether the item may be recommended.
  private(set) var allowed: [Bool] = []
  /// By item number; −1 for an item without a row.
  private var rows: [Int32] = []
  /// By row: the number of its item.
  private var owners: [UInt32] = []
  /// The sequence of the last change that was taken in.
  private(set) var change: UInt64 = 0
  private static let page = 4096

  /// Takes in what changed since the last call.
  ///
  /// - Parameter visit: called with each changed item, in the order of the changes.
  /// - Returns: how many items changed.
  @discardableResult
  mutating func follow(_ transaction: ReadTransaction, _ visit: (CatalogueItem) -> Void = { _ in }) throws(StateStoreError) -> Int {
    var count = 0
    while true {
      let changes = try transaction.catalogueChanges(since: change, limit: Self.page)
      for item in changes {
        take(item)
        visit(item)
        change = item.change
      }
      count += changes.count
      if changes.count < Self.page { return count }
    }
  }

  subscript(number: UInt32) -> Entry? { Int(number) < entries.count ? entries[Int(number)] : nil }

  func row(of number: UInt32) -> Int32? {
    guard Int(number) < rows.count, rows[Int(number)] >= 0 else { return nil }
    return rows[Int(number)]
  }

  /// By row: whether the item may be recommended and has one of the categories.
  func allowed(in categories: Set<String>) -> [Bool] {
    var result = [Bool](repeating: false, count: allowed.count)
    for case let entry? in entries where entry.available && !categories.isDisjoint(with: entry.categories) {
      if let row = entry.row { result[Int(row)] = true }
    }
    return result
  }

  private mutating func take(_ item: CatalogueItem) {
    let index = Int(item.number.rawValue)
    while entries.count <= index {
      entries.append(nil)
      rows.append(-1)
    }
    // Unless the row went to another item meanwhile, whose change comes first.
    if let old = entries[index]?.row, owners[Int(old)] == item.number.rawValue { allowed[Int(old)] = false }
    let description = item.description
    let available = item.state != .retired && description?.available ?? true
    entries[index] = Entry(
      id: item.id, row: item.row.map { Int32(bitPattern: $0) }, available: available, categories: description?.categories ?? [])
    rows[index] = item.row.map { Int32(bitPattern: $0) } ?? -1
    guard let row = item.row.map({ Int($0) }) else { return }
    while allowed.count <= row {
      allowed.append(false)
      owners.append(.max)
    }
    allowed[row] = available
    owners[row] = item.number.rawValue
  }
}

extension CatalogueItem {
  /// The names that the item tower embeds: brand and categories, told apart by a prefix.
  var attributeNames: [String] {
    guard let description else { return [] }
    return (description.brand.map { ["brand:" + $0] } ?? []) + description.categories.map { "category:" + $0 }
  }
}
