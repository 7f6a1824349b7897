import CLMDB

/// A named database inside an environment. Only a number: it belongs to the environment that opened it.
public struct Database: Hashable, Sendable {
  let number: MDB_dbi

  package init(number: MDB_dbi) {
    self.number = number
  }
}

/// One consistent view of the environment. It ends with the closure that it was given to; a handle that outlives it only throws
/// `.badTransaction`.
///
/// Keys and values are handed out as spans over LMDB's pages, without a copy, inside closures. Do not write inside such a closure.
public class ReadTransaction {
  private var handle: OpaquePointer?

  init(_ handle: OpaquePointer?) {
    self.handle = handle
  }

  var isOpen: Bool { handle != nil }

  @inline(__always)
  final func pointer() throws(LMDBError) -> OpaquePointer {
    guard let handle else { throw LMDBError(.badTransaction, "the transaction has ended") }
    return handle
  }

  /// Ends the transaction; a writer's changes are dropped.
  public final func abort() {
    if let handle { mdb_txn_abort(handle) }
    handle = nil
  }

  final func commit() throws(LMDBError) {
    let handle = try pointer()
    // LMDB frees the transaction even when the commit fails.
    self.handle = nil
    try check(mdb_txn_commit(handle), "committing")
  }

  /// How many keys the database holds.
  public final func count(_ database: Database) throws(LMDBError) -> Int { try statistics(database).ms_entries }

  /// What the pages of the database's keys and values take, in bytes.
  public final func size(_ database: Database) throws(LMDBError) -> Int {
    let statistics = try statistics(database)
    return (statistics.ms_leaf_pages + statistics.ms_overflow_pages) * Int(statistics.ms_psize)
  }

  private func statistics(_ database: Database) throws(LMDBError) -> MDB_stat {
    var statistics = MDB_stat()
    try check(mdb_stat(try pointer(), database.number, &statistics), "counting keys and pages")
    return statistics
  }

  /// The value's bytes, lent by LMDB until the next write or the transaction's end.
  @usableFromInline
  final func lookUp(_ database: Database, _ key: [UInt8]) throws(LMDBError) -> UnsafeBufferPointer<UInt8>? {
    let transaction = try pointer()
    var value = MDB_val()
    let status = key.withUnsafeBufferPointer { bytes in
      var key = MDB_val(bytes)
      return mdb_get(transaction, database.number, &key, &value)
    }
    if status == MDB_NOTFOUND { return nil }
    try check(status, "reading")
    return value.bytes
  }

  /// What `body` makes of the value of `key`, or nil when there is none.
  @inlinable
  public final func get<Result>(
    _ database: Database, _ key: [UInt8], _ body: (Span<UInt8>) -> Result
  ) throws(LMDBError) -> Result? {
    guard let bytes = try lookUp(database, key) else { return nil }
    return body(Span(_unsafeElements: bytes))
  }

  /// A copy of the value of `key`, or nil when there is none.
  public final func bytes(_ database: Database, _ key: [UInt8]) throws(LMDBError) -> [UInt8]? {
    try lookUp(database, key).map { Array($0) }
  }

  /// Goes over the keys in order until `body` returns false.
  ///
  /// - Parameters:
  ///   - from: Where to begin: the first key at or after it, or in reverse the last key at or before it. Empty: at the end of the database.
  ///   - prefix: Stops at the first key without it. Where `from` is empty, begins at its first (or last) key.
  ///   - body: Gets the key and the value.
  public final func scan(
    _ database: Database, from: [UInt8] = [], prefix: [UInt8] = [], reverse: Bool = false,
    _ body: (Span<UInt8>, Span<UInt8>) -> Bool
  ) throws(LMDBError) {
    let cursor = try Cursor(try pointer(), database)
    var found =
      reverse
      ? try cursor.seek(atOrBefore: from.isEmpty ? prefix.successorOfPrefix : from, excluding: from.isEmpty && !prefix.isEmpty)
      : try cursor.seek(atOrAfter: from.isEmpty ? prefix : from)
    while found {
      let key = Span(_unsafeElements: cursor.key.bytes)
      guard key.starts(with: prefix) else { return }
      guard body(key, Span(_unsafeElements: cursor.value.bytes)) else { return }
      found = try cursor.move(reverse ? MDB_PREV : MDB_NEXT)
    }
  }

  /// The lowest key, or the highest in reverse; nil in an empty database.
  public final func firstKey(_ database: Database, reverse: Bool = false) throws(LMDBError) -> [UInt8]? {
    let cursor = try Cursor(try pointer(), database)
    return try cursor.move(reverse ? MDB_LAST : MDB_FIRST) ? Array(cursor.key.bytes) : nil
  }
}

/// The one transaction that may change the environment.
public final class WriteTransaction: ReadTransaction {
  /// Stores `value` under `key`, in place of what was there.
  ///
  /// - Parameter append: The key comes after all others; faster, and packs pages fully. Throws `.keyExists` when it does not.
  public func put(
    _ database: Database, _ key: [UInt8], _ value: [UInt8], append: Bool = false
  ) throws(LMDBError) {
    let transaction = try pointer()
    let status = key.withUnsafeBufferPointer { keyBytes in
      value.withUnsafeBufferPointer { valueBytes in
        var key = MDB_val(keyBytes)
        var value = MDB_val(valueBytes)
        return mdb_put(transaction, database.number, &key, &value, append ? UInt32(MDB_APPEND) : 0)
      }
    }
    try check(status, "writing")
  }

  /// A place in the database, for keys in rising order.
  public func orderedAccess(_ database: Database) throws(LMDBError) -> OrderedAccess {
    try OrderedAccess(self, database)
  }

  /// Removes `key`; returns whether it was there.
  @discardableResult
  public func delete(_ database: Database, _ key: [UInt8]) throws(LMDBError) -> Bool {
    let transaction = try pointer()
    let status = key.withUnsafeBufferPointer { bytes in
      var key = MDB_val(bytes)
      return mdb_del(transaction, database.number, &key, nil)
    }
    if status == MDB_NOTFOUND { return false }
    try check(status, "deleting")
    return true
  }

  /// Removes up to `limit` keys in `from ..< to`, lowest first; an empty bound is open. Returns how many.
  @discardableResult
  public func deleteRange(
    _ database: Database, from: [UInt8] = [], to: [UInt8] = [], limit: Int = .max
  ) throws(LMDBError) -> Int {
    let cursor = try Cursor(try pointer(), database)
    var removed = 0
    var found = try cursor.seek(atOrAfter: from)
    while found, removed < limit {
      if !to.isEmpty, !Span(_unsafeElements: cursor.key.bytes).precedes(to) { break }
      try cursor.delete()
      removed += 1
      // After a deletion the cursor stands on what followed, which MDB_NEXT then gives.
      found = try cursor.move(MDB_NEXT)
    }
    return removed
  }
}

/// Reads and writes at a place that is kept: a key on the page of the one before is found without going down from the root, so that keys
/// in rising order cost less. It is to end before its transaction; afterwards it only throws `.badTransaction`.
public struct OrderedAccess: ~Copyable {
  private let transaction: WriteTransaction
  private let cursor: Cursor

  fileprivate init(_ transaction: WriteTransaction, _ database: Database) throws(LMDBError) {
    self.transaction = transaction
    cursor = try Cursor(try transaction.pointer(), database, closingWith: transaction)
  }

  /// A copy of the value of `key`, or nil when there is none.
  public func bytes(_ key: [UInt8]) throws(LMDBError) -> [UInt8]? {
    _ = try transaction.pointer()
    return try cursor.seek(to: key) ? Array(cursor.value.bytes) : nil
  }

  /// Stores `value` under `key`, in place of what was there.
  public func put(_ key: [UInt8], _ value: [UInt8]) throws(LMDBError) {
    _ = try transaction.pointer()
    try cursor.put(key, value)
  }
}

/// A position in a database. It must close before its transaction ends, so it never leaves the function that made it, unless it knows that
/// transaction.
struct Cursor: ~Copyable {
  private let handle: OpaquePointer
  /// With the end of a writer LMDB closes its cursors.
  private let writer: WriteTransaction?
  private let storage = UnsafeMutablePointer<MDB_val>.allocate(capacity: 2)

  var key: MDB_val { storage[0] }
  var value: MDB_val { storage[1] }

  init(_ transaction: OpaquePointer, _ database: Database, closingWith writer: WriteTransaction? = nil) throws(LMDBError) {
    var cursor: OpaquePointer?
    let status = mdb_cursor_open(transaction, database.number, &cursor)
    guard status == MDB_SUCCESS, let cursor else {
      storage.deallocate()
      throw LMDBError(status, "opening a cursor")
    }
    self.handle = cursor
    self.writer = writer
    storage.initialize(repeating: MDB_val(), count: 2)
  }

  deinit {
    if writer?.isOpen ?? true { mdb_cursor_close(handle) }
    storage.deallocate()
  }

  func move(_ operation: MDB_cursor_op) throws(LMDBError) -> Bool {
    let status = mdb_cursor_get(handle, storage, storage + 1, operation)
    if status == MDB_NOTFOUND { return false }
    try check(status, "moving a cursor")
    return true
  }

  func seek(to target: [UInt8]) throws(LMDBError) -> Bool {
    try seek(target, MDB_SET_KEY)
  }

  func put(_ key: [UInt8], _ value: [UInt8]) throws(LMDBError) {
    let status = key.withUnsafeBufferPointer { keyBytes in
      value.withUnsafeBufferPointer { valueBytes in
        var key = MDB_val(keyBytes)
        var value = MDB_val(valueBytes)
        return mdb_cursor_put(handle, &key, &value, 0)
      }
    }
    try check(status, "writing")
  }

  func seek(atOrAfter target: [UInt8]) throws(LMDBError) -> Bool {
    target.isEmpty ? try move(MDB_FIRST) : try seek(target, MDB_SET_RANGE)
  }

  private func seek(_ target: [UInt8], _ operation: MDB_cursor_op) throws(LMDBError) -> Bool {
    let status = target.withUnsafeBufferPointer { bytes in
      storage[0] = MDB_val(bytes)
      return mdb_cursor_get(handle, storage, storage + 1, operation)
    }
    if status == MDB_NOTFOUND { return false }
    try check(status, "moving a cursor")
    return true
  }

  func seek(atOrBefore target: [UInt8], excluding: Bool) throws(LMDBError) -> Bool {
    guard !target.isEmpty, try seek(atOrAfter: target) else { return try move(MDB_LAST) }
    if !excluding, Span(_unsafeElements: key.bytes).elementsEqual(target) { return true }
    return try move(MDB_PREV)
  }

  func delete() throws(LMDBError) {
    try check(mdb_cursor_del(handle, 0), "deleting")
  }
}

extension MDB_val {
  /// LMDB takes keys and values by mutable pointer and never writes through it.
  fileprivate init(_ bytes: UnsafeBufferPointer<UInt8>) {
    self.init(mv_size: bytes.count, mv_data: UnsafeMutableRawPointer(mutating: UnsafeRawPointer(bytes.baseAddress)))
  }

  fileprivate var bytes: UnsafeBufferPointer<UInt8> {
    UnsafeBufferPointer(start: mv_data?.assumingMemoryBound(to: UInt8.self), count: mv_size)
  }
}

extension [UInt8] {
  /// The lowest key above every key with this prefix; empty when there is none.
  fileprivate var successorOfPrefix: [UInt8] {
    var bytes = self
    while let last = bytes.last {
      if last < 0xFF {
        bytes[bytes.count - 1] = last + 1
        return bytes
      }
      bytes.removeLast()
    }
    return bytes
  }
}

extension Span<UInt8> {
  /// A copy of the bytes.
  public func copied() -> [UInt8] {
    withUnsafeBufferPointer { Array($0) }
  }

  fileprivate func starts(with prefix: [UInt8]) -> Bool {
    withUnsafeBufferPointer { $0.starts(with: prefix) }
  }

  fileprivate func elementsEqual(_ other: [UInt8]) -> Bool {
    withUnsafeBufferPointer { $0.elementsEqual(other) }
  }

  fileprivate func precedes(_ other: [UInt8]) -> Bool {
    withUnsafeBufferPointer { $0.lexicographicallyPrecedes(other) }
  }
}
