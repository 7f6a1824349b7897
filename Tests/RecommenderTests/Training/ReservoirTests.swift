import Testing

@testable import Recommender

struct ReservoirTests {
  private func example(_ user: UInt64) -> TrainingExample {
    TrainingExample(user: user, events: [ItemEvent(item: 1), ItemEvent(item: 2)], pool: [3], shown: [4])
  }

  @Test func everythingOfferedHasTheSameChance() {
    var random = Xoshiro256(seed: 1)
    var counts = [Int](repeating: 0, count: 60)
    for _ in 0..<4_000 {
      var reservoir = Reservoir(capacity: 6)
      for user in 0..<60 { reservoir.offer(example(UInt64(user)), using: &random) }
      #expect(reservoir.examples.count == 6 && reservoir.seen == 60)
      for kept in reservoir.examples { counts[Int(kept.user)] += 1 }
    }
    // 59 degrees of freedom: above 98.3 once in a thousand.
    #expect(counts.reduce(0.0) { $0 + (Double($1) - 400) * (Double($1) - 400) / 400 } < 98.3)
  }

  @Test func aForgottenUserIsGoneAndTheOthersStay() {
    var random = Xoshiro256(seed: 1)
    var reservoir = Reservoir(capacity: 50)
    for index in 0..<40 { reservoir.offer(example(UInt64(index % 4)), using: &random) }
    reservoir.forget(user: 2)
    #expect(reservoir.examples.map(\.user).sorted() == [0, 1, 3].flatMap { [UInt64](repeating: $0, count: 10) })
    #expect(reservoir.draw(200, using: &random).allSatisfy { $0.user != 2 })
  }

  @Test func poolsAreNotKeptAndShownItemsAre() {
    var random = Xoshiro256(seed: 1)
    var reservoir = Reservoir(capacity: 2)
    reservoir.offer(example(1), using: &random)
    #expect(reservoir.examples[0].pool.isEmpty)
    #expect(reservoir.examples[0].shown == [4])
  }

  @Test func withoutRoomNothingIsKeptOrDrawn() {
    var random = Xoshiro256(seed: 1)
    var reservoir = Reservoir(capacity: 0)
    reservoir.offer(example(1), using: &random)
    #expect(reservoir.examples.isEmpty && reservoir.draw(5, using: &random).isEmpty)
  }
}
