private let epsilon: Float = 1e-5

/// y = gain·(x − mean)/√(variance + 1e-5) + bias, row by row (arXiv 1607.06450).
///
/// - Parameters:
///   - y, x: (rows, d); y must not be x.
///   - gain, bias: (1, d).
///   - statistics: (rows, 2), set to each row's mean and reciprocal standard deviation for the backward pass.
public func layerNormForward(_ y: Matrix, _ x: Matrix, gain: Matrix, bias: Matrix, statistics: Matrix) {
  let d = x.columns
  precondition(y.rows == x.rows && y.columns == d && gain.columns == d && bias.columns == d && statistics.rows == x.rows)
  for i in 0..<x.rows {
    let input = x.row(i)
    let output = y.row(i)
    var sum = Vector.zero
    forEachVector(d) { j, lanes in sum += load(input, j, lanes) }
    let mean = sum.total / Float(d)
    var squares = Vector.zero
    var index = 0
    while index &+ 8 <= d {
      let centred = load(input, index) - mean
      squares = squares.adding(centred, times: centred)
      index &+= 8
    }
    var variance = squares.total
    while index < d {
      variance += (input[index] - mean) * (input[index] - mean)
      index &+= 1
    }
    let reciprocal = 1 / (variance / Float(d) + epsilon).squareRoot()
    forEachVector(d) { j, lanes in
      let normal = (load(input, j, lanes) - mean) * reciprocal
      store(load(bias.pointer, j, lanes).adding(normal, times: load(gain.pointer, j, lanes)), output, j, lanes)
    }
    statistics[i, 0] = mean
    statistics[i, 1] = reciprocal
  }
}

/// dx += the gradient by x; dGain and dBias (1, d) are added to.
public func layerNormBackward(
  _ dx: Matrix, dGain: Matrix, dBias: Matrix, _ dy: Matrix, _ x: Matrix, gain: Matrix, statistics: Matrix
) {
  let d = x.columns
  precondition(dx.rows == x.rows && dx.columns == d && dy.rows == x.rows && dy.columns == d)
  for i in 0..<x.rows {
    let input = x.row(i)
    let above = dy.row(i)
    let below = dx.row(i)
    let mean = statistics[i, 0]
    let reciprocal = statistics[i, 1]
    var sum = Vector.zero
    var product = Vector.zero
    forEachVector(d) { j, lanes in
      let normal = (load(input, j, lanes) - mean) * reciprocal
      let up = load(above, j, lanes)
      let g = up * load(gain.pointer, j, lanes)
      sum += g
      product = product.adding(g, times: normal)
      store(load(dGain.pointer, j, lanes).adding(up, times: normal), dGain.pointer, j, lanes)
      store(load(dBias.pointer, j, lanes) + up, dBias.pointer, j, lanes)
    }
    let meanOfGradient = sum.total / Float(d)
    let meanOfProduct = product.total / Float(d)
    forEachVector(d) { j, lanes in
      let normal = (load(input, j, lanes) - mean) * reciprocal
      let g = load(above, j, lanes) * load(gain.pointer, j, lanes)
      store(load(below, j, lanes) + (g - meanOfGradient - normal * meanOfProduct) * reciprocal, below, j, lanes)
    }
  }
}
