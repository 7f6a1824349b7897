import Foundation
import StateStore
import TestSupport
import Testing

struct CheckpointTests {
  private let folder = TemporaryFolder()

  private func write(_ numbers: [Float], version: UInt64, to files: CheckpointFiles) throws -> CheckpointEntry {
    let name = "model-\(version)"
    let digest = try files.write(name) { (writer) throws(StateStoreError) in
      try writer.append(numbers.span.bytes)
      try writer.append(numbers.span.bytes)
    }
    return CheckpointEntry(name: name, sha256: digest, modelVersion: version, cursor: version * 10)
  }

  @Test func aCheckpointIsReadAsItWasWritten() throws {
    let files = try CheckpointFiles(folder: folder.path + "/checkpoints")
    let numbers = (0..<10_000).map { Float($0) / 3 }
    let entry = try write(numbers, version: 1, to: files)
    let bytes = try files.read(entry)
    #expect(bytes == (numbers + numbers).withUnsafeBytes { Array($0) })
    #expect(try files.list() == ["model-1"])
    let attributes = try FileManager.default.attributesOfItem(atPath: files.folder + "/model-1")
    #expect(attributes[.posixPermissions] as? Int == 0o600)
  }

  @Test func aWriteThatFailsLeavesTheOneBefore() throws {
    let files = try CheckpointFiles(folder: folder.path)
    let entry = try write([1], version: 1, to: files)
    let failed = code {
      try files.write("model-1") { (writer) throws(StateStoreError) in
        try writer.append([2 as Float].span.bytes)
        throw StateStoreError(.io, "power gone")
      }
    }
    #expect(failed == .io)
    #expect(try files.read(entry).count == 8)
    #expect(try files.list() == ["model-1"])
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["model-1"])
  }

  @Test func theNewestWholeCheckpointIsTakenAndTheDamagedOnesAreNamed() throws {
    let files = try CheckpointFiles(folder: folder.path)
    let entries = try (1...4 as ClosedRange<UInt64>).map { try write([Float($0)], version: $0, to: files) }
    try FileManager.default.removeItem(atPath: folder.path + "/model-4")
    try Data([1, 2, 3]).write(to: URL(filePath: folder.path + "/model-3"))
    let found = files.newestIntact(of: entries)
    #expect(found.intact?.entry == entries[1])
    #expect(found.damaged.map(\.entry.modelVersion) == [4, 3])
    #expect(found.damaged.map(\.error.code) == [.io, .corrupted])
    #expect(files.newestIntact(of: Array(entries[2...])).intact == nil)
  }

  @Test func pruningKeepsWhatIsNamedOnly() throws {
    let files = try CheckpointFiles(folder: folder.path)
    for version in 1...3 as ClosedRange<UInt64> { _ = try write([0], version: version, to: files) }
    try Data().write(to: URL(filePath: folder.path + "/model-9.tmp"))
    try files.prune(keeping: ["model-2", "model-3"])
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() == ["model-2", "model-3"])
  }

  @Test(arguments: ["", "..", "../model", ".hidden", "a/b", "model.tmp"])
  func aNameThatLeavesTheFolderIsRefused(name: String) throws {
    let files = try CheckpointFiles(folder: folder.path)
    #expect(code { try files.write(name) { (_) throws(StateStoreError) in } } == .invalidValue)
  }

  @Test func aLinkIsNotFollowed() throws {
    let files = try CheckpointFiles(folder: folder.path)
    try FileManager.default.createSymbolicLink(atPath: folder.path + "/model-1.tmp", withDestinationPath: folder.path + "/elsewhere")
    #expect(code { try write([1], version: 1, to: files) } == .io)
    #expect(!FileManager.default.fileExists(atPath: folder.path + "/elsewhere"))
  }

  @Test func aLinkInPlaceOfTheFolderIsRefused() throws {
    let elsewhere = folder.path + "/elsewhere"
    try FileManager.default.createDirectory(atPath: elsewhere, withIntermediateDirectories: false)
    try FileManager.default.createSymbolicLink(atPath: folder.path + "/linked", withDestinationPath: elsewhere)
    #expect(code { _ = try CheckpointFiles(folder: folder.path + "/linked") } == .io)
  }

  @Test func theRegistryListsOldestFirstAndReplacesOneOfTheSameVersion() throws {
    let store = try StateStore.open(at: folder.path)
    func entry(_ version: UInt64, cursor: UInt64) -> CheckpointEntry {
      CheckpointEntry(name: "model-\(version)", sha256: [UInt8](repeating: 3, count: 32), modelVersion: version, cursor: cursor)
    }
    try store.write { (transaction) throws(StateStoreError) in
      for version in [300, 2, 70_000] as [UInt64] { try transaction.putCheckpoint(entry(version, cursor: 1)) }
      try transaction.putCheckpoint(entry(300, cursor: 2))
      try transaction.removeCheckpoint(modelVersion: 2)
    }
    let listed = try store.read { (view) throws(StateStoreError) in try view.checkpoints() }
    #expect(listed == [entry(300, cursor: 2), entry(70_000, cursor: 1)])
  }
}
