import CLMDB

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// An LMDB environment: one folder with `data.mdb` and `lock.mdb`, opened once in a process.
///
/// LMDB's rules, and who keeps them here:
/// - one open a process, one writing process: `StoreLock`;
/// - no `MDB_WRITEMAP` (a full disk would be SIGBUS), no `MDB_NOSYNC` (a power cut could corrupt), `MDB_NOTLS` always (a reader may move
///   between threads);
/// - `MDB_NOMETASYNC`: a commit waits for the disk once instead of twice, and a power cut may undo the last one, but none before it, until
///   ``sync()``;
/// - the map grows only with no transaction open in this process: `gate`;
/// - a write transaction stays on one thread: it lives inside a synchronous closure;
/// - not over a fork, not on a network file system: the caller.
///
/// Transactions do not nest on one thread.
///
/// `@unchecked Sendable`: `MDB_env` may be used from any thread with `MDB_NOTLS`; the only call that may not run beside others,
/// `mdb_env_set_mapsize`, is behind `gate`.
public final class Environment: @unchecked Sendable {
  public struct Options: Hashable, Sendable {
    /// The size of the map in bytes, which is the limit of what the environment can hold. Sparse on disk.
    public var mapSize: Int
    public var maximumDatabases: Int
    public var maximumReaders: Int
    /// Opens an existing environment beside its writer, which may be another process.
    public var isReadOnly: Bool

    public init(mapSize: Int = 1 << 30, maximumDatabases: Int = 32, maximumReaders: Int = 126, isReadOnly: Bool = false) {
      self.mapSize = mapSize
      self.maximumDatabases = maximumDatabases
      self.maximumReaders = maximumReaders
      self.isReadOnly = isReadOnly
    }
  }

  /// How full the environment is, in bytes.
  public struct Usage: Hashable, Sendable {
    /// The limit: what the map can hold.
    public let mapSize: Int
    /// Up to the last page ever used: the least that the data file needs.
    public let usedBytes: Int
    /// Pages among them that are free to be used again.
    public let freeBytes: Int
    /// Write transactions that were ever committed.
    public let commitCount: Int
  }

  public let path: String
  public let isReadOnly: Bool
  let handle: OpaquePointer
  private let gate = SharedGate()
  private let lock: StoreLock

  /// Opens the environment in the folder `path`; a writer makes the folder (0700) and the files (0600) when they are missing.
  ///
  /// Throws `.inUse` when another process writes, `.alreadyOpen` when this process has it open, `.symbolicLink`, `.corrupted`, or what
  /// the system said.
  public init(path: String, options: Options = Options()) throws(LMDBError) {
    if !options.isReadOnly, mkdir(path, 0o700) != 0, errno != EEXIST { throw LMDBError(errno, "making \(path)") }
    let lock = try StoreLock(folder: path, isWriter: !options.isReadOnly)
    for name in ["data.mdb", "lock.mdb"] {
      var status = stat()
      if lstat("\(path)/\(name)", &status) == 0, status.st_mode & S_IFMT == S_IFLNK {
        throw LMDBError(.symbolicLink, "\(path)/\(name) is a symbolic link")
      }
    }
    var environment: OpaquePointer?
    try check(mdb_env_create(&environment), "creating an environment")
    guard let environment else { throw LMDBError(.other, "mdb_env_create gave no environment") }
    DamagedFile.report(for: environment)
    do throws(LMDBError) {
      try check(mdb_env_set_maxdbs(environment, UInt32(options.maximumDatabases)), "setting the number of databases")
      try check(mdb_env_set_maxreaders(environment, UInt32(options.maximumReaders)), "setting the number of readers")
      // A reader takes the size that the writer has stored.
      if !options.isReadOnly { try check(mdb_env_set_mapsize(environment, options.mapSize), "setting the map size") }
      let flags = UInt32(MDB_NOTLS | MDB_NOMETASYNC) | (options.isReadOnly ? UInt32(MDB_RDONLY) : 0)
      try check(mdb_env_open(environment, path, flags, 0o600), "opening \(path)")
    } catch {
      mdb_env_close(environment)
      throw error
    }
    self.path = path
    self.isReadOnly = options.isReadOnly
    self.handle = environment
    self.lock = lock
  }

  deinit {
    if !isReadOnly { mdb_env_sync(handle, 1) }
    mdb_env_close(handle)
  }

  /// Opens named databases; a writer creates those that are missing unless told not to. Throws `.noDatabase` otherwise.
  public func openDatabases(_ names: [String], creating: Bool = true) throws(LMDBError) -> [Database] {
    let flags = isReadOnly || !creating ? 0 : UInt32(MDB_CREATE)
    func open(_ transaction: ReadTransaction) throws(LMDBError) -> [Database] {
      var databases: [Database] = []
      for name in names {
        var number: MDB_dbi = 0
        try check(mdb_dbi_open(transaction.pointer(), name, flags, &number), "opening the database \(name)")
        databases.append(Database(number: number))
      }
      return databases
    }
    if !isReadOnly { return try write { (transaction) throws(LMDBError) in try open(transaction) } }
    return try read { (transaction) throws(LMDBError) in
      let databases = try open(transaction)
      // Only a committed transaction leaves its handles open.
      try transaction.commit()
      return databases
    }
  }

  /// A named database if it exists; changes nothing.
  public func existingDatabase(_ name: String) throws(LMDBError) -> Database? {
    try read { (transaction) throws(LMDBError) in
      var number: MDB_dbi = 0
      let status = mdb_dbi_open(try transaction.pointer(), name, 0, &number)
      if status == MDB_NOTFOUND { return nil }
      try check(status, "opening the database \(name)")
      try transaction.commit()
      return Database(number: number)
    }
  }

  /// Runs `body` on one consistent view. Keep it short: a reader keeps every page of its view from being used again.
  public func read<Result>(_ body: (ReadTransaction) throws(LMDBError) -> Result) throws(LMDBError) -> Result {
    gate.enterShared()
    defer { gate.leave() }
    let transaction = try begin()
    defer { transaction.abort() }
    return try body(transaction)
  }

  /// Runs `body` as the one writer and commits, unless `body` throws or called `abort()`. The commit is on disk when this returns.
  ///
  /// Throws `.mapFull` when there is no room: nothing was written; `grow(to:)`, then run it again.
  @discardableResult
  public func write<Result>(_ body: (WriteTransaction) throws(LMDBError) -> Result) throws(LMDBError) -> Result {
    gate.enterShared()
    defer { gate.leave() }
    var pointer: OpaquePointer?
    try check(mdb_txn_begin(handle, nil, 0, &pointer), "beginning a write transaction")
    let transaction = WriteTransaction(pointer)
    defer { transaction.abort() }
    let result = try body(transaction)
    if transaction.isOpen { try commit(transaction) }
    return result
  }

  /// A write that a full disk cuts short is an EIO to LMDB.
  private func commit(_ transaction: WriteTransaction) throws(LMDBError) {
    do throws(LMDBError) {
      try transaction.commit()
    } catch {
      var room = statvfs()
      if error.status == EIO, statvfs(path, &room) == 0, room.f_bavail * room.f_frsize < 1 << 20 { throw LMDBError(ENOSPC, error.context) }
      throw error
    }
  }

  /// The limit of what the environment can hold now, in bytes.
  public func mapSize() throws(LMDBError) -> Int {
    var info = MDB_envinfo()
    try check(mdb_env_info(handle, &info), "reading the map size")
    return info.me_mapsize
  }

  /// Makes the map smaller again, but not than what is used; waits as `grow` does.
  public func shrink(to mapSize: Int) throws(LMDBError) {
    gate.enterExclusive()
    defer { gate.leave() }
    var info = MDB_envinfo()
    var statistics = MDB_stat()
    try check(mdb_env_info(handle, &info), "reading the map size")
    try check(mdb_env_stat(handle, &statistics), "reading the map size")
    let mapSize = max(mapSize, (info.me_last_pgno + 1) * Int(statistics.ms_psize))
    guard mapSize < info.me_mapsize else { return }
    try check(mdb_env_set_mapsize(handle, mapSize), "shrinking the map to \(mapSize) bytes")
  }

  /// Makes the map larger, waiting for this process's transactions to end. Not to be called inside one. A smaller size than now does
  /// nothing.
  public func grow(to mapSize: Int) throws(LMDBError) {
    gate.enterExclusive()
    defer { gate.leave() }
    guard mapSize > (try self.mapSize()) else { return }
    try check(mdb_env_set_mapsize(handle, mapSize), "growing the map to \(mapSize) bytes")
  }

  /// Sets free the slots of readers whose process died, which would keep pages from being used again. Returns how many.
  @discardableResult
  public func clearDeadReaders() throws(LMDBError) -> Int {
    var count: Int32 = 0
    try check(mdb_reader_check(handle, &count), "checking the readers")
    return Int(count)
  }

  /// How full the environment is.
  public func usage() throws(LMDBError) -> Usage {
    try read { (transaction) throws(LMDBError) in
      var info = MDB_envinfo()
      var statistics = MDB_stat()
      try check(mdb_env_info(handle, &info), "reading the usage")
      try check(mdb_env_stat(handle, &statistics), "reading the usage")
      var freePages = 0
      // Database 0 is LMDB's list of free pages; each value begins with how many it names.
      try transaction.scan(Database(number: 0)) { _, value in
        if value.count >= MemoryLayout<Int>.size { freePages += value.bytes.unsafeLoadUnaligned(as: Int.self) }
        return true
      }
      let pageSize = Int(statistics.ms_psize)
      return Usage(mapSize: info.me_mapsize, usedBytes: (info.me_last_pgno + 1) * pageSize, freeBytes: freePages * pageSize,
        commitCount: info.me_last_txnid)
    }
  }

  /// From here on no power cut undoes what is committed.
  public func sync() throws(LMDBError) { try check(mdb_env_sync(handle, 1), "syncing \(path)") }

  /// Writes a compacted copy, consistent while the store is in use, to a new file (0600) and syncs it. Throws when the file exists.
  public func copyCompact(toFile file: String) throws(LMDBError) {
    gate.enterShared()
    defer { gate.leave() }
    let descriptor = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else { throw LMDBError(errno, "making \(file)") }
    defer { close(descriptor) }
    do throws(LMDBError) {
      try check(mdb_env_copyfd2(handle, descriptor, UInt32(MDB_CP_COMPACT)), "copying to \(file)")
      if fsync(descriptor) != 0 { throw LMDBError(errno, "syncing \(file)") }
    } catch {
      unlink(file)
      throw error
    }
  }

  private func begin() throws(LMDBError) -> ReadTransaction {
    while true {
      var pointer: OpaquePointer?
      let status = mdb_txn_begin(handle, nil, UInt32(MDB_RDONLY), &pointer)
      if status == MDB_MAP_RESIZED {
        // The writing process grew the map: size 0 takes its size over.
        gate.leave()
        gate.enterExclusive()
        let resized = mdb_env_set_mapsize(handle, 0)
        gate.leave()
        gate.enterShared()
        try check(resized, "taking over the new map size")
        continue
      }
      try check(status, "beginning a read transaction")
      return ReadTransaction(pointer)
    }
  }
}

/// Any number of transactions, or one change of the map's size. Readers go first, so that a growing map cannot dead-lock two of them.
///
/// `@unchecked Sendable`: the lock is the kernel's and lives at a fixed address.
private final class SharedGate: @unchecked Sendable {
  private let lock = UnsafeMutablePointer<pthread_rwlock_t>.allocate(capacity: 1)

  init() {
    let status = pthread_rwlock_init(lock, nil)
    precondition(status == 0, "pthread_rwlock_init failed")
  }

  deinit {
    pthread_rwlock_destroy(lock)
    lock.deallocate()
  }

  func enterShared() {
    let status = pthread_rwlock_rdlock(lock)
    precondition(status == 0, "the gate was entered in a way that would never open")
  }

  func enterExclusive() {
    let status = pthread_rwlock_wrlock(lock)
    precondition(status == 0, "the map cannot grow inside a transaction")
  }

  func leave() {
    pthread_rwlock_unlock(lock)
  }
}
