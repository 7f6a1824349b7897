import StateStore
import TestSupport
import Testing

@testable import Pipeline

struct RecentListsTests {
  private func list(_ user: String, _ items: [UInt32], revision: UInt64 = 1) -> RecentLists.List {
    RecentLists.List(
      user: user, items: items.map { StoredItemNumber(rawValue: $0) }, revision: revision, modelVersion: 10 * revision, madeTime: Int64(revision))
  }

  /// A change's moves as item, place before and place now; 0 is none.
  private func moves(_ change: ListChange) -> [[Int]] { change.moves.map { [Int($0.item.rawValue), $0.from ?? 0, $0.to ?? 0] } }

  @Test func onlyTheNewestListsCount() {
    var random = SeededGenerator(seed: 1)
    let recent = RecentLists(window: 7)
    var lists: [RecentLists.List] = []
    for revision in 1...200 {
      lists.append(list("u\(random.below(3))", (0..<random.below(4)).map { _ in UInt32(random.below(12)) }, revision: UInt64(revision)))
      recent.add(lists[lists.count - 1])
      if random.below(10) == 0 {
        recent.remove("u1")
        lists = lists.suffix(7).map { $0.user == "u1" ? list("", []) : $0 }
      }
      #expect(recent.itemCount == Set(lists.suffix(7).flatMap(\.items)).count)
      let own = lists.suffix(7).filter { $0.user == "u2" }.map(\.revision)
      #expect(recent.changes(of: "u2", limit: 3).map(\.revision) == own.dropFirst().suffix(3).reversed())
    }
  }

  @Test func aChangeNamesWhatCameMovedAndLeft() {
    let recent = RecentLists(window: 10)
    recent.add(list("u", [1, 2, 3, 4], revision: 1))
    #expect(recent.changes(of: "u", limit: 9) == [], "before it nothing is known")
    recent.add(list("v", [9], revision: 5))
    recent.add(list("u", [5, 1, 3, 2], revision: 2))
    recent.add(list("u", [5, 1, 3, 2], revision: 4))
    let changes = recent.changes(of: "u", limit: 9)
    #expect(changes.map(\.revision) == [4, 2] && changes.map(\.modelVersion) == [40, 20] && changes.map(\.madeTime) == [4, 2])
    #expect(moves(changes[0]) == [])
    #expect(moves(changes[1]) == [[5, 0, 1], [1, 1, 2], [2, 2, 4], [4, 4, 0]])
    #expect(recent.changes(of: "u", limit: 1).map(\.revision) == [4])
  }
}
