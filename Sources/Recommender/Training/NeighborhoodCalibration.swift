import Kernels

/// Fits how far the counts of the ``Neighborhood`` are to be trusted beside the encoder to interactions that it has not counted yet
/// (stacking: Wolpert, 1992): by Newton steps on the softmax cross-entropy of the whole policy,
///
///     π(i|s) ∝ exp(τ·(h(s)·v(i) + b(i)) + Σₖ uₖ·ψₖ(s, i)).
///
/// The loss is convex in τ and u. Ranking needs w = u/τ alone.
final class NeighborhoodCalibration {
  private let ranker = TopKRanker()
  private var evidence = Neighborhood.Evidence()
  private let arena = Arena()
  /// A step goes this far at least, so that the fit follows the stream; the first ones go further, as in a mean of all.
  private static let slowestRate: Float = 0.05
  /// Damps the steps where the loss is flat.
  private static let damping = 0.01
  private static let longestStep: Float = 1
  private static let scales: ClosedRange<Float> = 0.1...10
  /// Floats of logits in memory at a time.
  private static let block = 1 << 21

  /// The lane of τ; the lanes before it are u.
  private static let scaleLane = Neighborhood.featureCount
  private static let laneCount = Neighborhood.featureCount + 1

  /// The sums of the loss's first and second derivatives by (u, τ).
  struct Derivatives {
    var gradient = Neighborhood.Features.zero
    /// The row of τ holds its products with u, too: it stands for its column as well.
    var curvature = [Neighborhood.Features](repeating: .zero, count: laneCount)
    var weight: Float = 0
  }

  /// One step on the mean loss.
  ///
  /// - Parameters:
  ///   - examples: each with its last interaction as the target, and its weight in the loss. Those whose target is unknown are passed over.
  ///   - recommendsSeen: whether items of the context are candidates; if not, those whose target is in the context are passed over, too.
  /// - Returns: the weights after the step.
  func step(
    _ examples: [(example: TrainingExample, weight: Float)], recommendsSeen: Bool, snapshot: ModelSnapshot, lookup: (ItemNumber) -> Int32?
  ) -> Neighborhood.Weights {
    step(
      from: snapshot.neighborhood.weights,
      derivatives(examples, recommendsSeen: recommendsSeen, snapshot: snapshot, lookup: lookup))
  }

  func derivatives(
    _ examples: [(example: TrainingExample, weight: Float)], recommendsSeen: Bool, snapshot: ModelSnapshot, lookup: (ItemNumber) -> Int32?
  ) -> Derivatives {
    var requests: [RankingRequest] = []
    var targets: [Int32] = []
    var weights: [Float] = []
    for (example, weight) in examples where weight > 0 {
      guard let target = example.events.last, let row = lookup(target.item), Int(row) < snapshot.rowCount,
        snapshot.owners[Int(row)] == target.item
      else { continue }
      let context = example.events.dropLast()
      let seen = recommendsSeen ? [] : context.compactMap { lookup($0.item) }
      guard !seen.contains(row) else { continue }
      requests.append(RankingRequest(events: Array(context), now: nil, excluded: seen))
      targets.append(row)
      weights.append(weight)
    }
    var sums = Derivatives()
    let atOnce = max(1, Self.block / max(1, snapshot.rowCount))
    var start = 0
    while start < requests.count {
      let range = start..<min(start + atOnce, requests.count)
      start = range.upperBound
      add(requests[range], targets[range], weights[range], snapshot, lookup, to: &sums)
    }
    return sums
  }

  private func add(
    _ requests: ArraySlice<RankingRequest>, _ targets: ArraySlice<Int32>, _ weights: ArraySlice<Float>, _ snapshot: ModelSnapshot,
    _ lookup: (ItemNumber) -> Int32?, to sums: inout Derivatives
  ) {
    let (hidden, slots, contexts) = ranker.encode(Array(requests), snapshot, lookup)
    guard !slots.isEmpty else { return }
    arena.reset()
    let scores = arena.matrix(slots.count, snapshot.rowCount)
    multiply(scores, hidden, snapshot.vectors, transposeB: true, bias: snapshot.bias)
    let trust = snapshot.neighborhood.weights
    let logits = arena.matrix(slots.count, snapshot.rowCount)
    copy(logits, from: scores)
    scale(logits, by: trust.scale)
    var features: [[(row: Int32, values: Neighborhood.Features)]] = []
    for (i, slot) in slots.enumerated() {
      evidence.collect(snapshot, context: contexts[i].map(\.row))
      let found = evidence.rows.enumerated().map { (row: $1, values: evidence.features(at: $0)) }
      for (row, values) in found { logits[i, Int(row)] += trust.scale * trust.score(values) }
      for row in requests[requests.startIndex + slot].excluded { logits[i, Int(row)] = -.infinity }
      features.append(found)
    }
    let own = slots.map { targets[targets.startIndex + $0] }
    let ones = [Float](repeating: 1, count: slots.count)
    // Leaves π − y in the logits.
    _ = softmaxCrossEntropy(logits, targets: own[...], weights: ones[...])
    for (i, found) in features.enumerated() {
      let target = Int(own[i])
      var mean = Neighborhood.Features.zero
      var squares = [Neighborhood.Features](repeating: .zero, count: Self.laneCount)
      for row in 0..<snapshot.rowCount {
        let probability = logits[i, row] + (row == target ? 1 : 0)
        guard probability > 0 else { continue }
        let weighted = probability * scores[i, row]
        mean[Self.scaleLane] += weighted
        squares[Self.scaleLane][Self.scaleLane] += weighted * scores[i, row]
      }
      var observed = Neighborhood.Features.zero
      for (row, values) in found {
        let row = Int(row)
        if row == target { observed = values }
        let probability = logits[i, row] + (row == target ? 1 : 0)
        guard probability > 0 else { continue }
        let weighted = values * probability
        mean += weighted
        for k in 0..<Neighborhood.featureCount { squares[k] += weighted * values[k] }
        squares[Self.scaleLane] += weighted * scores[i, row]
      }
      observed[Self.scaleLane] = scores[i, target]
      let weight = weights[weights.startIndex + slots[i]]
      sums.gradient += (mean - observed) * weight
      for k in squares.indices { sums.curvature[k] += (squares[k] - mean * mean[k]) * weight }
      sums.weight += weight
    }
  }

  private func step(from old: Neighborhood.Weights, _ sums: Derivatives) -> Neighborhood.Weights {
    guard sums.weight > 0 else { return old }
    let weight = Double(sums.weight)
    let n = Self.laneCount
    var matrix = [[Double]](repeating: Array(repeating: 0, count: n), count: n)
    for j in 0..<n {
      for k in 0..<n { matrix[j][k] = Double(sums.curvature[max(j, k)][min(j, k)]) / weight }
      matrix[j][j] += Self.damping
    }
    let gradient = (0..<n).map { Double(sums.gradient[$0]) / weight }
    guard var direction = solvePositiveDefinite(matrix, gradient) else { return old }
    var weights = old
    weights.steps += 1
    let rate = max(Self.slowestRate, 1 / Float(weights.steps))
    let scale = Self.scaleLane
    let bounded = min(max(old.scale - rate * Float(direction[scale]), Self.scales.lowerBound), Self.scales.upperBound)
    if bounded == Self.scales.lowerBound || bounded == Self.scales.upperBound {
      // τ goes no further: the best u beside it.
      let move = Double((old.scale - bounded) / rate)
      let rest = (0..<scale).map { gradient[$0] - matrix[$0][scale] * move }
      guard let others = solvePositiveDefinite(matrix[..<scale].map { Array($0[..<scale]) }, rest) else { return old }
      direction = others + [move]
    }
    var fitted = old.features * old.scale
    fitted[scale] = old.scale
    for k in 0..<n { fitted[k] -= rate * min(max(Float(direction[k]), -Self.longestStep), Self.longestStep) }
    weights.scale = min(max(fitted[scale], Self.scales.lowerBound), Self.scales.upperBound)
    fitted[scale] = 0
    weights.features = fitted / weights.scale
    return weights.features.sum().isFinite && weights.scale.isFinite ? weights : old
  }
}

/// Solves A·x = b by Cholesky's decomposition; nil when A is not positive definite.
func solvePositiveDefinite(_ a: [[Double]], _ b: [Double]) -> [Double]? {
  let n = b.count
  var l = a
  for j in 0..<n {
    for k in 0..<j { l[j][j] -= l[j][k] * l[j][k] }
    guard l[j][j] > 0, l[j][j].isFinite else { return nil }
    l[j][j] = l[j][j].squareRoot()
    for i in stride(from: j + 1, to: n, by: 1) {
      for k in 0..<j { l[i][j] -= l[i][k] * l[j][k] }
      l[i][j] /= l[j][j]
    }
  }
  var x = b
  for i in 0..<n {
    for k in 0..<i { x[i] -= l[i][k] * x[k] }
    x[i] /= l[i][i]
  }
  for i in (0..<n).reversed() {
    for k in stride(from: i + 1, to: n, by: 1) { x[i] -= l[k][i] * x[k] }
    x[i] /= l[i][i]
  }
  return x
}
