/// The numbers of one Adam step (arXiv 1412.6980), with decoupled weight decay (arXiv 1711.05101).
public struct AdamStep: Sendable {
  public var learningRate: Float
  public var beta1: Float
  public var beta2: Float
  public var epsilon: Float
  public var weightDecay: Float
  /// Multiplies the gradient first: the clipping factor.
  public var gradientFactor: Float

  public init(
    learningRate: Float, beta1: Float = 0.9, beta2: Float = 0.999, epsilon: Float = 1e-8, weightDecay: Float = 0, gradientFactor: Float = 1
  ) {
    self.learningRate = learningRate
    self.beta1 = beta1
    self.beta2 = beta2
    self.epsilon = epsilon
    self.weightDecay = weightDecay
    self.gradientFactor = gradientFactor
  }
}

/// Updates row `row` of the parameters and of the two moments with row `gradientRow` of the gradient.
///
/// - Parameter corrections: 1 − β₁ᵗ and 1 − β₂ᵗ for the row's own number of updates t, so that a row which is touched late still
///   takes full first steps.
public func adamUpdate(
  _ parameters: Matrix, firstMoment: Matrix, secondMoment: Matrix, row: Int, gradient: Matrix, gradientRow: Int, _ step: AdamStep,
  corrections: (first: Float, second: Float)
) {
  let x = parameters.row(row)
  let m = firstMoment.row(row)
  let v = secondMoment.row(row)
  let g = gradient.row(gradientRow)
  let rate = step.learningRate / corrections.first
  let reciprocal = 1 / corrections.second.squareRoot()
  let decay = 1 - step.learningRate * step.weightDecay
  forEachVector(parameters.columns) { j, lanes in
    let gradient = load(g, j, lanes) * step.gradientFactor
    let first = (load(m, j, lanes) * step.beta1).adding(gradient, times: Vector(all: 1 - step.beta1))
    let second = (load(v, j, lanes) * step.beta2).adding(gradient * gradient, times: Vector(all: 1 - step.beta2))
    store(first, m, j, lanes)
    store(second, v, j, lanes)
    let change = first * rate / (second.squareRoot() * reciprocal + step.epsilon)
    store(load(x, j, lanes) * decay - change, x, j, lanes)
  }
}
