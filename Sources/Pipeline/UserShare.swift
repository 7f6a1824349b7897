/// Bounds how much of what is learned and counted may come from one user, who may be a robot: at most a share of the last interactions, and
/// with one item at most a hundredth of that share, lest they push the item. Thrice what each would have if all were alike is always
/// allowed, so that a shop with few users or items still learns from all of them.
struct UserShare {
  /// Interactions among which a user may have the share.
  static let window = 10_000

  /// Hashes: two users of one would share what each may have, and two pairs.
  private struct Admitted {
    var user: Int
    var pair: Int

    init(_ user: String, _ item: UInt32) {
      var ofUser = Hasher()
      ofUser.combine(user)
      var ofPair = ofUser
      ofPair.combine(item)
      (self.user, pair) = (ofUser.finalize(), ofPair.finalize())
    }
  }

  /// So many are always taken.
  private static let least = 20

  private let share: Double
  private let window: Int
  private var ring: [Admitted] = []
  private var next = 0
  private var users = Counts()
  private var pairs = Counts()

  /// - Parameter share: 1 bounds nobody.
  init(_ share: Double, window: Int = Self.window) {
    self.window = window
    self.share = share
  }

  /// Takes one more interaction of the user with the item, unless they have their share.
  mutating func admit(_ user: String, _ item: UInt32) -> Bool {
    guard share < 1 else { return true }
    let new = Admitted(user, item)
    let limit = max(Self.least, Int(share * Double(ring.count)), 3 * ring.count / max(1, users.distinct))
    let pairLimit = max(1, limit / 100, 3 * ring.count / max(1, pairs.distinct))
    guard users.increment(new.user, below: limit) else { return false }
    guard pairs.increment(new.pair, below: pairLimit) else {
      users.decrement(new.user)
      return false
    }
    if ring.count < window {
      ring.append(new)
    } else {
      users.decrement(ring[next].user)
      pairs.decrement(ring[next].pair)
      ring[next] = new
      next = next + 1 == window ? 0 : next + 1
    }
    return true
  }
}

/// How often each key is there. What is there no more is swept out when it is most of the table: removing one by one costs several times as much.
private struct Counts {
  private var counts: [Int: Int] = [:]
  private(set) var distinct = 0
  private static var leastSwept: Int { 1_000 }

  /// Counts the key once more, unless it is there `limit` times.
  mutating func increment(_ key: Int, below limit: Int) -> Bool {
    if counts.count > max(2 * distinct, Self.leastSwept) { counts = counts.filter { $0.value > 0 } }
    return Self.increment(&counts[key, default: 0], &distinct, below: limit)
  }

  private static func increment(_ count: inout Int, _ distinct: inout Int, below limit: Int) -> Bool {
    guard count < limit else { return false }
    if count == 0 { distinct += 1 }
    count += 1
    return true
  }

  /// The key must be there.
  mutating func decrement(_ key: Int) {
    guard let place = counts.index(forKey: key), counts.values[place] > 0 else { preconditionFailure("what leaves was not counted") }
    counts.values[place] -= 1
    if counts.values[place] == 0 { distinct -= 1 }
  }
}
