import LMDB

/// Why the state could not be read or written.
public struct StateStoreError: Error, Hashable, Sendable, CustomStringConvertible {
  public enum Code: String, Hashable, Sendable {
    /// The store has reached its maximum size. Nothing was written; go on when there is room.
    case full
    /// The file system has no room left. Nothing was written; go on when there is room.
    case diskFull
    /// Another process writes this store, or this process has it open already.
    case inUse
    /// There is no store in the folder.
    case noStore
    /// A new store was wanted in a folder that holds one, or other things. They were left untouched.
    case notEmpty
    /// The store was written by a newer version of this program. It was left untouched.
    case newerSchema
    /// The store was written by an older version and cannot be brought up to date here: it is open read-only, or the step is unknown.
    case olderSchema
    /// A record or the file itself is damaged.
    case corrupted
    /// Two external ids have the same hash.
    case collision
    /// An external id is empty or longer than 64 KiB.
    case invalidID
    /// A time, a type name or a list is outside what a record can hold.
    case invalidValue
    /// The catalogue has as many items as it may, all of them described.
    case catalogueFull
    /// A pool's revision does not rise.
    case revisionNotRising
    /// The system or LMDB failed in another way.
    case io
  }

  public let code: Code
  public let message: String

  public init(_ code: Code, _ message: String) {
    self.code = code
    self.message = message
  }

  private static let advice = "the store is damaged: check the disk, and go on from a copy (rodpod restore)"

  /// The store is damaged, and what to do about it.
  static func damaged(_ what: String) -> StateStoreError { StateStoreError(.corrupted, "\(what); \(advice)") }

  package init(_ error: LMDBError) {
    self.code =
      switch error.code {
      case .mapFull: .full
      case .diskFull: .diskFull
      case .inUse, .alreadyOpen: .inUse
      case .corrupted: .corrupted
      case .noSuchFile, .noDatabase: .noStore
      default: .io
      }
    self.message = error.description + (code == .corrupted ? "; " + Self.advice : "")
  }

  /// There is no room for what was to be written: it may be tried again later, as nothing was written.
  public var isOutOfRoom: Bool { code == .full || code == .diskFull }

  public var description: String { "\(message) [\(code.rawValue)]" }
}
