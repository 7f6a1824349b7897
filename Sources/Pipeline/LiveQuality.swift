import Recommender
import StateStore

/// One accepted interaction, scored against what the user had been recommended before anything was learned from it (test-then-train).
struct PrequentialCase: Sendable {
  var user = ""
  var item: StoredItemNumber
  /// Whether the user has the item already: who comes back to it does not make it more popular.
  var isRepeat = false
  /// The user's place in life: how many interactions came before.
  var userInteractions: Int
  /// The target's place in the user's candidate pool; nil when it was not in it or there was none.
  var poolRank: Int?
  /// False for a user without a pool: then the guests' list was theirs.
  var hadPool: Bool
}

/// Interactions that wait to be scored, with what may not be recommended to their users, all of it side by side.
struct PrequentialCases {
  private var cases: [(event: PrequentialCase, excluded: Range<Int>?)] = []
  private var excluded: [Int32] = []
  /// Kept for its room.
  private var sorted: [Int32] = []

  /// - Parameter items: those that may not be recommended to the user.
  mutating func append(_ event: PrequentialCase, excluding items: some Sequence<Int32>) {
    sorted.removeAll(keepingCapacity: true)
    sorted.append(contentsOf: items)
    guard !sorted.contains(Int32(bitPattern: event.item.rawValue)) else {
      cases.append((event, nil))
      return
    }
    sorted.sort()
    let first = excluded.endIndex
    for item in sorted where excluded.endIndex == first || item != excluded[excluded.endIndex - 1] { excluded.append(item) }
    cases.append((event, first..<excluded.endIndex))
  }

  mutating func removeAll() {
    cases.removeAll(keepingCapacity: true)
    excluded.removeAll(keepingCapacity: true)
  }

  var count: Int { cases.count }

  /// - Parameter body: its second argument has the items that may not be recommended to the user, each once; it is nil when the interaction's is one of
  ///   them, so that no list could hold it.
  func forEach(_ body: (PrequentialCase, ArraySlice<Int32>?) -> Void) {
    for (event, excluded) in cases { body(event, excluded.map { self.excluded[$0] }) }
  }
}

/// Live quality of the recommendations beside recent popularity on the same events, over a sliding window. One thread owns it.
struct LiveQuality {
  /// Up to so many events an item, or a user, counts as new.
  static let newUntil = 5

  private(set) var all: Pair
  private(set) var newItems: Pair
  private(set) var newUsers: Pair
  /// Whether the item was anywhere in the user's candidate pool, for users that have one.
  private(set) var poolHits: SlidingMetrics
  private(set) var popularity: RecentPopularity
  /// For those of whom nothing is known. A longer memory suits them better than it does the baseline for everybody.
  private(set) var guests: RecentPopularity
  private var itemEvents: [UInt32] = []

  struct Pair {
    var model: SlidingMetrics
    var popularity: SlidingMetrics

    init(window: Int) {
      model = SlidingMetrics(capacity: window)
      popularity = SlidingMetrics(capacity: window)
    }

    mutating func record(model rank: Int?, popularity other: Int?) {
      model.record(rank: rank)
      popularity.record(rank: other)
    }
  }

  /// - Parameters: windows in events.
  init(window: Int, popularityWindow: Int, guestWindow: Int) {
    all = Pair(window: window)
    newItems = Pair(window: window)
    newUsers = Pair(window: window)
    poolHits = SlidingMetrics(capacity: window)
    popularity = RecentPopularity(window: popularityWindow)
    guests = RecentPopularity(window: guestWindow)
  }

  /// Scores the interaction, then counts it for popularity.
  ///
  /// - Parameter excluded: as ``PrequentialCases/forEach(_:)`` has it.
  /// - Returns: the ranks of model and popularity, nil when the interaction could not be scored.
  @discardableResult
  mutating func record(_ event: PrequentialCase, excluded: ArraySlice<Int32>?) -> (model: Int?, popularity: Int?)? {
    let item = Int32(bitPattern: event.item.rawValue)
    var ranks: (model: Int?, popularity: Int?)?
    if let excluded {
      func rank(_ order: RecentPopularity) -> Int? {
        order.count(of: item) > 0 ? order.rank(of: item, excludingDistinct: excluded) : nil
      }
      let popular = rank(popularity)
      let model = event.hadPool ? event.poolRank : rank(guests)
      all.record(model: model, popularity: popular)
      if event.hadPool { poolHits.record(rank: event.poolRank.map { _ in 0 }) }
      if events(of: event.item) <= Self.newUntil { newItems.record(model: model, popularity: popular) }
      if event.userInteractions <= Self.newUntil { newUsers.record(model: model, popularity: popular) }
      ranks = (model, popular)
    }
    count(event.item, isRepeat: event.isRepeat)
    return ranks
  }

  /// Counts an interaction of the past that is not scored again.
  mutating func count(_ item: StoredItemNumber, isRepeat: Bool = false) {
    let index = Int(item.rawValue)
    if index >= itemEvents.count { itemEvents.append(contentsOf: repeatElement(0, count: index + 1 - itemEvents.count)) }
    itemEvents[index] += 1
    if isRepeat { return }
    popularity.observe(Int32(bitPattern: item.rawValue))
    guests.observe(Int32(bitPattern: item.rawValue))
  }

  /// The interactions with an item that were seen.
  func events(of item: StoredItemNumber) -> Int { Int(item.rawValue) < itemEvents.count ? Int(itemEvents[Int(item.rawValue)]) : 0 }
}
