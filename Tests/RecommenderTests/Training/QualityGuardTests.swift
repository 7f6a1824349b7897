import Testing

@testable import Recommender

struct QualityGuardTests {
  /// Runs blocks in which model and popularity hit with the given chances; the verdict of each block.
  private func verdicts(
    _ blocks: [(model: Double, popularity: Double)], _ configuration: QualityGuard.Configuration = .init(), seed: UInt64 = 1, burst: Int = 1
  ) -> [QualityGuard.Verdict] {
    var random = Xoshiro256(seed: seed)
    var watch = QualityGuard(configuration)
    var result: [QualityGuard.Verdict] = []
    for block in blocks {
      var hits = (model: false, popularity: false)
      for event in 0..<configuration.blockEvents {
        if event % burst == 0 { hits = (random.nextUnit() < block.model, random.nextUnit() < block.popularity) }
        let verdict = watch.record(model: hits.model ? 0 : nil, popularity: hits.popularity ? 0 : nil)
        if verdict != .pending {
          result.append(verdict)
          #expect(event == configuration.blockEvents - 1)
        }
      }
    }
    #expect(result.count == blocks.count)
    return result
  }

  private func fell(_ verdict: QualityGuard.Verdict) -> Bool { if case .fallen = verdict { true } else { false } }

  @Test func aModelThatKeepsItsLeadIsGood() {
    // Among very many blocks the luckiest must not become the bar for all that follow.
    for seed in 0..<UInt64(4) {
      #expect(!verdicts([(Double, Double)](repeating: (0.3, 0.1), count: 200), seed: seed).contains(where: fell))
    }
  }

  @Test func aModelThatFallsIsFoundInTheNextBlock() {
    let result = verdicts([(0.3, 0.1), (0.3, 0.1), (0.12, 0.1)])
    #expect(result.map(fell) == [false, false, true])
    guard case .fallen(let now, let good) = result[2] else { return }
    #expect(abs(now - 0.12) < 0.04 && abs(good - 0.3) < 0.04)
  }

  @Test func eventsThatGotHarderForEverybodyAreNotTheModelsFault() {
    #expect(!verdicts([(0.3, 0.2), (0.15, 0.05), (0.15, 0.05)]).contains(where: fell))
  }

  @Test func aSlowDeclineDoesNotTakeTheBarWithIt() {
    let decline = (0..<12).map { (model: 0.4 - 0.015 * Double($0), popularity: 0.1) }
    #expect(verdicts(decline).contains(where: fell))
  }

  @Test func aSmallFallIsNeverActedOn() {
    let configuration = QualityGuard.Configuration(relativeDrop: 0.2, significance: 3, blockEvents: 20_000)
    #expect(!verdicts([(0.4, 0.1), (0.36, 0.1), (0.36, 0.1)], configuration).contains(where: fell))
    #expect(verdicts([(0.4, 0.1), (0.25, 0.1)], configuration).contains(where: fell))
  }

  @Test func aFallWithinTheNoiseIsNotSignificant() {
    let configuration = QualityGuard.Configuration(relativeDrop: 0.05, significance: 4, blockEvents: 1_000)
    for seed in 0..<UInt64(20) {
      #expect(!verdicts([(Double, Double)](repeating: (0.3, 0.1), count: 10), configuration, seed: seed).contains(where: fell))
    }
  }

  /// Events of one user that hit or miss together are not independent evidence.
  @Test func burstsDoNotLookLikeSignificance() {
    let configuration = QualityGuard.Configuration(relativeDrop: 0.1, significance: 3, blockEvents: 2_000)
    var falls = 0
    for seed in 0..<UInt64(40) {
      falls += verdicts([(Double, Double)](repeating: (0.3, 0.1), count: 6), configuration, seed: seed, burst: 50).count(where: fell)
    }
    #expect(falls <= 4, "of 200 blocks of the same quality \(falls) were taken for a fall")
  }

  @Test func withoutADropTheGuardIsOff() {
    let configuration = QualityGuard.Configuration(relativeDrop: 0, significance: 3, blockEvents: 500)
    #expect(!verdicts([(0.5, 0.1), (0, 0.1), (0, 0.1)], configuration).contains(where: fell))
  }
}
