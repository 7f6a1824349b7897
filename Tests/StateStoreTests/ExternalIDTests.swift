import StateStore
import TestSupport
import Testing

struct ExternalIDTests {
  private let folder = TemporaryFolder()

  private static let ids: [String] =
    [1, 502, 503, 504, 511, 512, 65_535, 65_536].flatMap { length in ["x", "y"].map { String(repeating: "i", count: length - 1) + $0 } } + [
      "\0", "a\0", "a\0b", "a", "é", "e\u{301}", "🛋️", "\u{10FFFF}", "\u{FEFF}", " ", "\n", "ÿ",
      String(repeating: "é", count: 30_000), String(repeating: "e\u{301}", count: 20_000),
      String(repeating: "é", count: 20_000),
    ]

  @Test func idsAreToldApartByTheirBytesWhateverTheirLength() throws {
    let store = try StateStore.open(at: folder.path)
    try store.write { (transaction) throws(StateStoreError) in
      for (index, id) in Self.ids.enumerated() {
        let item = try transaction.registerItem(id)
        #expect(item.rawValue == UInt32(index + 1))
        let asOf = AsOf(topic: "t", partition: 0, offset: Int64(index), time: 0)
        try transaction.append(UserInteraction(user: id, partition: 0, interaction: Interaction(item.rawValue, time: 1)))
        try transaction.markStale(id, StaleMark(sequence: UInt64(index), asOf: asOf, dueTime: Int64(index)))
        try transaction.putPool(PoolRecord(modelVersion: 1, revision: 1, items: [item], scores: [1], madeTime: 0), of: id)
      }
    }
    try store.read { (view) throws(StateStoreError) in
      for (index, id) in Self.ids.enumerated() {
        let number = ItemNumber(rawValue: UInt32(index + 1))
        #expect(try view.itemNumber(of: id) == number)
        #expect(try view.itemID(number).map { Array($0.utf8) } == Array(id.utf8))
        #expect(try view.sequence(of: id)?.interactions.map(\.item) == [number])
        #expect(try view.pool(of: id)?.items == [number])
        #expect(try view.staleMark(of: id)?.asOf.offset == Int64(index))
      }
      let stale = try view.staleUsers(limit: .max, dueBefore: .max)
      #expect(stale.map { Array($0.user.utf8) } == Self.ids.map { Array($0.utf8) })
      let listed = try view.sequences(limit: .max).map { Array($0.user.utf8) }
      #expect(Set(listed) == Set(Self.ids.map { Array($0.utf8) }))
    }
  }

  @Test(arguments: ["", String(repeating: "x", count: 65_537)])
  func anEmptyOrLongerIDIsRefused(id: String) throws {
    let store = try StateStore.open(at: folder.path)
    #expect(code { try store.append(id, Interaction(1, time: 1)) } == .invalidID)
    #expect(code { try store.write { (transaction) throws(StateStoreError) in try transaction.registerItem(id) } } == .invalidID)
    #expect(code { try store.sequence(of: id) } == .invalidID)
  }

  @Test func twoIDsOfOneHashAreACollisionAndNotOneUser() throws {
    var options = StateStore.Options()
    options.coder = ExternalIDCoder { _ in [UInt8](repeating: 7, count: 32) }
    let store = try StateStore.open(at: folder.path, options: options)
    let (one, other) = (String(repeating: "1", count: 600), String(repeating: "2", count: 600))
    let mark = StaleMark(sequence: 1, asOf: AsOf(topic: "t", partition: 0, offset: 0, time: 0), dueTime: 0)
    let pool = PoolRecord(modelVersion: 1, revision: 1, items: [], scores: [], madeTime: 0)
    try store.append(one, Interaction(1, time: 1))
    try store.write { (transaction) throws(StateStoreError) in
      _ = try transaction.registerItem(one)
      try transaction.putPool(pool, of: one)
      try transaction.markStale(one, mark)
    }
    #expect(code { try store.append(other, Interaction(1, time: 1)) } == .collision)
    #expect(code { try store.sequence(of: other) } == .collision)
    #expect(code { try store.write { (transaction) throws(StateStoreError) in try transaction.registerItem(other) } } == .collision)
    #expect(code { try store.write { (transaction) throws(StateStoreError) in try transaction.putPool(pool, of: other) } } == .collision)
    #expect(code { try store.write { (transaction) throws(StateStoreError) in try transaction.markStale(other, mark) } } == .collision)
    #expect(code { try store.write { (transaction) throws(StateStoreError) in try transaction.forget(other) } } == .collision)
    #expect(try store.sequence(of: one)?.interactions.count == 1)
  }
}
