public import Recommender
public import StateStore

/// What a list that is asked for may hold, and how much.
public struct ListFilter: Sendable, Equatable {
  /// How many items at most.
  public var count: Int
  /// Only items of at least one of these categories; empty allows all.
  public var categories: Set<String>
  /// External ids of items that are left out.
  public var excluded: Set<String>

  public init(count: Int, categories: Set<String> = [], excluded: Set<String> = []) {
    self.count = count
    self.categories = categories
    self.excluded = excluded
  }

  /// Whether an item may be in the list, as it stands in the catalogue now.
  func allows(_ item: CatalogueItem) -> Bool {
    guard item.row != nil, item.description?.available ?? true, !excluded.contains(item.id) else { return false }
    return categories.isEmpty || !categories.isDisjoint(with: item.description?.categories ?? [])
  }
}

/// A list as it is asked for over HTTP.
public struct RequestedList: Sendable {
  /// Where a list comes from.
  public enum Source: Sendable {
    /// The candidate pool whose first items are published.
    case published
    /// Ranked for this request.
    case fresh
    /// What is popular of late: nothing is known that a list of their own could be made of.
    case popular
  }

  public struct Entry: Sendable {
    public var item: CatalogueItem
    public var score: Float
  }

  public var source: Source
  /// Best first.
  public var items: [Entry]
  /// Of the published list.
  public var revision: UInt64?
  /// Of the snapshot that ranked it.
  public var modelVersion: UInt64?
  /// Milliseconds since 1970 at which it was ranked.
  public var madeTime: Int64?
}

/// Why an item is in a list.
public struct Explanation: Sendable {
  /// So many items of the sequence explain one that is recommended.
  static let nearestItems = 3

  /// The items of the user's sequence whose vectors are most similar to it, best first, with their cosine similarities.
  public var nearest: [RequestedList.Entry] = []
  /// What its score is the sum of; nil when nothing is known of what the user did.
  public var parts: ScoreParts?
  /// The ID embedding's share of its vector, the rest being the content's: see `ModelSnapshot.idShare(_:)`.
  public var idShare: Float?
}

extension ReadTransaction {
  /// The first items of a ranking that may be recommended now and that the filter allows, no more of a category than the cap allows.
  ///
  /// - Parameter categoryCap: 0 is no cap.
  func select(
    _ ranking: some Sequence<(StoredItemNumber, Float)>, _ filter: ListFilter, categoryCap: Int
  ) throws(StateStoreError) -> [RequestedList.Entry] {
    var cap = CategoryCap(categoryCap)
    var result: [RequestedList.Entry] = []
    for (number, score) in ranking {
      if result.count == filter.count { break }
      guard let item = try item(number), filter.allows(item), cap.take(item.description?.categories ?? []) else { continue }
      result.append(RequestedList.Entry(item: item, score: score))
    }
    return result
  }
}

/// Counts the items of each category in a list, up to a cap.
struct CategoryCap {
  private let cap: Int
  private var counts: [String: Int] = [:]

  /// - Parameter cap: 0 is no cap.
  init(_ cap: Int) { self.cap = cap }

  /// Whether an item of these categories has room; it is counted then.
  mutating func take(_ categories: [String]) -> Bool {
    guard cap > 0 else { return true }
    guard categories.allSatisfy({ counts[$0, default: 0] < cap }) else { return false }
    for category in categories { counts[category, default: 0] += 1 }
    return true
  }
}
