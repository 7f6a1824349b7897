import Foundation
import Kernels
import Testing

@testable import Recommender

struct AdamOptimizerTests {
  /// Adam by its paper, in double precision.
  struct Plain {
    var m = 0.0
    var v = 0.0
    var t = 0

    mutating func update(_ x: Double, _ g: Double, rate: Double, decay: Double = 0) -> Double {
      t += 1
      m = 0.9 * m + 0.1 * g
      v = 0.999 * v + 0.001 * g * g
      return x * (1 - rate * decay) - rate * (m / (1 - pow(0.9, Double(t)))) / ((v / (1 - pow(0.999, Double(t)))).squareRoot() + 1e-8)
    }
  }

  @Test(arguments: [nil, 1, 3])
  func sparseRowsFollowThePaperWithACountOfTheirOwn(threads: Int?) {
    let workers = threads.map { WorkerThreads(count: $0) }
    defer { workers?.stop() }
    var random = Xoshiro256(seed: 3)
    let table = Matrix.normal(6, 3, using: &random)
    var state = AdamOptimizer.TableState(rows: 6, columns: 3)
    var expected = table.array.map(Double.init)
    var plain = [Plain](repeating: Plain(), count: 18)
    for _ in 0..<40 {
      let rows = (0..<6).filter { _ in random.next(below: 3) == 0 }.shuffled(using: &random).map { Int32($0) }
      let gradient = Matrix.normal(rows.count, 3, using: &random)
      AdamOptimizer.updateRows(table, &state, rows: rows, gradient: gradient, AdamStep(learningRate: 0.05), workers: workers)
      for (i, row) in rows.enumerated() {
        for c in 0..<3 {
          let at = Int(row) * 3 + c
          expected[at] = plain[at].update(expected[at], Double(gradient[i, c]), rate: 0.05)
        }
      }
    }
    expectClose(table.array, expected.map { Float($0) })
    #expect(state.steps == (0..<6).map { UInt32(plain[$0 * 3].t) })
    #expect(Set(state.steps).count > 1)
  }

  @Test func denseParametersFollowThePaperAndOnlyWeightsDecay() {
    let configuration = ModelConfiguration.small()
    let parameters = Parameters(configuration)
    var random = Xoshiro256(seed: 4)
    parameters.dense.fillForCheck(using: &random)
    let optimizer = AdamOptimizer(parameters)
    var expected = parameters.dense.tensors.map { $0.values.array.map(Double.init) }
    var plain = expected.map { [Plain](repeating: Plain(), count: $0.count) }
    for _ in 0..<3 {
      let gradient = DenseParameters(configuration)
      for tensor in gradient.tensors { tensor.values.fillNormal(1, using: &random) }
      optimizer.updateDense(parameters.dense, gradient: gradient, AdamStep(learningRate: 0.01, weightDecay: 0.5, gradientFactor: 0.25))
      for (index, tensor) in gradient.tensors.enumerated() {
        for (at, g) in tensor.values.array.enumerated() {
          expected[index][at] = plain[index][at].update(
            expected[index][at], Double(g) * 0.25, rate: 0.01, decay: tensor.kind == .weight ? 0.5 : 0)
        }
      }
    }
    for (tensor, values) in zip(parameters.dense.tensors, expected) {
      expectClose(tensor.values.array, values.map { Float($0) }, "\(tensor.name)")
    }
    #expect(optimizer.denseSteps == 3)
  }

  @Test func aGrownTableKeepsItsState() {
    var state = AdamOptimizer.TableState(rows: 2, columns: 2)
    state.firstMoment[1, 1] = 7
    state.steps[1] = 5
    state.reserve(100)
    #expect(state.firstMoment[1, 1] == 7 && state.steps[1] == 5)
    #expect(state.steps.count == state.firstMoment.rows && state.secondMoment.rows >= 100)
    state.reset(row: 1)
    #expect(state.firstMoment[1, 1] == 0 && state.steps[1] == 0)
  }
}
