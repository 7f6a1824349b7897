/// Bounds how much of what is learned and counted may come from one user, who may be a robot: at most a share of the last interactions, and
/// with one item at most a hundredth of that share, lest they push the item. Thrice what each would have if all were alike is always
/// allowed, so that a shop with few users or items still learns from all of them.
struct UserShare {
  /// Interactions among which a user may have the share.
  static let window = 10_000

  private struct Pair: Hashable {
    /// The id's hash: two users of one would share what each may have.
    var user: Int
    var item: UInt32
  }

  /// So many are always taken.
  private static let least = 20

  private let share: Double
  private let window: Int
  private var ring: [Pair] = []
  private var next = 0
  private var users: [Int: Int] = [:]
  private var pairs: [Pair: Int] = [:]

  /// - Parameter share: 1 bounds nobody.
  init(_ share: Double, window: Int = Self.window) {
    self.window = window
    self.share = share
  }

  /// Takes one more interaction of the user with the item, unless they have their share.
  mutating func admit(_ user: String, _ item: UInt32) -> Bool {
    guard share < 1 else { return true }
    let pair = Pair(user: user.hashValue, item: item)
    let limit = max(Self.least, Int(share * Double(ring.count)), 3 * ring.count / max(1, users.count))
    let pairLimit = max(1, limit / 100, 3 * ring.count / max(1, pairs.count))
    guard users[pair.user, default: 0] < limit, pairs[pair, default: 0] < pairLimit else { return false }
    pairs[pair, default: 0] += 1
    users[pair.user, default: 0] += 1
    if ring.count < window {
      ring.append(pair)
    } else {
      let leaving = ring[next]
      users[leaving.user] = users[leaving.user].flatMap { $0 > 1 ? $0 - 1 : nil }
      pairs[leaving] = pairs[leaving].flatMap { $0 > 1 ? $0 - 1 : nil }
      ring[next] = pair
      next = next + 1 == window ? 0 : next + 1
    }
    return true
  }
}
