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
/// - Returns: the greatest of the values that were there, and the sum of the new ones.
func exponentialsLessGreatest(_ x: Matrix, row: Int, instructions: VectorInstructions) -> (greatest: Float, sum: Float) {
  var greatest: Float = 0
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
