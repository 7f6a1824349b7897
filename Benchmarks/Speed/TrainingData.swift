import Datasets
@testable import Recommender

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

/// What a training benchmark learns from.
struct TrainingData {
  var examples: [TrainingExample]
  var itemCount: Int
  /// Size of the candidate pools, as the daemon's default has it.
  private static let poolSize = 100

  /// Sequences of one length with random items; the last item is the one target.
  ///
  /// - Parameter length: of the context.
  static func full(sequences: Int, length: Int, itemCount: Int) -> TrainingData {
    var random = Xoshiro256(seed: 1)
    let examples = (0..<sequences).map { user in
      example(user, (0...length).map { _ in ItemNumber(random.next(below: itemCount)) }, targetCount: 1, itemCount, &random)
    }
    return TrainingData(examples: examples, itemCount: itemCount)
  }

  /// As many sequences of each length as Beauty has, with random items of which the first are the popular ones.
  ///
  /// - Parameter path: a table of two columns, events and users, with a line of names.
  static func lengths(_ path: String, itemCount: Int, maximumLength: Int) throws -> TrainingData {
    let text = try String(contentsOfFile: path, encoding: .utf8)
    var random = Xoshiro256(seed: 2)
    var sequences: [[ItemNumber]] = []
    for line in text.split(separator: "\n").dropFirst() {
      let fields = line.split(separator: "\t").compactMap { Int($0) }
      guard fields.count == 2 else { throw BenchmarkError("\(path): two numbers are needed in \(line)") }
      for _ in 0..<fields[1] {
        sequences.append((0..<min(fields[0], maximumLength + 1)).map { _ in popular(itemCount, &random) })
      }
    }
    return everyPosition(sequences, itemCount)
  }

  /// A tenth of the items draws nearly half of all interactions, about as in Beauty, so that there is something to learn.
  private static func popular(_ itemCount: Int, _ random: inout Xoshiro256) -> ItemNumber {
    let uniform = random.nextUnit()
    return ItemNumber(Double(itemCount) * uniform * uniform * uniform)
  }

  /// The users of the Beauty data set.
  ///
  /// - Parameter folder: holds `events.tsv.gz`.
  static func beauty(_ folder: String, maximumLength: Int) throws -> TrainingData {
    let history = try InteractionHistory.read([folder + "/events.tsv.gz"])
    let sequences = (0..<Int32(history.userCount)).map { user in
      history.events(of: user).suffix(maximumLength + 1).map { ItemNumber(history.items[$0]) }
    }
    return everyPosition(sequences, history.itemCount)
  }

  /// Every event but a user's first is a target, in mini-batches that mix the lengths.
  private static func everyPosition(_ sequences: [[ItemNumber]], _ itemCount: Int) -> TrainingData {
    var random = Xoshiro256(seed: 3)
    let examples = sequences.shuffled(using: &random).enumerated().map { user, items in
      example(user, items, targetCount: items.count - 1, itemCount, &random)
    }
    return TrainingData(examples: examples, itemCount: itemCount)
  }

  private static func example(
    _ user: Int, _ items: [ItemNumber], targetCount: Int, _ itemCount: Int, _ random: inout Xoshiro256
  ) -> TrainingExample {
    let events = items.enumerated().map { ItemEvent(item: $1, time: Int64($0) * 60_000) }
    return TrainingExample(
      user: UInt64(user), events: events, targetCount: targetCount,
      pool: (0..<poolSize).map { _ in ItemNumber(random.next(below: itemCount)) })
  }
}
