import Recommender
import TestSupport
import Testing

@Suite struct RankingMetricsTests {
  @Test func `a single rank gives the textbook values`() {
    #expect(RankingMetric.hitRate(5).value(rank: 4) == 1)
    #expect(RankingMetric.hitRate(5).value(rank: 5) == 0)
    #expect(RankingMetric.ndcg(10).value(rank: 0) == 1)
    #expect(abs(RankingMetric.ndcg(10).value(rank: 1) - 0.6309297535714575) < 1e-15)
    #expect(RankingMetric.ndcg(10).value(rank: 2) == 0.5)
    #expect(RankingMetric.ndcg(10).value(rank: 10) == 0)
    #expect(RankingMetric.mrr(20).value(rank: 3) == 0.25)
    #expect(RankingMetric.mrr(20).value(rank: 20) == 0)
  }

  @Test func `means are over all cases, misses among them`() {
    var metrics = RankingMetrics(keepsCases: true)
    for rank in [0, 4, 5, 19, 20, nil] { metrics.record(rank: rank) }
    #expect(metrics.count == 6)
    #expect(abs(metrics.mean(.hitRate(5)) - 2.0 / 6) < 1e-15)
    #expect(abs(metrics.mean(.hitRate(10)) - 3.0 / 6) < 1e-15)
    #expect(abs(metrics.mean(.hitRate(20)) - 4.0 / 6) < 1e-15)
    #expect(abs(metrics.mean(.mrr(5)) - (1 + 0.2) / 6) < 1e-15)
    let reciprocals: [Double] = [1, 0.2, 1.0 / 6, 0.05, 0, 0]
    #expect(metrics.cases(.mrr(20)) == reciprocals)
    #expect(metrics.means.map(\.name) == ["HR@5", "NDCG@5", "MRR@5", "HR@10", "NDCG@10", "MRR@10", "HR@20", "NDCG@20", "MRR@20"])
    for metric in RankingMetric.all {
      #expect(abs(metrics.mean(metric) - metrics.cases(metric).reduce(0, +) / 6) < 1e-12)
    }
  }

  @Test func `no cases mean 0`() {
    #expect(RankingMetrics().mean(.ndcg(10)) == 0)
    #expect(SlidingMetrics(capacity: 3).mean(.ndcg(10)) == 0)
  }

  @Test func `merging equals recording all in one`() {
    var a = RankingMetrics(keepsCases: true)
    var b = RankingMetrics(keepsCases: true)
    var whole = RankingMetrics(keepsCases: true)
    for rank in [3, 0, 17] {
      a.record(rank: rank)
      whole.record(rank: rank)
    }
    for rank in [9, nil, 1] {
      b.record(rank: rank)
      whole.record(rank: rank)
    }
    a.merge(b)
    #expect(a == whole)
  }

  @Test func `ties count against the target`() {
    #expect(RankingMetrics.rank(of: 1, in: [3, 2, 2, 1]) == 2)
    #expect(RankingMetrics.rank(of: 0, in: [3, 2, 2, 1]) == 0)
    #expect(RankingMetrics.rank(of: 2, in: [7, 7, 7, 7]) == 3)
  }

  @Test func `excluded items leave their places, however often they are named`() {
    #expect(RankingMetrics.rank(of: 3, in: [4, 3, 2, 1], excluding: [0, 2, 0]) == 1)
    #expect(RankingMetrics.rank(of: 1, in: [4, 3, 2, 1], excluding: [2, 3, 99]) == 1)
    #expect(RankingMetrics.rank(of: 1, in: [4, 3, 2, 1], excluding: [1]) == nil)
  }

  @Test func `a score that is no number never helps the target`() {
    #expect(RankingMetrics.rank(of: 0, in: [.nan, 1, 2]) == 2)
    #expect(RankingMetrics.rank(of: 1, in: [.nan, 1, 0]) == 1)
  }

  @Test func `sliding metrics equal those of the last cases alone`() {
    var generator = SeededGenerator(seed: 3)
    for capacity in [1, 7, 50] {
      var sliding = SlidingMetrics(capacity: capacity)
      var all: [Int?] = []
      for _ in 0..<200 {
        let rank = Int.random(in: 0..<4, using: &generator) == 0 ? nil : Int.random(in: 0..<30, using: &generator)
        all.append(rank)
        sliding.record(rank: rank)
        var last = RankingMetrics()
        for rank in all.suffix(capacity) { last.record(rank: rank) }
        #expect(sliding.count == last.count)
        #expect(RankingMetric.all.allSatisfy { sliding.mean($0) == last.mean($0) })
      }
    }
  }
}
