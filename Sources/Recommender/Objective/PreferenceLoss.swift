#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The form of the preference term.
public enum PreferenceForm: String, Sendable, Codable, CaseIterable {
  /// mean over the negatives of −log σ(β(δ⁺ − δ⁻)): DPO, arXiv 2305.18290.
  case pairwise
  /// log(1 + Σ exp β(δ⁻ − δ⁺)): S-DPO, arXiv 2406.09215.
  case softmax
}

/// L_RoDPO for one target (arXiv 2603.29259): with δ(i) = f(s, i) − f_ref(s, i), the target's gain over the reference against
/// the gains of negatives drawn from the candidate pool. The log-partition cancels in the difference, so raw scores suffice.
struct PreferenceLoss: Sendable {
  var form: PreferenceForm
  /// β: how far the policy may leave the reference.
  var beta: Float

  /// - Parameters: δ of the target and of each negative.
  /// - Returns: the loss and its gradients by δ⁺ and by each δ⁻ (which are those by the policy's raw scores).
  func callAsFunction(target: Float, negatives: [Float]) -> (loss: Double, dTarget: Float, dNegatives: [Float]) {
    guard !negatives.isEmpty else { return (0, 0, []) }
    switch form {
    case .pairwise:
      let share = 1 / Float(negatives.count)
      var loss = 0.0
      let gradients = negatives.map { negative in
        let margin = beta * (target - negative)
        // −log σ(m) = log(1 + e^−m), and its slope by m is −σ(−m).
        loss += Double(softplus(-margin) * share)
        return beta * share * sigmoid(-margin)
      }
      return (loss, -gradients.reduce(0, +), gradients)
    case .softmax:
      let exponents = negatives.map { beta * ($0 - target) }
      let greatest = max(0, exponents.max() ?? 0)
      let sum = exp(-greatest) + exponents.reduce(0) { $0 + exp($1 - greatest) }
      let gradients = exponents.map { beta * exp($0 - greatest) / sum }
      return (Double(greatest + log(sum)), -gradients.reduce(0, +), gradients)
    }
  }

  private func softplus(_ x: Float) -> Float { max(x, 0) + log1p(exp(-abs(x))) }
  private func sigmoid(_ x: Float) -> Float { x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)) }
}
