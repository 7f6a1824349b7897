import Kernels

/// What the encoder reads: packed sequences of interactions, oldest first.
struct SequenceBatch: Sendable {
  /// Which vectors stand where; the queries are the positions whose hidden state is wanted, a suffix of each sequence.
  var sequences: PackedSequences
  /// Each token's row in the matrix of item vectors; −1 is an item that is no more.
  var items: [Int32]
  var types: [Int32]
  /// ``TimeGap`` buckets: the gap before each interaction, and the gap to the one after it (to "now" for the last).
  var gapBefore: [Int32]
  var gapNext: [Int32]
  /// Counted from the most recent interaction, which is 0.
  var positions: [Int32]

  /// Whose sum stands for each token; with the gradients of all these, where its gradient goes.
  fileprivate func embeddings(_ vectors: Matrix, _ parameters: DenseParameters.Encoder) -> [RowSelection] {
    [
      RowSelection(vectors, items), RowSelection(parameters.position, positions), RowSelection(parameters.type, types),
      RowSelection(parameters.gapBefore, gapBefore), RowSelection(parameters.gapNext, gapNext),
    ]
  }
}

/// The dropout of one step: each site's mask is a function of the seed.
struct DropoutPlan: Sendable {
  var rate: Float
  var seed: UInt32

  /// Of one part of a mini-batch: as the masks are by place in the part, each has its own.
  func part(_ index: Int) -> DropoutPlan { DropoutPlan(rate: rate, seed: seed &+ UInt32(truncatingIfNeeded: index) &* 0x2545_F491) }

  func mask(site: Int) -> DropoutMask {
    var x = seed &+ UInt32(truncatingIfNeeded: site) &* 0x9E37_79B9
    x = (x ^ (x >> 16)) &* 0x85EB_CA6B
    x = (x ^ (x >> 13)) &* 0xC2B2_AE35
    return DropoutMask(rate: rate, seed: x ^ (x >> 16))
  }
}

/// h(s): a causal pre-norm transformer (SASRec, arXiv 1808.09781) with embeddings of position, interaction type and time gaps.
///
/// Sequences are packed: the cost follows the real lengths. The last layer computes only the positions that are asked for.
struct SequenceEncoder {
  let configuration: ModelConfiguration
  let parameters: DenseParameters.Encoder

  struct Pass {
    /// h: (queries, d).
    let hidden: Matrix
    fileprivate var layers: [LayerPass] = []
    fileprivate var last: Matrix
    fileprivate var statistics: Matrix
  }

  fileprivate struct LayerPass {
    let sequences: PackedSequences
    /// nil when every token is a query.
    let queryTokens: [Int32]?
    let input: Matrix  // (tokens, d)
    let statistics1: Matrix
    let normal1: Matrix  // (tokens, d)
    let normalOfQueries: Matrix  // (queries, d)
    let query: Matrix  // (queries, d)
    let attention: AttentionPass
    let attended: Matrix  // (queries, d)
    let rest: FeedForwardPass
  }

  fileprivate enum AttentionPass {
    /// keyValue: (tokens, 2d).
    case packed(keyValue: Matrix, probabilities: Matrix)
    /// For each head q·W_k, the probabilities p and Σ p·n: (sequences, d), (1, tokens) and (sequences, d).
    case fromLast(heads: [(projected: Matrix, probabilities: Matrix, means: Matrix)])
  }

  fileprivate struct FeedForwardPass {
    let middle: Matrix  // (queries, d)
    let statistics: Matrix
    let normal: Matrix  // (queries, d)
    let up: Matrix  // (queries, inner)
    let active: Matrix  // (queries, inner)
  }

  /// - Parameters:
  ///   - vectors: v of the items that `batch.items` points into, (rows, d).
  ///   - dropout: nil when serving.
  func forward(_ batch: SequenceBatch, vectors: Matrix, dropout: DropoutPlan?, arena: Arena) -> Pass {
    var x = embed(batch, vectors: vectors, dropout: dropout, arena: arena)
    var layers: [LayerPass] = []
    let everyToken = batch.sequences.allQueries
    for (index, layer) in parameters.layers.enumerated() {
      let isLast = index == parameters.layers.count - 1
      let sequences = isLast ? batch.sequences : everyToken
      let queryTokens = isLast && sequences.queryCount < sequences.tokenCount ? sequences.queryTokens : nil
      let pass = forward(layer, index, x, sequences, queryTokens, dropout, arena)
      layers.append(pass.kept)
      x = pass.output
    }
    let (hidden, statistics) = normalize(x, parameters.norm, arena)
    return Pass(hidden: hidden, layers: layers, last: x, statistics: statistics)
  }

  private func embed(_ batch: SequenceBatch, vectors: Matrix, dropout: DropoutPlan?, arena: Arena) -> Matrix {
    let x = arena.matrix(batch.sequences.tokenCount, configuration.hiddenSize)
    gatherSum(x, batch.embeddings(vectors, parameters))
    dropout?.mask(site: 0).apply(x)
    return x
  }

  private func normalize(_ x: Matrix, _ norm: DenseParameters.Norm, _ arena: Arena) -> (normal: Matrix, statistics: Matrix) {
    let normal = arena.matrix(x.rows, x.columns)
    let statistics = arena.matrix(x.rows, 2)
    layerNormForward(normal, x, gain: norm.gain, bias: norm.bias, statistics: statistics)
    return (normal, statistics)
  }

  /// The rows of those tokens; nil is all of them.
  private func rows(_ tokens: [Int32]?, of x: Matrix, _ arena: Arena) -> Matrix {
    guard let tokens else { return x }
    let result = arena.matrix(tokens.count, x.columns)
    gather(result, from: x, tokens)
    return result
  }

  private func forward(
    _ layer: DenseParameters.Layer, _ index: Int, _ x: Matrix, _ sequences: PackedSequences, _ queryTokens: [Int32]?,
    _ dropout: DropoutPlan?, _ arena: Arena
  ) -> (output: Matrix, kept: LayerPass) {
    let (normal1, statistics1) = normalize(x, layer.norm1, arena)
    let normalOfQueries = rows(queryTokens, of: normal1, arena)
    let query = linear(normalOfQueries, layer.query, arena)
    let attended = arena.matrix(sequences.queryCount, configuration.hiddenSize)
    let attention =
      sequences.haveOneQueryEach
      ? attendFromLast(layer, attended, query, normal1, sequences, arena) : attend(layer, attended, query, normal1, sequences, arena)
    let (output, rest) = feedForward(layer, index, attended, rows(queryTokens, of: x, arena), queryTokens, dropout, arena)
    let kept = LayerPass(
      sequences: sequences, queryTokens: queryTokens, input: x, statistics1: statistics1, normal1: normal1,
      normalOfQueries: normalOfQueries, query: query, attention: attention, attended: attended, rest: rest)
    return (output, kept)
  }

  private func attend(
    _ layer: DenseParameters.Layer, _ attended: Matrix, _ query: Matrix, _ normal: Matrix, _ sequences: PackedSequences, _ arena: Arena
  ) -> AttentionPass {
    let d = configuration.hiddenSize
    let keyValue = linear(normal, layer.keyValue, arena)
    let probabilities = arena.matrix(1, configuration.headCount * sequences.probabilityCount)
    attentionForward(
      attended, probabilities: probabilities, q: query, k: keyValue.columns(0..<d), v: keyValue.columns(d..<2 * d),
      headCount: configuration.headCount, sequences: sequences, scratch: attentionScratch(sequences, arena))
    return .packed(keyValue: keyValue, probabilities: probabilities)
  }

  private func attendBackward(
    _ layer: DenseParameters.Layer, _ gradient: DenseParameters.Layer, _ kept: LayerPass, keyValue: Matrix, probabilities: Matrix,
    _ dAttended: Matrix, _ arena: Arena
  ) -> (dQuery: Matrix, dNormal: Matrix) {
    let d = configuration.hiddenSize
    let dQuery = arena.matrix(kept.query.rows, d)
    let dKeyValue = arena.matrix(keyValue.rows, 2 * d)
    attentionBackward(
      dq: dQuery, dk: dKeyValue.columns(0..<d), dv: dKeyValue.columns(d..<2 * d), dAttended, probabilities: probabilities,
      q: kept.query, k: keyValue.columns(0..<d), v: keyValue.columns(d..<2 * d), headCount: configuration.headCount,
      sequences: kept.sequences, scratch: attentionScratch(kept.sequences, arena))
    return (dQuery, linearBackward(dKeyValue, kept.normal1, layer.keyValue, gradient.keyValue, arena))
  }

  /// Where each sequence has one query, neither keys nor values are projected: with n a token's vector, the query's scores are (q·W_k)·n, but for
  /// a number that is the same for all tokens, and what it attends to is W_v·Σ p·n + b_v.
  private func attendFromLast(
    _ layer: DenseParameters.Layer, _ attended: Matrix, _ query: Matrix, _ normal: Matrix, _ sequences: PackedSequences, _ arena: Arena
  ) -> AttentionPass {
    let d = configuration.hiddenSize
    let heads = (0..<configuration.headCount).map { head in
      let (projected, means) = (arena.matrix(sequences.count, d), arena.matrix(sequences.count, d))
      let probabilities = arena.matrix(1, sequences.tokenCount)
      multiply(projected, query.columns(columns(head)), keys(layer.keyValue, head).weight)
      attentionMeans(means, probabilities: probabilities, queries: projected, over: normal, factor: attentionFactor, sequences: sequences)
      let values = values(layer.keyValue, head)
      multiply(attended.columns(columns(head)), means, values.weight, transposeB: true, bias: values.bias)
      return (projected, probabilities, means)
    }
    return .fromLast(heads: heads)
  }

  private func attendFromLastBackward(
    _ layer: DenseParameters.Layer, _ gradient: DenseParameters.Layer, _ kept: LayerPass,
    heads: [(projected: Matrix, probabilities: Matrix, means: Matrix)], _ dAttended: Matrix, _ arena: Arena
  ) -> (dQuery: Matrix, dNormal: Matrix) {
    let d = configuration.hiddenSize
    let dQuery = arena.matrix(kept.query.rows, d)
    let dNormal = arena.zeros(kept.normal1.rows, d)
    for (head, pass) in heads.enumerated() {
      let own = columns(head)
      let dMeans = linearBackward(dAttended.columns(own), pass.means, values(layer.keyValue, head), values(gradient.keyValue, head), arena)
      let dProjected = arena.matrix(kept.query.rows, d)
      attentionMeansBackward(
        dQueries: dProjected, dx: dNormal, dMeans, means: pass.means, probabilities: pass.probabilities, queries: pass.projected,
        over: kept.normal1, factor: attentionFactor, sequences: kept.sequences)
      multiply(dQuery.columns(own), dProjected, keys(layer.keyValue, head).weight, transposeB: true)
      let dKeys = keys(gradient.keyValue, head).weight
      multiply(dKeys, kept.query.columns(own), dProjected, transposeA: true, adding: dKeys)
    }
    return (dQuery, dNormal)
  }

  private var headSize: Int { configuration.hiddenSize / configuration.headCount }
  private var attentionFactor: Float { 1 / Float(headSize).squareRoot() }

  /// A head's columns of queries and of what is attended to.
  private func columns(_ head: Int) -> Range<Int> { head * headSize..<(head + 1) * headSize }

  /// The part of the layer that projects a head's keys.
  private func keys(_ keyValue: DenseParameters.Linear, _ head: Int) -> DenseParameters.Linear { keyValue.outputs(columns(head)) }

  private func values(_ keyValue: DenseParameters.Linear, _ head: Int) -> DenseParameters.Linear {
    let own = columns(head)
    return keyValue.outputs(configuration.hiddenSize + own.lowerBound..<configuration.hiddenSize + own.upperBound)
  }

  /// What follows attention. attended, residual: (queries, d).
  private func feedForward(
    _ layer: DenseParameters.Layer, _ index: Int, _ attended: Matrix, _ residual: Matrix, _ queryTokens: [Int32]?, _ dropout: DropoutPlan?,
    _ arena: Arena
  ) -> (output: Matrix, kept: FeedForwardPass) {
    let middle = linear(attended, layer.output, residual: residual, dropout?.mask(site: 2 * index + 1), queryTokens, arena)
    let (normal, statistics) = normalize(middle, layer.norm2, arena)
    let up = linear(normal, layer.up, arena)
    let active = arena.matrix(up.rows, configuration.innerSize)
    geluForward(active, up)
    let output = linear(active, layer.down, residual: middle, dropout?.mask(site: 2 * index + 2), queryTokens, arena)
    return (output, FeedForwardPass(middle: middle, statistics: statistics, normal: normal, up: up, active: active))
  }

  /// Adds the gradients of the encoder's parameters, and to dVectors those by the item vectors.
  ///
  /// - Parameters:
  ///   - dHidden: (queries, d).
  ///   - dVectors: (rows, d), added to.
  func backward(
    _ pass: Pass, _ batch: SequenceBatch, _ dHidden: Matrix, dVectors: Matrix, gradients: DenseParameters.Encoder,
    dropout: DropoutPlan?, arena: Arena
  ) {
    var dx = arena.zeros(pass.last.rows, configuration.hiddenSize)
    layerNormBackward(
      dx, dGain: gradients.norm.gain, dBias: gradients.norm.bias, dHidden, pass.last, gain: parameters.norm.gain,
      statistics: pass.statistics)
    for index in parameters.layers.indices.reversed() {
      dx = backward(parameters.layers[index], gradients.layers[index], index, pass.layers[index], dx, dropout, arena)
    }
    dropout?.mask(site: 0).apply(dx)
    scatterAdd(batch.embeddings(dVectors, gradients), dx)
  }

  /// Overwrites dOutput.
  private func backward(
    _ layer: DenseParameters.Layer, _ gradient: DenseParameters.Layer, _ index: Int, _ kept: LayerPass, _ dOutput: Matrix,
    _ dropout: DropoutPlan?, _ arena: Arena
  ) -> Matrix {
    // output = middle + dropout(W₂·GELU(W₁·norm2(middle)))
    let dDown = masked(dOutput, dropout?.mask(site: 2 * index + 2), kept.queryTokens, arena)
    let dActive = linearBackward(dDown, kept.rest.active, layer.down, gradient.down, arena)
    geluBackward(dActive, dActive, kept.rest.up)
    let dNormal2 = linearBackward(dActive, kept.rest.normal, layer.up, gradient.up, arena)
    let dMiddle = dOutput
    layerNormBackward(
      dMiddle, dGain: gradient.norm2.gain, dBias: gradient.norm2.bias, dNormal2, kept.rest.middle, gain: layer.norm2.gain,
      statistics: kept.rest.statistics)
    // middle = x + dropout(Wo·attention(norm1(x)))
    let dProjected = masked(dMiddle, dropout?.mask(site: 2 * index + 1), kept.queryTokens, arena)
    let dAttended = linearBackward(dProjected, kept.attended, layer.output, gradient.output, arena)
    let (dQuery, dNormal1) =
      switch kept.attention {
      case .packed(let keyValue, let probabilities):
        attendBackward(layer, gradient, kept, keyValue: keyValue, probabilities: probabilities, dAttended, arena)
      case .fromLast(let heads):
        attendFromLastBackward(layer, gradient, kept, heads: heads, dAttended, arena)
      }
    let dNormalOfQueries = linearBackward(dQuery, kept.normalOfQueries, layer.query, gradient.query, arena)
    let dx: Matrix
    if let queryTokens = kept.queryTokens {
      scatterAdd(dNormal1, dNormalOfQueries, queryTokens)
      dx = arena.zeros(kept.input.rows, configuration.hiddenSize)
      scatterAdd(dx, dMiddle, queryTokens)
    } else {
      add(dNormal1, dNormalOfQueries)
      dx = dMiddle
    }
    layerNormBackward(
      dx, dGain: gradient.norm1.gain, dBias: gradient.norm1.bias, dNormal1, kept.input, gain: layer.norm1.gain,
      statistics: kept.statistics1)
    return dx
  }

  private func attentionScratch(_ sequences: PackedSequences, _ arena: Arena) -> Matrix {
    arena.matrix(1, attentionScratchCount(sequences, headSize: headSize))
  }
}

/// y = x·Wᵀ + b. x (rows, in) → (rows, out).
private func linear(_ x: Matrix, _ layer: DenseParameters.Linear, _ arena: Arena) -> Matrix {
  let y = arena.matrix(x.rows, layer.weight.rows)
  multiply(y, x, layer.weight, transposeB: true, bias: layer.bias)
  return y
}

/// y = residual + dropout(x·Wᵀ + b).
///
/// - Parameter rows: the mask's rows: tokens, so that a pass which asks for fewer queries sees the same mask. nil is every token.
private func linear(
  _ x: Matrix, _ layer: DenseParameters.Linear, residual: Matrix, _ mask: DropoutMask?, _ rows: [Int32]?, _ arena: Arena
) -> Matrix {
  let y = arena.matrix(x.rows, layer.weight.rows)
  multiply(y, x, layer.weight, transposeB: true, bias: layer.bias, adding: mask == nil ? residual : nil)
  if let mask {
    mask.apply(y, rows: rows)
    add(y, residual)
  }
  return y
}

/// The gradient before dropout: a copy with the mask's zeros, or the same without dropout.
private func masked(_ dy: Matrix, _ mask: DropoutMask?, _ rows: [Int32]?, _ arena: Arena) -> Matrix {
  guard let mask else { return dy }
  let result = arena.matrix(dy.rows, dy.columns)
  copy(result, from: dy)
  mask.apply(result, rows: rows)
  return result
}

/// dW += dyᵀ·x, db += Σ dy, and returns dx = dy·W.
private func linearBackward(
  _ dy: Matrix, _ x: Matrix, _ layer: DenseParameters.Linear, _ gradient: DenseParameters.Linear, _ arena: Arena
) -> Matrix {
  let dx = arena.matrix(x.rows, layer.weight.columns)
  multiply(dx, dy, layer.weight)
  multiply(gradient.weight, dy, x, transposeA: true, adding: gradient.weight)
  addColumnSums(gradient.bias, dy)
  return dx
}
