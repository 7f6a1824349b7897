import Crypto

/// A checkpoint as it is registered in the store, once its file is on disk.
public struct CheckpointEntry: Hashable, Sendable {
  /// The file's name in the checkpoint folder.
  public var name: String
  /// Of the file's content; 32 bytes.
  public var sha256: [UInt8]
  public var modelVersion: UInt64
  /// The journal sequence that learning goes on from.
  public var cursor: UInt64

  public init(name: String, sha256: [UInt8], modelVersion: UInt64, cursor: UInt64) {
    self.name = name
    self.sha256 = sha256
    self.modelVersion = modelVersion
    self.cursor = cursor
  }
}

/// Record: version, name, SHA-256, model version, cursor.
extension CheckpointEntry {
  private static let version: UInt8 = 1

  package init(_ bytes: [UInt8]) throws(StateStoreError) {
    var reader = RecordReader(bytes)
    try reader.version(Self.version)
    name = try reader.string()
    sha256 = Array(try reader.raw(32))
    modelVersion = try reader.varint()
    cursor = try reader.varint()
    try reader.end()
  }

  package func encode(to record: inout [UInt8]) {
    record.append(Self.version)
    record.appendString(name)
    record.append(contentsOf: sha256)
    record.appendVarint(modelVersion)
    record.appendVarint(cursor)
  }
}

/// The folder of checkpoint files: model parameters are too large for LMDB's pages.
///
/// Write the file, then register it in the store: a crash in between leaves a file that nothing names, and `prune` removes it.
public struct CheckpointFiles: Sendable {
  /// Takes a checkpoint's bytes piece by piece.
  public struct Writer: ~Copyable {
    fileprivate let file: PosixFile
    fileprivate var hasher = SHA256()

    /// Appends bytes, such as the `span.bytes` of an array of numbers.
    public mutating func append(_ bytes: RawSpan) throws(StateStoreError) {
      bytes.withUnsafeBytes { hasher.update(bufferPointer: $0) }
      try file.write(bytes)
    }
  }

  private static let temporarySuffix = ".tmp"

  public let folder: String

  /// Makes the folder (0700) when it is missing. A link in its place is refused.
  public init(folder: String) throws(StateStoreError) {
    if try !PosixFile.makeFolder(folder), PosixFile.isLink(folder) {
      throw StateStoreError(.io, "\(folder) is a symbolic link, which is not followed")
    }
    self.folder = folder
  }

  /// Writes a checkpoint whole or not at all, and returns its SHA-256 (32 bytes). On disk under its name when this returns.
  public func write(
    _ name: String, _ body: (inout Writer) throws(StateStoreError) -> Void
  ) throws(StateStoreError) -> [UInt8] {
    let path = try path(name)
    let temporary = path + Self.temporarySuffix
    var writer = Writer(file: try PosixFile(creating: temporary))
    do throws(StateStoreError) {
      try body(&writer)
      try writer.file.sync()
      try PosixFile.rename(temporary, to: path)
    } catch {
      try? PosixFile.removeIfPresent(temporary)
      throw error
    }
    try PosixFile.syncFolder(folder)
    return Array(writer.hasher.finalize())
  }

  /// The names of the complete files, sorted.
  public func list() throws(StateStoreError) -> [String] {
    try PosixFile.names(in: folder).filter { !$0.hasSuffix(Self.temporarySuffix) }
  }

  /// A checkpoint's bytes. Throws `.corrupted` when they are not those that were registered, `.io` when the file cannot be read.
  public func read(_ entry: CheckpointEntry) throws(StateStoreError) -> [UInt8] {
    let bytes = try PosixFile(reading: try path(entry.name)).readAll()
    guard Array(SHA256.hash(data: bytes)) == entry.sha256 else {
      throw StateStoreError(.corrupted, "the checkpoint \(entry.name) does not have the registered SHA-256")
    }
    return bytes
  }

  /// The newest checkpoint that is whole, and what was wrong with each newer one.
  public func newestIntact(
    of entries: [CheckpointEntry]
  ) -> (intact: (entry: CheckpointEntry, bytes: [UInt8])?, damaged: [(entry: CheckpointEntry, error: StateStoreError)]) {
    var damaged: [(entry: CheckpointEntry, error: StateStoreError)] = []
    for entry in entries.sorted(by: { $0.modelVersion > $1.modelVersion }) {
      do throws(StateStoreError) {
        return ((entry, try read(entry)), damaged)
      } catch {
        damaged.append((entry, error))
      }
    }
    return (nil, damaged)
  }

  /// Removes every file that is not named, unfinished ones too. Not while a checkpoint is being written.
  public func prune(keeping names: Set<String>) throws(StateStoreError) {
    let superfluous = try PosixFile.names(in: folder).filter { !names.contains($0) }
    for name in superfluous { try PosixFile.removeIfPresent("\(folder)/\(name)") }
    if !superfluous.isEmpty { try PosixFile.syncFolder(folder) }
  }

  private func path(_ name: String) throws(StateStoreError) -> String {
    guard !name.isEmpty, !name.contains("/"), !name.hasPrefix("."), !name.hasSuffix(Self.temporarySuffix) else {
      throw StateStoreError(.invalidValue, "\(name) cannot be a checkpoint's name")
    }
    return "\(folder)/\(name)"
  }
}
