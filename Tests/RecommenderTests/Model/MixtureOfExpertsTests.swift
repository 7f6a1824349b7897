import Foundation
import Kernels
import Testing

@testable import Recommender

struct MixtureOfExpertsTests {
  /// One row by the definition, in double precision.
  private func plain(_ z: [Double], _ tower: DenseParameters.Tower, perItem: Int) -> (output: [Double], chosen: [Int], all: [Double]) {
    func product(_ layer: DenseParameters.Linear, _ x: [Double]) -> [Double] {
      (0..<layer.weight.rows).map { i in Double(layer.bias[0, i]) + x.indices.reduce(0) { $0 + Double(layer.weight[i, $1]) * x[$1] } }
    }
    let logits = product(tower.router!, z)
    let chosen = Array(logits.indices.sorted { logits[$0] > logits[$1] }.prefix(perItem))
    let total = logits.reduce(0) { $0 + exp($1) }
    let selected = chosen.reduce(0) { $0 + exp(logits[$1]) }
    var output = [Double](repeating: 0, count: z.count)
    for j in chosen {
      let inner = product(tower.experts[j].up, z).map { 0.5 * $0 * (1 + erf($0 / 2.0.squareRoot())) }
      for (c, value) in product(tower.experts[j].down, inner).enumerated() { output[c] += exp(logits[j]) / selected * value }
    }
    return (output, chosen, logits.map { exp($0) / total })
  }

  @Test(arguments: [(4, 1), (4, 2), (3, 3)])
  func outputLoadAndBalancingLossAreByTheDefinition(experts: Int, perItem: Int) {
    let configuration = ModelConfiguration(hiddenSize: 8, layerCount: 1, headCount: 2, innerSize: 8, expertCount: experts, expertsPerItem: perItem)
    var random = Xoshiro256(seed: 9)
    let parameters = DenseParameters(configuration)
    parameters.fillForCheck(using: &random)
    let z = Matrix.normal(20, 8, using: &random)
    let subject = MixtureOfExperts(router: parameters.tower.router!, experts: parameters.tower.experts, expertsPerItem: perItem)
    let pass = subject.forward(z, noise: nil, arena: Arena())
    var load = [Double](repeating: 0, count: experts)
    var mean = [Double](repeating: 0, count: experts)
    for i in 0..<20 {
      let (output, chosen, all) = plain(z.rows(i..<i + 1).array.map(Double.init), parameters.tower, perItem: perItem)
      // GELU by the tanh form or by erf differ by less than a thousandth.
      expectClose(pass.output.rows(i..<i + 1).array, output.map { Float($0) }, tolerance: 2e-3)
      for j in chosen { load[j] += 1 / Double(20 * perItem) }
      for j in 0..<experts { mean[j] += all[j] / 20 }
    }
    expectClose(pass.load, load.map { Float($0) })
    let balance = Double(experts) * zip(load, mean).reduce(0) { $0 + $1.0 * $1.1 }
    #expect(abs(pass.loadBalancingLoss - balance) < 1e-5)
  }

  @Test func anEvenLoadHasTheLeastBalancingLoss() {
    let configuration = ModelConfiguration(hiddenSize: 4, layerCount: 1, headCount: 1, innerSize: 4, expertCount: 4, expertsPerItem: 1)
    let parameters = DenseParameters(configuration)
    // Each of four rows prefers another expert.
    let router = parameters.tower.router!
    for j in 0..<4 { router.weight[j, j] = 5 }
    let z = Matrix(rows: 4, columns: 4)
    for j in 0..<4 { z[j, j] = 1 }
    let subject = MixtureOfExperts(router: router, experts: parameters.tower.experts, expertsPerItem: 1)
    let even = subject.forward(z, noise: nil, arena: Arena())
    #expect(even.load == [0.25, 0.25, 0.25, 0.25])
    #expect(abs(even.loadBalancingLoss - 1) < 1e-5)
    router.bias[0, 2] = 20
    let skewed = subject.forward(z, noise: nil, arena: Arena())
    #expect(skewed.load == [0, 0, 1, 0])
    #expect(skewed.loadBalancingLoss > 3.9)
  }

  @Test func noiseChangesTheRouting() {
    let configuration = ModelConfiguration(hiddenSize: 4, layerCount: 1, headCount: 1, innerSize: 4, expertCount: 3, expertsPerItem: 1)
    let parameters = DenseParameters(configuration)
    let subject = MixtureOfExperts(router: parameters.tower.router!, experts: parameters.tower.experts, expertsPerItem: 1)
    let pass = subject.forward(Matrix(rows: 3, columns: 4), noise: { $0 % 3 == $0 / 3 ? 1 : 0 }, arena: Arena())
    expectClose(pass.load, [1 / 3, 1 / 3, 1 / 3])
  }
}
