import Foundation
import StateStore
import TestSupport
import Testing

struct UnfinishedStoreTests {
  private let parent = TemporaryFolder()
  private var folder: String { parent.path + "/store" }
  private let small = StateStore.Options(initialBytes: 1 << 20)

  private func names() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: folder).sorted() }

  private func fill(_ store: StateStore, _ item: String = "a") throws {
    try store.write { (transaction) throws(StateStoreError) in _ = try transaction.registerItem(item) }
    _ = try CheckpointFiles(folder: store.path + "/checkpoints").write("model") { (writer) throws(StateStoreError) in
      try writer.append([1 as Float].span.bytes)
    }
  }

  private func items() throws -> Int { try StateStore.open(at: folder, options: small).info().items }

  @Test func aStoreIsInItsPlaceWhenItIsFinished() throws {
    let unfinished = try UnfinishedStore(folder: folder, options: small)
    try fill(unfinished.store)
    #expect(try names() == ["unfinished"])
    #expect(code { try StateStore.open(at: folder, options: StateStore.Options(isReadOnly: true)) } == .noStore)
    try unfinished.finish()
    #expect(try names() == ["checkpoints", "data.mdb"])
    #expect(try items() == 1)
    #expect(try CheckpointFiles(folder: folder + "/checkpoints").list() == ["model"])
  }

  @Test func whatIsDiscardedLeavesNothing() throws {
    let unfinished = try UnfinishedStore(folder: folder, options: small)
    try fill(unfinished.store)
    unfinished.discard()
    #expect(!FileManager.default.fileExists(atPath: folder))
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
    try UnfinishedStore(folder: folder, options: small).discard()
    #expect(try names() == [])
  }

  @Test func whatAKilledProcessLeftMakesWay() throws {
    do { try fill(UnfinishedStore(folder: folder, options: small).store, "old") }
    #expect(try names() == ["unfinished"])
    let unfinished = try UnfinishedStore(folder: folder, options: small)
    #expect(try unfinished.store.info().items == 0)
    #expect(code { try UnfinishedStore(folder: folder, options: small) } == .inUse)
    try fill(unfinished.store, "new")
    try unfinished.finish()
    #expect(try items() == 1)
  }

  @Test func whatIsThereIsLeftAsItIs() throws {
    do { try fill(StateStore.open(at: folder, options: small)) }
    let before = try names()
    #expect(code { try UnfinishedStore(folder: folder, options: small) } == .notEmpty)
    #expect(try names() == before && items() == 1)

    let other = parent.path + "/other"
    try FileManager.default.createDirectory(atPath: other + "/photos", withIntermediateDirectories: true)
    #expect(code { try UnfinishedStore(folder: other, options: small) } == .notEmpty)
    #expect(try FileManager.default.contentsOfDirectory(atPath: other) == ["photos"])
  }

  @Test func aStoreThatCameMeanwhileIsNotWrittenOver() throws {
    let unfinished = try UnfinishedStore(folder: folder, options: small)
    try fill(unfinished.store)
    do { _ = try StateStore.open(at: folder, options: small) }
    #expect(code { try unfinished.finish() } == .notEmpty)
    #expect(try items() == 0)
  }
}
