extension StateStore {
  /// Copies the store, consistent while its writer goes on, and its intact checkpoints into an empty or missing folder. The copy is a store
  /// itself: restoring is backing it up to where a daemon looks.
  ///
  /// The data file gets its name last, so that a copy that was cut short is no store. A checkpoint that is damaged, or that the daemon has
  /// just replaced, is left out: a daemon goes on from the newest one that is there.
  ///
  /// - Returns: the names of the checkpoints that were copied.
  /// - Throws: `.notEmpty`, `.diskFull` or `.io`; then what was written is removed again.
  public func backUp(toFolder folder: String) throws(StateStoreError) -> [String] {
    let isNew = try PosixFile.makeFolder(folder)
    guard try PosixFile.names(in: folder).isEmpty else {
      throw StateStoreError(.notEmpty, "\(folder) is not empty and is left as it is: a copy needs an empty folder")
    }
    do throws(StateStoreError) {
      return try copy(to: folder)
    } catch {
      for name in (try? PosixFile.names(in: folder)) ?? [] {
        try? name == Self.checkpointFolder ? PosixFile.removeFolder("\(folder)/\(name)") : PosixFile.removeIfPresent("\(folder)/\(name)")
      }
      if isNew { try? PosixFile.removeFolder(folder) }
      throw error
    }
  }

  private static let checkpointFolder = "checkpoints"

  private func copy(to folder: String) throws(StateStoreError) -> [String] {
    let data = "\(folder)/data.mdb"
    try backUp(toFile: data + ".unfinished")
    let entries = try read { (transaction) throws(StateStoreError) in try transaction.checkpoints() }
    let source = try CheckpointFiles(folder: "\(path)/\(Self.checkpointFolder)")
    let target = try CheckpointFiles(folder: "\(folder)/\(Self.checkpointFolder)")
    var copied: [String] = []
    for entry in entries {
      guard let bytes = try? source.read(entry) else { continue }
      _ = try target.write(entry.name) { (writer) throws(StateStoreError) in try writer.append(bytes.span.bytes) }
      copied.append(entry.name)
    }
    try PosixFile.rename(data + ".unfinished", to: data)
    try PosixFile.syncFolder(folder)
    return copied
  }
}
