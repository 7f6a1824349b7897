/// A store that is filled apart, and then stands in its folder whole or not at all.
///
/// It is written in a folder inside, `unfinished`. What a process that was killed has left there makes way for the next one.
public final class UnfinishedStore: Sendable {
  private static let name = "unfinished"
  private static let dataFile = "data.mdb"
  private static let lockFiles: Set = ["lock.mdb", "writer.lock"]

  /// Where the store will stand.
  public let folder: String
  public let store: StateStore
  private let isFolderNew: Bool

  /// Makes the folder (0700) when it is missing.
  ///
  /// Throws `.notEmpty` when it holds a store or other things, which are left as they are, `.inUse` when another process is filling one
  /// there, or what `StateStore.open(at:options:)` throws.
  public init(folder: String, options: StateStore.Options = StateStore.Options()) throws(StateStoreError) {
    self.folder = folder
    isFolderNew = try PosixFile.makeFolder(folder)
    let names = try Self.names(inStoreless: folder)
    guard names.allSatisfy({ $0 == Self.name }) else {
      throw StateStoreError(.notEmpty, "\(folder) holds other things (\(names.joined(separator: ", "))): a new store needs an empty folder")
    }
    let path = "\(folder)/\(Self.name)"
    if names.contains(Self.name) {
      // Only a process that fills it could have it open.
      _ = try StateStore.open(at: path)
      try PosixFile.removeFolder(path)
    }
    store = try StateStore.open(at: path, options: options)
  }

  /// Moves what was written into place: the data file last, and never over another.
  ///
  /// Throws `.notEmpty` when a store has come to stand there meanwhile.
  public func finish() throws(StateStoreError) {
    _ = try Self.names(inStoreless: folder)
    try store.sync()
    for name in try PosixFile.names(in: store.path) where name != Self.dataFile && !Self.lockFiles.contains(name) {
      try PosixFile.rename("\(store.path)/\(name)", to: "\(folder)/\(name)")
    }
    try PosixFile.link("\(store.path)/\(Self.dataFile)", to: "\(folder)/\(Self.dataFile)")
    try PosixFile.syncFolder(folder)
    try PosixFile.removeFolder(store.path)
  }

  private static func names(inStoreless folder: String) throws(StateStoreError) -> [String] {
    let names = try PosixFile.names(in: folder)
    guard !names.contains(dataFile) else {
      throw StateStoreError(.notEmpty, "\(folder) already holds a store, which is left as it is: a new one needs an empty folder")
    }
    return names
  }

  /// Removes what was written.
  public func discard() {
    try? PosixFile.removeFolder(store.path)
    if isFolderNew { try? PosixFile.removeFolder(folder) }
  }
}
