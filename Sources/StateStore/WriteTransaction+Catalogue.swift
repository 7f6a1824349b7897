import LMDB

/// The catalogue's side. It is bounded: ids that are made up, or mistyped, or gone, must not fill the model.
///
/// A described item has a row until it is retired. An undescribed one has to earn it once half of the rows are taken, by being seen
/// several times (admission by frequency, as in TinyLFU: Einziger et al., arXiv 1512.00727), and makes room when others need it or when it
/// was long unused; it keeps its number and id, and comes back when it is seen again.
extension WriteTransaction {
  /// The number of an item that an interaction names; nil while an unknown item is not let in.
  ///
  /// - Parameter time: of the interaction, in milliseconds since 1970.
  public func admitItem(_ id: String, at time: Int64) throws(StateStoreError) -> ItemNumber? {
    let day = Self.day(time)
    if let known = memory.items[ExactID(id)], let noted = known.notedUntil, day <= noted { return known.number }
    guard var item = try item(id: id) else { return try hasRoom(for: id) ? try registerNewItem(id, at: time) : nil }
    guard item.state == .undescribed else {
      memory.remember(ExactID(id), WriterMemory.Item(number: item.number, notedUntil: .max))
      return item.number
    }
    if item.row == nil {
      guard try hasRoom(for: id) else { return item.number }
      item.lastUse = max(item.lastUse, day)
      try takeRow(for: &item)
      try store(&item)
      try put(databases.itemsByUse, Self.useKey(item), [])
    } else if day > item.lastUse {
      try delete(databases.itemsByUse, Self.useKey(item))
      item.lastUse = day
      try put(item)
      try put(databases.itemsByUse, Self.useKey(item), [])
    }
    memory.remember(ExactID(id), WriterMemory.Item(number: item.number, notedUntil: item.lastUse))
    return item.number
  }

  /// The number of an item, given at first sight: it is then an undescribed item with a row.
  ///
  /// Throws `.catalogueFull` when all rows are taken by described items.
  public func registerItem(_ id: String, at time: Int64 = 0) throws(StateStoreError) -> ItemNumber {
    if let number = try itemNumber(of: id) { return number }
    return try registerNewItem(id, at: time)
  }

  private func registerNewItem(_ id: String, at time: Int64) throws(StateStoreError) -> ItemNumber {
    var item = try newItem(id, state: .undescribed)
    item.lastUse = Self.day(time)
    try takeRow(for: &item)
    try store(&item)
    try put(databases.itemsByUse, Self.useKey(item), [])
    memory.remember(ExactID(id), WriterMemory.Item(number: item.number, notedUntil: item.lastUse))
    return item.number
  }

  /// Stores what the storefront says about an item; a retired one comes back, in a new row. The same description again changes nothing.
  ///
  /// Throws `.catalogueFull` when all rows are taken by described items: nothing was changed then.
  @discardableResult
  public func describeItem(_ id: String, _ description: ItemDescription) throws(StateStoreError) -> ItemNumber {
    let known = try item(id: id)
    if known?.row == nil, try rowsInUse() >= options.maximumItems, try firstKey(databases.itemsByUse) == nil { throw catalogueFull }
    var item = if let known { known } else { try newItem(id, state: .retired) }
    guard item.state != .described(description) else { return item.number }
    if item.state == .undescribed { try delete(databases.itemsByUse, Self.useKey(item)) }
    item.state = .described(description)
    if item.row == nil { try takeRow(for: &item) }
    try store(&item)
    return item.number
  }

  /// Takes an item out of the catalogue and gives its row back. An item never seen is kept as retired,
  /// so that the state does not depend on whether its interactions came first.
  @discardableResult
  public func retireItem(_ id: String) throws(StateStoreError) -> ItemNumber {
    let known = try item(id: id)
    if let known, known.state == .retired { return known.number }
    var item = if let known { known } else { try newItem(id, state: .retired) }
    if item.state == .undescribed { try delete(databases.itemsByUse, Self.useKey(item)) }
    item.state = .retired
    try giveRowBack(of: &item)
    return item.number
  }

  /// Takes the rows of up to `limit` undescribed items that were not used since a time, in milliseconds since 1970. Items of a history whose
  /// interactions are still to come, and those of schema 1, wait for their first use.
  ///
  /// - Returns: how many.
  @discardableResult
  public func releaseItems(unusedSince time: Int64, limit: Int) throws(StateStoreError) -> Int {
    guard limit > 0 else { return 0 }
    let bound = Self.day(time)
    var longestUnused: [[UInt8]] = []
    // Of day 0 it is not known when they were used.
    try scan(databases.itemsByUse, from: [UInt8](bigEndian: UInt32(1))) { key, _ in
      guard let day = key.bigEndian(UInt32.self), day < bound else { return false }
      longestUnused.append(key.copied())
      return longestUnused.count < limit
    }
    for key in longestUnused { try release(key) }
    return longestUnused.count
  }

  /// The step from schema 1.
  func listUndescribedItems() throws(StateStoreError) {
    var undescribed: [CatalogueItem] = []
    var change: UInt64 = 0
    while case let page = try catalogueChanges(since: change, limit: 4096), let last = page.last {
      undescribed += page.filter { $0.state == .undescribed }
      change = last.change
    }
    for item in undescribed { try put(databases.itemsByUse, Self.useKey(item), []) }
  }

  private func newItem(_ id: String, state: CatalogueItem.State) throws(StateStoreError) -> CatalogueItem {
    let key = try coder.key(id)
    let number = ItemNumber(rawValue: try take(\.nextItem))
    var value: [UInt8] = []
    ExternalIDCoder.appendIdentity(id, key: key, to: &value)
    value.appendLittleEndian(number.rawValue)
    try put(databases.itemNumbers, key, value)
    memory.remember(ExactID(id), WriterMemory.Item(number: number))
    return CatalogueItem(id: id, number: number, row: nil, rowSince: 0, change: 0, state: state)
  }

  // Rows.

  /// How many items have a row.
  public func rowsInUse() throws(StateStoreError) -> Int { Int(try counters().nextRow) - (try count(databases.freeRows)) }

  /// Whether an undescribed item may take a row now. Asking counts as seeing it.
  private func hasRoom(for id: String) throws(StateStoreError) -> Bool {
    let inUse = try rowsInUse()
    guard inUse >= options.maximumItems / 2 else { return true }
    guard try countAdmission(id) >= options.admissionInteractions else { return false }
    if inUse < options.maximumItems { return true }
    return try firstKey(databases.itemsByUse) != nil
  }

  /// How often an item without a row was seen, this time included.
  private func countAdmission(_ id: String) throws(StateStoreError) -> Int {
    let (slot, fresh) = AdmissionCount.place(of: id, options.coder)
    var count = fresh
    if let bytes = try value(databases.admissions, slot), case let kept = try AdmissionCount(bytes), kept.hash == fresh.hash { count = kept }
    count.seen = count.seen == .max ? .max : count.seen + 1
    try put(databases.admissions, slot, count.encoded)
    return Int(count.seen)
  }

  private func takeRow(for item: inout CatalogueItem) throws(StateStoreError) {
    if try rowsInUse() >= options.maximumItems {
      guard let longestUnused = try firstKey(databases.itemsByUse) else {
        throw catalogueFull
      }
      try release(longestUnused)
    }
    if try count(databases.freeRows) > 0, let key = try firstKey(databases.freeRows) {
      guard let row = key.span.bigEndian(UInt32.self) else { throw RecordReader.damaged }
      try delete(databases.freeRows, key)
      item.row = row
    } else {
      item.row = try take(\.nextRow)
    }
    item.rowSince = try counters().nextChange
  }

  private var catalogueFull: StateStoreError {
    StateStoreError(.catalogueFull, "the catalogue has its \(options.maximumItems) items, all of them described")
  }

  private func giveRowBack(of item: inout CatalogueItem) throws(StateStoreError) {
    if let row = item.row { try put(databases.freeRows, [UInt8](bigEndian: row), []) }
    item.row = nil
    try store(&item)
  }

  /// Takes the row of the undescribed item under a key of ``Databases/itemsByUse``.
  private func release(_ useKey: [UInt8]) throws(StateStoreError) {
    try delete(databases.itemsByUse, useKey)
    guard let number = useKey.span.bigEndian(UInt32.self, at: 4), var item = try item(ItemNumber(rawValue: number)) else {
      throw RecordReader.damaged
    }
    memory.remember(ExactID(item.id), WriterMemory.Item(number: item.number))
    try giveRowBack(of: &item)
  }

  // Records.

  private static func day(_ time: Int64) -> UInt32 { UInt32(clamping: time / 86_400_000) }

  private static func useKey(_ item: CatalogueItem) -> [UInt8] {
    [UInt8](bigEndian: item.lastUse) + [UInt8](bigEndian: item.number.rawValue)
  }

  /// Stores the item with a new place among the changes.
  private func store(_ item: inout CatalogueItem) throws(StateStoreError) {
    if item.change > 0 { try delete(databases.changes, [UInt8](bigEndian: item.change)) }
    item.change = try take(\.nextChange)
    try put(databases.changes, [UInt8](bigEndian: item.change), [UInt8](bigEndian: item.number.rawValue), append: true)
    try put(item)
  }

  private func put(_ item: CatalogueItem) throws(StateStoreError) {
    var record: [UInt8] = []
    item.encode(to: &record)
    try put(databases.items, [UInt8](bigEndian: item.number.rawValue), record)
  }
}

/// How often an id was seen that has no row yet. There are as many places as `slotCount`, and an id takes its place from whoever was there: so
/// much memory is enough whatever comes, and who is seen rarely is forgotten.
package struct AdmissionCount: Hashable, Sendable {
  static let slotCount: UInt32 = 1 << 16

  /// Tells the ids of one slot apart.
  var hash: UInt64
  var seen: UInt8

  package init(hash: UInt64) {
    self.hash = hash
    seen = 0
  }

  /// Record: hash, count.
  package init(_ bytes: [UInt8]) throws(StateStoreError) {
    var reader = RecordReader(bytes)
    hash = try reader.littleEndian(UInt64.self)
    seen = try reader.byte()
    try reader.end()
  }

  package var encoded: [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendLittleEndian(hash)
    bytes.append(seen)
    return bytes
  }

  /// The key of an id's slot, and a count of 0 for it.
  static func place(of id: String, _ coder: ExternalIDCoder) -> (slot: [UInt8], count: AdmissionCount) {
    let hash = coder.hash(Array(id.utf8))
    let slot = (hash.span.bigEndian(UInt32.self) ?? 0) % slotCount
    return ([UInt8](bigEndian: slot), AdmissionCount(hash: hash.span.bigEndian(UInt64.self, at: 4) ?? 0))
  }
}
