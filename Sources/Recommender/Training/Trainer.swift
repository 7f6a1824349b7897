import Kernels

/// The objective of MODEL: L = preference·L_RoDPO + crossEntropy·L_CE + loadBalancing·L_balance.
///
/// Both losses are sums over a batch's targets divided by the weight of all of them, so that their balance at one target does not depend
/// on how many targets a sequence has; the preference term is on the last target of each.
public struct ObjectiveConfiguration: Sendable, Equatable {
  public var negatives: NegativeSampling
  /// n.
  public var negativesPerTarget: Int
  /// See `NegativeSampler.rankTemperature`.
  public var rankTemperature: Float
  public var form: PreferenceForm
  /// β.
  public var beta: Float
  public var preferenceWeight: Float
  public var crossEntropyWeight: Float
  public var loadBalancingWeight: Float
  /// Standard deviation of the noise on the router's logits while training.
  public var routerNoise: Float
  /// Up to so many items the softmax runs over the whole catalogue.
  public var fullSoftmaxMaximumItems: Int
  /// Above, over so many items drawn at random, beside the batch's own, with the logQ correction.
  public var sampledSoftmaxNegatives: Int
  /// Of the softmax's products with the items' vectors.
  public var softmaxPrecision: SoftmaxPrecision

  public init(
    negatives: NegativeSampling = .stochastic, negativesPerTarget: Int = 8, rankTemperature: Float = 0, form: PreferenceForm = .pairwise,
    beta: Float = 0.5, preferenceWeight: Float = 1, crossEntropyWeight: Float = 1, loadBalancingWeight: Float = 0.01,
    routerNoise: Float = 0.1, fullSoftmaxMaximumItems: Int = 20_000, sampledSoftmaxNegatives: Int = 2_048,
    softmaxPrecision: SoftmaxPrecision = .float32
  ) {
    self.negatives = negatives
    self.negativesPerTarget = negativesPerTarget
    self.rankTemperature = rankTemperature
    self.form = form
    self.beta = beta
    self.preferenceWeight = preferenceWeight
    self.crossEntropyWeight = crossEntropyWeight
    self.loadBalancingWeight = loadBalancingWeight
    self.routerNoise = routerNoise
    self.fullSoftmaxMaximumItems = fullSoftmaxMaximumItems
    self.sampledSoftmaxNegatives = sampledSoftmaxNegatives
    self.softmaxPrecision = softmaxPrecision
  }
}

public struct OptimizerConfiguration: Sendable, Equatable {
  public var learningRate: Float
  public var weightDecay: Float
  /// The greatest norm of a step's gradient; 0 is no limit.
  public var gradientClip: Float
  public var dropout: Float

  public init(learningRate: Float = 1e-3, weightDecay: Float = 0, gradientClip: Float = 5, dropout: Float = 0.2) {
    self.learningRate = learningRate
    self.weightDecay = weightDecay
    self.gradientClip = gradientClip
    self.dropout = dropout
  }
}

/// What one step did: the losses are means over the targets' weights.
public struct StepReport: Sendable, Equatable {
  public var targets = 0
  public var tokens = 0
  public var crossEntropy = 0.0
  public var preference = 0.0
  public var loadBalancing = 0.0
  public var gradientNorm = 0.0
  /// False when a loss or a gradient was NaN or infinite: then nothing was changed.
  public var isFinite = true
  /// The share of item–expert assignments of each expert.
  public var expertLoad: [Float] = []
}

/// One step of learning: forward, losses, backward, Adam. It owns the parameters.
final class Trainer: @unchecked Sendable {
  // @unchecked: one thread owns the trainer. Within a step each worker writes to its own shard's memory and to its own rows.
  let parameters: Parameters
  let optimizer: AdamOptimizer
  let catalogue: ItemCatalogue
  var objective: ObjectiveConfiguration
  var settings: OptimizerConfiguration
  /// π_ref: a frozen copy of the policy. nil leaves the preference term out.
  var reference: ModelSnapshot?
  /// A bias is the one number by which an item follows its popularity, over several units: Adam's steps of the common size would take
  /// thousands of them.
  private static let biasRate: Float = 10
  /// Rows whose vectors are made at a time for a snapshot.
  private static let snapshotPart = 8192
  /// How often each row was a target: the popularity in the logQ correction.
  private(set) var targetCounts: [Float] = []
  let workers: WorkerThreads
  private var shards: [Shard]
  private var localRow: [Int32] = []
  /// v of a step's items, in the order of its rows.
  private var itemVectors: Matrix

  /// One worker's memory.
  private final class Shard: @unchecked Sendable {
    // @unchecked: only its worker touches it, but for the sums, which the workers make over disjoint rows.
    /// Of the tower's pass, which lasts for the step.
    let arena = Arena()
    /// Of one batch.
    let batchArena = Arena()
    /// h_ref of the batch's sequences.
    var anchor: Matrix
    let gradient: DenseParameters
    var dVectors = Matrix(rows: 0, columns: 0)
    var dBias = Matrix(rows: 1, columns: 0)
    var dAttributes: Matrix
    var tower: ItemTower.Pass?
    var crossEntropy = 0.0
    var preference = 0.0

    init(_ configuration: ModelConfiguration) {
      gradient = DenseParameters(configuration)
      dAttributes = Matrix(rows: 0, columns: configuration.hiddenSize)
      anchor = Matrix(rows: 0, columns: configuration.hiddenSize)
    }
  }

  /// The items of a step: the candidates of the softmax first, then what only contexts and negatives need.
  struct StepItems {
    var rows: [Int32]
    var candidateCount: Int
    /// Where each row stands in `rows`; nil when `rows` is the whole table.
    var local: [Int32]?
    /// −log of the probability that a candidate was drawn; nil for the whole softmax.
    var correction: [Float]?

    func index(_ row: Int32) -> Int32 { row < 0 ? -1 : local.map { $0[Int(row)] } ?? row }
  }

  init(
    parameters: Parameters, catalogue: ItemCatalogue, objective: ObjectiveConfiguration, settings: OptimizerConfiguration,
    workers: WorkerThreads
  ) {
    self.parameters = parameters
    self.catalogue = catalogue
    self.objective = objective
    self.settings = settings
    self.workers = workers
    optimizer = AdamOptimizer(parameters)
    itemVectors = Matrix(rows: 0, columns: parameters.configuration.hiddenSize)
    shards = (0..<workers.count).map { _ in Shard(parameters.configuration) }
  }

  /// Makes room for the catalogue's rows and starts the rows of new owners anew: e = 0 for a described item, which is then known by its
  /// content, a small random e for one known by nothing else.
  func followCatalogue() {
    parameters.reserve(items: catalogue.rowCount, attributes: catalogue.attributeNames.count)
    optimizer.reserve(items: parameters.itemEmbedding.rows, attributes: parameters.attributeEmbedding.rows)
    if targetCounts.count < catalogue.rowCount {
      targetCounts.append(contentsOf: repeatElement(0, count: catalogue.rowCount - targetCounts.count))
    }
    for row in catalogue.takeChangedOwners() { restart(row: Int(row)) }
    // An item that was never learned of starts as if it had come with its description.
    for row in catalogue.takeChangedKinds() where optimizer.embedding.steps[Int(row)] == 0 { restart(row: Int(row)) }
  }

  /// Starts all rows anew but those that `isKept` says, and all attributes from `attributes` on, after older parameters were loaded.
  func restartRows(except isKept: (Int) -> Bool, attributes: Int) {
    for row in 0..<catalogue.rowCount where !isKept(row) { restart(row: row) }
    for attribute in min(attributes, catalogue.attributeNames.count)..<catalogue.attributeNames.count {
      zero(parameters.attributeEmbedding.rows(attribute..<attribute + 1))
      optimizer.attributes.reset(row: attribute)
    }
  }

  private func restart(row: Int) {
    let embedding = parameters.itemEmbedding.rows(row..<row + 1)
    zero(embedding)
    if let owner = catalogue.owners[row], !catalogue.isDescribed(row: row) {
      var random = Xoshiro256(seed: UInt64(owner) &* 0x9E37_79B9_7F4A_7C15)
      embedding.fillNormal(0.02, using: &random)
    }
    parameters.itemBias[row, 0] = 0
    optimizer.embedding.reset(row: row)
    optimizer.bias.reset(row: row)
    targetCounts[row] = 0
  }

  func restore(targetCounts counts: [Float]) { targetCounts = counts }

  /// One mini-batch. Deterministic: the same shards and the same random numbers give the same bits.
  ///
  /// - Parameter batches: the parts of the mini-batch; each worker takes its share of them, one after the other.
  func step(_ batches: [TrainingBatch], using random: inout Xoshiro256) -> StepReport {
    let (report, items, touchedAttributes) = accumulateGradients(batches, using: &random)
    guard report.targets > 0 else { return report }
    if report.isFinite { update(items, touchedAttributes, norm: report.gradientNorm) }
    for attribute in touchedAttributes {
      for shard in shards { zero(shard.dAttributes.rows(Int(attribute)..<Int(attribute) + 1)) }
    }
    for batch in batches { for target in batch.targets { targetCounts[Int(target)] += 1 } }
    return report
  }

  /// The losses, and in the first shard their gradients; `step` then updates.
  func accumulateGradients(
    _ batches: [TrainingBatch], using random: inout Xoshiro256
  ) -> (report: StepReport, items: StepItems, touchedAttributes: [Int32]) {
    var report = StepReport()
    report.targets = batches.reduce(0) { $0 + $1.targets.count }
    report.tokens = batches.reduce(0) { $0 + $1.input.sequences.tokenCount }
    let totalWeight = Float(batches.reduce(0) { $0 + $1.totalWeight })
    guard totalWeight > 0 else {
      report.targets = 0
      return (report, StepItems(rows: [], candidateCount: 0), [])
    }
    let preferenceWeight = batches.reduce(Float(0)) { $0 + self.preferenceWeights($1).reduce(0, +) }
    let items = chooseItems(batches, using: &random)
    let dropout = settings.dropout > 0 ? DropoutPlan(rate: settings.dropout, seed: UInt32(truncatingIfNeeded: random.next())) : nil
    let noiseSeed = random.next()

    let vectors = forwardTower(items, noiseSeed: noiseSeed)
    let logitBias = self.logitBias(items)
    workers.run { [self] index in
      prepare(shards[index], itemCount: items.rows.count)
      for part in stride(from: index, to: batches.count, by: workers.count) {
        forwardAndBackward(
          shards[index], batches[part], items, vectors: vectors, logitBias: logitBias, dropout: dropout?.part(part), totalWeight: totalWeight,
          preferenceWeight: preferenceWeight)
      }
    }
    let used = min(batches.count, shards.count)
    let touchedAttributes = reduceAndBackwardTower(items, shardsUsed: used)

    let first = shards[0]
    report.crossEntropy = shards.prefix(used).reduce(0) { $0 + $1.crossEntropy } / Double(totalWeight)
    report.preference =
      preferenceWeight > 0 ? shards.prefix(used).reduce(0) { $0 + $1.preference } / Double(preferenceWeight) : 0
    let passes = shards.compactMap(\.tower)
    report.loadBalancing = passes.reduce(0) { $0 + $1.loadBalancingLoss * Double($1.vectors.rows) } / Double(items.rows.count)
    report.expertLoad = passes.first?.expertLoad ?? []
    var squares = sumOfSquares(first.gradient.all) + sumOfSquares(first.dVectors) + sumOfSquares(first.dBias)
    for attribute in touchedAttributes { squares += sumOfSquares(first.dAttributes.rows(Int(attribute)..<Int(attribute) + 1)) }
    report.gradientNorm = squares.squareRoot()
    report.isFinite = squares.isFinite && report.crossEntropy.isFinite && report.preference.isFinite
    return (report, items, touchedAttributes)
  }

  /// The gradients of the last ``accumulateGradients(_:using:)`` by the parameters' names; those of the tables for the step's rows.
  var gradients: [(name: String, values: Matrix)] {
    let first = shards[0]
    var result = first.gradient.tensors.map { (name: $0.name, values: $0.values) }
    result.append(("item.embedding", first.dVectors))
    result.append(("item.bias", first.dBias))
    if parameters.configuration.usesAttributes {
      result.append(("item.attributes.embedding", first.dAttributes.rows(0..<catalogue.attributeNames.count)))
    }
    return result
  }

  /// The policy as it is now.
  func snapshot(version: UInt64, neighborhood: Neighborhood = Neighborhood(capacity: 0)) -> ModelSnapshot {
    let count = catalogue.rowCount
    let vectors = Matrix(rows: count, columns: parameters.configuration.hiddenSize)
    // In parts: the tower keeps what each would need for its gradient.
    for start in stride(from: 0, to: count, by: Self.snapshotPart) {
      let rows = start..<min(start + Self.snapshotPart, count)
      copy(vectors.rows(rows), from: forwardTower(StepItems(rows: rows.map { Int32($0) }, candidateCount: rows.count), noiseSeed: nil))
    }
    let bias = Matrix(rows: 1, columns: count)
    for row in 0..<count { bias[0, row] = catalogue.owners[row] == nil ? -.infinity : parameters.itemBias[row, 0] }
    let idShares = (0..<count).map { row in
      let (id, whole) = (dot(parameters.itemEmbedding, row, parameters.itemEmbedding, row), dot(vectors, row, vectors, row))
      // ‖v − e‖² from the products, which rounding may take a little below 0.
      let content = parameters.configuration.usesContent ? max(0, whole + id - 2 * dot(vectors, row, parameters.itemEmbedding, row)).squareRoot() : 0
      let length = id.squareRoot()
      return content > 0 ? length / (length + content) : 1
    }
    return ModelSnapshot(
      version: version, configuration: parameters.configuration, owners: catalogue.owners, vectors: vectors, bias: bias,
      dense: DenseParameters(parameters.configuration, source: parameters.dense.buffer.copy()),
      idShares: idShares, neighborhood: neighborhood)
  }

  // The tower, cut by rows: each worker keeps its pass for the backward.

  /// v of the items; the next call overwrites it.
  private func forwardTower(_ items: StepItems, noiseSeed: UInt64?) -> Matrix {
    let count = items.rows.count
    itemVectors = itemVectors.grown(to: count)
    let vectors = itemVectors.rows(0..<count)
    let scale = objective.routerNoise
    workers.run { [self] index in
      let range = workers.share(index, of: count)
      shards[index].arena.reset()
      var noise: ((Int) -> Float)?
      if let noiseSeed, scale > 0, parameters.configuration.expertCount > 0, parameters.configuration.usesContent {
        var random = Xoshiro256(seed: noiseSeed &+ UInt64(index))
        noise = { _ in scale * random.nextNormal() }
      }
      shards[index].tower = tower.forward(
        rows: Array(items.rows[range]), embedding: parameters.itemEmbedding, noise: noise, into: vectors.rows(range), arena: shards[index].arena)
    }
    return vectors
  }

  private var tower: ItemTower {
    ItemTower(
      catalogue: catalogue, parameters: parameters.dense.tower, attributeEmbedding: parameters.attributeEmbedding,
      configuration: parameters.configuration)
  }

  /// Adds up the workers' gradients in the first shard, and takes the sum through the tower.
  ///
  /// - Returns: the attributes whose rows have a gradient.
  private func reduceAndBackwardTower(_ items: StepItems, shardsUsed: Int) -> [Int32] {
    let count = items.rows.count
    let first = shards[0]
    workers.run { [self] index in
      let range = workers.share(index, of: count)
      for shard in shards[..<shardsUsed].dropFirst() {
        add(first.dVectors.rows(range), shard.dVectors.rows(range))
        add(first.dBias.columns(range), shard.dBias.columns(range))
      }
      guard parameters.configuration.usesContent, let pass = shards[index].tower else { return }
      tower.backward(
        pass, rows: Array(items.rows[range]), first.dVectors.rows(range), gradients: shards[index].gradient.tower,
        dAttributes: shards[index].dAttributes,
        loadBalancingWeight: objective.loadBalancingWeight * Float(range.count) / Float(max(count, 1)), arena: shards[index].arena)
    }
    for shard in shards.dropFirst() { add(first.gradient.all, shard.gradient.all) }
    guard parameters.configuration.usesAttributes else { return [] }
    var isTouched = [Bool](repeating: false, count: catalogue.attributeNames.count)
    for row in items.rows { for attribute in catalogue.attributes[Int(row)] { isTouched[Int(attribute)] = true } }
    let touched = isTouched.indices.filter { isTouched[$0] }.map { Int32($0) }
    for shard in shards.dropFirst() {
      for attribute in touched { accumulate(first.dAttributes, Int(attribute), factor: 1, shard.dAttributes, Int(attribute)) }
    }
    return touched
  }

  private func update(_ items: StepItems, _ touchedAttributes: [Int32], norm: Double) {
    var step = AdamStep(learningRate: settings.learningRate, weightDecay: settings.weightDecay)
    if settings.gradientClip > 0, norm > Double(settings.gradientClip) { step.gradientFactor = settings.gradientClip / Float(norm) }
    let first = shards[0]
    optimizer.updateDense(parameters.dense, gradient: first.gradient, step)
    step.weightDecay = 0
    AdamOptimizer.updateRows(
      parameters.itemEmbedding, &optimizer.embedding, rows: items.rows, gradient: first.dVectors, step, workers: workers)
    let dBias = Matrix(first.dBias.buffer, rows: items.rows.count, columns: 1)
    step.learningRate *= Self.biasRate
    AdamOptimizer.updateRows(
      parameters.itemBias, &optimizer.bias, rows: items.rows, gradient: dBias, step, workers: workers)
    step.learningRate = settings.learningRate
    for attribute in touchedAttributes {
      let row = first.dAttributes.rows(Int(attribute)..<Int(attribute) + 1)
      AdamOptimizer.updateRows(parameters.attributeEmbedding, &optimizer.attributes, rows: [attribute], gradient: row, step)
    }
  }

  // The losses.

  /// A sequence's weight in the preference term is its last target's.
  private func preferenceWeights(_ batch: TrainingBatch) -> [Float] {
    guard reference != nil, objective.preferenceWeight > 0 else { return [] }
    return batch.negatives.indices.map {
      batch.negatives[$0].isEmpty ? 0 : batch.weights[batch.input.sequences.queryOffsets[$0 + 1] - 1]
    }
  }

  private func prepare(_ shard: Shard, itemCount: Int) {
    let d = parameters.configuration.hiddenSize
    if shard.dVectors.buffer.count < itemCount * d {
      shard.dVectors = Matrix(rows: itemCount * 3 / 2, columns: d)
      shard.dBias = Matrix(rows: 1, columns: itemCount * 3 / 2)
    }
    shard.dVectors = Matrix(shard.dVectors.buffer, rows: itemCount, columns: d)
    shard.dBias = Matrix(shard.dBias.buffer, rows: 1, columns: itemCount)
    zero(shard.dVectors)
    zero(shard.dBias)
    shard.dAttributes = shard.dAttributes.grown(to: parameters.attributeEmbedding.rows)
    shard.gradient.buffer.fill(0)
    shard.crossEntropy = 0
    shard.preference = 0
  }

  private func forwardAndBackward(
    _ shard: Shard, _ batch: TrainingBatch, _ items: StepItems, vectors: Matrix, logitBias: Matrix, dropout: DropoutPlan?,
    totalWeight: Float, preferenceWeight: Float
  ) {
    let arena = shard.batchArena
    arena.reset()
    let d = parameters.configuration.hiddenSize
    var input = batch.input
    input.items = input.items.map(items.index)
    let targets = batch.targets.map(items.index)
    // First, so that the policy's pass lies where the reference's lay, in the cache, and is still there for the backward pass.
    let anchor = preferenceWeight > 0 ? reference.map { referenceHidden(shard, batch, $0, dropout: dropout) } : nil
    let encoder = SequenceEncoder(configuration: parameters.configuration, parameters: parameters.dense.encoder)
    let pass = encoder.forward(input, vectors: vectors, dropout: dropout, arena: arena)
    let dHidden = arena.zeros(pass.hidden.rows, d)
    if objective.crossEntropyWeight > 0 {
      let weights = batch.weights.map { $0 * objective.crossEntropyWeight / totalWeight }
      let candidates = 0..<items.candidateCount
      // A row's own target is in the sum for certain, not by chance.
      let classes = SoftmaxClasses(
        vectors: vectors.rows(candidates), bias: logitBias, targetCorrection: items.correction, dVectors: shard.dVectors.rows(candidates),
        dBias: shard.dBias.columns(candidates), precision: objective.softmaxPrecision)
      shard.crossEntropy +=
        softmaxCrossEntropy(pass.hidden, over: classes, targets: targets, weights: weights, dx: dHidden, arena: arena)
        * Double(totalWeight / objective.crossEntropyWeight)
    }
    if let reference, let anchor {
      preference(
        shard, batch, items, reference, anchor: anchor, hidden: pass.hidden, dHidden: dHidden, vectors: vectors, totalWeight: totalWeight)
    }
    encoder.backward(
      pass, input, dHidden, dVectors: shard.dVectors, gradients: shard.gradient.encoder, dropout: dropout, arena: arena)
  }

  /// The preference term on the last target of each sequence that has negatives.
  ///
  /// - Parameter anchor: h_ref of each sequence.
  private func preference(
    _ shard: Shard, _ batch: TrainingBatch, _ items: StepItems, _ reference: ModelSnapshot, anchor: Matrix, hidden: Matrix, dHidden: Matrix,
    vectors: Matrix, totalWeight: Float
  ) {
    let loss = PreferenceLoss(form: objective.form, beta: objective.beta)
    let sequences = batch.input.sequences
    let weights = preferenceWeights(batch)
    for b in 0..<sequences.count where weights[b] > 0 {
      let query = sequences.queryOffsets[b + 1] - 1
      let candidates = [batch.targets[query]] + batch.negatives[b]
      let gains = candidates.map { row in
        let local = Int(items.index(row))
        let own = dot(hidden, query, vectors, local) + parameters.itemBias[Int(row), 0]
        return own - referenceScore(reference, anchor, b, row)
      }
      let (value, dTarget, dNegatives) = loss(target: gains[0], negatives: Array(gains.dropFirst()))
      shard.preference += value * Double(weights[b])
      let factor = weights[b] * objective.preferenceWeight / totalWeight
      for (row, slope) in zip(candidates, [dTarget] + dNegatives) {
        let local = Int(items.index(row))
        accumulate(dHidden, query, factor: slope * factor, vectors, local)
        accumulate(shard.dVectors, local, factor: slope * factor, hidden, query)
        shard.dBias[0, local] += slope * factor
      }
    }
  }

  /// h_ref at the last position of each sequence, under the policy's own dropout masks: other masks, or none, would make the target look
  /// worse than in the reference by noise alone. (sequences, d); it leaves the batch's arena empty.
  private func referenceHidden(_ shard: Shard, _ batch: TrainingBatch, _ reference: ModelSnapshot, dropout: DropoutPlan?) -> Matrix {
    var input = batch.input
    let lengths = (0..<input.sequences.count).map(input.sequences.length)
    input.sequences = PackedSequences(lengths: lengths, queryCounts: lengths.map { _ in 1 })
    input.items = input.items.map { isKnown($0, to: reference) ? $0 : -1 }
    let encoder = SequenceEncoder(configuration: reference.configuration, parameters: reference.encoder)
    let hidden = encoder.forward(input, vectors: reference.vectors, dropout: dropout, arena: shard.batchArena).hidden
    shard.anchor = shard.anchor.grown(to: hidden.rows)
    copy(shard.anchor.rows(0..<hidden.rows), from: hidden)
    shard.batchArena.reset()
    return shard.anchor
  }

  /// An item that is newer than the reference has the score 0 there.
  private func referenceScore(_ reference: ModelSnapshot, _ hidden: Matrix, _ b: Int, _ row: Int32) -> Float {
    guard isKnown(row, to: reference) else { return 0 }
    return dot(hidden, b, reference.vectors, Int(row)) + reference.bias[0, Int(row)]
  }

  private func isKnown(_ row: Int32, to reference: ModelSnapshot) -> Bool {
    let index = Int(row)
    return index < reference.rowCount && reference.owners[index] != nil && reference.owners[index] == catalogue.owners[index]
  }

  // The softmax's candidates.

  private func chooseItems(_ batches: [TrainingBatch], using random: inout Xoshiro256) -> StepItems {
    let live = catalogue.liveRows
    let hasSoftmax = objective.crossEntropyWeight > 0
    guard !hasSoftmax || live.count > objective.fullSoftmaxMaximumItems else {
      return StepItems(rows: (0..<Int32(catalogue.rowCount)).map { $0 }, candidateCount: catalogue.rowCount)
    }
    if localRow.count < catalogue.rowCount {
      localRow.append(contentsOf: repeatElement(-1, count: catalogue.rowCount - localRow.count))
    }
    var rows: [Int32] = []
    func take(_ row: Int32) {
      if localRow[Int(row)] < 0 {
        localRow[Int(row)] = Int32(rows.count)
        rows.append(row)
      }
    }
    for batch in batches { batch.targets.forEach(take) }
    let draws = hasSoftmax ? objective.sampledSoftmaxNegatives : 0
    for _ in 0..<draws { take(live[random.next(below: live.count)]) }
    let candidateCount = rows.count
    let correction =
      hasSoftmax ? logQCorrection(rows, draws: draws, targets: batches.reduce(0) { $0 + $1.targets.count }, live: live.count) : nil
    // Contexts and the pool's negatives need vectors, but have no place in the sum: they were not drawn for it.
    for batch in batches {
      for row in batch.input.items where row >= 0 { take(row) }
      if objective.preferenceWeight > 0 { batch.negatives.forEach { $0.forEach(take) } }
    }
    let local = localRow
    for row in rows { localRow[Int(row)] = -1 }
    return StepItems(rows: rows, candidateCount: candidateCount, local: local, correction: correction)
  }

  /// −log of each row's probability to be among the candidates: it was drawn, or it is some target of the batch.
  private func logQCorrection(_ rows: [Int32], draws: Int, targets: Int, live: Int) -> [Float] {
    let missed = log1pMinusInverse(live, times: draws)
    let total = targetCounts.reduce(Float(live)) { $0 + $1 }
    return rows.map { row in
      let popularity = Double((targetCounts[Int(row)] + 1) / total)
      return -Float(logOneMinusExp(missed + Double(targets) * log1p(-min(popularity, 0.999))))
    }
  }

  /// What is added to the logits: (1, candidates).
  private func logitBias(_ items: StepItems) -> Matrix {
    let result = Matrix(rows: 1, columns: items.candidateCount)
    for i in 0..<items.candidateCount {
      let row = Int(items.rows[i])
      // A free row gets no probability; a finite number keeps the kernel free of ∞ − ∞.
      result[0, i] = catalogue.owners[row] == nil ? -1e9 : parameters.itemBias[row, 0] + (items.correction?[i] ?? 0)
    }
    return result
  }
}
