import LMDB
import Synchronization

/// What the daemon knows, kept in LMDB: user sequences, the journal, candidate pools, the catalogue, stale marks, offsets and the
/// checkpoint registry.
///
/// One process writes; others may open it read-only beside it. Ids are compared by their UTF-8 bytes.
/// The closures of `read` and `write` are synchronous: a transaction stays on its thread and crosses no `await`. They do not nest.
public final class StateStore: Sendable {
  public struct Options: Sendable {
    /// How large the store may be at first, and at most, in bytes. It grows by itself in between; the file is sparse.
    public var initialBytes: Int
    public var maximumBytes: Int
    /// How many interactions are kept for a user (the model's `L`).
    public var sequenceLength: Int
    /// How far behind a user's newest interaction one may lie, in ms.
    public var lateInteractionBound: Int64
    /// Whether an interaction of the same item, type and time as one that is kept counts once.
    public var deduplicates: Bool
    /// Most items with a row. At that number the undescribed one that was longest unused makes room.
    public var maximumItems: Int
    /// From half of ``maximumItems`` on, an undescribed item gets a row at so many interactions.
    public var admissionInteractions: Int
    /// Opens an existing store beside its writer, to look at it.
    public var isReadOnly: Bool
    /// Replaced by a test that needs a collision.
    package var coder: ExternalIDCoder = .sha256
    /// Replaced by a test of migrations.
    package var schema: Schema = .current

    public init(
      initialBytes: Int = 1 << 30, maximumBytes: Int = 64 << 30, sequenceLength: Int = 50,
      lateInteractionBound: Int64 = 24 * 3_600_000, deduplicates: Bool = true, maximumItems: Int = 1_000_000,
      admissionInteractions: Int = 2, isReadOnly: Bool = false
    ) {
      self.initialBytes = initialBytes
      self.maximumBytes = maximumBytes
      self.sequenceLength = sequenceLength
      self.lateInteractionBound = lateInteractionBound
      self.deduplicates = deduplicates
      self.maximumItems = maximumItems
      self.admissionInteractions = admissionInteractions
      self.isReadOnly = isReadOnly
    }
  }

  /// What a write is for.
  public enum Purpose: Sendable {
    case normal
    /// Makes room (trims, clears, forgets): may go a sixteenth past `maximumBytes`, because freeing pages needs some first.
    case reclaiming
  }

  /// How full the store is.
  public struct Info: Hashable, Sendable {
    /// In bytes: the limit now, the pages up to the last one ever used, and those of them that are free again.
    public var mapBytes: Int
    public var usedBytes: Int
    public var freeBytes: Int
    public var users: Int
    public var journalEntries: Int
    public var pools: Int
    public var staleUsers: Int
    /// All that have a number, retired ones too.
    public var items: Int
    /// Write transactions that were ever committed.
    public var commits: Int
  }

  public let path: String
  public let options: Options
  private let environment: Environment
  private let databases: Databases
  /// What a write transaction remembers for the next one; taken by it while it runs.
  private let memory = Mutex(WriterMemory())

  /// Opens the store in the folder `path`, and makes it when it is missing.
  ///
  /// Throws `.inUse`, `.noStore` (read-only), `.newerSchema` (the store is left untouched), `.olderSchema`, `.corrupted` or `.io`.
  /// A store of an older schema is first copied to `schema-<version>.mdb` beside it, then brought up to date.
  public static func open(at path: String, options: Options = Options()) throws(StateStoreError) -> StateStore {
    try StateStore(path: path, options: options)
  }

  private init(path: String, options: Options) throws(StateStoreError) {
    do throws(LMDBError) {
      environment = try Environment(
        path: path,
        options: Environment.Options(mapSize: min(options.initialBytes, options.maximumBytes), isReadOnly: options.isReadOnly))
      if !options.isReadOnly { try environment.clearDeadReaders() }
    } catch {
      throw StateStoreError(error)
    }
    let found = try Self.schemaVersion(of: environment)
    let expected = options.schema.version
    if let found, found > expected {
      throw StateStoreError(.newerSchema, "\(path) has schema \(found); this program knows schemas up to \(expected)")
    }
    if options.isReadOnly {
      guard let found else { throw StateStoreError(.noStore, "\(path) holds no store") }
      guard found == expected else {
        throw StateStoreError(.olderSchema, "\(path) has schema \(found); start the daemon once to bring it to \(expected)")
      }
    }
    do throws(LMDBError) {
      databases = try Databases(environment, creating: found != expected)
    } catch {
      // What has this schema has all its databases, unless they were damaged.
      throw error.code == .noDatabase ? .damaged(error.description) : StateStoreError(error)
    }
    self.path = path
    self.options = options
    if found != expected { try migrate(from: found) }
  }

  /// Runs `body` on one consistent view. Copy out what is needed and end: a long reader makes the file grow.
  public func read<Result>(
    _ body: (ReadTransaction) throws(StateStoreError) -> Result
  ) throws(StateStoreError) -> Result {
    let outcome: Swift.Result<Result, StateStoreError>
    do throws(LMDBError) {
      outcome = try environment.read { (transaction) throws(LMDBError) in
        let view = ReadTransaction(transaction, databases, options)
        return Swift.Result { () throws(StateStoreError) in try body(view) }
      }
    } catch {
      throw StateStoreError(error)
    }
    return try outcome.get()
  }

  /// Runs `body` as the one writer and commits all that it did, or nothing when it throws. A power cut may undo the last commit, but none
  /// before it, until ``sync()``.
  ///
  /// When the map is full it grows and `body` runs AGAIN from the beginning: it must not have effects elsewhere that could not happen
  /// twice. Throws `.full` at `maximumBytes`; nothing was written, and the caller may go on later.
  @discardableResult
  public func write<Result>(
    _ purpose: Purpose = .normal, _ body: (WriteTransaction) throws(StateStoreError) -> Result
  ) throws(StateStoreError) -> Result {
    while true {
      do {
        let result = try attempt(body)
        if purpose == .reclaiming { try giveReserveBack() }
        return result
      } catch where error.code == .full {
        try grow(purpose)
      }
    }
  }

  /// From here on no power cut undoes what is committed.
  public func sync() throws(StateStoreError) {
    do throws(LMDBError) {
      try environment.sync()
    } catch {
      throw StateStoreError(error)
    }
  }

  /// To be called before the first list is published.
  ///
  /// A list goes out before its revision is stored, so that it does not wait for the disk. So whoever publishes first reserves revisions, and those
  /// that were reserved by a publisher that did not end by ``endPublishing(floor:)`` count as given.
  ///
  /// - Returns: the floor. Lists up to this revision may stand in the topic though no pool knows of them: the next one of any user needs a higher
  ///   revision, and a pool up to it does not say what was published last.
  public func beginPublishing() throws(StateStoreError) -> UInt64 {
    let floor = try write { (transaction) throws(StateStoreError) in
      let floor = try transaction.revisionReserve().ceiling
      try transaction.setRevisionReserve(RevisionReserve(floor: floor, ceiling: floor))
      return floor
    }
    try sync()
    return floor
  }

  /// From here on lists up to this revision may be published, even if the power is cut.
  public func reserveRevisions(upTo ceiling: UInt64) throws(StateStoreError) {
    try write { (transaction) throws(StateStoreError) in
      var reserve = try transaction.revisionReserve()
      reserve.ceiling = max(reserve.ceiling, ceiling)
      try transaction.setRevisionReserve(reserve)
    }
    try sync()
  }

  /// All revisions of published lists above the floor are in the store for good.
  ///
  /// - Parameter floor: as ``beginPublishing()`` returned it, or the highest revision of a list since of which nobody knows whether the topic has it.
  public func endPublishing(floor: UInt64) throws(StateStoreError) {
    try sync()
    try write { (transaction) throws(StateStoreError) in
      try transaction.setRevisionReserve(RevisionReserve(floor: floor, ceiling: floor))
    }
  }

  /// How full the store is.
  public func info() throws(StateStoreError) -> Info {
    let usage: Environment.Usage
    do throws(LMDBError) {
      usage = try environment.usage()
    } catch {
      throw StateStoreError(error)
    }
    return try read { (view) throws(StateStoreError) in
      Info(
        mapBytes: usage.mapSize, usedBytes: usage.usedBytes, freeBytes: usage.freeBytes, users: try view.count(databases.sequences),
        journalEntries: try view.count(databases.journal), pools: try view.count(databases.pools),
        staleUsers: try view.count(databases.stale), items: try view.count(databases.items), commits: usage.commitCount)
    }
  }

  /// Sets free what readers that died still hold; to be run now and then.
  public func clearDeadReaders() throws(StateStoreError) {
    do throws(LMDBError) {
      try environment.clearDeadReaders()
    } catch {
      throw StateStoreError(error)
    }
  }

  /// Writes a consistent, compacted copy of the store's data file to a new file (0600), while it is in use.
  public func backUp(toFile file: String) throws(StateStoreError) {
    do throws(LMDBError) {
      try environment.copyCompact(toFile: file)
    } catch {
      throw StateStoreError(error)
    }
  }

  private func attempt<Result>(
    _ body: (WriteTransaction) throws(StateStoreError) -> Result
  ) throws(StateStoreError) -> Result {
    let outcome: Swift.Result<Result, StateStoreError>
    do throws(LMDBError) {
      let (result, remembered) = try environment.write { (transaction) throws(LMDBError) in
        // Taken inside the transaction, so that LMDB's one writer is the one owner.
        let writer = WriteTransaction(
          transaction, databases, options,
          memory.withLock { memory in
            defer { memory = WriterMemory() }
            return memory
          })
        let result = Swift.Result { () throws(StateStoreError) in
          let result = try body(writer)
          try writer.settle()
          return result
        }
        if writer.isFull { throw LMDBError(.mapFull, "writing") }
        if case .failure = result { transaction.abort() }
        return (result, writer.memory)
      }
      // What an aborted transaction remembers was never stored.
      if case .success = result { memory.withLock { $0 = remembered } }
      outcome = result
    } catch {
      throw StateStoreError(error)
    }
    return try outcome.get()
  }

  private func grow(_ purpose: Purpose) throws(StateStoreError) {
    do throws(LMDBError) {
      let size = try environment.mapSize()
      let limit = options.maximumBytes + (purpose == .reclaiming ? options.maximumBytes / 16 : 0)
      guard size < limit else {
        throw LMDBError(.mapFull, "the store in \(path) has reached its maximum size of \(options.maximumBytes) bytes")
      }
      let page = 4_096
      try environment.grow(to: max(min(size * 2, limit) / page, size / page + 1) * page)
    } catch {
      throw StateStoreError(error)
    }
  }

  /// What made room went past `maximumBytes`. Left so, the map would let other writes use the reserve up, and nothing could make room again.
  private func giveReserveBack() throws(StateStoreError) {
    do throws(LMDBError) {
      if try environment.mapSize() > options.maximumBytes { try environment.shrink(to: options.maximumBytes) }
    } catch {
      throw StateStoreError(error)
    }
  }

  /// The schema version of an existing store; nil in a new one. Reads only.
  private static func schemaVersion(of environment: Environment) throws(StateStoreError) -> UInt32? {
    do throws(LMDBError) {
      guard let meta = try environment.existingDatabase(Databases.metaName) else { return nil }
      return try environment.read { (transaction) throws(LMDBError) in
        try transaction.get(meta, MetaKey.schema) { $0.bigEndian(UInt32.self) } ?? nil
      }
    } catch {
      throw StateStoreError(error)
    }
  }

  private func migrate(from found: UInt32?) throws(StateStoreError) {
    if let found {
      let copy = "\(path)/schema-\(found).mdb"
      try PosixFile.removeIfPresent(copy)
      try backUp(toFile: copy)
    }
    let schema = options.schema
    try write { (transaction) throws(StateStoreError) in
      for version in (found ?? schema.version)..<schema.version {
        guard let step = schema.migrations[version] else {
          throw StateStoreError(.olderSchema, "\(path) has schema \(version), which cannot be brought to \(schema.version)")
        }
        try step(transaction)
      }
      try transaction.put(databases.meta, MetaKey.schema, [UInt8](bigEndian: schema.version))
    }
  }
}

/// What one write transaction hands on to the next. Numbers and codes stay true: they are never taken back once they are stored.
struct WriterMemory: Sendable {
  /// Beyond this many ids the table starts anew, so that junk ids cannot fill the memory.
  static let maximumIDs = 1 << 18

  struct Item: Sendable {
    var number: ItemNumber
    /// Until this day, in days since 1970, the item's use needs no note.
    var notedUntil: UInt32?
  }

  private(set) var items: [ExactID: Item] = [:]
  /// How many users the last transaction saw that saw any: as much room may be needed again.
  var userCount = 0
  /// Code -> name; nil before it was read.
  var interactionTypes: [String]?

  mutating func remember(_ id: ExactID, _ item: Item) {
    if items.count >= Self.maximumIDs { items.removeAll(keepingCapacity: true) }
    items[id] = item
  }
}
