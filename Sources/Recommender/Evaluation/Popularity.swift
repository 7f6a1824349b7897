/// Items ordered by a count, where counts go up and down by one: each step, and the rank of an item, cost the same however large the
/// catalogue.
struct CountOrder: Sendable {
  /// Items by falling count; those with the count c stand in `atLeast[c + 1] ..< atLeast[c]`.
  private var order: [Int32]
  /// Where each item stands in `order`.
  private var place: [Int32]
  private(set) var counts: [Int32]
  /// How many items have at least this count. The last entry is 0.
  private var atLeast: [Int32]

  init(itemCount: Int) {
    order = (0..<Int32(itemCount)).map { $0 }
    place = order
    counts = Array(repeating: 0, count: itemCount)
    atLeast = [Int32(itemCount), 0]
  }

  var itemCount: Int { counts.count }

  /// New items come with the count 0.
  mutating func grow(to itemCount: Int) {
    for item in counts.count..<max(counts.count, itemCount) {
      order.append(Int32(item))
      place.append(Int32(item))
      counts.append(0)
      atLeast[0] += 1
    }
  }

  mutating func increment(_ item: Int32) {
    grow(to: Int(item) + 1)
    let count = Int(counts[Int(item)])
    move(item, to: atLeast[count + 1])
    if count + 2 == atLeast.count { atLeast.append(0) }
    atLeast[count + 1] += 1
    counts[Int(item)] += 1
  }

  /// The item's count must not be 0.
  mutating func decrement(_ item: Int32) {
    let count = Int(counts[Int(item)])
    move(item, to: atLeast[count] - 1)
    atLeast[count] -= 1
    counts[Int(item)] -= 1
  }

  /// How many items have at least this count.
  func itemCount(withAtLeast count: Int32) -> Int { count < atLeast.count ? Int(atLeast[Int(count)]) : 0 }

  func count(of item: Int32) -> Int32 { item < counts.count ? counts[Int(item)] : 0 }

  /// The items by falling count, the order within a count being that of their coming and going.
  var descending: [Int32] { order }

  private mutating func move(_ item: Int32, to target: Int32) {
    let from = place[Int(item)]
    let other = order[Int(target)]
    order[Int(target)] = item
    order[Int(from)] = other
    place[Int(item)] = target
    place[Int(other)] = from
  }
}

/// Recommends what most interactions were with, over all time.
public struct Popularity: Baseline {
  private var order: CountOrder

  public init(itemCount: Int = 0) {
    order = CountOrder(itemCount: itemCount)
  }

  /// How many interactions the item had.
  public func count(of item: Int32) -> Int { Int(order.count(of: item)) }

  public mutating func observe(_ item: Int32, after context: ArraySlice<Int32> = []) { order.increment(item) }

  public mutating func rank(of target: Int32, after context: ArraySlice<Int32>, excluding excluded: ArraySlice<Int32>) -> Int? {
    order.rank(of: target, excluding: excluded)
  }

  public mutating func top(_ limit: Int, after context: ArraySlice<Int32>, excluding excluded: ArraySlice<Int32>) -> [Int32] {
    let excluded = Set(excluded)
    return top(limit) { !excluded.contains($0) }
  }

  /// The first items that are allowed, only such as had an interaction.
  public func top(_ limit: Int, where isAllowed: (Int32) -> Bool) -> [Int32] { order.top(limit, where: isAllowed) }
}

/// Recommends what most of the last interactions were with: the list for users about whom nothing is known, and the baseline that a
/// live stream is held against.
///
/// Exact; an interaction costs two swaps, a rank one look-up and the excluded items. Items of equal count stand in an order that depends
/// only on the interactions so far.
public struct RecentPopularity: Baseline {
  private var order: CountOrder
  private var ring: [Int32] = []
  private var next = 0
  /// How many interactions are counted.
  public let window: Int

  /// - Parameter window: at least 1.
  public init(itemCount: Int = 0, window: Int) {
    precondition(window > 0, "a window holds at least one interaction")
    order = CountOrder(itemCount: itemCount)
    self.window = window
  }

  /// How many of the interactions in the window were with the item.
  public func count(of item: Int32) -> Int { Int(order.count(of: item)) }

  public mutating func observe(_ item: Int32, after context: ArraySlice<Int32> = []) {
    order.increment(item)
    if ring.count < window {
      ring.append(item)
    } else {
      order.decrement(ring[next])
      ring[next] = item
      next = next + 1 == window ? 0 : next + 1
    }
  }

  public mutating func rank(of target: Int32, after context: ArraySlice<Int32>, excluding excluded: ArraySlice<Int32>) -> Int? {
    order.rank(of: target, excluding: excluded)
  }

  public mutating func top(_ limit: Int, after context: ArraySlice<Int32>, excluding excluded: ArraySlice<Int32>) -> [Int32] {
    let excluded = Set(excluded)
    return top(limit) { !excluded.contains($0) }
  }

  /// The target's rank among what is not excluded; nil for one that is.
  ///
  /// - Parameter excluded: no item twice.
  public func rank(of target: Int32, excludingDistinct excluded: ArraySlice<Int32>) -> Int? { order.rank(of: target, excludingDistinct: excluded) }

  /// The first items that are allowed, only such as stand in the window.
  public func top(_ limit: Int, where isAllowed: (Int32) -> Bool) -> [Int32] { order.top(limit, where: isAllowed) }
}

extension CountOrder {
  func rank(of target: Int32, excluding excluded: ArraySlice<Int32>) -> Int? { rank(of: target, excludingDistinct: Set(excluded)) }

  func rank(of target: Int32, excludingDistinct excluded: some Sequence<Int32>) -> Int? {
    let count = count(of: target)
    var before = itemCount(withAtLeast: count)
    if target < itemCount { before -= 1 }
    for item in excluded {
      if item == target { return nil }
      if item < itemCount, counts[Int(item)] >= count { before -= 1 }
    }
    return before
  }

  func top(_ limit: Int, where isAllowed: (Int32) -> Bool) -> [Int32] {
    var result: [Int32] = []
    result.reserveCapacity(limit)
    for item in descending {
      if result.count >= limit || counts[Int(item)] == 0 { break }
      if isAllowed(item) { result.append(item) }
    }
    return result
  }
}
