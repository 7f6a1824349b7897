import Kernels

/// v(i) = e(i) + g(x(i)): a learned ID embedding plus a function of the item's content, g being a sparse Mixture of Experts over the
/// projected modalities, or one dense layer.
///
/// The forward pass keeps what the backward pass needs in a ``Pass``. Only training and the making of a snapshot run it: ranking reads
/// the snapshot's matrix of all v(i).
struct ItemTower {
  let catalogue: ItemCatalogue
  let parameters: DenseParameters.Tower
  let attributeEmbedding: Matrix
  let configuration: ModelConfiguration

  /// What one forward pass left for the backward pass.
  struct Pass {
    /// v: (rows, d).
    let vectors: Matrix
    fileprivate var content: [Matrix] = []
    fileprivate var summed: Matrix?
    fileprivate var statistics: Matrix?
    fileprivate var normal: Matrix?
    fileprivate var routing: MixtureOfExperts.Pass?
    /// E·Σ f·P over the rows (arXiv 2101.03961, equation 4); 0 without experts.
    var loadBalancingLoss: Double { routing?.loadBalancingLoss ?? 0 }
    /// The share of assignments that each expert got.
    var expertLoad: [Float] { routing?.load ?? [] }
  }

  /// - Parameters:
  ///   - rows: the items.
  ///   - embedding: e of the whole table, (all rows, d).
  ///   - noise: router noise, nil when serving.
  ///   - vectors: set to v of the items, (rows, d).
  func forward(rows: [Int32], embedding: Matrix, noise: ((Int) -> Float)?, into vectors: Matrix, arena: Arena) -> Pass {
    gather(vectors, from: embedding, rows)
    var pass = Pass(vectors: vectors)
    guard let norm = parameters.norm else { return pass }
    let d = configuration.hiddenSize
    let summed = arena.zeros(rows.count, d)
    for (modality, layer) in parameters.modalities.enumerated() {
      let content = arena.matrix(rows.count, layer.projection.weight.columns)
      gather(content, from: catalogue.features[modality], rows)
      let projected = arena.matrix(rows.count, d)
      multiply(projected, content, layer.projection.weight, transposeB: true, bias: layer.projection.bias)
      for (i, row) in rows.enumerated() where !catalogue.hasFeatures[modality][Int(row)] {
        copy(projected.rows(i..<i + 1), from: layer.missing)
      }
      add(summed, projected)
      pass.content.append(content)
    }
    if let missing = parameters.attributesMissing {
      for (i, row) in rows.enumerated() {
        let attributes = catalogue.attributes[Int(row)]
        if attributes.isEmpty { accumulate(summed, i, factor: 1, missing, 0) }
        for attribute in attributes {
          accumulate(summed, i, factor: 1 / Float(attributes.count), attributeEmbedding, Int(attribute))
        }
      }
    }
    scale(summed, by: 1 / Float(modalityCount))
    let normal = arena.matrix(rows.count, d)
    let statistics = arena.matrix(rows.count, 2)
    layerNormForward(normal, summed, gain: norm.gain, bias: norm.bias, statistics: statistics)
    if let router = parameters.router {
      let experts = MixtureOfExperts(router: router, experts: parameters.experts, expertsPerItem: configuration.expertsPerItem)
      let routing = experts.forward(normal, noise: noise, arena: arena)
      add(vectors, routing.output)
      pass.routing = routing
    } else if let dense = parameters.dense {
      multiply(vectors, normal, dense.weight, transposeB: true, bias: dense.bias, adding: vectors)
    }
    pass.summed = summed
    pass.statistics = statistics
    pass.normal = normal
    return pass
  }

  /// Adds the gradients of the tower's parameters. The gradient by e is `dVectors` itself.
  ///
  /// - Parameters:
  ///   - dAttributes: (attributes, d), added to.
  ///   - loadBalancingWeight: times ``Pass/loadBalancingLoss`` is part of the loss.
  func backward(
    _ pass: Pass, rows: [Int32], _ dVectors: Matrix, gradients: DenseParameters.Tower, dAttributes: Matrix,
    loadBalancingWeight: Float, arena: Arena
  ) {
    guard let norm = parameters.norm, let dNorm = gradients.norm, let summed = pass.summed, let normal = pass.normal,
      let statistics = pass.statistics
    else { return }
    let d = configuration.hiddenSize
    let dNormal = arena.matrix(rows.count, d)
    if let router = parameters.router, let dRouter = gradients.router, let routing = pass.routing {
      let experts = MixtureOfExperts(router: router, experts: parameters.experts, expertsPerItem: configuration.expertsPerItem)
      experts.backward(
        routing, normal, dVectors, dInput: dNormal, dRouter: dRouter, dExperts: gradients.experts,
        loadBalancingWeight: loadBalancingWeight, arena: arena)
    } else if let dense = parameters.dense, let dDense = gradients.dense {
      multiply(dNormal, dVectors, dense.weight)
      multiply(dDense.weight, dVectors, normal, transposeA: true, adding: dDense.weight)
      addColumnSums(dDense.bias, dVectors)
    }
    let dSummed = arena.zeros(rows.count, d)
    layerNormBackward(
      dSummed, dGain: dNorm.gain, dBias: dNorm.bias, dNormal, summed, gain: norm.gain, statistics: statistics)
    scale(dSummed, by: 1 / Float(modalityCount))
    if let dMissing = gradients.attributesMissing {
      for (i, row) in rows.enumerated() {
        let attributes = catalogue.attributes[Int(row)]
        if attributes.isEmpty { accumulate(dMissing, 0, factor: 1, dSummed, i) }
        for attribute in attributes { accumulate(dAttributes, Int(attribute), factor: 1 / Float(attributes.count), dSummed, i) }
      }
    }
    for (modality, dLayer) in gradients.modalities.enumerated() {
      let dProjected: Matrix
      if rows.contains(where: { !catalogue.hasFeatures[modality][Int($0)] }) {
        dProjected = arena.matrix(rows.count, d)
        copy(dProjected, from: dSummed)
        for (i, row) in rows.enumerated() where !catalogue.hasFeatures[modality][Int(row)] {
          accumulate(dLayer.missing, 0, factor: 1, dSummed, i)
          zero(dProjected.rows(i..<i + 1))
        }
      } else {
        dProjected = dSummed
      }
      multiply(
        dLayer.projection.weight, dProjected, pass.content[modality], transposeA: true, adding: dLayer.projection.weight)
      addColumnSums(dLayer.projection.bias, dProjected)
    }
  }

  private var modalityCount: Int { parameters.modalities.count + (parameters.attributesMissing == nil ? 0 : 1) }
}
