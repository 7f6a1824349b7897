import LMDB

/// One consistent view of the state. It ends with the closure that it was given to.
public class ReadTransaction {
  let lmdb: LMDB.ReadTransaction
  let databases: Databases
  let options: StateStore.Options
  var coder: ExternalIDCoder { options.coder }

  init(_ lmdb: LMDB.ReadTransaction, _ databases: Databases, _ options: StateStore.Options) {
    self.lmdb = lmdb
    self.databases = databases
    self.options = options
  }

  /// Puts down what the transaction holds back, before something is read that may depend on it.
  func settle() throws(StateStoreError) {}

  /// The user's last interactions; nil for a user without any.
  public func sequence(of user: String) throws(StateStoreError) -> UserSequence? {
    let key = try coder.key(user)
    guard let bytes = try value(databases.sequences, key) else { return nil }
    return try SequenceRecord(bytes, user: user, key: key).decoded(user: user)
  }

  /// How many bytes the user's sequence takes.
  package final func sequenceByteCount(of user: String) throws(StateStoreError) -> Int {
    try value(databases.sequences, try coder.key(user))?.count ?? 0
  }

  /// What the pages of the users' sequences take, in bytes, without what a write transaction has not put down yet.
  public final func sequencesSize() throws(StateStoreError) -> Int {
    do throws(LMDBError) { return try lmdb.size(databases.sequences) } catch { throw StateStoreError(error) }
  }

  /// Up to `limit` users with their sequences, in the order of their keys, after the user `after`.
  public final func sequences(after: String? = nil, limit: Int) throws(StateStoreError) -> [UserSequence] {
    try settle()
    // The lowest key above another is that key and a zero byte.
    let from = if let after { try coder.key(after) + [0] } else { [UInt8]() }
    return try collect(databases.sequences, from: from, limit: limit) { (key, bytes) throws(StateStoreError) in
      let (user, record) = try SequenceRecord.withUser(bytes, key: key)
      return try record.decoded(user: user)
    }
  }

  /// The user's candidate pool; nil when none was made.
  public final func pool(of user: String) throws(StateStoreError) -> PoolRecord? {
    let key = try coder.key(user)
    return try value(databases.pools, key).map { (bytes) throws(StateStoreError) in try PoolRecord(bytes, user: user, key: key) }
  }

  /// Whether a pool of the user was stored.
  public final func hasPool(_ user: String) throws(StateStoreError) -> Bool { try value(databases.pools, try coder.key(user)) != nil }

  /// The revision of the user's newest list, or what a user without one goes on from. The next list needs a higher one.
  public final func revision(of user: String) throws(StateStoreError) -> UInt64 {
    let key = try coder.key(user)
    guard let bytes = try value(databases.pools, key) else { return try counters().revisionFloor }
    return try PoolRecord.revision(bytes, user: user, key: key)
  }

  /// The number of an item, if it was ever seen.
  public func itemNumber(of id: String) throws(StateStoreError) -> ItemNumber? {
    let key = try coder.key(id)
    guard let bytes = try value(databases.itemNumbers, key) else { return nil }
    var reader = RecordReader(bytes)
    try ExternalIDCoder.checkIdentity(id, key: key, from: &reader)
    guard reader.remaining == 4 else { throw RecordReader.damaged }
    return ItemNumber(rawValue: try reader.littleEndian(UInt32.self))
  }

  /// An item by its number.
  public final func item(_ number: ItemNumber) throws(StateStoreError) -> CatalogueItem? {
    try value(databases.items, [UInt8](bigEndian: number.rawValue))
      .map { (bytes) throws(StateStoreError) in try CatalogueItem(bytes, number: number) }
  }

  /// An item by its external id.
  public final func item(id: String) throws(StateStoreError) -> CatalogueItem? {
    guard let number = try itemNumber(of: id) else { return nil }
    return try item(number)
  }

  /// The external id of an item.
  public final func itemID(_ number: ItemNumber) throws(StateStoreError) -> String? {
    try value(databases.items, [UInt8](bigEndian: number.rawValue)).map { (bytes) throws(StateStoreError) in try CatalogueItem.id(bytes) }
  }

  /// Up to `limit` items that changed after the change `since`, each once, at its newest change, in the order of the changes.
  /// From 0 it gives the whole catalogue, retired items too. Go on from the last one's `change`.
  public final func catalogueChanges(since: UInt64, limit: Int) throws(StateStoreError) -> [CatalogueItem] {
    guard since < .max else { return [] }
    let numbers = try collect(databases.changes, from: [UInt8](bigEndian: since + 1), limit: limit) { (_, bytes) throws(StateStoreError) in
      guard let number = bytes.span.bigEndian(UInt32.self) else { throw RecordReader.damaged }
      return ItemNumber(rawValue: number)
    }
    var items: [CatalogueItem] = []
    items.reserveCapacity(numbers.count)
    for number in numbers {
      guard let item = try item(number) else { throw StateStoreError.damaged("item \(number.rawValue) changed and has no record") }
      items.append(item)
    }
    return items
  }

  /// The newest catalogue change; 0 in an empty catalogue.
  public final func lastCatalogueChange() throws(StateStoreError) -> UInt64 { try counters().nextChange - 1 }

  /// One more than the highest row ever given: the height of the model's matrices.
  public final func rowCount() throws(StateStoreError) -> Int { Int(try counters().nextRow) }

  /// The names of the interaction types; a type's code is its index.
  public func interactionTypes() throws(StateStoreError) -> [String] {
    try collect(databases.interactionTypes, limit: 256) { (_, bytes) throws(StateStoreError) in
      guard let name = String(validating: bytes, as: UTF8.self) else { throw RecordReader.damaged }
      return name
    }
  }

  /// Up to `limit` journal entries with a sequence of at least `from`, in order.
  public final func readJournal(from sequence: UInt64, limit: Int) throws(StateStoreError) -> [JournalRecord] {
    try collect(databases.journal, from: [UInt8](bigEndian: sequence), limit: limit) { (key, bytes) throws(StateStoreError) in
      guard let sequence = key.span.bigEndian(UInt64.self) else { throw RecordReader.damaged }
      return JournalRecord(sequence: sequence, entry: try JournalCoding.decode(bytes))
    }
  }

  /// One journal entry; nil when it was trimmed, erased or not yet written.
  public final func journalEntry(at sequence: UInt64) throws(StateStoreError) -> JournalEntry? {
    try value(databases.journal, [UInt8](bigEndian: sequence)).map { (bytes) throws(StateStoreError) in try JournalCoding.decode(bytes) }
  }

  /// The first and the last sequence in the journal; nil when it is empty.
  public final func journalBounds() throws(StateStoreError) -> ClosedRange<UInt64>? {
    guard let lowest = try firstKey(databases.journal), let highest = try firstKey(databases.journal, reverse: true) else { return nil }
    guard let first = lowest.span.bigEndian(UInt64.self), let last = highest.span.bigEndian(UInt64.self), first <= last else {
      throw RecordReader.damaged
    }
    return first...last
  }

  /// The sequence that the next journal entry gets.
  public func nextJournalSequence() throws(StateStoreError) -> UInt64 { try counters().nextJournalSequence }

  /// Up to `limit` stale users who are due before a time (ms since 1970), the longest due first.
  public final func staleUsers(limit: Int, dueBefore time: Int64) throws(StateStoreError) -> [StaleUser] {
    try settle()
    let bound = StaleMark.dueKey(time, userKey: [])
    var userKeys: [[UInt8]] = []
    if limit > 0 {
      try scan(databases.staleByDueTime) { key, _ in
        let key = key.copied()
        guard key.lexicographicallyPrecedes(bound) else { return false }
        userKeys.append(Array(key.dropFirst(8)))
        return userKeys.count < limit
      }
    }
    var users: [StaleUser] = []
    users.reserveCapacity(userKeys.count)
    for key in userKeys {
      guard let bytes = try value(databases.stale, key) else { throw StateStoreError.damaged("a stale mark is in the index only") }
      users.append(try StaleMark.withUser(bytes, key: key))
    }
    return users
  }

  /// The mark of a user; nil when their list is up to date.
  public final func staleMark(of user: String) throws(StateStoreError) -> StaleMark? {
    try settle()
    let key = try coder.key(user)
    return try value(databases.stale, key).map { (bytes) throws(StateStoreError) in try StaleMark(bytes, user: user, key: key) }
  }

  /// When the first stale user is due (ms since 1970); nil when none is.
  ///
  /// - Parameter time: only those are looked at who are due later than this.
  public final func nextDueTime(after time: Int64) throws(StateStoreError) -> Int64? {
    try settle()
    var key: [UInt8]?
    try scan(databases.staleByDueTime, from: StaleMark.dueKey(time + 1, userKey: [])) { found, _ in
      key = found.copied()
      return false
    }
    return try dueTime(key)
  }

  /// The latest time, in ms since 1970, at which a user is due; nil when nobody is.
  public final func latestDueTime() throws(StateStoreError) -> Int64? {
    try settle()
    return try dueTime(firstKey(databases.staleByDueTime, reverse: true))
  }

  private func dueTime(_ key: [UInt8]?) throws(StateStoreError) -> Int64? {
    guard let key else { return nil }
    guard let time = key.span.bigEndian(UInt64.self) else { throw RecordReader.damaged }
    return Int64(bitPattern: time ^ (1 << 63))
  }

  /// The next offset to read of each partition.
  public final func offsets() throws(StateStoreError) -> [PartitionOffset] {
    try collect(databases.offsets, limit: .max) { (key, bytes) throws(StateStoreError) in
      guard let partition = key.span.bigEndian(UInt32.self, at: key.count - 4), let next = bytes.span.bigEndian(UInt64.self),
        let topic = String(validating: key.dropLast(4), as: UTF8.self)
      else { throw RecordReader.damaged }
      return PartitionOffset(topic: topic, partition: Int32(bitPattern: partition), next: Int64(bitPattern: next))
    }
  }

  /// The registered checkpoints, oldest model version first.
  public final func checkpoints() throws(StateStoreError) -> [CheckpointEntry] {
    try collect(databases.checkpoints, limit: .max) { (_, bytes) throws(StateStoreError) in try CheckpointEntry(bytes) }
  }

  func counters() throws(StateStoreError) -> Counters {
    guard let bytes = try value(databases.meta, MetaKey.counters) else { return Counters() }
    return try Counters(bytes)
  }
}

/// The offset of a partition from which consumption goes on.
public struct PartitionOffset: Hashable, Sendable {
  public var topic: String
  public var partition: Int32
  public var next: Int64

  public init(topic: String, partition: Int32, next: Int64) {
    self.topic = topic
    self.partition = partition
    self.next = next
  }

  var key: [UInt8] {
    var key = Array(topic.utf8)
    key.appendBigEndian(UInt32(bitPattern: partition))
    return key
  }
}

/// LMDB's calls with the store's error.
extension ReadTransaction {
  final func value(_ database: Database, _ key: [UInt8]) throws(StateStoreError) -> [UInt8]? {
    do throws(LMDBError) { return try lmdb.bytes(database, key) } catch { throw StateStoreError(error) }
  }

  final func count(_ database: Database) throws(StateStoreError) -> Int {
    do throws(LMDBError) { return try lmdb.count(database) } catch { throw StateStoreError(error) }
  }

  final func firstKey(_ database: Database, reverse: Bool = false) throws(StateStoreError) -> [UInt8]? {
    do throws(LMDBError) { return try lmdb.firstKey(database, reverse: reverse) } catch { throw StateStoreError(error) }
  }

  final func scan(
    _ database: Database, from: [UInt8] = [], _ body: (Span<UInt8>, Span<UInt8>) -> Bool
  ) throws(StateStoreError) {
    do throws(LMDBError) { try lmdb.scan(database, from: from, body) } catch { throw StateStoreError(error) }
  }

  /// What `decode` makes of up to `limit` records from a key on.
  final func collect<Element>(
    _ database: Database, from: [UInt8] = [], limit: Int, _ decode: ([UInt8], [UInt8]) throws(StateStoreError) -> Element
  ) throws(StateStoreError) -> [Element] {
    guard limit > 0 else { return [] }
    var elements: [Element] = []
    var failure: StateStoreError?
    try scan(database, from: from) { key, value in
      do throws(StateStoreError) {
        elements.append(try decode(key.copied(), value.copied()))
        return elements.count < limit
      } catch {
        failure = error
        return false
      }
    }
    if let failure { throw failure }
    return elements
  }
}
