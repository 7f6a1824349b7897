import Foundation
import StateStore
import TestSupport
import Testing

struct JournalTests {
  private let folder = TemporaryFolder()

  private func store(users: [String]) throws -> StateStore {
    let store = try StateStore.open(at: folder.path)
    try store.write { (transaction) throws(StateStoreError) in
      for (index, user) in users.enumerated() {
        try transaction.append(UserInteraction(user: user, partition: 1, interaction: Interaction(UInt32(index), time: Int64(index))))
      }
    }
    return store
  }

  @Test func anEntryHoldsAllThatIsNeededToLearnFromIt() throws {
    let store = try StateStore.open(at: folder.path)
    let shown = [9, 8, 7].map { ItemNumber(rawValue: $0) }
    try store.append("ada", Interaction(1, time: 10, value: 2.5), partition: 4)
    try store.append("ada", Interaction(2, type: 1, time: 20), partition: 4, shown: shown)
    let example = TrainingExample(
      user: "ada", partition: 4, target: Interaction(2, type: 1, time: 20), context: [Interaction(1, time: 10, value: 2.5)], shown: shown)
    #expect(try store.journal().last == JournalRecord(sequence: 2, entry: .interaction(example)))
    try store.read { (view) throws(StateStoreError) in
      #expect(try view.journalEntry(at: 2) == .interaction(example))
      #expect(try view.journalEntry(at: 3) == nil)
    }
  }

  @Test func theJournalIsReadInPiecesAndTrimmedAtItsStart() throws {
    let store = try store(users: (0..<100).map { "user-\($0 % 9)" })
    #expect(try store.journal(from: 41, limit: 3).map(\.sequence) == [41, 42, 43])
    let removed = try store.write { (transaction) throws(StateStoreError) in try transaction.trimJournal(keepingFrom: 50, limit: 10) }
    #expect(removed == 10)
    #expect(try store.read { (view) throws(StateStoreError) in try view.journalBounds() } == 11...100)
    let rest = try store.write { (transaction) throws(StateStoreError) in try transaction.trimJournal(keepingFrom: 50) }
    #expect(rest == 39)
    #expect(try store.journal().map(\.sequence) == Array(50...100))
    try store.write { (transaction) throws(StateStoreError) in _ = try transaction.trimJournal(keepingFrom: .max) }
    #expect(try store.read { (view) throws(StateStoreError) in try view.journalBounds() } == nil)
    #expect(try store.append("user-1", Interaction(1, time: 1_000)) == .appended(sequence: 101))
  }

  @Test func forgettingErasesTheUserAndTellsTheLearner() throws {
    let store = try store(users: ["ada", "bob", "ada", "ada", "bob"])
    let mark = StaleMark(sequence: 4, asOf: AsOf(topic: "interactions", partition: 1, offset: 4, time: 4), dueTime: 9)
    let item = ItemNumber(rawValue: 1)
    try store.write { (transaction) throws(StateStoreError) in
      try transaction.markStale("ada", mark)
      try transaction.putPool(PoolRecord(modelVersion: 1, revision: 7, items: [item], scores: [1], madeTime: 1), of: "ada")
    }
    let sequence = try store.write { (transaction) throws(StateStoreError) in try transaction.forget("ada") }
    #expect(sequence == 6)
    try store.read { (view) throws(StateStoreError) in
      #expect(try view.sequence(of: "ada") == nil)
      #expect(try view.pool(of: "ada") == nil)
      #expect(try view.staleMark(of: "ada") == nil)
      #expect(try view.nextDueTime(after: .min) == nil)
      #expect(try view.sequence(of: "bob")?.interactions.count == 2)
      let records = try view.readJournal(from: 0, limit: .max)
      #expect(records.map(\.sequence) == [2, 5, 6])
      #expect(records.last?.entry == .forget(UserFingerprint("ada")))
    }
  }

  @Test func aUserForgottenInTheTransactionThatBroughtThemIsGone() throws {
    let store = try store(users: ["ada"])
    let mark = StaleMark(sequence: 2, asOf: AsOf(topic: "t", partition: 0, offset: 0, time: 0), dueTime: 1)
    try store.write { (transaction) throws(StateStoreError) in
      try transaction.append(UserInteraction(user: "ada", partition: 0, interaction: Interaction(5, time: 50)))
      try transaction.markStale("ada", mark)
      try transaction.forget("ada")
      #expect(try transaction.sequence(of: "ada") == nil)
      try transaction.append(UserInteraction(user: "ada", partition: 0, interaction: Interaction(6, time: 60)))
      try transaction.forget("ada")
    }
    #expect(try store.info().users == 0)
    #expect(try store.info().staleUsers == 0)
    #expect(try store.journal().map(\.sequence) == [3, 5])
  }

  @Test func aUserWhoComesBackStartsAnewWithAHigherRevision() throws {
    let store = try store(users: ["ada", "ada"])
    func pool(_ revision: UInt64) -> PoolRecord { PoolRecord(modelVersion: 1, revision: revision, items: [], scores: [], madeTime: 1) }
    try store.write { (transaction) throws(StateStoreError) in
      try transaction.putPool(pool(41), of: "ada")
      try transaction.forget("ada")
    }
    try store.append("ada", Interaction(9, time: 1))
    #expect(try store.sequence(of: "ada")?.interactions == [Interaction(9, time: 1)])
    #expect(try store.read { (view) throws(StateStoreError) in try view.revision(of: "ada") } == 41)
    try store.write { (transaction) throws(StateStoreError) in
      try transaction.putPool(pool(42), of: "ada")
    }
    let lower = code { try store.write { (transaction) throws(StateStoreError) in try transaction.putPool(pool(41), of: "ada") } }
    #expect(lower == .revisionNotRising)
    try store.write { (transaction) throws(StateStoreError) in try transaction.forget("ada") }
    #expect(try store.journal().allSatisfy { if case .forget = $0.entry { true } else { false } })
  }

  @Test func forgettingAfterTrimmingErasesWhatIsLeft() throws {
    let store = try store(users: ["ada", "bob", "ada", "bob", "ada"])
    try store.write { (transaction) throws(StateStoreError) in
      try transaction.trimJournal(keepingFrom: 3)
      try transaction.forget("ada")
    }
    #expect(try store.journal().map(\.sequence) == [4, 6])
  }

  @Test(arguments: ["ada.lovelace@example.org", String(repeating: "long-", count: 300)])
  func nothingOfAForgottenUserIsInTheCompactedFile(user: String) throws {
    let store = try store(users: [user, "bob", user])
    let mark = StaleMark(sequence: 3, asOf: AsOf(topic: "t", partition: 0, offset: 0, time: 0), dueTime: 1)
    try store.write { (transaction) throws(StateStoreError) in
      try transaction.markStale(user, mark)
      try transaction.putPool(PoolRecord(modelVersion: 1, revision: 1, items: [], scores: [], madeTime: 0), of: user)
    }
    #expect(try contents(of: store, "before").contains(Array(user.utf8)))
    try store.write { (transaction) throws(StateStoreError) in _ = try transaction.forget(user) }
    let after = try contents(of: store, "after")
    #expect(!after.contains(Array(user.utf8)))
    #expect(after.contains(Array("bob".utf8)))
  }

  private func contents(of store: StateStore, _ name: String) throws -> [UInt8] {
    let file = "\(folder.path)/\(name).mdb"
    try store.backUp(toFile: file)
    return try [UInt8](Data(contentsOf: URL(filePath: file)))
  }
}
