import LMDB

/// The databases of the store, by what they hold. Numbers in keys are big-endian, so that they are in order.
struct Databases: Sendable {
  /// `schema` -> version, `counters` -> `Counters`.
  let meta: Database
  /// User's key -> `SequenceRecord`.
  let sequences: Database
  /// Sequence (u64) -> `JournalCoding`.
  let journal: Database
  /// User's key -> `PoolRecord`.
  let pools: Database
  /// User's key -> `StaleMark`.
  let stale: Database
  /// Due time and user's key -> nothing.
  let staleByDueTime: Database
  /// Item's key -> id where the key is a hash, number (u32).
  let itemNumbers: Database
  /// Number (u32) -> `CatalogueItem`.
  let items: Database
  /// Change (u64) -> number (u32), one entry an item.
  let changes: Database
  /// Row (u32) -> nothing.
  let freeRows: Database
  /// Day of the newest interaction (u32) and number (u32) -> nothing, one entry for each undescribed item that has a row.
  let itemsByUse: Database
  /// Slot (u32) -> `AdmissionCount`.
  let admissions: Database
  /// Code (u8) -> name.
  let interactionTypes: Database
  /// Topic and partition (u32) -> next offset (i64).
  let offsets: Database
  /// Model version (u64) -> `CheckpointEntry`.
  let checkpoints: Database

  private static let names = [
    "meta", "sequences", "journal", "pools", "stale", "stale_by_due_time", "item_numbers", "items", "changes", "free_rows",
    "interaction_types", "offsets", "checkpoints", "items_by_use", "admissions",
  ]
  static let metaName = "meta"

  init(_ environment: Environment, creating: Bool) throws(LMDBError) {
    let databases = try environment.openDatabases(Self.names, creating: creating)
    meta = databases[0]
    sequences = databases[1]
    journal = databases[2]
    pools = databases[3]
    stale = databases[4]
    staleByDueTime = databases[5]
    itemNumbers = databases[6]
    items = databases[7]
    changes = databases[8]
    freeRows = databases[9]
    interactionTypes = databases[10]
    offsets = databases[11]
    checkpoints = databases[12]
    itemsByUse = databases[13]
    admissions = databases[14]
  }
}

/// The version of the layout, and how to bring an older store up to it.
package struct Schema: Sendable {
  package typealias Step = @Sendable (WriteTransaction) throws(StateStoreError) -> Void

  package let version: UInt32
  /// By the version that the step starts from; each leads to the next.
  package let migrations: [UInt32: Step]

  package init(version: UInt32, migrations: [UInt32: Step]) {
    self.version = version
    self.migrations = migrations
  }

  package static let current = Schema(
    version: 3,
    migrations: [
      // The undescribed items in the order of their use, all of them as long unused.
      1: { (transaction) throws(StateStoreError) in try transaction.listUndescribedItems() },
      // Sequences, pools and contexts by the bit.
      2: { (transaction) throws(StateStoreError) in try transaction.packRecords() },
    ])
}

/// The store's running numbers, under one key, so that a transaction reads and writes them once.
struct Counters: Hashable, Sendable {
  private static let version: UInt8 = 1

  var nextItem: UInt32 = 1
  /// Also the number of rows that the model needs.
  var nextRow: UInt32 = 0
  var nextJournalSequence: UInt64 = 1
  var nextChange: UInt64 = 1
  /// The highest revision of any forgotten user. A user without a pool goes on from here, so that one who comes back
  /// gets a higher revision than before, and nothing about them had to be kept.
  var revisionFloor: UInt64 = 0

  init() {}

  init(_ bytes: [UInt8]) throws(StateStoreError) {
    var reader = RecordReader(bytes)
    try reader.version(Self.version)
    nextItem = try reader.varint(as: UInt32.self)
    nextRow = try reader.varint(as: UInt32.self)
    nextJournalSequence = try reader.varint()
    nextChange = try reader.varint()
    revisionFloor = try reader.varint()
    try reader.end()
    guard nextItem > 0, nextJournalSequence > 0, nextChange > 0 else { throw RecordReader.damaged }
  }

  func encode(to record: inout [UInt8]) {
    record.append(Self.version)
    record.appendVarint(UInt64(nextItem))
    record.appendVarint(UInt64(nextRow))
    record.appendVarint(nextJournalSequence)
    record.appendVarint(nextChange)
    record.appendVarint(revisionFloor)
  }
}

/// The keys of `meta`.
enum MetaKey {
  static let schema = Array("schema".utf8)
  static let counters = Array("counters".utf8)
  /// `RevisionReserve`; missing before the first publisher.
  static let revisions = Array("revisions".utf8)
}

/// Which revisions lists may have whose users' pools do not say so, see `StateStore.beginPublishing()`.
struct RevisionReserve: Hashable, Sendable {
  /// Up to here they were given, or may have been.
  var floor: UInt64 = 0
  /// Up to here they may be given; never below the floor.
  var ceiling: UInt64 = 0
}

extension ReadTransaction {
  func revisionReserve() throws(StateStoreError) -> RevisionReserve {
    guard let bytes = try value(databases.meta, MetaKey.revisions) else { return RevisionReserve() }
    guard let floor = bytes.span.bigEndian(UInt64.self), let ceiling = bytes.span.bigEndian(UInt64.self, at: 8), floor <= ceiling else {
      throw RecordReader.damaged
    }
    return RevisionReserve(floor: floor, ceiling: ceiling)
  }
}

extension WriteTransaction {
  func setRevisionReserve(_ reserve: RevisionReserve) throws(StateStoreError) {
    try put(databases.meta, MetaKey.revisions, [UInt8](bigEndian: reserve.floor) + [UInt8](bigEndian: reserve.ceiling))
  }
}
