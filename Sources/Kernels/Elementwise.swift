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
  for row in rows.prefix(ahead) { prefetch(b, row: Int(row)) }
  return rows.indices.map { place in
    if place + ahead < rows.count { prefetch(b, row: Int(rows[place + ahead])) }
    return dot(a.row(i), b.row(Int(rows[place])), a.columns)
  }
}

/// Asks for a row that is used soon.
public func prefetch(_ x: Matrix, row: Int) { prefetch(x.row(row), Int64(x.columns)) }

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
public func scatterAdd(_ target: Matrix, _ source: Matrix, _ indices: [Int32]) { scatterAdd([RowSelection(target, indices)], source) }

/// For each row of another matrix one of a table's; a negative index is none.
public struct RowSelection: Sendable {
  let table: Matrix
  let indices: [Int32]

  /// - Parameters:
  ///   - table: (entries, d).
  ///   - indices: from 0 to below `entries`, or negative.
  public init(_ table: Matrix, _ indices: [Int32]) {
    precondition(indices.allSatisfy { Int($0) < table.rows })
    self.table = table
    self.indices = indices
  }

  /// Calls the body for each of these rows and its entry, which is nil for none. Entries, which may lie anywhere, are fetched ahead.
  @inline(__always)
  fileprivate func forEach(_ rows: Range<Int>, _ body: (_ row: Int, _ entry: Floats?) -> Void) {
    let ahead = 8
    for row in rows {
      if row + ahead < indices.count, indices[row + ahead] >= 0 { prefetch(table, row: Int(indices[row + ahead])) }
      body(row, indices[row] < 0 ? nil : table.row(Int(indices[row])))
    }
  }

  /// Rows that stay in the first cache.
  fileprivate static func parts(of count: Int) -> [Range<Int>] { stride(from: 0, to: count, by: 64).map { $0..<min($0 + 64, count) } }
}

/// Row i of target = the sum of the selections' rows i: a sum of embeddings. target (rows, d).
public func gatherSum(_ target: Matrix, _ selections: [RowSelection]) {
  precondition(selections.allSatisfy { $0.indices.count == target.rows && $0.table.columns == target.columns })
  for rows in RowSelection.parts(of: target.rows) {
    zero(target.rows(rows))
    for selection in selections {
      selection.forEach(rows) { row, entry in
        if let entry { accumulate(target.row(row), 1, entry, target.columns) }
      }
    }
  }
}

/// Adds row i of source to the selections' rows i: the backward of ``gatherSum``.
public func scatterAdd(_ selections: [RowSelection], _ source: Matrix) {
  precondition(selections.allSatisfy { $0.indices.count == source.rows && $0.table.columns == source.columns })
  for rows in RowSelection.parts(of: source.rows) {
    for selection in selections {
      selection.forEach(rows) { row, entry in
        if let entry { accumulate(entry, 1, source.row(row), source.columns) }
      }
    }
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
