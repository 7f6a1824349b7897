/// How many different items stand in the newest published lists. One thread owns it.
struct CatalogueCoverage {
  private let window: Int
  /// The newest lists in a ring.
  private var lists: [[String]] = []
  private var next = 0
  private var counts: [String: Int] = [:]

  /// - Parameter window: in lists; at least 1.
  init(window: Int) { self.window = window }

  /// Different items in the window's lists.
  var itemCount: Int { counts.count }

  mutating func add(_ items: [String]) {
    for item in items { counts[item, default: 0] += 1 }
    guard lists.count == window else {
      lists.append(items)
      return
    }
    for item in lists[next] {
      let left = counts[item, default: 1] - 1
      counts[item] = left > 0 ? left : nil
    }
    lists[next] = items
    next = (next + 1) % window
  }
}
