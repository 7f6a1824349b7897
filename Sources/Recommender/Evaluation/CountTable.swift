/// Counts for pairs of items, kept by their first: a small open-addressing table for each.
struct CountTable: Sendable {
  fileprivate struct Row: Sendable {
    /// A power of two long, at most half of it in use; -1 is a free slot.
    var items: [Int32] = []
    var counts: [Float] = []
    var used = 0
  }

  private var rows: [Row] = []

  mutating func add(_ count: Float, to item: Int32, of first: Int32) {
    if first >= rows.count { rows.append(contentsOf: repeatElement(Row(), count: Int(first) + 1 - rows.count)) }
    rows[Int(first)].add(count, to: item)
  }

  /// Calls the body with each item that has a count beside `first`.
  func forEach(of first: Int32, _ body: (_ item: Int32, _ count: Float) -> Void) {
    guard first < rows.count else { return }
    let row = rows[Int(first)]
    for slot in row.items.indices where row.items[slot] >= 0 { body(row.items[slot], row.counts[slot]) }
  }
}

extension CountTable.Row {
  fileprivate mutating func add(_ count: Float, to item: Int32) {
    if (used + 1) * 2 > items.count { grow() }
    let slot = slot(of: item)
    if items[slot] < 0 {
      items[slot] = item
      used += 1
    }
    counts[slot] += count
  }

  private func slot(of item: Int32) -> Int {
    let mask = items.count - 1
    var slot = Int(truncatingIfNeeded: (UInt64(UInt32(bitPattern: item)) &* 0x9e37_79b9_7f4a_7c15) >> 32) & mask
    while items[slot] >= 0, items[slot] != item { slot = (slot + 1) & mask }
    return slot
  }

  private mutating func grow() {
    let old = (items, counts)
    items = Array(repeating: -1, count: max(4, old.0.count * 2))
    counts = Array(repeating: 0, count: items.count)
    for (item, count) in zip(old.0, old.1) where item >= 0 {
      let slot = slot(of: item)
      items[slot] = item
      counts[slot] = count
    }
  }
}
