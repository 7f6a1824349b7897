import LMDB
import TestSupport
import Testing

struct TransactionTests {
  private let folder = TemporaryFolder()
  private let environment: Environment
  private let database: Database

  init() throws {
    environment = try Environment(path: folder.path, options: .init(mapSize: 1 << 24))
    database = try environment.openDatabases(["values"])[0]
  }

  private func store(_ keys: [[UInt8]]) throws {
    try environment.write { (transaction) throws(LMDBError) in for key in keys { try transaction.put(database, key, key) } }
  }

  private func scan(from: [UInt8] = [], prefix: [UInt8] = [], reverse: Bool = false, limit: Int = .max) throws -> [[UInt8]] {
    try environment.read { (transaction) throws(LMDBError) in
      var keys: [[UInt8]] = []
      try transaction.scan(database, from: from, prefix: prefix, reverse: reverse) { key, value in
        #expect(key.copied() == value.copied())
        keys.append(key.copied())
        return keys.count < limit
      }
      return keys
    }
  }

  @Test func whatWasPutIsReadUntilItIsDeleted() throws {
    try store([[1], [1, 0], [0]])
    let length = try environment.read { (transaction) throws(LMDBError) in try transaction.get(database, [1, 0]) { $0.count } }
    #expect(length == 2)
    let removed = try environment.write { (transaction) throws(LMDBError) in
      (try transaction.delete(database, [1, 0]), try transaction.delete(database, [9]))
    }
    #expect(removed == (true, false))
    #expect(try scan() == [[0], [1]])
  }

  @Test func anEmptyValueIsNotAMissingOne() throws {
    try environment.write { (transaction) throws(LMDBError) in try transaction.put(database, [1], []) }
    let found = try environment.read { (transaction) throws(LMDBError) in
      (try transaction.bytes(database, [1]), try transaction.bytes(database, [2]))
    }
    #expect(found.0 == [])
    #expect(found.1 == nil)
  }

  @Test func scansAgreeWithASortedArray() throws {
    var generator = SeededGenerator(seed: 4)
    var keys: Set<[UInt8]> = [[0xFF], [0xFF, 0xFF], [0xFF, 0xFF, 1]]
    // Few different bytes, so that prefixes are shared.
    let alphabet: [UInt8] = [0, 1, 0x7F, 0xFF]
    func randomKey() -> [UInt8] { (0..<Int.random(in: 1...4, using: &generator)).map { _ in alphabet.randomElement(using: &generator)! } }
    for _ in 0..<60 { keys.insert(randomKey()) }
    try store(Array(keys))
    let sorted = keys.sorted { $0.lexicographicallyPrecedes($1) }
    #expect(try scan() == sorted)
    #expect(try scan(reverse: true) == sorted.reversed())
    for _ in 0..<200 {
      let bound = randomKey()
      #expect(try scan(from: bound) == sorted.filter { !$0.lexicographicallyPrecedes(bound) })
      #expect(try scan(from: bound, reverse: true) == sorted.filter { !bound.lexicographicallyPrecedes($0) }.reversed())
      #expect(try scan(prefix: bound) == sorted.filter { $0.starts(with: bound) })
      #expect(try scan(prefix: bound, reverse: true) == sorted.filter { $0.starts(with: bound) }.reversed())
      #expect(try scan(from: bound, limit: 2) == Array(sorted.filter { !$0.lexicographicallyPrecedes(bound) }.prefix(2)))
    }
  }

  @Test(arguments: [0, 1, 3, 500, 2_000]) func aRangeIsDeletedFromItsLowestKeyUpToTheLimit(limit: Int) throws {
    let keys = (0..<1_000).map { [UInt8($0 >> 8), UInt8($0 & 0xFF)] }
    try store(keys)
    let removed = try environment.write { (transaction) throws(LMDBError) in
      try transaction.deleteRange(database, from: keys[100], to: keys[900], limit: limit)
    }
    #expect(removed == min(limit, 800))
    #expect(try scan() == Array(keys[..<100] + keys[(100 + removed)...]))
  }

  @Test func appendingOutOfOrderIsRefused() throws {
    let error = #expect(throws: LMDBError.self) {
      try environment.write { (transaction) throws(LMDBError) in
        try transaction.put(database, [5], [], append: true)
        try transaction.put(database, [4], [], append: true)
      }
    }
    #expect(error?.code == .keyExists)
    #expect(try scan() == [])
  }

  @Test func keysThatLMDBCannotHoldAreRefused() throws {
    for key in [[], [UInt8](repeating: 1, count: 512)] {
      let error = #expect(throws: LMDBError.self) { try store([key]) }
      #expect(error?.code == .badValueSize)
    }
    try store([[UInt8](repeating: 1, count: 511)])
  }

  @Test func nothingOfAnAbortedTransactionStays() throws {
    try store([[1]])
    try environment.write { (transaction) throws(LMDBError) in
      try transaction.put(database, [2], [2])
      transaction.abort()
    }
    #expect(try scan() == [[1]])
  }

  @Test func orderedAccessDoesWhatPlainCallsDo() throws {
    var generator = SeededGenerator(seed: 5)
    var expected: [[UInt8]: [UInt8]] = [:]
    for round in 0..<6 as Range<UInt8> {
      // Some hundred pages, in rising order and, at the end, in any.
      let numbers = (0..<3_000).map { _ in UInt32(generator.below(20_000)) }
      let keys = (round < 4 ? numbers.sorted() : numbers).map { number in (0..<4).map { UInt8(truncatingIfNeeded: number >> (24 - 8 * $0)) } }
      try environment.write { (transaction) throws(LMDBError) in
        let access = try transaction.orderedAccess(database)
        for key in keys {
          #expect(try access.bytes(key) == expected[key])
          let value = [UInt8](repeating: round, count: generator.below(300))
          try access.put(key, value)
          expected[key] = value
          // Others may change the database meanwhile.
          if generator.below(50) == 0 {
            let other = keys[generator.below(keys.count)]
            try transaction.delete(database, other)
            expected[other] = nil
          }
        }
      }
    }
    var found: [[UInt8]: [UInt8]] = [:]
    try environment.read { (transaction) throws(LMDBError) in
      try transaction.scan(database) { key, value in
        found[key.copied()] = value.copied()
        return true
      }
    }
    #expect(found == expected)
  }

  @Test func orderedAccessEndsWithItsTransaction() throws {
    try environment.write { (transaction) throws(LMDBError) in
      let access = try transaction.orderedAccess(database)
      try access.put([1], [1])
      transaction.abort()
      do throws(LMDBError) {
        try access.put([2], [2])
        Issue.record("it went on")
      } catch { #expect(error.code == .badTransaction) }
    }
    #expect(try scan() == [])
  }

  @Test func aHandleThatOutlivesItsTransactionOnlyThrows() throws {
    var escaped: ReadTransaction?
    try environment.read { (transaction) throws(LMDBError) in escaped = transaction }
    let error = #expect(throws: LMDBError.self) { try escaped?.count(database) }
    #expect(error?.code == .badTransaction)
  }

  @Test func aReaderKeepsItsViewWhileTheWriterGoesOn() async throws {
    try store([[1]])
    let (environment, database) = (environment, database)
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask {
        for number in 2..<100 as Range<UInt8> {
          try environment.write { (transaction) throws(LMDBError) in
            try transaction.put(database, [number], [])
            try transaction.put(database, [number, 0], [])
          }
        }
      }
      for _ in 0..<300 {
        let counts = try environment.read { (transaction) throws(LMDBError) in
          (try transaction.count(database), try transaction.count(database))
        }
        #expect(counts.0 == counts.1)
        #expect(counts.0 % 2 == 1)
      }
      try await group.waitForAll()
    }
  }
}

