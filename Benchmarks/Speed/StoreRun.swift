import Recommender
import StateStore

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

/// A store in a folder of its own, filled as ingest and ranker fill it; the folder goes with it.
final class StoreRun {
  let store: StateStore
  private(set) var userCount = 0
  let eventsPerUser = 50
  let itemCount = 100_000
  private let folder: URL
  private let poolSize = 100
  /// As `learner.window_interactions` has it by default.
  private let journalWindow: UInt64 = 100_000
  /// Users of one transaction.
  private let together = 1000
  /// Each user's events come in so many goes, with all other users in between.
  private let rounds = 5
  private var random = Xoshiro256(seed: 1)

  init() throws {
    folder = FileManager.default.temporaryDirectory.appending(path: "rodpod-bench-\(ProcessInfo.processInfo.processIdentifier)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    store = try StateStore.open(at: folder.path, options: StateStore.Options(initialBytes: 16 << 30))
    for start in stride(from: 0, to: itemCount, by: 10_000) {
      try store.write { (transaction) throws(StateStoreError) in
        for item in start..<start + 10_000 { _ = try transaction.registerItem("sku-\(item)") }
      }
    }
    try store.write { (transaction) throws(StateStoreError) in
      for name in InteractionMessages.types { _ = try transaction.interactionTypeCode(name) }
    }
  }

  deinit { try? FileManager.default.removeItem(at: folder) }

  /// New users with all their events, each transaction on disk before the next; the journal is cut to its window.
  func appendUsers(_ count: Int) throws {
    let new = userCount..<userCount + count
    userCount = new.upperBound
    for round in 0..<rounds {
      try eachGroup(of: new) { (users, random, transaction) throws(StateStoreError) in
        for user in users {
          for event in round * self.eventsPerUser / self.rounds..<(round + 1) * self.eventsPerUser / self.rounds {
            try transaction.append(
              UserInteraction(user: Self.identifier(user), partition: 0, interaction: self.interaction(event, of: user, &random)))
          }
        }
        let next = try transaction.nextJournalSequence()
        try transaction.trimJournal(keepingFrom: next - min(next, self.journalWindow))
      }
    }
  }

  /// A pool for each of the last `count` users, as ranking leaves it.
  func putPools(_ count: Int) throws {
    try eachGroup(of: userCount - count..<userCount) { (users, random, transaction) throws(StateStoreError) in
      for user in users {
        let items = (0..<self.poolSize).map { _ in ItemNumber(rawValue: UInt32.random(in: 0..<UInt32(self.itemCount), using: &random)) }
        let scores = (0..<self.poolSize).map { 8 - Float($0) / 16 }
        try transaction.putPool(
          PoolRecord(
            modelVersion: 1, revision: 1, items: items, scores: scores, published: PoolRecord.Publication(digest: 1, count: 20, time: 1),
            madeTime: 1),
          of: Self.identifier(user))
      }
    }
  }

  /// Runs the body once for each group of users, who come in no order.
  private func eachGroup(
    of users: Range<Int>, _ body: (ArraySlice<Int>, inout Xoshiro256, WriteTransaction) throws(StateStoreError) -> Void
  ) throws {
    let shuffled = users.shuffled(using: &random)
    for start in stride(from: 0, to: shuffled.count, by: together) {
      let group = shuffled[start..<min(start + together, shuffled.count)]
      let before = random
      random = try store.write { (transaction) throws(StateStoreError) in
        // From the same state when the map grows and all this runs again.
        var random = before
        try body(group, &random, transaction)
        return random
      }
    }
  }

  /// In no order, so that new users come between the old ones in the file.
  private static func identifier(_ user: Int) -> String { "u-\(UInt32(user) &* 2_654_435_761)" }

  /// Hours between events, popular items first.
  private func interaction(_ event: Int, of user: Int, _ random: inout Xoshiro256) -> Interaction {
    let uniform = Double.random(in: 0..<1, using: &random)
    return Interaction(
      item: ItemNumber(rawValue: UInt32(Double(itemCount) * uniform * uniform * uniform)),
      type: InteractionTypeCode(rawValue: UInt8.random(in: 0..<5, using: &random)),
      time: 1_777_593_600_000 + Int64(event) * 7_200_000 + Int64.random(in: 0..<7_200_000, using: &random))
  }

  /// That a sample of the users have what was written.
  func checkContents() throws {
    let info = try store.info()
    try check(info.users == userCount && info.pools == userCount, "the store has \(info.users) users and \(info.pools) pools")
    for user in stride(from: 0, to: userCount, by: max(1, userCount / 100)) {
      let (count, pool) = try store.read { (transaction) throws(StateStoreError) in
        (
          try transaction.sequence(of: Self.identifier(user))?.interactions.count,
          try transaction.pool(of: Self.identifier(user))?.items.count
        )
      }
      try check(count == eventsPerUser && pool == poolSize, "user \(user) has not what was written")
    }
  }
}
