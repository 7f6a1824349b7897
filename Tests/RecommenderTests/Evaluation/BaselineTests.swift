import Recommender
import TestSupport
import Testing

/// Plain references, written from the definitions: every score of the whole catalogue, nothing incremental.
private struct NaiveScores {
  var scores: [Float]
  var popularity: [Int]

  func rank(of target: Int32, excluding excluded: [Int32]) -> Int? {
    if excluded.contains(target) { return nil }
    let own = (scores[Int(target)], popularity[Int(target)])
    return scores.indices.count { item in
      item != target && !excluded.contains(Int32(item)) && (scores[item], popularity[item]) >= own
    }
  }

  /// Whether this is a list of the best items in order, equal ones in any order.
  func isTop(_ list: [Int32], limit: Int, excluding excluded: [Int32]) -> Bool {
    let best = scores.indices.filter { !excluded.contains(Int32($0)) && (scores[$0] > 0 || popularity[$0] > 0) }
      .map { (scores[$0], popularity[$0]) }.sorted { $0 > $1 }.prefix(limit)
    return Set(list).count == list.count && list.allSatisfy { !excluded.contains($0) }
      && list.map { (scores[Int($0)], popularity[Int($0)]) }.elementsEqual(best, by: ==)
  }
}

/// A small stream with few items, so that ties, repeats and returning users abound.
private func stream(seed: UInt64, count: Int, items: Int32, users: Int) -> [(item: Int32, context: [Int32])] {
  var generator = SeededGenerator(seed: seed)
  var histories = [[Int32]](repeating: [], count: users)
  return (0..<count).map { _ in
    let user = Int.random(in: 0..<users, using: &generator)
    // The lower of two draws: some items are more popular than others.
    let item = min(Int32.random(in: 0..<items, using: &generator), Int32.random(in: 0..<items, using: &generator))
    defer { histories[user].append(item) }
    return (item, histories[user])
  }
}

@Suite struct BaselineTests {
  private let itemCount: Int32 = 23

  /// Plays a stream through the baseline and holds each answer against the reference's.
  private func check(
    _ baseline: some Baseline, seed: UInt64, allowsRepeats: Bool,
    reference: (_ past: [(item: Int32, context: [Int32])], _ context: [Int32]) -> NaiveScores
  ) {
    var baseline = baseline
    var past: [(item: Int32, context: [Int32])] = []
    for event in stream(seed: seed, count: 220, items: itemCount, users: 12) {
      let expected = reference(past, event.context)
      let excluded = allowsRepeats ? [] : event.context
      for target in 0..<itemCount {
        #expect(
          baseline.rank(of: target, after: event.context[...], excluding: excluded[...]) == expected.rank(of: target, excluding: excluded))
      }
      for limit in [0, 1, 5, 100] {
        let list = baseline.top(limit, after: event.context[...], excluding: excluded[...])
        #expect(expected.isTop(list, limit: limit, excluding: excluded))
      }
      baseline.observe(event.item, after: event.context[...])
      past.append(event)
    }
  }

  private func counts(_ past: [(item: Int32, context: [Int32])]) -> [Int] {
    var counts = [Int](repeating: 0, count: Int(itemCount))
    for event in past { counts[Int(event.item)] += 1 }
    return counts
  }

  @Test(arguments: [false, true])
  func `popularity equals counting anew`(allowsRepeats: Bool) {
    check(Popularity(itemCount: Int(itemCount)), seed: 1, allowsRepeats: allowsRepeats) { past, _ in
      NaiveScores(scores: Array(repeating: 0, count: Int(itemCount)), popularity: counts(past))
    }
  }

  @Test(arguments: [1, 2, 17, 1000])
  func `recent popularity equals counting the window anew`(window: Int) {
    check(RecentPopularity(itemCount: Int(itemCount), window: window), seed: 2, allowsRepeats: false) { past, _ in
      NaiveScores(scores: Array(repeating: 0, count: Int(itemCount)), popularity: counts(past.suffix(window)))
    }
  }

  @Test(arguments: [false, true])
  func `the Markov chain equals counting what followed the last item`(allowsRepeats: Bool) {
    check(MarkovChain(itemCount: Int(itemCount)), seed: 3, allowsRepeats: allowsRepeats) { past, context in
      var scores = [Float](repeating: 0, count: Int(itemCount))
      for event in past where event.context.last != nil && event.context.last == context.last { scores[Int(event.item)] += 1 }
      return NaiveScores(scores: scores, popularity: counts(past))
    }
  }

  // Square roots round, so equal scores are equal only up to a tolerance: similarities are compared, not ranks.
  @Test func `ItemKNN's similarities equal those from whole histories`() {
    var knn = ItemKNN(itemCount: Int(itemCount), shrinkage: 3)
    var histories: [Int: Set<Int32>] = [:]
    var generator = SeededGenerator(seed: 4)
    for _ in 0..<400 {
      let user = Int.random(in: 0..<20, using: &generator)
      let item = Int32.random(in: 0..<itemCount, using: &generator)
      knn.observe(item, after: Array(histories[user, default: []])[...])
      histories[user, default: []].insert(item)
    }
    func users(_ items: Int32...) -> Float { Float(histories.values.count { history in items.allSatisfy(history.contains) }) }
    for item in 0..<itemCount {
      let neighbours = knn.neighbours(of: item, limit: .max)
      #expect(Set(neighbours.map(\.item)) == Set((0..<itemCount).filter { $0 != item && users(item, $0) > 0 }))
      #expect(neighbours.map(\.similarity) == neighbours.map(\.similarity).sorted(by: >))
      for (other, similarity) in neighbours {
        let common = users(item, other)
        let expected = common / (users(item) * users(other)).squareRoot() * common / (common + 3)
        #expect(abs(similarity - expected) < 1e-5)
      }
    }
  }

  @Test func `ItemKNN adds up the context with older items counting less`() {
    var knn = ItemKNN(decay: 0.5, shrinkage: 0)
    // Users of {0, 2}, {1, 3}: both pairs have similarity 1.
    knn.observe(0, after: [])
    knn.observe(2, after: [0])
    knn.observe(1, after: [])
    knn.observe(3, after: [1])
    #expect(knn.top(10, after: [0, 1], excluding: [0, 1]) == [3, 2])
    #expect(knn.top(10, after: [1, 0], excluding: [0, 1]) == [2, 3])
    #expect(knn.rank(of: 2, after: [0, 1], excluding: [0, 1]) == 1)
    #expect(knn.rank(of: 2, after: [1, 0], excluding: [0, 1]) == 0)
    #expect(knn.rank(of: 1, after: [1, 0], excluding: [0, 1]) == nil)
    // An item that nothing is known of comes last.
    #expect(knn.rank(of: 40, after: [1, 0], excluding: [0, 1]) == 2)
  }

  @Test func `ItemKNN keeps to the most similar items where it is told to`() {
    var knn = ItemKNN(shrinkage: 0, neighbourCount: 1)
    // Item 0 shares both its users with 1, one of them with 2.
    for user in [[0, 1, 2], [0, 1]] as [[Int32]] {
      for index in user.indices { knn.observe(user[index], after: user[..<index]) }
    }
    #expect(knn.neighbours(of: 0, limit: 5).map(\.item) == [1, 2])
    #expect(knn.rank(of: 1, after: [0], excluding: [0]) == 0)
    // 2 is left with its popularity.
    #expect(knn.top(5, after: [0], excluding: [0]) == [1, 2])
    #expect(knn.rank(of: 2, after: [0], excluding: [0]) == 1)
  }

  @Test func `a repeat is no further user`() {
    var knn = ItemKNN(shrinkage: 0)
    for (item, context) in [(0, []), (1, [0]), (0, [0, 1]), (1, [0, 1, 0])] as [(Int32, [Int32])] { knn.observe(item, after: context[...]) }
    #expect(knn.neighbours(of: 0, limit: 5).map(\.similarity) == [1])
  }

  @Test func `the popular list follows the rules it is given`() {
    var recent = RecentPopularity(window: 6)
    for item in [5, 5, 5, 3, 3, 9, 5, 5] as [Int32] { recent.observe(item) }
    // The first two have left the window.
    #expect([5, 3, 9].map { recent.count(of: $0) } == [3, 2, 1])
    #expect(recent.top(2) { _ in true } == [5, 3])
    #expect(recent.top(5) { $0 != 5 } == [3, 9])
  }
}
