import StateStore
import TestSupport
import Testing

struct PoolAndStaleTests {
  private let folder = TemporaryFolder()

  private func mark(_ sequence: UInt64, due: Int64) -> StaleMark {
    StaleMark(sequence: sequence, asOf: AsOf(topic: "interactions", partition: 2, offset: Int64(sequence), time: 5), dueTime: due)
  }

  private func put(_ marks: [(String, StaleMark)], in store: StateStore) throws {
    try store.write { (transaction) throws(StateStoreError) in for (user, mark) in marks { try transaction.markStale(user, mark) } }
  }

  @Test func aPoolComesBackWithItsOrderAndNearlyItsScores() throws {
    let store = try StateStore.open(at: folder.path)
    let scores = (0..<100).map { 9 - Float($0) * 0.137 }
    let pool = PoolRecord(
      modelVersion: 12, revision: 3, items: (0..<100).map { ItemNumber(rawValue: $0 * 977) }, scores: scores,
      published: .init(digest: .max, count: 10, time: -4), madeTime: 77)
    try store.write { (transaction) throws(StateStoreError) in try transaction.putPool(pool, of: "ada") }
    var found = try #require(try store.read { (view) throws(StateStoreError) in try view.pool(of: "ada") })
    let step = (scores[0] - scores[99]) / 511
    #expect(zip(found.scores, scores).allSatisfy { abs($0 - $1) <= 0.51 * step })
    #expect(found.scores.first == scores.first && found.scores.last == scores.last)
    #expect(found.scores == found.scores.sorted(by: >))
    found.scores = scores
    #expect(found == pool)
  }

  @Test(arguments: [[], [1.5], [2, 2], [.infinity, 1], [-.greatestFiniteMagnitude, .greatestFiniteMagnitude], [-3, 4, 0]] as [[Float]])
  func scoresThatHaveNoSpanToDivideComeBackWhole(scores: [Float]) throws {
    let store = try StateStore.open(at: folder.path)
    let items = scores.indices.map { ItemNumber(rawValue: UInt32($0)) }
    let pool = PoolRecord(modelVersion: 1, revision: 1, items: items, scores: scores, madeTime: 0)
    try store.write { (transaction) throws(StateStoreError) in try transaction.putPool(pool, of: "ada") }
    let found = try #require(try store.read { (view) throws(StateStoreError) in try view.pool(of: "ada") }).scores
    #expect(found.count == scores.count)
    for (found, score) in zip(found, scores) { #expect(found == score || abs(found - score) < 1e-4) }
  }

  @Test func aRevisionNeverFalls() throws {
    let store = try StateStore.open(at: folder.path)
    func put(_ revision: UInt64) throws {
      try store.write { (transaction) throws(StateStoreError) in
        try transaction.putPool(PoolRecord(modelVersion: 1, revision: revision, items: [], scores: [], madeTime: 0), of: "ada")
      }
    }
    #expect(try store.read { (view) throws(StateStoreError) in try view.revision(of: "ada") } == 0)
    try put(2)
    try put(2)
    #expect(code { try put(1) } == .revisionNotRising)
    #expect(try store.read { (view) throws(StateStoreError) in try view.revision(of: "ada") } == 2)
  }

  @Test func whatWasReservedByAPublisherThatDidNotEndCountsAsGiven() throws {
    func store() throws -> StateStore { try StateStore.open(at: folder.path) }
    #expect(try store().beginPublishing() == 0)
    #expect(try store().beginPublishing() == 0, "nothing was reserved")
    do {
      let store = try store()
      _ = try store.beginPublishing()
      try store.reserveRevisions(upTo: 1000)
      try store.reserveRevisions(upTo: 500)
    }
    #expect(try store().beginPublishing() == 1000)
    do {
      let store = try store()
      #expect(try store.beginPublishing() == 1000)
      try store.reserveRevisions(upTo: 2000)
      try store.endPublishing(floor: 1200)
    }
    #expect(try store().beginPublishing() == 1200, "it says up to where it does not know")
  }

  @Test func aPoolNeedsAScoreForEachItem() throws {
    let store = try StateStore.open(at: folder.path)
    let pool = PoolRecord(modelVersion: 1, revision: 1, items: [ItemNumber(rawValue: 1)], scores: [], madeTime: 0)
    #expect(code { try store.write { (transaction) throws(StateStoreError) in try transaction.putPool(pool, of: "ada") } } == .invalidValue)
  }

  @Test func staleUsersComeLongestDueFirstAndOnlyWhenDue() throws {
    let store = try StateStore.open(at: folder.path)
    try put([("c", mark(1, due: 30)), ("a", mark(2, due: -10)), ("b", mark(3, due: 20)), ("d", mark(4, due: 40))], in: store)
    try store.read { (view) throws(StateStoreError) in
      #expect(try view.staleUsers(limit: 10, dueBefore: 40).map(\.user) == ["a", "b", "c"])
      #expect(try view.staleUsers(limit: 2, dueBefore: .max).map(\.user) == ["a", "b"])
      #expect(try view.staleUsers(limit: 0, dueBefore: .max).isEmpty)
      #expect(try view.staleUsers(limit: 10, dueBefore: -10).isEmpty)
      #expect(try view.nextDueTime(after: .min) == -10)
    }
    #expect(try store.info().staleUsers == 4)
  }

  @Test func aLaterEventMovesTheMarkAndKeepsTheEarlierDueTime() throws {
    let store = try StateStore.open(at: folder.path)
    try put([("a", mark(1, due: 10))], in: store)
    try put([("a", mark(5, due: 50)), ("a", mark(6, due: 60))], in: store)
    try store.read { (view) throws(StateStoreError) in
      #expect(try view.staleUsers(limit: 10, dueBefore: .max) == [StaleUser(user: "a", mark: mark(6, due: 10))])
    }
    try put([("a", mark(7, due: 3))], in: store)
    try store.read { (view) throws(StateStoreError) in
      #expect(try view.staleUsers(limit: 10, dueBefore: .max) == [StaleUser(user: "a", mark: mark(7, due: 3))])
    }
  }

  @Test func aMarkIsClearedOnlyWhileItIsTheOneThatWasRead() throws {
    let store = try StateStore.open(at: folder.path)
    func clear(_ sequence: UInt64) throws -> Bool {
      try store.write { (transaction) throws(StateStoreError) in try transaction.clearStale("a", ifSequence: sequence) }
    }
    try put([("a", mark(1, due: 10))], in: store)
    try put([("a", mark(2, due: 10))], in: store)
    #expect(try !clear(1))
    #expect(try clear(2))
    #expect(try !clear(2))
    #expect(try store.read { (view) throws(StateStoreError) in try view.nextDueTime(after: .min) } == nil)
    let inOneTransaction = try store.write { (transaction) throws(StateStoreError) in
      try transaction.markStale("a", mark(3, due: 1))
      return try transaction.clearStale("a", ifSequence: 3)
    }
    #expect(inOneTransaction)
    #expect(try store.info().staleUsers == 0)
  }
}
