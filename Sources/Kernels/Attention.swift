/// Where the sequences of a packed batch lie, and for how many last positions of each the queries are computed.
public struct PackedSequences: Sendable {
  /// The first token of each sequence, and at the end the number of all tokens: (sequences + 1).
  public let tokenOffsets: [Int]
  /// The first query row of each sequence, and at the end the number of all: (sequences + 1).
  /// Sequence b has `queryOffsets[b+1] − queryOffsets[b]` queries: its last tokens.
  public let queryOffsets: [Int]

  public init(lengths: [Int], queryCounts: [Int]) {
    precondition(lengths.count == queryCounts.count && zip(lengths, queryCounts).allSatisfy { $0 >= $1 && $1 >= 0 })
    tokenOffsets = lengths.reduce(into: [0]) { $0.append($0[$0.count - 1] + $1) }
    queryOffsets = queryCounts.reduce(into: [0]) { $0.append($0[$0.count - 1] + $1) }
  }

  public var count: Int { tokenOffsets.count - 1 }
  public var tokenCount: Int { tokenOffsets[count] }
  public var queryCount: Int { queryOffsets[count] }
  public func length(_ b: Int) -> Int { tokenOffsets[b + 1] - tokenOffsets[b] }
  public func queries(_ b: Int) -> Int { queryOffsets[b + 1] - queryOffsets[b] }

  /// The same sequences with a query at every token.
  public var allQueries: PackedSequences { PackedSequences(lengths: lengths, queryCounts: lengths) }
  /// The token of each query row.
  public var queryTokens: [Int32] {
    (0..<count).flatMap { b in (tokenOffsets[b + 1] - queries(b)..<tokenOffsets[b + 1]).map { Int32($0) } }
  }
  private var lengths: [Int] { (0..<count).map(length) }

  /// The floats that the attention probabilities of one head take: for each query, one for each token of its sequence.
  public var probabilityCount: Int { (0..<count).reduce(0) { $0 + queries($1) * length($1) } }
}

/// Causal scaled dot-product attention over packed sequences (arXiv 1706.03762): no padding, no mask in memory.
///
/// - Parameters:
///   - output: (queries, d).
///   - probabilities: (1, headCount · `sequences.probabilityCount`), kept for the backward pass.
///   - q: (queries, d).  - k, v: (tokens, d). Head h owns columns h·d/headCount ….
///   - scratch: (1, p·(d/headCount + 1)), p being the longest length rounded up to 8.
public func attentionForward(
  _ output: Matrix, probabilities: Matrix, q: Matrix, k: Matrix, v: Matrix, headCount: Int, sequences: PackedSequences, scratch: Matrix
) {
  let size = q.columns / headCount
  let factor = 1 / Float(size).squareRoot()
  var saved = probabilities.pointer
  for b in 0..<sequences.count {
    let length = sequences.length(b)
    let queries = sequences.queries(b)
    let firstToken = sequences.tokenOffsets[b]
    let firstQuery = sequences.queryOffsets[b]
    let padded = (length + 7) & ~7
    for head in 0..<headCount {
      let column = head * size
      transpose(scratch.pointer, k, firstToken, length, column, size, padded)
      for i in 0..<queries {
        let reach = length - queries + i + 1
        let query = q.row(firstQuery + i) + column
        products(saved, query, scratch.pointer, reach, size, padded, factor)
        softmax(saved, reach)
        for j in reach..<length { saved[j] = 0 }
        let out = output.row(firstQuery + i) + column
        forEachVector(size) { c, lanes in
          var sum = Vector.zero
          for j in 0..<reach { sum = sum.adding(Vector(all: saved[j]), times: load(v.row(firstToken + j) + column, c, lanes)) }
          store(sum, out, c, lanes)
        }
        saved += length
      }
    }
  }
}

/// The backward of `attentionForward`: dq, dk and dv are overwritten.
public func attentionBackward(
  dq: Matrix, dk: Matrix, dv: Matrix, _ dOutput: Matrix, probabilities: Matrix, q: Matrix, k: Matrix, v: Matrix, headCount: Int,
  sequences: PackedSequences, scratch: Matrix
) {
  let size = q.columns / headCount
  let factor = 1 / Float(size).squareRoot()
  zero(dk)
  zero(dv)
  var saved = probabilities.pointer
  for b in 0..<sequences.count {
    let length = sequences.length(b)
    let queries = sequences.queries(b)
    let firstToken = sequences.tokenOffsets[b]
    let firstQuery = sequences.queryOffsets[b]
    let padded = (length + 7) & ~7
    let slope = scratch.pointer + padded * size
    for head in 0..<headCount {
      let column = head * size
      transpose(scratch.pointer, v, firstToken, length, column, size, padded)
      for i in 0..<queries {
        let reach = length - queries + i + 1
        let above = dOutput.row(firstQuery + i) + column
        let query = q.row(firstQuery + i) + column
        let dQuery = dq.row(firstQuery + i) + column
        products(slope, above, scratch.pointer, reach, size, padded, 1)
        let mean = dot(slope, saved, reach)
        forEachVector(reach) { j, lanes in
          store((load(slope, j, lanes) - mean) * load(saved, j, lanes) * factor, slope, j, lanes)
        }
        forEachVector(size) { c, lanes in
          var sum = Vector.zero
          let up = load(above, c, lanes)
          let own = load(query, c, lanes)
          for j in 0..<reach {
            let s = Vector(all: slope[j])
            let dKey = dk.row(firstToken + j) + column
            let dValue = dv.row(firstToken + j) + column
            sum = sum.adding(s, times: load(k.row(firstToken + j) + column, c, lanes))
            store(load(dKey, c, lanes).adding(s, times: own), dKey, c, lanes)
            store(load(dValue, c, lanes).adding(Vector(all: saved[j]), times: up), dValue, c, lanes)
          }
          store(sum, dQuery, c, lanes)
        }
        saved += length
      }
    }
  }
}

/// target (size, padded) = columns column ..< column + size of rows first ..< first + length of x, transposed; zeros behind.
@inline(__always)
private func transpose(_ target: Floats, _ x: Matrix, _ first: Int, _ length: Int, _ column: Int, _ size: Int, _ padded: Int) {
  for j in 0..<length {
    let source = x.row(first + j) + column
    for c in 0..<size { target[c &* padded &+ j] = source[c] }
  }
  for j in length..<padded {
    for c in 0..<size { target[c &* padded &+ j] = 0 }
  }
}

/// result[j] = factor · query·column j of transposed, for j < reach. `result` has room for `reach` only.
@inline(__always)
private func products(
  _ result: Floats, _ query: Floats, _ transposed: Floats, _ reach: Int, _ size: Int, _ padded: Int, _ factor: Float
) {
  var j = 0
  while j < reach {
    // Two vectors of keys at a time, so that two chains of fused products run side by side.
    let second = j &+ 8 < reach
    var a = Vector.zero
    var b = Vector.zero
    for c in 0..<size {
      let all = Vector(all: query[c])
      a = a.adding(all, times: load(transposed, c &* padded &+ j))
      if second { b = b.adding(all, times: load(transposed, c &* padded &+ j &+ 8)) }
    }
    store(a * factor, result, j, min(8, reach &- j))
    if second { store(b * factor, result, j &+ 8, min(8, reach &- j &- 8)) }
    j &+= 16
  }
}

/// x = softmax(x), in place.
@inline(__always)
private func softmax(_ x: Floats, _ count: Int) {
  var greatest = -Float.infinity
  for j in 0..<count { greatest = max(greatest, x[j]) }
  var sum: Float = 0
  forEachVector(count) { j, lanes in
    store(exponential(load(x, j, lanes) - greatest), x, j, lanes)
  }
  for j in 0..<count { sum += x[j] }
  let reciprocal = 1 / sum
  forEachVector(count) { j, lanes in store(load(x, j, lanes) * reciprocal, x, j, lanes) }
}

/// The plain form of ``attentionForward``, for tests: one query and one key at a time.
package func attentionReference(_ output: Matrix, q: Matrix, k: Matrix, v: Matrix, headCount: Int, sequences: PackedSequences) {
  let size = q.columns / headCount
  zero(output)
  for b in 0..<sequences.count {
    for i in 0..<sequences.queries(b) {
      let row = sequences.queryOffsets[b] + i
      let tokens = sequences.tokenOffsets[b]...(sequences.tokenOffsets[b + 1] - sequences.queries(b) + i)
      for head in 0..<headCount {
        let columns = head * size..<(head + 1) * size
        let scores = tokens.map { token in columns.reduce(0.0) { $0 + Double(q[row, $1] * k[token, $1]) } / Double(size).squareRoot() }
        let greatest = scores.max() ?? 0
        let weights = scores.map { Double.exponentialFunction($0 - greatest) }
        let sum = weights.reduce(0, +)
        for (weight, token) in zip(weights, tokens) {
          for c in columns { output[row, c] += Float(weight / sum) * v[token, c] }
        }
      }
    }
  }
}
