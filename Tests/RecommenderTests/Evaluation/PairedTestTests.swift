import Recommender
import TestSupport
import Testing

@Suite struct PairedTestTests {
  @Test func `few cases give the exact share of sign patterns`() {
    // Of the 2⁵ sums of ±1 … ±5 only the two extreme ones reach 15: p = 1/16.
    var generator = SeededGenerator(seed: 1)
    let test = PairedTest([1, 2, 3, 4, 5], [0, 0, 0, 0, 0], permutations: 200_000, using: &generator)
    #expect(abs(test.pValue - 1.0 / 16) < 0.002)
    #expect(test.meanDifference == 3)
    #expect(test.relativeDifference == nil)
    #expect(abs(test.standardError - 0.5.squareRoot()) < 1e-12)
    #expect(abs(test.t - 3 / 0.5.squareRoot()) < 1e-12)
    #expect(abs(test.interval.lowerBound - (3 - 1.96 * 0.5.squareRoot())) < 1e-12)
  }

  @Test func `systems that never differ are not told apart`() {
    var generator = SeededGenerator(seed: 1)
    let test = PairedTest([1, 0, 1], [1, 0, 1], permutations: 100, using: &generator)
    #expect(test.pValue == 1)
    #expect(test.t == 0)
    #expect(test.relativeDifference == 0)
  }

  @Test func `the order of the two systems changes nothing but the sign`() {
    var values = SeededGenerator(seed: 5)
    let a = (0..<300).map { _ in Double.random(in: 0...1, using: &values) }
    let b = a.map { $0 + Double.random(in: -0.5...0.45, using: &values) }
    var first = SeededGenerator(seed: 9)
    var second = SeededGenerator(seed: 9)
    let forward = PairedTest(a, b, permutations: 2000, using: &first)
    let backward = PairedTest(b, a, permutations: 2000, using: &second)
    #expect(forward.pValue == backward.pValue)
    #expect(forward.meanDifference == -backward.meanDifference)
  }

  @Test func `a small real gain is significant over many cases, and noise is not more often than it should be`() {
    var generator = SeededGenerator(seed: 11)
    let base = (0..<3000).map { _ in Double.random(in: 0...1, using: &generator) }
    let better = base.map { $0 + 0.01 + Double.random(in: -0.1...0.1, using: &generator) }
    #expect(PairedTest(better, base, permutations: 2000, using: &generator).pValue < 0.001)

    var falseAlarms = 0
    for _ in 0..<200 {
      let a = (0..<50).map { _ in Double.random(in: -1...1, using: &generator) }
      if PairedTest(a, Array(repeating: 0, count: 50), permutations: 200, using: &generator).pValue < 0.05 { falseAlarms += 1 }
    }
    // 10 are expected; more than 25 or fewer than 1 would be a chance below 1 in 10,000.
    #expect(1...25 ~= falseAlarms)
  }

  @Test func `seeds are summed up by the sample's deviation`() {
    let summary = SeedSummary([2, 4, 9])
    #expect(summary.mean == 5)
    #expect(abs(summary.standardDeviation - 13.0.squareRoot()) < 1e-12)
    #expect(SeedSummary([7]).standardDeviation == 0)
    #expect(SeedSummary([]).mean == 0)
  }
}
