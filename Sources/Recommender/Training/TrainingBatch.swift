import Kernels

/// A mini-batch in the model's rows, or one worker's share of it.
struct TrainingBatch: Sendable {
  var input: SequenceBatch
  /// The target's row for each query.
  var targets: [Int32]
  /// Each query's weight in the losses.
  var weights: [Float]
  /// For each sequence the negatives of its last target; empty leaves it out of the preference term.
  var negatives: [[Int32]]

  var totalWeight: Double { weights.reduce(0) { $0 + Double($1) } }
  var sequenceCount: Int { input.sequences.count }
}

/// Turns examples into mini-batches: item numbers to rows, times to gaps, pools to negatives.
struct BatchBuilder: Sendable {
  let catalogue: ItemCatalogue
  let sampler: NegativeSampler
  /// The weight of each interaction type; 1 for types beyond.
  let typeWeights: [Float]
  /// How often the gap to the next interaction is hidden in training, since a published list does not know when it will be read.
  let gapHidingRate: Double

  /// Of a part: what a layer keeps for the backward pass then stays in a core's second cache.
  private static let tokensPerPart = 256

  /// The batch of those examples, cut into parts of about equal length: a multiple of the workers, unless there are fewer sequences.
  func parts(_ examples: ArraySlice<TrainingExample>, workers: WorkerThreads, using random: inout Xoshiro256) -> [TrainingBatch] {
    let resolved = resolve(examples, workers: workers, seed: random.next())
    let total = resolved.reduce(0) { $0 + $1.rows.count - 1 }
    let count = workers.count * max(1, (total + workers.count * Self.tokensPerPart - 1) / (workers.count * Self.tokensPerPart))
    var parts: [[Sequence]] = [[]]
    var tokens = 0
    for sequence in resolved {
      if tokens * count >= total * parts.count, parts.count < count { parts.append([]) }
      parts[parts.count - 1].append(sequence)
      tokens += sequence.rows.count - 1
    }
    return parts.map(pack)
  }

  private struct Sequence {
    var rows: [Int32]  // context and targets
    var types: [Int32]
    var gapBefore: [Int32]
    var gapNext: [Int32]
    var targetCount: Int
    var weights: [Float]
    var negatives: [Int32]
  }

  /// One worker's share.
  private final class Share: @unchecked Sendable {
    // @unchecked: only its worker touches it, and the caller when no work is under way.
    var sequences: [Sequence] = []
  }

  /// Each example has random numbers of its own, so that the workers' number makes no difference.
  private func resolve(_ examples: ArraySlice<TrainingExample>, workers: WorkerThreads, seed: UInt64) -> [Sequence] {
    let shares = (0..<workers.count).map { _ in Share() }
    workers.run { index in
      shares[index].sequences = workers.share(index, of: examples.count).compactMap { place in
        var random = Xoshiro256(seed: seed ^ UInt64(place) &* 0xD134_2543_DE82_EF95)
        return resolve(examples[examples.startIndex + place], using: &random)
      }
    }
    return shares.flatMap(\.sequences)
  }

  /// Nil when nothing is left to predict from: items that are no more fall out.
  private func resolve(_ example: TrainingExample, using random: inout Xoshiro256) -> Sequence? {
    let firstTarget = example.events.count - example.targetCount
    var targetCount = 0
    var events: [(row: Int32, event: ItemEvent)] = []
    for (index, event) in example.events.enumerated() {
      guard let row = catalogue.row(of: event.item) else { continue }
      events.append((row, event))
      if index >= firstTarget { targetCount += 1 }
    }
    let length = catalogue.configuration.maximumSequenceLength
    if events.count > length + 1 { events.removeFirst(events.count - length - 1) }
    targetCount = min(targetCount, events.count - 1)
    guard targetCount > 0 else { return nil }
    let tokens = events.count - 1
    let lastType = Int32(catalogue.configuration.interactionTypeCount - 1)
    let rows = events.map(\.row)
    let gaps = (0..<tokens).map { TimeGap.bucket(from: events[$0].event.time, to: events[$0 + 1].event.time) }
    return Sequence(
      rows: rows, types: events.map { min(Int32($0.event.type), lastType) }, gapBefore: [TimeGap.unknown] + gaps.dropLast(),
      gapNext: gaps.map { random.nextUnit() < gapHidingRate ? TimeGap.unknown : $0 }, targetCount: targetCount,
      weights: events.suffix(targetCount).map { weight($0.event.type) }, negatives: negatives(example, rows: rows, using: &random))
  }

  private func negatives(_ example: TrainingExample, rows: [Int32], using random: inout Xoshiro256) -> [Int32] {
    guard sampler.strategy != .none else { return [] }
    let excluded = { (row: Int32) in rows.contains(row) }
    let pool = example.pool.compactMap(catalogue.row(of:))
    let drawn = sampler.draw(pool: pool, live: catalogue.liveRows, excluded: excluded, using: &random)
    // What was on the screen and passed over is the strongest sign that implicit feedback gives.
    let ignored = example.shown.compactMap(catalogue.row(of:)).filter { !excluded($0) && !drawn.contains($0) }
    return drawn + ignored.prefix(sampler.count)
  }

  private func weight(_ type: UInt8) -> Float { Self.weight(of: type, typeWeights) }

  /// An interaction's weight in what is learned: 1 for types beyond those that are named.
  static func weight(of type: UInt8, _ typeWeights: [Float]) -> Float { Int(type) < typeWeights.count ? typeWeights[Int(type)] : 1 }

  private func pack(_ sequences: [Sequence]) -> TrainingBatch {
    let packed = PackedSequences(lengths: sequences.map { $0.rows.count - 1 }, queryCounts: sequences.map(\.targetCount))
    return TrainingBatch(
      input: SequenceBatch(
        sequences: packed, items: sequences.flatMap { $0.rows.dropLast() }, types: sequences.flatMap { $0.types.dropLast() },
        gapBefore: sequences.flatMap(\.gapBefore), gapNext: sequences.flatMap(\.gapNext),
        positions: sequences.flatMap { sequence in (0..<Int32(sequence.rows.count - 1)).reversed() }),
      targets: sequences.flatMap { $0.rows.suffix($0.targetCount) }, weights: sequences.flatMap(\.weights),
      negatives: sequences.map(\.negatives))
  }
}
