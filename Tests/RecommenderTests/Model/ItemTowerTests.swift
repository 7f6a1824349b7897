import Kernels
import Testing

@testable import Recommender

struct ItemTowerTests {
  /// Six items: with everything, with parts, and with nothing but an ID.
  struct Subject {
    let configuration: ModelConfiguration
    let catalogue: ItemCatalogue
    let parameters: DenseParameters
    let attributes: Matrix
    let embedding: Matrix
    let noise: [Float]
    var random: Xoshiro256
    let rows: [Int32] = [4, 0, 2, 5, 1, 3]

    init(experts: Int, perItem: Int, seed: UInt64 = 5) {
      var random = Xoshiro256(seed: seed)
      configuration = ModelConfiguration(
        hiddenSize: 8, layerCount: 1, headCount: 2, innerSize: 8, maximumSequenceLength: 4, interactionTypeCount: 2, expertCount: experts,
        expertsPerItem: perItem, modalities: [.init(name: "image", dimension: 3), .init(name: "text", dimension: 5)])
      catalogue = ItemCatalogue(configuration: configuration)
      func values(_ count: Int) -> [Float] { (0..<count).map { _ in random.nextNormal() } }
      let contents: [([[Float]?], [String])] = [
        ([values(3), values(5)], ["a", "b", "c"]), ([nil, values(5)], []), ([nil, nil], []), ([nil, nil], ["b"]),
        ([values(3), nil], ["a", "c"]), ([values(3), values(5)], ["c"]),
      ]
      for (index, (content, names)) in contents.enumerated() {
        catalogue.describe(item: ItemNumber(10 + index), row: Int32(index), content: content, attributes: names)
      }
      parameters = DenseParameters(configuration)
      parameters.fillForCheck(using: &random)
      attributes = Matrix.normal(3, 8, 0.6, using: &random)
      embedding = Matrix.normal(6, 8, 0.6, using: &random)
      noise = (0..<6 * max(experts, 1)).map { _ in 0.3 * random.nextNormal() }
      self.random = random
    }

    var tower: ItemTower {
      ItemTower(catalogue: catalogue, parameters: parameters.tower, attributeEmbedding: attributes, configuration: configuration)
    }

    func forward(_ arena: Arena) -> ItemTower.Pass {
      tower.forward(rows: rows, embedding: embedding, noise: { noise[$0] }, into: Matrix(rows: rows.count, columns: 8), arena: arena)
    }
  }

  @Test(arguments: [(0, 1), (3, 2), (3, 1), (2, 2), (4, 3)])
  func everyGradientAgreesWithFiniteDifferences(experts: Int, perItem: Int) {
    var subject = Subject(experts: experts, perItem: perItem)
    let weights = Matrix.normal(6, 8, using: &subject.random)
    let balancing: Float = 0.7
    let arena = Arena()
    let pass = subject.forward(arena)
    let gradients = DenseParameters(subject.configuration)
    let dAttributes = Matrix(rows: 3, columns: 8)
    subject.tower.backward(
      pass, rows: subject.rows, weights, gradients: gradients.tower, dAttributes: dAttributes, loadBalancingWeight: balancing, arena: arena)
    let fixed = subject
    let load = pass.expertLoad
    let loss = {
      let pass = fixed.forward(Arena())
      // The shares are constants in the gradient: a step that changes the routing would prove nothing.
      #expect(pass.expertLoad == load)
      return pass.vectors.inner(weights) + Double(balancing) * pass.loadBalancingLoss
    }
    for (tensor, gradient) in zip(subject.parameters.tensors, gradients.tensors) where tensor.name.hasPrefix("item.") {
      expectGradient(gradient.values, by: tensor.values, tensor.name, step: 2e-3, tolerance: 1.5e-2, loss)
    }
    expectGradient(dAttributes, by: subject.attributes, "attributes", step: 2e-3, tolerance: 1.5e-2, loss)
  }

  @Test func aMissingModalityIsThePlaceholderAndNotZeros() {
    let subject = Subject(experts: 0, perItem: 1)
    let before = subject.forward(Arena()).vectors.copied
    // Row 2 has nothing, row 5 has everything.
    for modality in subject.parameters.tower.modalities { modality.missing[0, 0] += 1 }
    let after = subject.forward(Arena()).vectors
    #expect(before.rows(2..<3).array != after.rows(2..<3).array)
    #expect(before.rows(3..<4).array == after.rows(3..<4).array)
    for modality in subject.parameters.tower.modalities { modality.projection.bias[0, 1] += 1 }
    let biased = subject.forward(Arena()).vectors
    // A projection, its bias included, has no say where the modality is missing.
    #expect(biased.rows(2..<3).array == after.rows(2..<3).array)
    #expect(biased.rows(3..<4).array != after.rows(3..<4).array)
  }

  @Test func withoutContentAVectorIsTheEmbedding() {
    let configuration = ModelConfiguration(hiddenSize: 8, headCount: 2, usesAttributes: false)
    let catalogue = ItemCatalogue(configuration: configuration)
    for row in 0..<Int32(4) { catalogue.describe(item: ItemNumber(row), row: row, content: [], attributes: ["ignored"]) }
    var random = Xoshiro256(seed: 1)
    let embedding = Matrix.normal(4, 8, using: &random)
    let tower = ItemTower(
      catalogue: catalogue, parameters: DenseParameters(configuration).tower, attributeEmbedding: Matrix(rows: 0, columns: 8),
      configuration: configuration)
    let pass = tower.forward(rows: [3, 1], embedding: embedding, noise: nil, into: Matrix(rows: 2, columns: 8), arena: Arena())
    #expect(pass.vectors.array == embedding.rows(3..<4).array + embedding.rows(1..<2).array)
    #expect(pass.loadBalancingLoss == 0)
  }

  @Test func aNewItemIsItsContentAlone() {
    let subject = Subject(experts: 3, perItem: 2)
    for row in [0, 5] { zero(subject.embedding.rows(row..<row + 1)) }
    let vectors = subject.forward(Arena()).vectors
    #expect(sumOfSquares(vectors.rows(1..<2)) > 0.1)
    #expect(vectors.rows(1..<2).array != vectors.rows(3..<4).array)
  }
}
