import Recommender
import Settings
import StateStore
import TestSupport
import Testing

@testable import Pipeline

/// What somebody may do to the others' lists who sends what they like.
struct PoisonTests {
  @Test func nobodyHasMoreThanTheirShareOfTheWindow() {
    var share = UserShare(0.1, window: 1_000)
    var random = SeededGenerator(seed: 2)
    var admitted: [UInt64: Int] = [:]
    var ring: [UInt64] = []
    for _ in 0..<20_000 {
      // One sends a hundred times as much as each of a hundred others.
      let user = random.below(2) == 0 ? 7 : UInt64(1_000 + random.below(100))
      guard share.admit("\(user)", UInt32(random.below(500))) else { continue }
      admitted[user, default: 0] += 1
      ring.append(user)
      #expect(ring.suffix(1_000).count { $0 == 7 } <= 100)
    }
    #expect(ring.count > 10_000 && ring.contains(7))
    let others = admitted.filter { $0.key != 7 }
    #expect(others.count == 100 && others.values.allSatisfy { $0 > 60 })
  }

  /// The rule with tables that are counted anew for each interaction.
  private struct PlainShare {
    var share: Double
    var window: Int
    var admitted: [(user: String, item: UInt32)] = []

    mutating func admit(_ user: String, _ item: UInt32) -> Bool {
      let recent = admitted.suffix(window)
      let limit = max(20, Int(share * Double(recent.count)), 3 * recent.count / max(1, Set(recent.map(\.user)).count))
      let pairs = Set(recent.map { "\($0.user) \($0.item)" }).count
      let pairLimit = max(1, limit / 100, 3 * recent.count / max(1, pairs))
      guard recent.count(where: { $0.user == user }) < limit else { return false }
      guard recent.count(where: { $0 == (user, item) }) < pairLimit else { return false }
      admitted.append((user, item))
      return true
    }
  }

  @Test(arguments: 0..<6) func whatIsAdmittedAgreesWithThePlainForm(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    // The smaller the window, the fuller its tables.
    let window = [1, 2, 7, 64, 100, 300][Int(seed)]
    var (share, plain) = (UserShare(0.05, window: window), PlainShare(share: 0.05, window: window))
    var refused = 0
    for step in 0..<3_000 {
      let user = "\(random.below(2) == 0 ? random.below(3) : random.below(200))"
      let item = UInt32(random.below(20))
      let isAdmitted = plain.admit(user, item)
      if !isAdmitted { refused += 1 }
      #expect(share.admit(user, item) == isAdmitted, "\(step)")
    }
    #expect(window < 100 || refused > 100)
  }

  @Test(arguments: 1...12) func fewUsersAndItemsAreLearnedFromWithoutEnd(users: UInt64) {
    var share = UserShare(0.01, window: 200)
    var admitted = 0
    for number in 0..<5_000 as Range<UInt64> where share.admit("\(number % users)", UInt32(number % 7)) { admitted += 1 }
    #expect(admitted == 5_000)
  }

  @Test func nobodyPushesOneItem() {
    var share = UserShare(0.1, window: 1_000)
    var pushed = 0
    for number in 0..<2_000 as Range<UInt64> {
      if share.admit("7", 99) { pushed += 1 }
      _ = share.admit("\(1_000 + number % 100)", UInt32(number))
    }
    #expect((3...12).contains(pushed), "about three in a window of a thousand: \(pushed)")
  }

  @Test func withoutABoundAllAreTaken() {
    var share = UserShare(1)
    #expect((0..<30_000).allSatisfy { share.admit($0 < 20_000 ? "1" : "2", 3) })
  }

  @Test func whoComesBackToAnItemDoesNotMakeItPopular() throws {
    let folder = TemporaryFolder()
    let scene = try Scene(.small(folder))
    for user in 0..<3 { try scene.interact("user \(user)", "liked by three") }
    for _ in 0..<150 { try scene.interact("robot", "farmed") }
    #expect(try scene.ingest.quality.popularList(1).items == [scene.store.number(of: "liked by three")])
    #expect(try scene.ingest.quality.popularity.count(of: Int32(bitPattern: scene.store.number(of: "farmed").rawValue)) == 1)
  }

  /// What came of a stream: of the honest users, how many have the farmed item in their list of five, and how many the item that comes next.
  private struct Outcome: CustomStringConvertible {
    var farmed = 0
    var hits = 0
    var description: String { "\(farmed) of 60 lists have the farmed item, \(hits) the next one" }
  }

  /// Sixty users walk along the twenty items of their group, twelve steps each. Meanwhile `robots` send `events` each: an item of the users,
  /// then the farmed one, by turns.
  private func outcome(share: Double, robots: Int, events: Int) throws -> Outcome {
    let folder = TemporaryFolder()
    var settings = Settings.small(folder)
    settings.learner.maxUserShare = share
    settings.learner.windowInteractions = 5_000
    settings.learner.maxLagInteractions = 1_000_000
    settings.pool.size = 30
    let scene = try Scene(settings)
    var random = SeededGenerator(seed: 11)
    let starts = (0..<60).map { _ in random.below(20) }
    let name = { (user: Int, step: Int) in "item \(user % 3)-\((starts[user] + step) % 20)" }
    var sent = 0
    for step in 0..<12 {
      // One commit a step.
      var records: [IngestRecord] = []
      func interact(_ user: String, _ item: String) {
        scene.clock += 1_000
        records.append(scene.stream.interaction(user, item, time: scene.clock))
      }
      for user in 0..<60 {
        interact("user \(user)", name(user, step))
        while sent * 720 < (step * 60 + user + 1) * robots * events {
          let turn = sent / robots
          interact("robot \(sent % robots)", turn.isMultiple(of: 2) ? "item \(turn / 2 % 3)-\(random.below(20))" : "farmed")
          sent += 1
        }
      }
      try scene.apply(records)
    }
    while try scene.learning.step(partial: true) != nil {}
    var outcome = Outcome()
    for publication in try scene.rank() where publication.user.hasPrefix("user") {
      let user = try #require(Int(publication.user.dropFirst(5)))
      outcome.farmed += publication.items.contains("farmed") ? 1 : 0
      outcome.hits += publication.items.contains(name(user, 12)) ? 1 : 0
    }
    return outcome
  }

  @Test func aRobotThatSendsAHundredTimesAsMuchIsInFewerOfTheOthersLists() throws {
    let quiet = try outcome(share: 0.01, robots: 0, events: 0)
    let bounded = try outcome(share: 0.01, robots: 1, events: 1_200)
    let unbounded = try outcome(share: 1, robots: 1, events: 1_200)
    print("PoisonTests: one robot: without \(quiet); bounded \(bounded); unbounded \(unbounded)")
    #expect(quiet.farmed == 0 && quiet.hits >= 40)
    #expect(bounded.hits >= quiet.hits * 9 / 10)
    #expect(bounded.farmed < unbounded.farmed)
  }
}
