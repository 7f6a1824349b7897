import Foundation
@testable import StateStore
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

  /// Sequences, pools and journal entries as schema 2 had them.
  @Test func aStoreOfSchemaTwoIsPackedByTheBit() throws {
    let interactions = [
      Interaction(7, type: 1, time: -5), Interaction(300_000, type: 0, time: 995, value: 2.5), Interaction(7, type: 200, time: 1_007),
    ]
    func former(_ interactions: [Interaction]) -> [UInt8] {
      var bytes: [UInt8] = []
      bytes.appendVarint(UInt64(interactions.count))
      bytes.appendSigned(interactions[0].time)
      bytes.appendVarint(UInt64(interactions[interactions.count - 1].time - interactions[0].time))
      for (index, interaction) in interactions.enumerated() {
        let gap = index == 0 ? 0 : UInt64(interaction.time - interactions[index - 1].time)
        bytes.appendVarint(UInt64(interaction.item.rawValue))
        bytes.append(interaction.type.rawValue)
        bytes.appendVarint((gap % 1000 == 0 ? (gap / 1000) << 2 | 2 : gap << 2) | (interaction.value == nil ? 0 : 1))
        if let value = interaction.value { bytes.appendLittleEndian(value.bitPattern) }
      }
      return bytes
    }
    do {
      let store = try open { $0.schema = Schema(version: 2, migrations: [:]) }
      try store.write { (transaction) throws(StateStoreError) in
        var sequence: [UInt8] = [1]
        sequence.appendVarint(3)
        sequence.appendVarint(17)
        try transaction.put(transaction.databases.sequences, Array("ada".utf8), sequence + former(interactions))
        var pool: [UInt8] = [1]
        for number in [9, 41] as [UInt64] { pool.appendVarint(number) }
        pool.append(1)
        pool.appendLittleEndian(UInt64(99))
        pool.appendVarint(2)
        for time in [-3, 55] as [Int64] { pool.appendSigned(time) }
        for number in [3, 1_000, 7, 5] as [UInt64] { pool.appendVarint(number) }
        pool.append(1)
        for bound in [1, 3] as [Float] { pool.appendLittleEndian(bound.bitPattern) }
        for score in [65_535, 32_768, 0] as [UInt16] { pool.appendLittleEndian(score) }
        try transaction.put(transaction.databases.pools, Array("ada".utf8), pool)
        var entry: [UInt8] = [1, 0]
        entry.appendString("ada")
        for number in [3, 4, 12] as [UInt64] { entry.appendVarint(number) }
        entry.append(2)
        entry.appendSigned(2_000)
        entry.append(0)
        for number in [1, 8] as [UInt64] { entry.appendVarint(number) }
        try transaction.put(transaction.databases.journal, [UInt8](bigEndian: UInt64(17)), entry + former(interactions))
        try transaction.put(transaction.databases.journal, [UInt8](bigEndian: UInt64(18)), [1, 1] + UserFingerprint("bob").bytes)
        try transaction.put(transaction.databases.meta, Array("publishers".utf8), [UInt8](bigEndian: UInt64(2)))
      }
    }
    let store = try open()
    let sequence = try #require(try store.sequence(of: "ada"))
    #expect(sequence.interactions == interactions && sequence.partition == 3 && sequence.lastJournalSequence == 17)
    let pool = try #require(try store.read { (view) throws(StateStoreError) in try view.pool(of: "ada") })
    #expect(pool.modelVersion == 9 && pool.revision == 41 && pool.items.map(\.rawValue) == [1_000, 7, 5] && pool.madeTime == 55)
    #expect(pool.published == PoolRecord.Publication(digest: 99, count: 2, time: -3))
    #expect(zip(pool.scores, [3, 2, 1]).allSatisfy { abs($0 - $1) < 0.003 } && pool.scores.count == 3)
    let journal = try store.journal()
    #expect(journal.map(\.sequence) == [17, 18])
    #expect(
      journal.map(\.entry) == [
        .interaction(
          TrainingExample(
            user: "ada", partition: 3, target: Interaction(12, type: 2, time: 2_000), context: interactions, shown: [ItemNumber(rawValue: 8)])),
        .forget(UserFingerprint("bob")),
      ])
    #expect(try store.beginPublishing() == 43, "two publishers had not ended")
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
