import Foundation
import StateStore
import TestSupport
import Testing

struct StateStoreTests {
  private let folder = TemporaryFolder()

  private func open(_ change: (inout StateStore.Options) -> Void = { _ in }) throws -> StateStore {
    var options = StateStore.Options()
    change(&options)
    return try StateStore.open(at: folder.path + "/store", options: options)
  }

  @Test func theStateIsThereAfterReopening() throws {
    do {
      let store = try open()
      try store.write { (transaction) throws(StateStoreError) in
        let item = try transaction.registerItem("sofa")
        let view = try transaction.interactionTypeCode("view")
        let interaction = Interaction(item: item, type: view, time: 1_000)
        try transaction.append(UserInteraction(user: "ada", partition: 3, interaction: interaction))
        try transaction.setOffset(PartitionOffset(topic: "interactions", partition: 3, next: 12))
      }
    }
    let options = StateStore.Options(isReadOnly: true)
    let store = try StateStore.open(at: folder.path + "/store", options: options)
    try store.read { (view) throws(StateStoreError) in
      #expect(try view.sequence(of: "ada")?.interactions == [Interaction(1, time: 1_000)])
      #expect(try view.offsets() == [PartitionOffset(topic: "interactions", partition: 3, next: 12)])
      #expect(try view.interactionTypes() == ["view"])
      #expect(try view.item(id: "sofa")?.state == .undescribed)
    }
  }

  @Test func nothingOfAThrowingTransactionStays() throws {
    let store = try open()
    try store.append("ada", Interaction(1, time: 1))
    #expect(
      code {
        try store.write { (transaction) throws(StateStoreError) in
          _ = try transaction.registerItem("lamp")
          _ = try transaction.interactionTypeCode("view")
          try transaction.append(UserInteraction(user: "ada", partition: 0, interaction: Interaction(1, time: 2)))
          throw StateStoreError(.invalidValue, "stop")
        }
      } == .invalidValue)
    try store.read { (view) throws(StateStoreError) in
      #expect(try view.itemNumber(of: "lamp") == nil)
      #expect(try view.interactionTypes() == [])
      #expect(try view.sequence(of: "ada")?.interactions.count == 1)
      #expect(try view.nextJournalSequence() == 2)
    }
    // What the aborted transaction had remembered is not believed by the next one.
    try store.write { (transaction) throws(StateStoreError) in
      #expect(try transaction.itemNumber(of: "lamp") == nil)
      #expect(try transaction.interactionTypeCode("click").rawValue == 0)
    }
  }

  @Test func aSecondDaemonIsRefusedAndAnInspectorIsNot() async throws {
    let store = try open()
    let path = store.path
    try store.append("ada", Interaction(1, time: 1))
    await #expect(processExitsWith: .success) { [path = path as String] in
      let error = #expect(throws: StateStoreError.self) { try StateStore.open(at: path) }
      #expect(error?.code == .inUse)
      let inspector = try StateStore.open(at: path, options: .init(isReadOnly: true))
      #expect(try inspector.sequence(of: "ada")?.interactions == [Interaction(1, time: 1)])
    }
    try store.append("ada", Interaction(1, time: 2))
  }

  @Test func lookingAtAFolderWithoutAStoreMakesNone() throws {
    #expect(code { try open { $0.isReadOnly = true } } == .noStore)
    #expect(!FileManager.default.fileExists(atPath: folder.path + "/store"))
  }

  /// A writer must not put an empty database in the place of one that was lost.
  @Test(arguments: [false, true]) func aStoreWithoutOneOfItsDatabasesIsDamaged(readOnly: Bool) throws {
    do { try open().append("ada", Interaction(1, time: 1)) }
    let file = URL(filePath: folder.path + "/store/data.mdb")
    var bytes = try Data(contentsOf: file)
    while let name = bytes.range(of: Data("free_rows".utf8)) { bytes[name.lowerBound] = UInt8(ascii: "g") }
    try bytes.write(to: file)
    #expect(code { try open { $0.isReadOnly = readOnly } } == .corrupted)
  }

  @Test func theStoreGrowsByItself() throws {
    let store = try open {
      $0.initialBytes = 1 << 18
      $0.maximumBytes = 1 << 26
    }
    var runs = 0
    for round in 0..<20 {
      try store.write { (transaction) throws(StateStoreError) in
        runs += 1
        for user in 0..<200 {
          try transaction.append(
            UserInteraction(user: "user-\(user)", partition: 0, interaction: Interaction(UInt32(user), time: Int64(round))))
        }
      }
    }
    #expect(runs > 20, "a transaction that found the map full ran again")
    #expect(try store.journal().map(\.sequence) == Array(1...4_000))
    let info = try store.info()
    #expect(info.mapBytes > 1 << 18 && info.usedBytes <= info.mapBytes)
    #expect(info.users == 200 && info.journalEntries == 4_000)
  }

  @Test func aStoreAtItsMaximumSaysSoKeepsWhatItHasAndGoesOnWhenThereIsRoom() throws {
    let store = try open {
      $0.initialBytes = 1 << 18
      $0.maximumBytes = 1 << 20
    }
    var written = 0
    func fill() throws {
      while true {
        try store.write { (transaction) throws(StateStoreError) in
          for time in written..<written + 50 {
            try transaction.append(UserInteraction(user: "ada", partition: 0, interaction: Interaction(1, time: Int64(time))))
          }
        }
        written += 50
      }
    }
    #expect(code { try fill() } == .full)
    #expect(try store.sequence(of: "ada")?.interactions.last?.time == Int64(written - 1))
    #expect(try store.journal().count == written)
    #expect(code { try fill() } == .full)
    // Again and again: what makes room has a reserve that other writes do not use up.
    for _ in 0..<5 {
      for _ in 0..<5 {
        try store.write(.reclaiming) { (transaction) throws(StateStoreError) in
          try transaction.trimJournal(keepingFrom: .max, limit: written / 5 + 1)
        }
      }
      let before = written
      #expect(code { try fill() } == .full)
      #expect(written > before)
      #expect(try store.info().mapBytes <= (1 << 20) + (1 << 16))
    }
  }

  @Test func anErrorOfAFullMapCannotBeSwallowed() throws {
    let store = try open {
      $0.initialBytes = 1 << 18
      $0.maximumBytes = 1 << 22
    }
    try store.write { (transaction) throws(StateStoreError) in
      for time in 0..<2_000 as Range<Int64> {
        _ = try? transaction.append(UserInteraction(user: "ada", partition: 0, interaction: Interaction(1, time: time)))
      }
    }
    #expect(try store.journal().count == 2_000)
  }

  @Test func aNewerStoreIsRefusedAndLeftAsItWas() throws {
    do {
      let store = try open { $0.schema = Schema(version: 7, migrations: [:]) }
      try store.append("ada", Interaction(1, time: 1))
    }
    let file = URL(filePath: folder.path + "/store/data.mdb")
    let before = try Data(contentsOf: file)
    #expect(code { try open() } == .newerSchema)
    #expect(code { try open { $0.isReadOnly = true } } == .newerSchema)
    #expect(try Data(contentsOf: file) == before)
  }

  @Test func anOlderStoreIsCopiedAndThenBroughtUpToDateStepByStep() throws {
    do {
      let store = try open { $0.schema = Schema(version: 1, migrations: [:]) }
      try store.append("ada", Interaction(1, time: 1))
    }
    let steps: [UInt32: Schema.Step] = [
      1: { (transaction) throws(StateStoreError) in _ = try transaction.registerItem("from-1") },
      2: { (transaction) throws(StateStoreError) in _ = try transaction.registerItem("from-2") },
    ]
    #expect(
      code { try open { options in
        options.isReadOnly = true
        options.schema = Schema(version: 3, migrations: steps)
      } } == .olderSchema)
    #expect(code { try open { $0.schema = Schema(version: 4, migrations: steps) } } == .olderSchema)
    do {
      let store = try open { $0.schema = Schema(version: 3, migrations: steps) }
      try store.read { (view) throws(StateStoreError) in
        #expect(try view.itemNumber(of: "from-1")?.rawValue == 1)
        #expect(try view.itemNumber(of: "from-2")?.rawValue == 2)
        #expect(try view.sequence(of: "ada") != nil)
      }
    }
    let copy = folder.path + "/copy"
    try FileManager.default.createDirectory(atPath: copy, withIntermediateDirectories: false)
    try FileManager.default.copyItem(atPath: folder.path + "/store/schema-1.mdb", toPath: copy + "/data.mdb")
    let old = try StateStore.open(at: copy)
    #expect(try old.sequence(of: "ada") != nil)
    #expect(try old.info().items == 0)
  }

  @Test func aBackupOfAStoreInUseHasTheSameDigest() throws {
    let store = try open()
    try store.write { (transaction) throws(StateStoreError) in
      _ = try transaction.interactionTypeCode("view")
      try transaction.describeItem("sofa", ItemDescription(title: "Sofa"))
    }
    for time in 0..<100 as Range<Int64> { try store.append("user-\(time % 7)", Interaction(1, time: time)) }
    let copy = folder.path + "/copy"
    try FileManager.default.createDirectory(atPath: copy, withIntermediateDirectories: false)
    try store.backUp(toFile: copy + "/data.mdb")
    let restored = try StateStore.open(at: copy)
    #expect(try restored.digest() == store.digest())
    #expect(try restored.info().users == 7)
  }

  @Test func readersSeeWholeTransactionsOnly() async throws {
    let store = try open { $0.initialBytes = 1 << 18 }
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask {
        for time in 0..<200 as Range<Int64> {
          try store.write { (transaction) throws(StateStoreError) in
            for user in ["ada", "bob"] {
              try transaction.append(UserInteraction(user: user, partition: 0, interaction: Interaction(1, time: time)))
            }
          }
        }
      }
      for _ in 0..<200 {
        try store.read { (view) throws(StateStoreError) in
          let (ada, bob) = (try view.sequence(of: "ada"), try view.sequence(of: "bob"))
          #expect(ada?.interactions == bob?.interactions)
          #expect(try view.readJournal(from: 0, limit: .max).count.isMultiple(of: 2))
        }
      }
      try await group.waitForAll()
    }
  }
}
