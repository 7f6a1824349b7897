#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

extension Double {
  static func exponentialFunction(_ x: Double) -> Double { exp(x) }
}

/// Softmax cross-entropy of one block of rows, in place.
///
/// - Parameters:
///   - logits: (rows, classes); on return the gradient of Σ weight·CE by the logits.
///   - targets: the target class of each row.
///   - weights: each row's weight; 0 leaves the row out.
/// - Returns: Σ weight·(log Σ exp logits − logit of the target).
public func softmaxCrossEntropy(_ logits: Matrix, targets: ArraySlice<Int32>, weights: ArraySlice<Float>) -> Double {
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
    var most = Vector(all: -Float.greatestFiniteMagnitude)
    forEachVector(logits.columns & ~7) { j, _ in most = most.atLeast(load(row, j)) }
    var greatest = most.greatest
    for j in (logits.columns & ~7)..<logits.columns { greatest = max(greatest, row[j]) }
    let own = row[target]
    var sums = Vector.zero
    forEachVector(logits.columns & ~7) { j, _ in
      let e = exponential(load(row, j) - greatest)
      store(e, row, j)
      sums += e
    }
    var sum = sums.total
    for j in (logits.columns & ~7)..<logits.columns {
      row[j] = exp(row[j] - greatest)
      sum += row[j]
    }
    loss += Double(weight) * (Double(log(sum)) + Double(greatest - own))
    let factor = weight / sum
    forEachVector(logits.columns) { j, lanes in store(load(row, j, lanes) * factor, row, j, lanes) }
    row[target] -= weight
  }
  return loss
}
