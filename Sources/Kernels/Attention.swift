import CVectorKernels

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

  /// The floats that the attention probabilities of one head take: for each query, one for each token of its sequence, and the kernels' padding.
  public var probabilityCount: Int { (0..<count).reduce(0) { $0 + queries($1) * Int(attention_padded(Int64(length($1)))) } }
}

/// The floats that ``attentionForward(_:probabilities:q:k:v:headCount:sequences:scratch:instructions:)`` and its backward want as scratch.
public func attentionScratchCount(_ sequences: PackedSequences, headSize: Int) -> Int {
  Int(attention_scratch(Int64((0..<sequences.count).map(sequences.length).max() ?? 0), Int64(headSize)))
}

/// Causal scaled dot-product attention over packed sequences (arXiv 1706.03762): no padding, no mask in memory.
///
/// - Parameters:
///   - output: (queries, d).
///   - probabilities: (1, headCount · `sequences.probabilityCount`), kept for the backward pass.
///   - q: (queries, d).  - k, v: (tokens, d). Head h owns columns h·d/headCount ….
///   - scratch: (1, at least ``attentionScratchCount(_:headSize:)``).
///   - instructions: the best that the machine has, but in a test.
public func attentionForward(
  _ output: Matrix, probabilities: Matrix, q: Matrix, k: Matrix, v: Matrix, headCount: Int, sequences: PackedSequences, scratch: Matrix,
  instructions: VectorInstructions = .best
) {
  precondition(scratch.count >= attentionScratchCount(sequences, headSize: q.columns / headCount))
  forEachHead(probabilities, q: q, k: k, v: v, headCount: headCount, sequences) { head, place, saved in
    attention_forward(
      instructions.code, &head, output.row(place.query) + place.column, Int64(output.stride), saved, scratch.pointer)
  }
}

/// The backward of `attentionForward`: dq, dk and dv, which lie as q, k and v do, are overwritten.
public func attentionBackward(
  dq: Matrix, dk: Matrix, dv: Matrix, _ dOutput: Matrix, probabilities: Matrix, q: Matrix, k: Matrix, v: Matrix, headCount: Int,
  sequences: PackedSequences, scratch: Matrix, instructions: VectorInstructions = .best
) {
  precondition(scratch.count >= attentionScratchCount(sequences, headSize: q.columns / headCount))
  precondition(dq.stride == q.stride && dk.stride == k.stride && dv.stride == v.stride)
  forEachHead(probabilities, q: q, k: k, v: v, headCount: headCount, sequences) { head, place, saved in
    attention_backward(
      instructions.code, &head, dOutput.row(place.query) + place.column, Int64(dOutput.stride), saved, dq.row(place.query) + place.column,
      dk.row(place.token) + place.column, dv.row(place.token) + place.column, scratch.pointer)
  }
}

/// Attention of one query for each sequence over vectors that are their own keys and values: row b of means = Σ p·x over the sequence's
/// tokens, p being the softmax of factor·query·x.
///
/// - Parameters:
///   - means, queries: (sequences, d).
///   - x: (tokens, d); no sequence is empty.
///   - scratch: (1, at least the longest sequence's length).
public func attentionMeans(
  _ means: Matrix, queries: Matrix, over x: Matrix, factor: Float, sequences: PackedSequences, scratch: Matrix,
  instructions: VectorInstructions = .best
) {
  precondition(means.rows == sequences.count && queries.rows == sequences.count && x.rows == sequences.tokenCount)
  precondition(means.columns == x.columns && queries.columns == x.columns)
  let weights = scratch.pointer
  for b in 0..<sequences.count {
    let (first, length) = (sequences.tokenOffsets[b], sequences.length(b))
    precondition(length > 0 && length <= scratch.count)
    for i in 0..<length { weights[i] = factor * dot(queries.row(b), x.row(first + i), x.columns) }
    var greatest: Float = 0
    let sum = exponentials(instructions.code, weights, Int64(length), &greatest)
    zero(means.rows(b..<b + 1))
    for i in 0..<length { accumulate(means.row(b), weights[i] / sum, x.row(first + i), x.columns) }
  }
}

/// Calls the body for each head of each sequence, with the first query row, token row and column that are its own, and its probabilities.
private func forEachHead(
  _ probabilities: Matrix, q: Matrix, k: Matrix, v: Matrix, headCount: Int, _ sequences: PackedSequences,
  _ body: (inout attention_head, (query: Int, token: Int, column: Int), Floats) -> Void
) {
  let size = q.columns / headCount
  precondition(probabilities.count >= headCount * sequences.probabilityCount)
  var saved = probabilities.pointer
  for b in 0..<sequences.count {
    let (length, queries) = (sequences.length(b), sequences.queries(b))
    for index in 0..<headCount {
      let place = (query: sequences.queryOffsets[b], token: sequences.tokenOffsets[b], column: index * size)
      var head = attention_head(
        q: q.row(place.query) + place.column, k: k.row(place.token) + place.column, v: v.row(place.token) + place.column,
        q_stride: Int64(q.stride), k_stride: Int64(k.stride), v_stride: Int64(v.stride), length: Int32(length), queries: Int32(queries),
        size: Int32(size))
      body(&head, place, saved)
      saved += queries * Int(attention_padded(Int64(length)))
    }
  }
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
