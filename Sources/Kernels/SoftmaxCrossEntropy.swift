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
  let precision: SoftmaxPrecision
  /// Those that are met at a time.
  let parts: [Range<Int>]
  static let partSize = 256
  /// Rows that meet them at a time: with a part's vectors their logits stay in a core's second cache.
  package static let blockSize = 256

  public init(
    vectors: Matrix, bias: Matrix, targetCorrection: [Float]? = nil, dVectors: Matrix, dBias: Matrix, precision: SoftmaxPrecision = .float32
  ) {
    precondition(bias.rows == 1 && bias.columns == vectors.rows && dBias.rows == 1 && dBias.columns == vectors.rows)
    precondition(dVectors.rows == vectors.rows && dVectors.columns == vectors.columns)
    precondition(targetCorrection.map { $0.count == vectors.rows } ?? true)
    self.vectors = vectors
    self.bias = bias
    self.targetCorrection = targetCorrection
    self.dVectors = dVectors
    self.dBias = dBias
    self.precision = precision
    parts = stride(from: 0, to: vectors.rows, by: Self.partSize).map { $0..<min($0 + Self.partSize, vectors.rows) }
  }
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
  let products = classes.products(rows: x.rows, arena, instructions)
  let most = min(x.rows, SoftmaxClasses.blockSize)
  let (scaled, factors) = (arena.matrix(most, x.columns), arena.matrix(1, most))
  var loss = 0.0
  for start in stride(from: 0, to: x.rows, by: SoftmaxClasses.blockSize) {
    let rows = start..<min(start + SoftmaxClasses.blockSize, x.rows)
    var block = SoftmaxBlock(
      classes, x: x.rows(rows), dx: dx.rows(rows), targets: targets[rows], weights: weights[rows], products,
      scaled: scaled.rows(0..<rows.count), factors: factors.columns(0..<rows.count), instructions)
    for part in classes.parts.indices { block.meet(part) }
    loss += block.loss()
    block.finishRows()
    // The last part is still in the cache.
    for part in classes.parts.indices.reversed() { block.finishClasses(part) }
  }
  return loss
}

/// A block of rows on its way past the classes.
private struct SoftmaxBlock {
  let classes: SoftmaxClasses
  let x: Matrix
  let dx: Matrix
  let targets: [Int]
  let weights: [Float]
  let products: any SoftmaxProducts
  let instructions: VectorInstructions
  private let scaled: Matrix  // (rows, d)
  private let factors: Matrix  // (1, rows)
  /// Of the exponentials below the greatest logit so far, for each row.
  private var sums: [Float]
  private var targetLogits: [Float]
  /// Of each part that was met: the greatest logit of each row by then.
  private var greatest: [[Float]] = []

  init(
    _ classes: SoftmaxClasses, x: Matrix, dx: Matrix, targets: ArraySlice<Int32>, weights: ArraySlice<Float>, _ products: any SoftmaxProducts,
    scaled: Matrix, factors: Matrix, _ instructions: VectorInstructions
  ) {
    self.classes = classes
    self.x = x
    self.dx = dx
    self.targets = targets.map { Int($0) }
    self.weights = Array(weights)
    self.products = products
    self.instructions = instructions
    self.scaled = scaled
    self.factors = factors
    sums = [Float](repeating: 0, count: x.rows)
    targetLogits = sums
  }

  private var last: Int { classes.parts.count - 1 }

  /// The exponentials of a part's logits, and what they add to the sums and to dx.
  mutating func meet(_ part: Int) {
    let range = classes.parts[part]
    let values = products.logits(part, x)
    for (i, target) in targets.enumerated() where range.contains(target) {
      values[i, target - range.lowerBound] -= classes.targetCorrection?[target] ?? 0
      targetLogits[i] = values[i, target - range.lowerBound]
    }
    var reached = greatest.last ?? [Float](repeating: -.infinity, count: x.rows)
    for i in 0..<x.rows {
      let (top, sum) = exponentialsLessGreatest(values, row: i, floor: reached[i], instructions: instructions)
      if top > reached[i], part > 0 {
        let shrinkage = exp(reached[i] - top)
        sums[i] *= shrinkage
        scale(dx.rows(i..<i + 1), by: shrinkage)
      }
      sums[i] += sum
      reached[i] = top
    }
    greatest.append(reached)
    products.addToRows(dx, part, values)
  }

  /// After all parts.
  func loss() -> Double {
    weights.indices.reduce(0) { total, i in
      weights[i] > 0 ? total + Double(weights[i]) * (Double(log(sums[i])) + Double(greatest[last][i] - targetLogits[i])) : total
    }
  }

  /// What brings a row's exponentials of a part to the gradient by the logits, but for the target's.
  private func factor(_ i: Int, _ part: Int) -> Float {
    weights[i] > 0 ? weights[i] / sums[i] * exp(greatest[part][i] - greatest[last][i]) : 0
  }

  /// The gradient by x, and that of each row's own target.
  func finishRows() {
    for (i, target) in targets.enumerated() {
      scale(dx.rows(i..<i + 1), by: factor(i, last))
      accumulate(dx, i, factor: -weights[i], classes.vectors, target)
      accumulate(classes.dVectors, target, factor: -weights[i], x, i)
      classes.dBias[0, target] -= weights[i]
    }
  }

  /// The gradients of a part's classes.
  func finishClasses(_ part: Int) {
    copy(scaled, from: x)
    for i in 0..<x.rows {
      factors[0, i] = factor(i, part)
      scale(scaled.rows(i..<i + 1), by: factors[0, i])
    }
    products.addToClasses(part, scaled: scaled, factors: factors)
  }
}
