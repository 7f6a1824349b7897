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
  private var users: Counts
  private var pairs: Counts

  /// - Parameter share: 1 bounds nobody.
  init(_ share: Double, window: Int = Self.window) {
    self.window = window
    self.share = share
    // One more is counted before the oldest leaves.
    users = Counts(capacity: share < 1 ? window + 1 : 0)
    pairs = users
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

/// How often each key is there: a table with linear probing, in which the keys, hashes themselves, are not hashed again. By samples an interaction is
/// admitted in half the time that it takes with `Dictionary`.
private struct Counts {
  /// A count of 0 is an empty slot. At most half of them are taken.
  private var slots: [(key: Int, count: Int)]
  private(set) var distinct = 0

  /// - Parameter capacity: the most keys at a time.
  init(capacity: Int) {
    var size = 2
    while size < 2 * capacity { size *= 2 }
    slots = Array(repeating: (0, 0), count: size)
  }

  /// Counts the key once more, unless it is there `limit` times.
  mutating func increment(_ key: Int, below limit: Int) -> Bool {
    let slot = slot(of: key)
    guard slots[slot].count < limit else { return false }
    if slots[slot].count == 0 { distinct += 1 }
    slots[slot] = (key, slots[slot].count + 1)
    return true
  }

  /// The key must be there.
  mutating func decrement(_ key: Int) {
    let slot = slot(of: key)
    precondition(slots[slot].count > 0, "what leaves was not counted")
    slots[slot].count -= 1
    if slots[slot].count == 0 {
      distinct -= 1
      closeGap(at: slot)
    }
  }

  /// Where the key is, or where it has to go.
  private func slot(of key: Int) -> Int {
    var slot = home(of: key)
    while slots[slot].count > 0, slots[slot].key != key { slot = next(slot) }
    return slot
  }

  /// Moves those up that are further from home than the slot that got empty, or they would not be found any more.
  private mutating func closeGap(at empty: Int) {
    var gap = empty
    var slot = next(gap)
    while slots[slot].count > 0 {
      if distance(from: home(of: slots[slot].key), to: slot) >= distance(from: gap, to: slot) {
        slots[gap] = slots[slot]
        slots[slot].count = 0
        gap = slot
      }
      slot = next(slot)
    }
  }

  private func home(of key: Int) -> Int { key & (slots.count - 1) }

  private func next(_ slot: Int) -> Int { (slot + 1) & (slots.count - 1) }

  private func distance(from first: Int, to last: Int) -> Int { (last - first) & (slots.count - 1) }
}
