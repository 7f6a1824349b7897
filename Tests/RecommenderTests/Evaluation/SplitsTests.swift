import Recommender
import TestSupport
import Testing

@Suite struct SplitsTests {
  @Test func `the last event is the test, the one before it the validation`() {
    let split = LeaveOneOut(offsets: [0, 4, 6, 9, 9])
    #expect(split.userCount == 4)
    #expect((0..<4).map { split.training($0) } == [0..<2, 4..<6, 6..<7, 9..<9])
    #expect((0..<4).map { split.validation($0) } == [2, nil, 7, nil])
    #expect((0..<4).map { split.test($0) } == [3, nil, 8, nil])
  }

  private func day(_ days: Double) -> Int64 { Int64(days * 86_400_000) }

  @Test func `blocks of a day hold whole days, and so does the warm-up`() {
    // Two events a day, the second just before midnight; the first days are before 1970.
    let times = (-2..<4).flatMap { [day(Double($0)), day(Double($0) + 1) - 1] }
    let split = Prequential(times: times, count: 12, warmupFraction: 0.25, block: .day)
    #expect(split.warmup == 0..<4)
    #expect(split.blocks == [4..<6, 6..<8, 8..<10, 10..<12])
    #expect(Prequential(times: times, count: 12, warmupFraction: 0, block: .day).blocks.count == 6)
    #expect(Prequential(times: times, count: 12, warmupFraction: 1, block: .day).blocks.isEmpty)
  }

  @Test func `blocks of an event need no times`() {
    let split = Prequential(times: [], count: 5, warmupFraction: 0.5, block: .event)
    #expect(split.warmup == 0..<3)
    #expect(split.blocks == [3..<4, 4..<5])
  }

  @Test func `each event is warmed up with or predicted, once and in order`() {
    var generator = SeededGenerator(seed: 8)
    for _ in 0..<50 {
      let times = (0..<Int.random(in: 0..<60, using: &generator)).map { _ in Int64.random(in: 0..<day(9), using: &generator) }.sorted()
      let split = Prequential(times: times, count: times.count, warmupFraction: .random(in: 0...1, using: &generator), block: .day)
      #expect(Array(split.warmup) + split.blocks.flatMap { Array($0) } == Array(times.indices))
      #expect(([split.warmup] + split.blocks).dropFirst().allSatisfy { block in
        block.allSatisfy { times[$0] / day(1) == times[block.lowerBound] / day(1) }
          && (block.lowerBound == 0 || times[block.lowerBound] / day(1) > times[block.lowerBound - 1] / day(1))
      })
    }
  }

  @Test func `a period is tested without the items that no period before it had`() {
    let users: [Int32] = [0, 0, 1, 1, 1, 1, 2, 2, 3, 3]
    let items: [Int32] = [0, 1, 0, 7, 1, 0, 7, 0, 7, 7]
    let periods: [Int32] = [0, 0, 1, 1, 1, 1, 1, 1, 2, 2]
    let split = Periods(users: users, items: items, periods: periods)
    #expect(split.count == 3)
    #expect((0..<3).map { Array(split.training($0)) } == [[0, 1], [2, 3, 4, 5, 6, 7], [8, 9]])
    // User 2 is left with one event, which leaves nothing to predict.
    let tests = split.tests(1)
    #expect(tests.events == [2, 4, 5])
    #expect(tests.offsets == [0, 3])
    #expect(tests.caseCount == 2)
    #expect(split.tests(0).caseCount == 0)
    // Item 7 came in period 1.
    #expect(split.tests(2).events == [8, 9])
  }

  @Test func `a user of two periods is tested in each from its own events`() {
    let split = Periods(users: [0, 0, 0, 0], items: [0, 1, 1, 0], periods: [0, 0, 1, 1])
    #expect(split.tests(1).events == [2, 3])
    #expect(split.tests(1).offsets == [0, 2])
  }

  @Test func `no events are no periods`() {
    #expect(Periods(users: [], items: [], periods: []).count == 0)
  }
}
