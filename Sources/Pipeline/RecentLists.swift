public import StateStore
import Synchronization

/// The newest published lists of all users together: how many different items they show, and how a user's list changed. They are in memory
/// alone, so that they cost a user's record nothing, and begin anew with the daemon.
final class RecentLists: Sendable {
  struct List {
    var user: String
    /// Best first.
    var items: [StoredItemNumber]
    var revision: UInt64
    var modelVersion: UInt64
    /// Milliseconds since 1970 at which it was made.
    var madeTime: Int64
  }

  private struct State {
    /// A ring; nil in place of a list that was forgotten.
    var lists: [List?] = []
    var next = 0
    var counts: [StoredItemNumber: Int] = [:]

    mutating func take(_ index: Int) {
      for item in lists[index]?.items ?? [] {
        let left = counts[item, default: 1] - 1
        counts[item] = left > 0 ? left : nil
      }
      lists[index] = nil
    }
  }

  private let window: Int
  private let state = Mutex(State())

  /// - Parameter window: in lists; at least 1.
  init(window: Int = 10_000) { self.window = window }

  /// Different items in the window's lists.
  var itemCount: Int { state.withLock { $0.counts.count } }

  func add(_ list: List) {
    state.withLock { state in
      if state.lists.count < window { state.lists.append(nil) }
      state.take(state.next)
      state.lists[state.next] = list
      for item in list.items { state.counts[item, default: 0] += 1 }
      state.next = (state.next + 1) % window
    }
  }

  /// Forgets a user's lists.
  func remove(_ user: String) {
    state.withLock { state in
      for index in state.lists.indices where state.lists[index]?.user == user { state.take(index) }
    }
  }

  /// How the user's list changed from one to the next, the newest change first. A list's first publication in the window is no change.
  func changes(of user: String, limit: Int) -> [ListChange] {
    let lists = state.withLock { state in
      (state.lists[state.next...] + state.lists[..<state.next]).compactMap { $0 }.filter { $0.user == user }
    }
    return zip(lists, lists.dropFirst()).suffix(limit).reversed().map { ListChange(from: $0, to: $1) }
  }
}

/// How a published list differs from the one before it.
public struct ListChange: Sendable, Equatable {
  /// An item that stands elsewhere than before.
  public struct Move: Sendable, Equatable {
    public var item: StoredItemNumber
    /// The places in both lists, from 1; nil where the list does not have it.
    public var from: Int?
    public var to: Int?
  }

  /// Of the list that came.
  public var revision: UInt64
  public var modelVersion: UInt64
  /// Milliseconds since 1970 at which it was made.
  public var madeTime: Int64
  /// By the new list's order, then what left it.
  public var moves: [Move]

  init(from before: RecentLists.List, to list: RecentLists.List) {
    revision = list.revision
    modelVersion = list.modelVersion
    madeTime = list.madeTime
    let old = Dictionary(zip(before.items, 1...)) { first, _ in first }
    moves = zip(list.items, 1...).map { Move(item: $0, from: old[$0], to: $1) }.filter { $0.from != $0.to }
    let new = Set(list.items)
    moves += zip(before.items, 1...).filter { !new.contains($0.0) }.map { Move(item: $0, from: $1, to: nil) }
  }
}
