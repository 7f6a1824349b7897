import Kernels
import Testing

@testable import Recommender

extension Matrix {
  /// Normal values, so that layers are far from their flat places.
  static func normal(_ rows: Int, _ columns: Int, _ deviation: Float = 1, using random: inout Xoshiro256) -> Matrix {
    let result = Matrix(rows: rows, columns: columns)
    result.fillNormal(deviation, using: &random)
    return result
  }

  func inner(_ other: Matrix) -> Double { zip(array, other.array).reduce(0) { $0 + Double($1.0) * Double($1.1) } }
}

extension DenseParameters {
  /// First values of a size at which a step of finite differences is small.
  func fillForCheck(using random: inout Xoshiro256) {
    for tensor in tensors {
      tensor.values.fillNormal(tensor.kind == .weight ? 0.4 : 0.5, using: &random)
      if tensor.kind == .gain {
        for j in 0..<tensor.values.columns { tensor.values[0, j] = 1 + 0.3 * tensor.values[0, j] }
      }
    }
  }
}

/// Holds a gradient against central differences of the loss, value by value.
func expectGradient(
  _ gradient: Matrix, by values: Matrix, _ name: String, step: Float = 4e-3, tolerance: Double = 1e-2,
  sourceLocation: SourceLocation = #_sourceLocation, _ loss: () -> Double
) {
  var worst = 0.0
  var scale = 0.05
  for i in 0..<values.rows {
    for j in 0..<values.columns {
      let kept = values[i, j]
      values[i, j] = kept + step
      let above = loss()
      values[i, j] = kept - step
      let below = loss()
      values[i, j] = kept
      let slope = (above - below) / Double(2 * step)
      worst = max(worst, abs(slope - Double(gradient[i, j])))
      scale = max(scale, abs(slope))
    }
  }
  #expect(worst <= tolerance * scale, "\(name): differs by \(worst) at a scale of \(scale)", sourceLocation: sourceLocation)
}

func expectClose(
  _ actual: [Float], _ expected: [Float], tolerance: Float = 1e-5, _ what: String = "", sourceLocation: SourceLocation = #_sourceLocation
) {
  #expect(actual.count == expected.count, "\(what)", sourceLocation: sourceLocation)
  let scale = max(expected.map(abs).max() ?? 0, 1e-2)
  let worst = zip(actual, expected).map { abs($0 - $1) }.max() ?? 0
  #expect(worst <= tolerance * scale, "\(what): differs by \(worst) at a scale of \(scale)", sourceLocation: sourceLocation)
}
