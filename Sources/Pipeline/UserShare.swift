/// Bounds how much of what is learned and counted may come from one user, who may be a robot: at most a share of the last interactions, or
/// thrice what each user would have if all were alike, whichever is more (a shop with few users still learns from all of them).
struct UserShare {
  /// Interactions among which a user may have the share.
  static let window = 10_000

  private let limit: Int
  private let window: Int
  private var ring: [UInt64] = []
  private var next = 0
  private var counts: [UInt64: Int] = [:]

  /// - Parameter share: 1 bounds nobody.
  init(_ share: Double, window: Int = Self.window) {
    self.window = window
    limit = share >= 1 ? .max : max(1, Int(share * Double(window)))
  }

  /// Takes one more interaction of the user, unless they have their share.
  mutating func admit(_ user: UInt64) -> Bool {
    guard limit < .max else { return true }
    let count = counts[user, default: 0]
    guard count < max(limit, 3 * ring.count / max(1, counts.count)) else { return false }
    counts[user] = count + 1
    if ring.count < window {
      ring.append(user)
    } else {
      let leaving = ring[next]
      counts[leaving] = counts[leaving].flatMap { $0 > 1 ? $0 - 1 : nil }
      ring[next] = user
      next = next + 1 == window ? 0 : next + 1
    }
    return true
  }
}
