/// A user of a write transaction, with which it ends.
public struct TransactionUser: Hashable, Sendable {
  let place: Int
}

/// The users of a write transaction: what it has read of them and is still to write.
struct UsersInHand {
  struct User {
    let id: String
    var sequence = SequenceRecord(partition: -1)
    /// Whether the sequence was looked up.
    var isLoaded = false
    /// Whether the sequence is still to be written.
    var isChanged = false
    /// To be written.
    var mark: StaleMark?

    init(id: String) { self.id = id }

    var isUnwritten: Bool { isChanged || mark != nil }
  }

  var users: [User] = []
  private var places: [ExactID: Int] = [:]
  private var order: [Int] = []

  mutating func reserve(_ count: Int) {
    users.reserveCapacity(count)
    places.reserveCapacity(count)
  }

  /// Where the user stands, from now on.
  mutating func place(of id: String) -> Int {
    let place = Self.value(&places[ExactID(id), default: users.count])
    if place == users.count { users.append(User(id: id)) }
    return place
  }

  /// Of an entry that is made where it is missing: the table is searched once.
  private static func value(_ entry: inout Int) -> Int { entry }

  /// The users' places in the order of their keys.
  mutating func inOrderOfKeys(_ coder: ExternalIDCoder) throws(StateStoreError) -> [Int] {
    guard order.count < users.count else { return order }
    // Most keys differ in their first bytes.
    var prefixes: [(key: UInt128, place: Int)] = []
    prefixes.reserveCapacity(users.count)
    var key: [UInt8] = []
    for place in users.indices {
      try coder.write(keyOf: users[place].id, to: &key)
      prefixes.append(((0..<UInt128.bitWidth / 8).reduce(0 as UInt128) { $0 << 8 | UInt128($1 < key.count ? key[$1] : 0) }, place))
    }
    // Of two hashes with one beginning it does not matter which comes first.
    prefixes.sort { left, right in
      left.key == right.key ? users[left.place].id.utf8.lexicographicallyPrecedes(users[right.place].id.utf8) : left.key < right.key
    }
    order = prefixes.map(\.place)
    return order
  }

  /// The user's sequence is empty now, and nothing is to be written.
  mutating func forget(_ place: Int) {
    users[place] = User(id: users[place].id)
    users[place].isLoaded = true
  }
}
