import CVectorKernels

private let epsilon: Float = 1e-5

/// y = gain·(x − mean)/√(variance + 1e-5) + bias, row by row (arXiv 1607.06450).
///
/// - Parameters:
///   - y, x: (rows, d).
///   - gain, bias: (1, d).
///   - statistics: (rows, 2), set to each row's mean and reciprocal standard deviation for the backward pass.
///   - instructions: the best that the machine has, but in a test.
public func layerNormForward(
  _ y: Matrix, _ x: Matrix, gain: Matrix, bias: Matrix, statistics: Matrix, instructions: VectorInstructions = .best
) {
  let d = x.columns
  precondition(y.rows == x.rows && y.columns == d && gain.columns == d && bias.columns == d)
  precondition(statistics.rows == x.rows && statistics.columns == 2)
  for i in 0..<x.rows {
    layer_norm_forward(instructions.code, y.row(i), x.row(i), gain.pointer, bias.pointer, statistics.row(i), Int64(d), epsilon)
  }
}

/// dx += the gradient by x; dGain and dBias (1, d) are added to.
public func layerNormBackward(
  _ dx: Matrix, dGain: Matrix, dBias: Matrix, _ dy: Matrix, _ x: Matrix, gain: Matrix, statistics: Matrix,
  instructions: VectorInstructions = .best
) {
  let d = x.columns
  precondition(dx.rows == x.rows && dx.columns == d && dy.rows == x.rows && dy.columns == d)
  precondition(gain.columns == d && dGain.columns == d && dBias.columns == d && statistics.rows == x.rows && statistics.columns == 2)
  for i in 0..<x.rows {
    layer_norm_backward(
      instructions.code, dx.row(i), dGain.pointer, dBias.pointer, dy.row(i), x.row(i), gain.pointer, statistics.row(i), Int64(d))
  }
}
