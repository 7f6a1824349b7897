import Foundation
import Testing

@testable import Recommender

struct NegativeSamplerTests {
  private func sampler(_ strategy: NegativeSampling, _ count: Int, temperature: Float = 0) -> NegativeSampler {
    NegativeSampler(strategy: strategy, count: count, rankTemperature: temperature)
  }

  /// Σ (observed − expected)² / expected.
  private func chiSquare(_ counts: [Int], expected: [Double]) -> Double {
    zip(counts, expected).reduce(0) { $0 + (Double($1.0) - $1.1) * (Double($1.0) - $1.1) / $1.1 }
  }

  @Test(arguments: NegativeSampling.allCases, [Float(0), 3])
  func noStrategyDrawsTheTargetOrTheContextOrARowTwice(strategy: NegativeSampling, temperature: Float) {
    var random = Xoshiro256(seed: 1)
    let pool: [Int32] = [5, 1, 9, 2, 7, 3]
    let excluded: Set<Int32> = [9, 5, 14]
    for _ in 0..<500 {
      let drawn = sampler(strategy, 3, temperature: temperature)
        .draw(pool: pool, live: (0..<20).map { $0 }, excluded: excluded.contains, using: &random)
      #expect(Set(drawn).count == drawn.count && excluded.isDisjoint(with: drawn))
      #expect(drawn.count == (strategy == .none ? 0 : 3))
      if strategy == .stochastic || strategy == .hard { #expect(Set(drawn).isSubset(of: pool)) }
    }
  }

  @Test(arguments: [NegativeSampling.stochastic, .hard, .uniform], [Float(0), 2])
  func aPoolThatHasNoMoreGivesFewer(strategy: NegativeSampling, temperature: Float) {
    var random = Xoshiro256(seed: 2)
    let drawn = sampler(strategy, 8, temperature: temperature).draw(pool: [4, 6, 5], live: [4, 5, 6], excluded: { $0 == 6 }, using: &random)
    #expect(drawn.sorted() == [4, 5])
    #expect(sampler(strategy, 8, temperature: temperature).draw(pool: [4], live: [4], excluded: { _ in true }, using: &random).isEmpty)
    #expect(sampler(strategy, 8, temperature: temperature).draw(pool: [], live: [], excluded: { _ in false }, using: &random).isEmpty)
  }

  @Test func hardIsTheTopOfThePoolInItsOrder() {
    var random = Xoshiro256(seed: 3)
    let drawn = sampler(.hard, 3).draw(pool: [8, 3, 6, 1, 2], live: [], excluded: { $0 == 3 }, using: &random)
    #expect(drawn == [8, 6, 1])
  }

  @Test func stochasticIsUniformOverThePool() {
    var random = Xoshiro256(seed: 4)
    let pool = (0..<20).map { Int32($0) }
    var counts = [Int](repeating: 0, count: 20)
    var first = counts
    let draws = 10_000
    for _ in 0..<draws {
      let drawn = sampler(.stochastic, 4).draw(pool: pool, live: [], excluded: { $0 == 7 }, using: &random)
      first[Int(drawn[0])] += 1
      for row in drawn { counts[Int(row)] += 1 }
    }
    #expect(counts[7] == 0)
    counts.remove(at: 7)
    first.remove(at: 7)
    // 18 degrees of freedom: above 42.3 once in a thousand.
    #expect(chiSquare(counts, expected: [Double](repeating: Double(draws) * 4 / 19, count: 19)) < 42.3)
    #expect(chiSquare(first, expected: [Double](repeating: Double(draws) / 19, count: 19)) < 42.3)
  }

  @Test func uniformIsUniformOverTheCatalogueWhateverThePool() {
    var random = Xoshiro256(seed: 5)
    var counts = [Int](repeating: 0, count: 30)
    for _ in 0..<10_000 {
      for row in sampler(.uniform, 2).draw(pool: [1, 2], live: (0..<30).map { $0 }, excluded: { $0 < 5 }, using: &random) { counts[Int(row)] += 1 }
    }
    #expect(counts[..<5].allSatisfy { $0 == 0 })
    // 24 degrees of freedom: above 51.2 once in a thousand.
    #expect(chiSquare(Array(counts[5...]), expected: [Double](repeating: 800, count: 25)) < 51.2)
  }

  @Test(arguments: [Float(0.7), 3, 20])
  func withATemperatureTheDrawFallsWithTheRankAsAPower(temperature: Float) {
    var random = Xoshiro256(seed: 6)
    let draws = 20_000
    var counts = [Int](repeating: 0, count: 6)
    for _ in 0..<draws {
      let drawn = sampler(.stochastic, 1, temperature: temperature)
        .draw(pool: [10, 11, 12, 13, 14, 15], live: [], excluded: { _ in false }, using: &random)
      counts[Int(drawn[0]) - 10] += 1
    }
    let weights = (0..<6).map { pow(Double($0 + 1), -1 / Double(temperature)) }
    let total = weights.reduce(0, +)
    // 5 degrees of freedom: above 20.5 once in a thousand.
    #expect(chiSquare(counts, expected: weights.map { $0 / total * Double(draws) }) < 20.5)
  }
}
