import StateStore
import TestSupport
import Testing

struct SequenceTests {
  private let folder = TemporaryFolder()

  private func open(length: Int = 4, bound: Int64 = 1_000, deduplicates: Bool = true) throws -> StateStore {
    try StateStore.open(
      at: folder.path, options: .init(sequenceLength: length, lateInteractionBound: bound, deduplicates: deduplicates))
  }

  private func contexts(_ store: StateStore) throws -> [[Int64]] {
    try store.journal().map { record in
      guard case .interaction(let example) = record.entry else { return [] }
      return example.context.map(\.time)
    }
  }

  @Test func theLastInteractionsAreKeptInTimeOrder() throws {
    let store = try open()
    for time in [10, 20, 30, 40, 50, 60] as [Int64] { try store.append("ada", Interaction(UInt32(time), time: time, value: 0.5)) }
    #expect(try store.sequence(of: "ada")?.interactions == [30, 40, 50, 60].map { Interaction(UInt32($0), time: Int64($0), value: 0.5) })
    #expect(try contexts(store) == [[], [10], [10, 20], [10, 20, 30], [10, 20, 30, 40], [20, 30, 40, 50]])
  }

  @Test func theSizeOfTheSequencesIsThatOfTheirPages() throws {
    let store = try open(length: 50)
    func size() throws -> Int { try store.read { (view) throws(StateStoreError) in try view.sequencesSize() } }
    #expect(try size() == 0)
    try store.write { (transaction) throws(StateStoreError) in
      for user in 0..<400 {
        for time in 1...20 as ClosedRange<Int64> {
          try transaction.append(UserInteraction(user: "user \(user)", partition: 0, interaction: Interaction(UInt32(time), time: time * 99_991)))
        }
      }
    }
    let bytes = try store.read { (view) throws(StateStoreError) in
      var sum = 0
      for user in 0..<400 { sum += try view.sequenceByteCount(of: "user \(user)") }
      return sum
    }
    #expect(try size() > bytes && size() < 3 * bytes)
  }

  @Test func aLateInteractionGetsItsPlaceAndTheContextBeforeIt() throws {
    let store = try open()
    for time in [10, 20, 40, 30] as [Int64] { try store.append("ada", Interaction(1, time: time)) }
    #expect(try store.sequence(of: "ada")?.interactions.map(\.time) == [10, 20, 30, 40])
    #expect(try contexts(store) == [[], [10], [10, 20], [10, 20]])
  }

  @Test func interactionsOfOneTimeStayInTheOrderOfTheirArrival() throws {
    let store = try open()
    for item in [3, 1, 2] as [UInt32] { try store.append("ada", Interaction(item, time: 10)) }
    #expect(try store.sequence(of: "ada")?.interactions.map(\.item.rawValue) == [3, 1, 2])
  }

  @Test func aLateInteractionOlderThanAllThatIsKeptIsLearnedFromAndNotKept() throws {
    let store = try open(length: 2)
    for time in [10, 20, 5] as [Int64] { try store.append("ada", Interaction(1, time: time)) }
    #expect(try store.sequence(of: "ada")?.interactions.map(\.time) == [10, 20])
    #expect(try contexts(store) == [[], [10], []])
  }

  @Test func anInteractionBeyondTheBoundIsTooLate() throws {
    let store = try open(bound: 100)
    try store.append("ada", Interaction(1, time: 1_000))
    #expect(try store.append("ada", Interaction(1, time: 899)) == .tooLate(newest: 1_000))
    #expect(try store.append("ada", Interaction(1, time: 900)) == .appended(sequence: 2))
    #expect(try store.append("bob", Interaction(1, time: 1)) == .appended(sequence: 3))
  }

  @Test func aDuplicateCountsOnceUnlessAskedOtherwise() throws {
    do {
      let store = try open()
      try store.append("ada", Interaction(1, time: 10))
      try store.append("ada", Interaction(2, time: 20))
      let digest = try store.digestIfTypesAreKnown()
      #expect(try store.append("ada", Interaction(1, time: 10, value: 7)) == .duplicate)
      #expect(try store.append("ada", Interaction(2, time: 20)) == .duplicate)
      #expect(try store.journal().count == 2)
      #expect(try store.digestIfTypesAreKnown() == digest)
      #expect(try store.append("ada", Interaction(1, type: 1, time: 10)) == .appended(sequence: 3))
      #expect(try store.append("ada", Interaction(2, time: 10)) == .appended(sequence: 4))
    }
    let store = try open(deduplicates: false)
    #expect(try store.append("ada", Interaction(2, time: 20)) == .appended(sequence: 5))
  }

  @Test func aRefusedInteractionLeavesNoUser() throws {
    let store = try open()
    #expect(code { try store.append("ada", Interaction(1, time: .max)) } == .invalidValue)
    let outcome: StateStoreError.Code? = try store.write { (transaction) throws(StateStoreError) in
      let event = UserInteraction(user: "ada", partition: 0, interaction: Interaction(1, time: .min))
      do throws(StateStoreError) { try transaction.append(event) } catch { return error.code }
      return nil
    }
    #expect(outcome == .invalidValue)
    #expect(try store.info().users == 0)
  }

  @Test func aShorterLengthTakesEffectOnTheNextInteraction() throws {
    do {
      let store = try open()
      for time in 1...4 as ClosedRange<Int64> { try store.append("ada", Interaction(1, time: time)) }
    }
    let store = try open(length: 2)
    try store.append("ada", Interaction(1, time: 5))
    #expect(try store.sequence(of: "ada")?.interactions.map(\.time) == [4, 5])
    #expect(try contexts(store).last == [3, 4])
  }

  @Test func aUserMovesToThePartitionOfTheNewestEvent() throws {
    let store = try open()
    try store.append("ada", Interaction(1, time: 1), partition: 2)
    try store.append("ada", Interaction(1, time: 2), partition: 5)
    #expect(try store.sequence(of: "ada")?.partition == 5)
  }

  @Test func usersAreListedInPagesWithoutGapOrRepetition() throws {
    let store = try open()
    let users = (0..<25).map { "user-\($0)" } + [String(repeating: "x", count: 600), String(repeating: "y", count: 600)]
    for user in users { try store.append(user, Interaction(1, time: 1)) }
    var seen: [String] = []
    while true {
      let page = try store.read { (view) throws(StateStoreError) in try view.sequences(after: seen.last, limit: 4) }
      if page.isEmpty { break }
      seen += page.map(\.user)
    }
    #expect(seen.count == users.count)
    #expect(Set(seen) == Set(users))
  }

  @Test func extremeTimesAndValuesComeBackAsTheyWere() throws {
    let store = try open(length: 10, bound: .max)
    let edge: Int64 = 1 << 53
    let interactions = [
      Interaction(.max, type: .max, time: -edge, value: -.infinity), Interaction(0, time: -1), Interaction(0, time: 0, value: -0.0),
      Interaction(1, time: 999, value: .leastNonzeroMagnitude), Interaction(2, time: 1_999), Interaction(3, time: edge),
    ]
    for interaction in interactions.shuffled() { try store.append("ada", interaction) }
    #expect(try store.sequence(of: "ada")?.interactions == interactions)
  }

  @Test func fiftyInteractionsTakeAtMostFiveHundredBytes() throws {
    let store = try open(length: 50)
    var generator = SeededGenerator(seed: 1)
    var time: Int64 = 1_700_000_000_000
    try store.write { (transaction) throws(StateStoreError) in
      for _ in 0..<50 {
        time += Int64.random(in: 1...(3 * 86_400_000), using: &generator)
        let item = UInt32.random(in: 1...100_000, using: &generator)
        try transaction.append(UserInteraction(user: "ada", partition: 0, interaction: Interaction(item, time: time)))
      }
    }
    let size = try store.read { (view) throws(StateStoreError) in
      #expect(try view.sequence(of: "ada")?.interactions.count == 50)
      return try view.sequenceByteCount(of: "ada")
    }
    #expect(size <= 500)
  }
}

extension StateStore {
  /// The digest, with the type codes of the tests given names.
  fileprivate func digestIfTypesAreKnown() throws -> [UInt8] {
    try write { (transaction) throws(StateStoreError) in
      for name in ["view", "buy"] { _ = try transaction.interactionTypeCode(name) }
      for item in ["a", "b", "c"] { _ = try transaction.registerItem(item) }
    }
    return try digest()
  }
}
