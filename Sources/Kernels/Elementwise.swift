import CVectorKernels

public func zero(_ x: Matrix) {
  if x.isContiguous {
    x.pointer.update(repeating: 0, count: x.count)
  } else {
    for i in 0..<x.rows { x.row(i).update(repeating: 0, count: x.columns) }
  }
}

public func copy(_ target: Matrix, from source: Matrix) {
  precondition(target.rows == source.rows && target.columns == source.columns)
  for i in 0..<target.rows { target.row(i).update(from: source.row(i), count: target.columns) }
}

/// target += factor·source, of the same shape.
public func add(_ target: Matrix, _ source: Matrix, factor: Float = 1) {
  precondition(target.rows == source.rows && target.columns == source.columns)
  for i in 0..<target.rows { accumulate(target.row(i), factor, source.row(i), target.columns) }
}

public func scale(_ x: Matrix, by factor: Float) {
  let all = Vector(all: factor)
  for i in 0..<x.rows {
    let row = x.row(i)
    forEachVector(x.columns) { j, lanes in store(load(row, j, lanes) * all, row, j, lanes) }
  }
}

/// x[i] += bias, for each row i. x (rows, columns), bias (1, columns).
public func addBias(_ x: Matrix, _ bias: Matrix) {
  precondition(bias.columns == x.columns)
  let b = bias.pointer
  for i in 0..<x.rows {
    let row = x.row(i)
    forEachVector(x.columns) { j, lanes in store(load(row, j, lanes) + load(b, j, lanes), row, j, lanes) }
  }
}

/// gradient += the sum of dx's rows: the backward of `addBias`. gradient (1, columns).
public func addColumnSums(_ gradient: Matrix, _ dx: Matrix) {
  precondition(gradient.columns == dx.columns)
  for i in 0..<dx.rows { accumulate(gradient.pointer, 1, dx.row(i), dx.columns) }
}

/// The sum of squares, in double precision.
public func sumOfSquares(_ x: Matrix) -> Double {
  var total = 0.0
  for i in 0..<x.rows { total += Double(dot(x.row(i), x.row(i), x.columns)) }
  return total
}

/// False when a NaN or an infinity is among the values.
public func allFinite(_ x: Matrix) -> Bool {
  for i in 0..<x.rows {
    let row = x.row(i)
    var products = Vector.zero
    // 0·x is 0 for every finite x and NaN for the others.
    forEachVector(x.columns) { j, lanes in products = products.adding(load(row, j, lanes), times: .zero) }
    if products.total != 0 { return false }
  }
  return true
}

/// The inner product of row i of a and row j of b.
public func dot(_ a: Matrix, _ i: Int, _ b: Matrix, _ j: Int) -> Float {
  precondition(a.columns == b.columns)
  return dot(a.row(i), b.row(j), a.columns)
}

/// Row i of a times each of these rows of b, which may lie anywhere: they are fetched ahead of their use.
public func dots(_ a: Matrix, _ i: Int, _ b: Matrix, rows: [Int32]) -> [Float] {
  precondition(a.columns == b.columns)
  let ahead = 8
  for row in rows.prefix(ahead) { prefetch(b.row(Int(row)), Int64(b.columns)) }
  return rows.indices.map { place in
    if place + ahead < rows.count { prefetch(b.row(Int(rows[place + ahead])), Int64(b.columns)) }
    return dot(a.row(i), b.row(Int(rows[place])), a.columns)
  }
}

/// Row i of y += factor · row j of x.
public func accumulate(_ y: Matrix, _ i: Int, factor: Float, _ x: Matrix, _ j: Int) {
  precondition(y.columns == x.columns)
  accumulate(y.row(i), factor, x.row(j), y.columns)
}

/// Row i of target = row indices[i] of source; zeros for a negative index. target (indices.count, columns).
public func gather(_ target: Matrix, from source: Matrix, _ indices: [Int32]) {
  precondition(target.rows == indices.count && target.columns == source.columns)
  for (i, index) in indices.enumerated() {
    if index < 0 {
      target.row(i).update(repeating: 0, count: target.columns)
    } else {
      precondition(Int(index) < source.rows)
      target.row(i).update(from: source.row(Int(index)), count: target.columns)
    }
  }
}

/// Row indices[i] of target += row i of source; negative indices are left out: the backward of `gather`.
public func scatterAdd(_ target: Matrix, _ source: Matrix, _ indices: [Int32]) {
  precondition(source.rows == indices.count && target.columns == source.columns)
  for (i, index) in indices.enumerated() where index >= 0 {
    precondition(Int(index) < target.rows)
    accumulate(target.row(Int(index)), 1, source.row(i), target.columns)
  }
}

/// Row i of target += row indices[i] of table: an embedding added in place.
public func addRows(_ target: Matrix, from table: Matrix, _ indices: [Int32]) {
  precondition(target.rows == indices.count && target.columns == table.columns)
  for (i, index) in indices.enumerated() where index >= 0 {
    precondition(Int(index) < table.rows)
    accumulate(target.row(i), 1, table.row(Int(index)), target.columns)
  }
}

/// y = GELU(x), the tanh approximation (arXiv 1606.08415): x·σ(2·√(2/π)·(x + 0.044715·x³)).
public func geluForward(_ y: Matrix, _ x: Matrix, instructions: VectorInstructions = .best) {
  precondition(y.rows == x.rows && y.columns == x.columns)
  for i in 0..<x.rows { gelu_forward(instructions.code, y.row(i), x.row(i), Int64(x.columns)) }
}

/// dx = dy·GELU′(x); dx may be dy.
public func geluBackward(_ dx: Matrix, _ dy: Matrix, _ x: Matrix, instructions: VectorInstructions = .best) {
  precondition(dx.rows == x.rows && dx.columns == x.columns && dy.rows == x.rows && dy.columns == x.columns)
  for i in 0..<x.rows { gelu_backward(instructions.code, dx.row(i), dy.row(i), x.row(i), Int64(x.columns)) }
}
