import CLMDB

/// Why an LMDB call failed.
public struct LMDBError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The kinds of failure that a caller may want to tell apart.
  public enum Code: String, Hashable, Sendable {
    /// The map has no free page left: grow it with no transaction open, then begin again.
    case mapFull
    /// The file system has no room left.
    case diskFull
    /// Another process has the store open for writing.
    case inUse
    /// This process has the store open already: LMDB's file locks allow one open a process.
    case alreadyOpen
    /// A file of the store is a symbolic link, which is never followed.
    case symbolicLink
    /// Another process made the map larger than the one known here.
    case mapResized
    case readersFull
    case databasesFull
    /// The transaction failed before, or has ended.
    case badTransaction
    /// An empty key, a key longer than 511 bytes, or a value longer than LMDB takes.
    case badValueSize
    /// A key to append does not come after the last one.
    case keyExists
    /// The named database does not exist.
    case noDatabase
    /// A page is damaged, or the file is no LMDB environment of this version.
    case corrupted
    /// The store, or a file in it, does not exist.
    case noSuchFile
    case permission
    /// Anything else; `status` is LMDB's or the system's number.
    case other
  }

  public let code: Code
  /// What `mdb_*` or the system returned.
  public let status: Int32
  /// What was being done.
  public let context: String

  package init(_ status: Int32, _ context: String) {
    self.code =
      switch status {
      case MDB_MAP_FULL: .mapFull
      case ENOSPC, EDQUOT: .diskFull
      case MDB_MAP_RESIZED: .mapResized
      case MDB_READERS_FULL: .readersFull
      case MDB_DBS_FULL: .databasesFull
      case MDB_BAD_TXN: .badTransaction
      case MDB_BAD_VALSIZE: .badValueSize
      case MDB_KEYEXIST: .keyExists
      case MDB_NOTFOUND: .noDatabase
      // A tree deeper than a cursor's stack, or a database of another kind than was made, comes of damaged pages alone.
      case MDB_CORRUPTED, MDB_PAGE_NOTFOUND, MDB_INVALID, MDB_VERSION_MISMATCH, MDB_PANIC, MDB_CURSOR_FULL, MDB_INCOMPATIBLE: .corrupted
      case ENOENT: .noSuchFile
      case EACCES, EPERM, EROFS: .permission
      default: .other
      }
    self.status = status
    self.context = context
  }

  package init(_ code: Code, _ context: String) {
    self.code = code
    self.status = 0
    self.context = context
  }

  public var description: String {
    status == 0 ? "\(context) (\(code.rawValue))" : "\(context): \(String(cString: mdb_strerror(status))) (\(code.rawValue))"
  }
}

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Throws unless `status` is `MDB_SUCCESS`.
@inline(__always)
func check(_ status: Int32, _ context: @autoclosure () -> String) throws(LMDBError) {
  if status != MDB_SUCCESS { throw LMDBError(status, context()) }
}
