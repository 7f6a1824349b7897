import Foundation
import Testing

@testable import Recommender

struct PreferenceLossTests {
  @Test(arguments: PreferenceForm.allCases, [Float(0.1), 0.5, 2])
  func gradientsAgreeWithFiniteDifferences(form: PreferenceForm, beta: Float) {
    let loss = PreferenceLoss(form: form, beta: beta)
    var random = Xoshiro256(seed: 4)
    for count in [1, 3, 8] {
      let values = (0...count).map { _ in 2 * random.nextNormal() }
      let (_, dTarget, dNegatives) = loss(target: values[0], negatives: Array(values.dropFirst()))
      for (index, gradient) in ([dTarget] + dNegatives).enumerated() {
        func at(_ step: Float) -> Double {
          var moved = values
          moved[index] += step
          return loss(target: moved[0], negatives: Array(moved.dropFirst())).loss
        }
        let slope = (at(5e-3) - at(-5e-3)) / 1e-2
        #expect(abs(slope - Double(gradient)) < 2e-3 * Double(max(1, beta)), "value \(index)")
      }
    }
  }

  @Test func bothFormsAreByTheirFormulas() {
    let (target, negatives) = (0.3, [0.9, -1.2, 0.1])
    let beta = 0.7
    let pairwise = negatives.reduce(0) { $0 - log(1 / (1 + exp(-beta * (target - $1)))) } / 3
    let softmax = log(1 + negatives.reduce(0) { $0 + exp(beta * ($1 - target)) })
    let values = negatives.map { Float($0) }
    #expect(abs(PreferenceLoss(form: .pairwise, beta: Float(beta))(target: Float(target), negatives: values).loss - pairwise) < 1e-5)
    #expect(abs(PreferenceLoss(form: .softmax, beta: Float(beta))(target: Float(target), negatives: values).loss - softmax) < 1e-5)
  }

  @Test func withoutAGainOverTheReferenceTheLossIsThatOfAGuess() {
    let zeros = [Float](repeating: 0, count: 8)
    #expect(abs(PreferenceLoss(form: .pairwise, beta: 0.5)(target: 0, negatives: zeros).loss - log(2)) < 1e-6)
    #expect(abs(PreferenceLoss(form: .softmax, beta: 0.5)(target: 0, negatives: zeros).loss - log(9)) < 1e-5)
  }

  @Test(arguments: PreferenceForm.allCases)
  func gradientsSumToZeroAndStayFiniteAtExtremes(form: PreferenceForm) {
    let loss = PreferenceLoss(form: form, beta: 1)
    for (target, negatives): (Float, [Float]) in [(1e4, [-1e4, 0]), (-1e4, [1e4, 0]), (0, [1e4, -1e4])] {
      let result = loss(target: target, negatives: negatives)
      #expect(result.loss.isFinite && result.loss >= 0)
      #expect(result.dTarget <= 0 && result.dNegatives.allSatisfy { $0 >= 0 && $0.isFinite })
      #expect(abs(result.dTarget + result.dNegatives.reduce(0, +)) < 1e-5)
    }
    #expect(loss(target: -1e4, negatives: [1e4]).dTarget == -1, "a wrong order far from zero still pulls with the whole of beta")
  }

  @Test(arguments: PreferenceForm.allCases)
  func withoutNegativesThereIsNoTerm(form: PreferenceForm) {
    let result = PreferenceLoss(form: form, beta: 1)(target: 3, negatives: [])
    #expect(result.loss == 0 && result.dTarget == 0 && result.dNegatives.isEmpty)
  }
}
