import CVectorKernels

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

extension Double {
  static func exponentialFunction(_ x: Double) -> Double { exp(x) }
}

/// x = e^(x − greatest), in one row.
///
/// - Parameter floor: what the greatest is at least.
/// - Returns: the greatest of the values that were there, and the sum of the new ones.
func exponentialsLessGreatest(
  _ x: Matrix, row: Int, floor: Float = -.infinity, instructions: VectorInstructions
) -> (greatest: Float, sum: Float) {
  var greatest = floor
  let sum = exponentials(instructions.code, x.row(row), Int64(x.columns), &greatest)
  return (greatest, sum)
}

/// Softmax cross-entropy of one block of rows, in place.
///
/// - Parameters:
///   - logits: (rows, classes); on return the gradient of Σ weight·CE by the logits.
///   - targets: the target class of each row.
///   - weights: each row's weight; 0 leaves the row out.
/// - Returns: Σ weight·(log Σ exp logits − logit of the target).
public func softmaxCrossEntropy(
  _ logits: Matrix, targets: ArraySlice<Int32>, weights: ArraySlice<Float>, instructions: VectorInstructions = .best
) -> Double {
  precondition(targets.count == logits.rows && weights.count == logits.rows)
  var loss = 0.0
  for i in 0..<logits.rows {
    let row = logits.row(i)
    let weight = weights[weights.startIndex + i]
    let target = Int(targets[targets.startIndex + i])
    precondition(target >= 0 && target < logits.columns)
    guard weight > 0 else {
      row.update(repeating: 0, count: logits.columns)
      continue
    }
    let own = row[target]
    let (greatest, sum) = exponentialsLessGreatest(logits, row: i, instructions: instructions)
    loss += Double(weight) * (Double(log(sum)) + Double(greatest - own))
    let factor = weight / sum
    forEachVector(logits.columns) { j, lanes in store(load(row, j, lanes) * factor, row, j, lanes) }
    row[target] -= weight
  }
  return loss
}

/// The classes of a softmax by their vectors: the logits of x are x·vectorsᵀ + bias.
public struct SoftmaxClasses: Sendable {
  /// (classes, d).
  let vectors: Matrix
  /// (1, classes).
  let bias: Matrix
  /// Taken from a row's logit of its own target; nil is zeros.
  let targetCorrection: [Float]?
  /// Added to: (classes, d) and (1, classes).
  let dVectors: Matrix
  let dBias: Matrix

  public init(vectors: Matrix, bias: Matrix, targetCorrection: [Float]? = nil, dVectors: Matrix, dBias: Matrix) {
    precondition(bias.rows == 1 && bias.columns == vectors.rows && dBias.rows == 1 && dBias.columns == vectors.rows)
    precondition(dVectors.rows == vectors.rows && dVectors.columns == vectors.columns)
    precondition(targetCorrection.map { $0.count == vectors.rows } ?? true)
    self.vectors = vectors
    self.bias = bias
    self.targetCorrection = targetCorrection
    self.dVectors = dVectors
    self.dBias = dBias
  }

  /// Rows that are computed at a time, and classes of which their logits, and the vectors, stay in a core's second cache.
  fileprivate static let block = 256
  fileprivate static let part = 256
  /// Between two rows of a part there is a cache line more, lest they displace each other in the first cache.
  fileprivate static let stride = part + 16

  fileprivate func part(_ index: Int) -> Range<Int> { index * Self.part..<min((index + 1) * Self.part, vectors.rows) }
}

/// Softmax cross-entropy of rows over classes that are known by their vectors, forward and backward, without a block's logits ever being passed
/// over as a whole.
///
/// A block of rows meets the classes part by part. The logits of a part become exponentials below the greatest so far, and at once their share of
/// Σ e·v, which is the gradient by x; where a greater logit comes, what was summed before shrinks (online softmax, arXiv 1805.02867, before
/// products as in arXiv 2205.14135). The gradient by the classes waits for the whole sum; it then needs one factor for each row and part, which
/// goes to x instead of to the exponentials.
///
/// - Parameters:
///   - x: (rows, d).
///   - dx: (rows, d), overwritten: the gradient of Σ weight·CE by x.
///   - targets: the class of each row.
///   - weights: each row's weight; 0 leaves the row out.
/// - Returns: Σ weight·(log Σ exp logits − logit of the target).
public func softmaxCrossEntropy(
  _ x: Matrix, over classes: SoftmaxClasses, targets: [Int32], weights: [Float], dx: Matrix, arena: Arena, instructions: VectorInstructions = .best
) -> Double {
  precondition(dx.rows == x.rows && dx.columns == x.columns && x.columns == classes.vectors.columns)
  precondition(targets.count == x.rows && weights.count == x.rows && targets.allSatisfy { $0 >= 0 && $0 < classes.vectors.rows })
  let partCount = (classes.vectors.rows + SoftmaxClasses.part - 1) / SoftmaxClasses.part
  let most = min(SoftmaxClasses.block, x.rows)
  let exponentials = (0..<partCount).map { _ in arena.matrix(most, SoftmaxClasses.stride) }
  let scaled = arena.matrix(most, x.columns)
  let scales = arena.matrix(1, most)
  var loss = 0.0
  for start in Swift.stride(from: 0, to: x.rows, by: SoftmaxClasses.block) {
    let rows = start..<min(start + SoftmaxClasses.block, x.rows)
    let (own, ownDx) = (x.rows(rows), dx.rows(rows))
    var sums = [Float](repeating: 0, count: rows.count)
    var targetLogits = sums
    // Of each part: the greatest logit that each row had met by then.
    var greatest: [[Float]] = []
    for index in 0..<partCount {
      let range = classes.part(index)
      let part = exponentials[index].rows(0..<rows.count).columns(0..<range.count)
      let vectors = classes.vectors.rows(range)
      multiply(part, own, vectors, transposeB: true, bias: classes.bias.columns(range), instructions: instructions)
      for (i, row) in rows.enumerated() where range.contains(Int(targets[row])) {
        let target = Int(targets[row])
        part[i, target - range.lowerBound] -= classes.targetCorrection?[target] ?? 0
        targetLogits[i] = part[i, target - range.lowerBound]
      }
      var reached = greatest.last ?? [Float](repeating: -.infinity, count: rows.count)
      for i in 0..<rows.count {
        let (top, sum) = exponentialsLessGreatest(part, row: i, floor: reached[i], instructions: instructions)
        if top > reached[i], index > 0 {
          let shrinkage = exp(reached[i] - top)
          sums[i] *= shrinkage
          scale(ownDx.rows(i..<i + 1), by: shrinkage)
        }
        sums[i] += sum
        reached[i] = top
      }
      greatest.append(reached)
      multiply(ownDx, part, vectors, adding: index > 0 ? ownDx : nil, instructions: instructions)
    }
    let last = greatest.last ?? []
    let factors = rows.enumerated().map { i, row in weights[row] > 0 ? weights[row] / sums[i] : 0 }
    for (i, row) in rows.enumerated() {
      let (target, weight) = (Int(targets[row]), weights[row])
      if weight > 0 { loss += Double(weight) * (Double(log(sums[i])) + Double(last[i] - targetLogits[i])) }
      scale(ownDx.rows(i..<i + 1), by: factors[i])
      accumulate(ownDx, i, factor: -weight, classes.vectors, target)
      accumulate(classes.dVectors, target, factor: -weight, own, i)
      classes.dBias[0, target] -= weight
    }
    // The last part is still in the cache.
    for index in (0..<partCount).reversed() {
      let range = classes.part(index)
      let part = exponentials[index].rows(0..<rows.count).columns(0..<range.count)
      let (dVectors, dBias) = (classes.dVectors.rows(range), classes.dBias.columns(range))
      let partScaled = scaled.rows(0..<rows.count)
      let partFactors = scales.columns(0..<rows.count)
      zero(partScaled)
      for i in 0..<rows.count {
        let factor = factors[i] * exp(greatest[index][i] - last[i])
        partFactors[0, i] = factor
        accumulate(partScaled, i, factor: factor, own, i)
      }
      multiply(dBias, partFactors, part, adding: dBias, instructions: instructions)
      multiply(dVectors, part, partScaled, transposeA: true, adding: dVectors, instructions: instructions)
    }
  }
  return loss
}
