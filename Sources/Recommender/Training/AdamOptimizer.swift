import Kernels

/// Adam (arXiv 1412.6980) whose state mirrors the parameters. Embedding rows are updated only when a batch touched them, each with a
/// count of updates of its own.
final class AdamOptimizer {
  /// The moments of a table with sparse updates.
  struct TableState: Sendable {
    var firstMoment: Matrix
    var secondMoment: Matrix
    var steps: [UInt32]

    init(rows: Int, columns: Int) {
      firstMoment = Matrix(rows: rows, columns: columns)
      secondMoment = Matrix(rows: rows, columns: columns)
      steps = [UInt32](repeating: 0, count: rows)
    }

    mutating func reserve(_ rows: Int) {
      firstMoment = firstMoment.grown(to: rows)
      secondMoment = secondMoment.grown(to: rows)
      if steps.count < rows { steps.append(contentsOf: repeatElement(0, count: firstMoment.rows - steps.count)) }
    }

    mutating func reset(row: Int) {
      zero(firstMoment.rows(row..<row + 1))
      zero(secondMoment.rows(row..<row + 1))
      steps[row] = 0
    }
  }

  var firstMoment: DenseParameters
  var secondMoment: DenseParameters
  var denseSteps: UInt32 = 0
  var embedding: TableState
  var bias: TableState
  var attributes: TableState

  init(_ parameters: Parameters) {
    firstMoment = DenseParameters(parameters.configuration)
    secondMoment = DenseParameters(parameters.configuration)
    embedding = TableState(rows: parameters.itemEmbedding.rows, columns: parameters.itemEmbedding.columns)
    bias = TableState(rows: parameters.itemBias.rows, columns: 1)
    attributes = TableState(rows: parameters.attributeEmbedding.rows, columns: parameters.attributeEmbedding.columns)
  }

  func reserve(items: Int, attributes count: Int) {
    embedding.reserve(items)
    bias.reserve(items)
    attributes.reserve(count)
  }

  /// One step of the dense parameters. Weight decay is for weights alone.
  func updateDense(_ parameters: DenseParameters, gradient: DenseParameters, _ step: AdamStep) {
    denseSteps += 1
    let corrections = Self.corrections(step, count: denseSteps)
    for index in parameters.tensors.indices {
      var step = step
      if parameters.tensors[index].kind != .weight { step.weightDecay = 0 }
      adamUpdate(
        parameters.tensors[index].values.flat, firstMoment: firstMoment.tensors[index].values.flat,
        secondMoment: secondMoment.tensors[index].values.flat, row: 0, gradient: gradient.tensors[index].values.flat, gradientRow: 0, step,
        corrections: corrections)
    }
  }

  /// Updates row rows[i] of a table with row i of the gradient. No row may come twice. It is done by the workers, if there are any.
  static func updateRows(
    _ table: Matrix, _ state: inout TableState, rows: [Int32], gradient: Matrix, _ step: AdamStep, workers: WorkerThreads? = nil
  ) {
    for row in rows { state.steps[Int(row)] += 1 }
    let state = state
    let ahead = 4
    @Sendable func update(_ range: Range<Int>) {
      // Neighbouring rows mostly have the same count.
      var known = (count: UInt32(0), corrections: (first: Float(0), second: Float(0)))
      for i in range {
        let row = Int(rows[i])
        if i + ahead < range.upperBound {
          let next = Int(rows[i + ahead])
          prefetch(table, row: next)
          prefetch(state.firstMoment, row: next)
          prefetch(state.secondMoment, row: next)
        }
        let count = state.steps[row]
        if count != known.count { known = (count, corrections(step, count: count)) }
        adamUpdate(
          table, firstMoment: state.firstMoment, secondMoment: state.secondMoment, row: row, gradient: gradient, gradientRow: i, step,
          corrections: known.corrections)
      }
    }
    guard let workers else { return update(0..<rows.count) }
    workers.run { update(rows.count * $0 / workers.count..<rows.count * ($0 + 1) / workers.count) }
  }

  private static func corrections(_ step: AdamStep, count: UInt32) -> (first: Float, second: Float) {
    (1 - power(step.beta1, count), 1 - power(step.beta2, count))
  }

  /// baseᵉ by squaring, in double precision; 0 once it no longer matters to a 32-bit float.
  private static func power(_ base: Float, _ exponent: UInt32) -> Float {
    guard exponent < 30_000 else { return 0 }
    var result = 1.0
    var square = Double(base)
    var rest = exponent
    while rest > 0 {
      if rest & 1 == 1 { result *= square }
      square *= square
      rest >>= 1
    }
    return Float(result)
  }
}

extension Matrix {
  /// The same values as one row.
  var flat: Matrix {
    precondition(stride == columns)
    return Matrix(buffer, offset: offset, rows: 1, columns: rows * columns)
  }
}
