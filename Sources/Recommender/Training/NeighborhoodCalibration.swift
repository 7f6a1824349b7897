import Kernels

/// Fits the weights of the ``Neighborhood`` to interactions that it has not counted yet, by gradient steps on the softmax cross-entropy
/// of the whole policy: how far counts are to be trusted beside the encoder is learned from the stream, too (stacking: Wolpert, 1992).
final class NeighborhoodCalibration {
  private let ranker = TopKRanker()
  private let evidence = Neighborhood.Evidence()
  private let arena = Arena()
  static let learningRate: Float = 0.05
  /// Floats of logits in memory at a time.
  private static let block = 1 << 22

  /// One step along the gradient of the mean loss.
  ///
  /// - Parameters:
  ///   - examples: each with its last interaction as the target. Those whose target is in the context, or unknown, are passed over.
  /// - Returns: the weights after the step.
  func step(_ examples: some Collection<TrainingExample>, snapshot: ModelSnapshot, lookup: (ItemNumber) -> Int32?) -> [Float] {
    var requests: [RankingRequest] = []
    var targets: [Int32] = []
    for example in examples {
      guard let target = example.events.last, let row = lookup(target.item), Int(row) < snapshot.rowCount, snapshot.owners[Int(row)] == target.item
      else { continue }
      let context = example.events.dropLast()
      let seen = context.compactMap { lookup($0.item) }
      guard !seen.contains(row) else { continue }
      requests.append(RankingRequest(events: Array(context), now: nil, excluded: seen))
      targets.append(row)
    }
    var gradient = SIMD4<Float>.zero
    var count = 0
    let atOnce = max(1, Self.block / max(1, snapshot.rowCount))
    var start = 0
    while start < requests.count {
      let range = start..<min(start + atOnce, requests.count)
      start = range.upperBound
      let (hidden, slots, contexts) = ranker.encode(Array(requests[range]), snapshot, lookup)
      guard !slots.isEmpty else { continue }
      arena.reset()
      let logits = arena.matrix(slots.count, snapshot.rowCount)
      multiply(logits, hidden, snapshot.vectors, transposeB: true)
      addBias(logits, snapshot.bias)
      var features: [[(row: Int32, values: SIMD4<Float>)]] = []
      for (i, slot) in slots.enumerated() {
        evidence.collect(snapshot.neighborhood, context: contexts[i].map(\.row), owners: snapshot.owners, lookup: lookup)
        let found = evidence.rows.map { (row: $0, values: evidence.features($0)) }
        for (row, values) in found { logits[i, Int(row)] += snapshot.neighborhood.score(values) }
        for row in requests[range.lowerBound + slot].excluded { logits[i, Int(row)] = -1e9 }
        features.append(found)
      }
      let own = slots.map { targets[range.lowerBound + $0] }
      let ones = [Float](repeating: 1, count: slots.count)
      _ = softmaxCrossEntropy(logits, targets: own[...], weights: ones[...])
      for (i, found) in features.enumerated() {
        for (row, values) in found { gradient += values * logits[i, Int(row)] }
      }
      count += slots.count
    }
    guard count > 0 else { return snapshot.neighborhood.weights }
    let step = gradient * (Self.learningRate / Float(count))
    return snapshot.neighborhood.weights.indices.map { k in
      let weight = snapshot.neighborhood.weights[k] - step[k]
      // More evidence never speaks against an item.
      return weight.isFinite ? min(max(0, weight), 10) : snapshot.neighborhood.weights[k]
    }
  }
}
