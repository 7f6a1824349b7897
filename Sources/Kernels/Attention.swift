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
  public var haveOneQueryEach: Bool { queryCount == count && (0..<count).allSatisfy { queries($0) == 1 } }

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
///   - probabilities: p, (1, tokens), kept for the backward pass.
///   - x: (tokens, d); no sequence is empty.
public func attentionMeans(
  _ means: Matrix, probabilities: Matrix, queries: Matrix, over x: Matrix, factor: Float, sequences: PackedSequences,
  instructions: VectorInstructions = .best
) {
  precondition(means.rows == sequences.count && queries.rows == sequences.count && x.rows == sequences.tokenCount)
  precondition(means.columns == x.columns && queries.columns == x.columns && probabilities.count == x.rows)
  zero(means)
  for b in 0..<sequences.count {
    let tokens = sequences.tokenOffsets[b]..<sequences.tokenOffsets[b + 1]
    precondition(!tokens.isEmpty)
    let own = probabilities.columns(tokens)
    for (i, token) in tokens.enumerated() { own.pointer[i] = factor * dot(queries.row(b), x.row(token), x.columns) }
    let sum = exponentialsLessGreatest(own, row: 0, instructions: instructions).sum
    scale(own, by: 1 / sum)
    for (i, token) in tokens.enumerated() { accumulate(means.row(b), own.pointer[i], x.row(token), x.columns) }
  }
}

/// The backward of ``attentionMeans(_:probabilities:queries:over:factor:sequences:instructions:)``.
///
/// - Parameters:
///   - dQueries: (sequences, d), overwritten.
///   - dx: (tokens, d), added to.
///   - dMeans, means: (sequences, d).
public func attentionMeansBackward(
  dQueries: Matrix, dx: Matrix, _ dMeans: Matrix, means: Matrix, probabilities: Matrix, queries: Matrix, over x: Matrix, factor: Float,
  sequences: PackedSequences
) {
  precondition(dMeans.rows == sequences.count && means.rows == sequences.count && queries.rows == sequences.count && dQueries.rows == sequences.count)
  precondition(x.rows == sequences.tokenCount && dx.rows == x.rows && probabilities.count == x.rows)
  precondition([dMeans, means, queries, dQueries, dx].allSatisfy { $0.columns == x.columns })
  let d = x.columns
  zero(dQueries)
  for b in 0..<sequences.count {
    let tokens = sequences.tokenOffsets[b]..<sequences.tokenOffsets[b + 1]
    // Σ p·(dMeans·x)
    let mean = dot(dMeans.row(b), means.row(b), d)
    for token in tokens {
      let p = probabilities.pointer[token]
      let slope = factor * p * (dot(dMeans.row(b), x.row(token), d) - mean)
      accumulate(dx.row(token), p, dMeans.row(b), d)
      accumulate(dx.row(token), slope, queries.row(b), d)
      accumulate(dQueries.row(b), slope, x.row(token), d)
    }
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
