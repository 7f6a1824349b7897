import Foundation
import StateStore
import TestSupport
import Testing

struct BackupTests {
  private let parent = TemporaryFolder()
  private let small = StateStore.Options(initialBytes: 1 << 20)

  private func filled(checkpoints: [String]) throws -> StateStore {
    let store = try StateStore.open(at: parent.path + "/store", options: small)
    let files = try CheckpointFiles(folder: store.path + "/checkpoints")
    for (index, name) in checkpoints.enumerated() {
      let sha256 = try files.write(name) { (writer) throws(StateStoreError) in try writer.append([Float(index)].span.bytes) }
      try store.write { (transaction) throws(StateStoreError) in
        _ = try transaction.registerItem("item \(index)")
        try transaction.putCheckpoint(CheckpointEntry(name: name, sha256: sha256, modelVersion: UInt64(index), cursor: 1))
      }
    }
    return store
  }

  @Test func aCopyIsTheSameStoreWhileItsWriterIsOpen() throws {
    let store = try filled(checkpoints: ["a", "b"])
    let folder = parent.path + "/copy"
    #expect(try store.backUp(toFolder: folder) == ["a", "b"])
    let copy = try StateStore.open(at: folder, options: StateStore.Options(isReadOnly: true))
    func digest(_ store: StateStore) throws -> [UInt8] {
      try store.read { (transaction) throws(StateStoreError) in try transaction.digest() }
    }
    #expect(try digest(copy) == digest(store))
    let entries = try copy.read { (transaction) throws(StateStoreError) in try transaction.checkpoints() }
    let newest = try #require(try CheckpointFiles(folder: folder + "/checkpoints").newestIntact(of: entries).intact)
    #expect(newest.entry.name == "b")
  }

  @Test func aDamagedCheckpointIsLeftOut() throws {
    let store = try filled(checkpoints: ["a", "b"])
    try Data([1, 2]).write(to: URL(filePath: store.path + "/checkpoints/b"))
    #expect(try store.backUp(toFolder: parent.path + "/copy") == ["a"])
  }

  @Test func aFolderThatHoldsSomethingIsLeftAsItIs() throws {
    let store = try filled(checkpoints: ["a"])
    let folder = parent.path + "/other"
    try FileManager.default.createDirectory(atPath: folder + "/photos", withIntermediateDirectories: true)
    #expect(code { try store.backUp(toFolder: folder) } == .notEmpty)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["photos"])
  }
}
