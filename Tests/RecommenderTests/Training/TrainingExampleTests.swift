import Testing

@testable import Recommender

struct TrainingExampleTests {
  private func example(_ user: UInt64, _ items: [ItemNumber], pool: [ItemNumber] = []) -> TrainingExample {
    TrainingExample(user: user, events: items.map { ItemEvent(item: $0, time: Int64($0)) }, pool: pool)
  }

  @Test func examplesThatFollowOnEachOtherBecomeOneSequence() {
    let merged = TrainingExample.merged(
      [example(1, [10, 11], pool: [5]), example(2, [90, 91]), example(1, [10, 11, 12]), example(1, [10, 11, 12, 13], pool: [6])],
      maximumLength: 10)
    #expect(merged.map(\.user) == [1, 2])
    #expect(merged[0].events.map(\.item) == [10, 11, 12, 13])
    #expect(merged[0].targetCount == 3)
    #expect(merged[0].pool == [6], "the newest pool is that of the last target")
    #expect(merged[1].targetCount == 1)
  }

  @Test func aGapOrALateEventStartsANewSequence() {
    let merged = TrainingExample.merged([example(1, [10, 11]), example(1, [10, 11, 12, 13]), example(1, [10, 12])], maximumLength: 10)
    #expect(merged.count == 3)
    #expect(merged.map(\.targetCount) == [1, 1, 1])
  }

  /// Each event of random streams is a target exactly once, in its user's order, with at least the context that the model can see.
  @Test(arguments: 0..<20)
  func everyTargetIsPredictedOnce(seed: UInt64) {
    var random = Xoshiro256(seed: seed)
    let length = 4
    var histories: [UInt64: [ItemEvent]] = [:]
    var examples: [TrainingExample] = []
    for time in 0..<60 {
      let user = UInt64(random.next(below: 4))
      let event = ItemEvent(item: ItemNumber(random.next(below: 6)), time: Int64(time))
      let context = histories[user, default: []].suffix(length)
      histories[user, default: []].append(event)
      if !context.isEmpty, random.next(below: 8) > 0 { examples.append(TrainingExample(user: user, events: Array(context) + [event])) }
    }
    let merged = TrainingExample.merged(examples, maximumLength: length)
    for user in UInt64(0)..<4 {
      let expected = examples.filter { $0.user == user }.map { $0.events.last! }
      let targets = merged.filter { $0.user == user }.flatMap { $0.events.suffix($0.targetCount) }
      #expect(targets == expected)
    }
    for example in merged {
      #expect(example.events.count <= length + 1 && example.targetCount <= length && example.targetCount < example.events.count)
      let history = histories[example.user]!
      let end = history.firstIndex(of: example.events.last!)! + 1
      #expect(Array(history[..<end].suffix(example.events.count)) == example.events)
    }
    #expect(merged.count < examples.count)
  }
}
