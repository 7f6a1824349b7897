import Foundation
import Recommender
import StateStore
import TestSupport
import Testing

@testable import Pipeline

struct LiveQualityTests {
  /// The definition, over all events again for each.
  struct Plain {
    var window: Int
    var popularityWindow: Int
    var guestWindow: Int
    var past: [UInt32] = []
    var ranks: [String: [(model: Int?, popularity: Int?)]] = ["all": [], "items": [], "users": []]
    var poolHits: [Bool] = []

    mutating func record(_ event: PrequentialCase, excluded: ArraySlice<Int32>?) {
      let item = event.item.rawValue
      if let excluded {
        func rank(_ window: Int) -> Int? {
          var counts: [UInt32: Int] = [:]
          for seen in past.suffix(window) { counts[seen, default: 0] += 1 }
          return counts[item].map { own in counts.count { $0.key != item && $0.value >= own && !excluded.contains(Int32($0.key)) } }
        }
        let pair = (model: event.hadPool ? event.poolRank : rank(guestWindow), popularity: rank(popularityWindow))
        ranks["all"]!.append(pair)
        if event.hadPool { poolHits.append(event.poolRank != nil) }
        if past.count(where: { $0 == item }) <= 5 { ranks["items"]!.append(pair) }
        if event.userInteractions <= 5 { ranks["users"]!.append(pair) }
      }
      past.append(item)
    }

    func mean(_ slice: String, _ rank: ((model: Int?, popularity: Int?)) -> Int?, _ gain: (Int) -> Double) -> Double {
      let last = ranks[slice]!.suffix(window)
      return last.isEmpty ? 0 : last.reduce(0) { $0 + (rank($1).map { $0 < 10 ? gain($0) : 0 } ?? 0) } / Double(last.count)
    }
  }

  @Test(arguments: 0..<8)
  func everyFigureAgreesWithThePlainForm(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var quality = LiveQuality(window: 40, popularityWindow: 60, guestWindow: 110)
    var plain = Plain(window: 40, popularityWindow: 60, guestWindow: 110)
    for step in 0..<300 {
      let item = UInt32(random.below(25) * random.below(3) / 2)
      let excluded = Array(Set((0..<random.below(6)).map { _ in Int32(random.below(30)) }.filter { $0 != Int32(item) }))
      let hadPool = random.below(3) > 0
      let event = PrequentialCase(
        item: StoredItemNumber(rawValue: item), userInteractions: random.below(12), poolRank: hadPool && random.below(2) == 0 ? random.below(25) : nil,
        hadPool: hadPool)
      let isExcluded = random.below(8) == 0
      quality.record(event, excluded: isExcluded ? nil : excluded[...])
      plain.record(event, excluded: isExcluded ? nil : excluded[...])
      guard step % 7 == 0 else { continue }
      for (name, pair) in [("all", quality.all), ("items", quality.newItems), ("users", quality.newUsers)] {
        let gains: [(RankingMetric, (Int) -> Double)] = [
          (.hitRate(10), { _ in 1 }), (.ndcg(10), { 1 / log2(Double($0 + 2)) }), (.mrr(10), { 1 / Double($0 + 1) }),
        ]
        for (metric, gain) in gains {
          #expect(abs(pair.model.mean(metric) - plain.mean(name, \.model, gain)) < 1e-12, "\(metric.name) of \(name) at \(step)")
          #expect(abs(pair.popularity.mean(metric) - plain.mean(name, \.popularity, gain)) < 1e-12, "popularity's \(metric.name) of \(name) at \(step)")
        }
        #expect(pair.model.count == min(40, plain.ranks[name]!.count))
      }
      let hits = plain.poolHits.suffix(40)
      #expect(abs(quality.poolHits.mean(.hitRate(1)) - Double(hits.count { $0 }) / Double(max(1, hits.count))) < 1e-12)
    }
    #expect(plain.ranks["items"]!.count < plain.ranks["all"]!.count)
  }

  @Test func theGuestsListHasTheMostFrequentOfLate() {
    var quality = LiveQuality(window: 10, popularityWindow: 2, guestWindow: 6)
    for item in [1, 1, 1, 1, 2, 2, 2, 3, 3, 4] as [UInt32] { quality.count(StoredItemNumber(rawValue: item)) }
    // 1 has left the window.
    let list = quality.popularList(2)
    #expect(list.items.map(\.rawValue) == [2, 3])
    #expect(list.scores == [3, 2])
    #expect(quality.popularList(10).items.count == 3)
    #expect(quality.events(of: StoredItemNumber(rawValue: 1)) == 4)
  }
}
