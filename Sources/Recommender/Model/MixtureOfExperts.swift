import Kernels

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A sparse Mixture of Experts with top-k routing: Σ over the k experts with the greatest router logits of gate·expert(z), the gates
/// being the softmax over those k; an expert is W₂·GELU(W₁·z + b₁) + b₂.
///
/// ### References
/// Outrageously Large Neural Networks, arXiv 1701.06538; load balancing as in Switch Transformers, arXiv 2101.03961.
struct MixtureOfExperts {
  let router: DenseParameters.Linear
  let experts: [DenseParameters.Expert]
  let expertsPerItem: Int

  struct Pass {
    /// (rows, d).
    let output: Matrix
    let loadBalancingLoss: Double
    /// f: the share of all (row, slot) assignments that each expert got.
    let load: [Float]
    /// Router probabilities over all experts, noise included: (rows, E).
    fileprivate let probabilities: Matrix
    fileprivate let slots: [[Slot]]
    fileprivate let inner: [(input: Matrix, before: Matrix, after: Matrix, output: Matrix)]
  }

  /// One row that an expert works on.
  fileprivate struct Slot {
    let row: Int32
    let gate: Float
  }

  /// - Parameters:
  ///   - z: (rows, d).
  ///   - noise: added to logit n (row-major) for the choice of experts.
  func forward(_ z: Matrix, noise: ((Int) -> Float)?, arena: Arena) -> Pass {
    let count = experts.count
    let logits = arena.matrix(z.rows, count)
    multiply(logits, z, router.weight, transposeB: true, bias: router.bias)
    if let noise {
      for i in 0..<z.rows {
        for j in 0..<count { logits[i, j] += noise(i * count + j) }
      }
    }
    let probabilities = arena.matrix(z.rows, count)
    var slots = [[Slot]](repeating: [], count: count)
    var sums = [Double](repeating: 0, count: count)
    var chosen: [Int] = []
    for i in 0..<z.rows {
      chosen.removeAll(keepingCapacity: true)
      for _ in 0..<expertsPerItem {
        var best = -1
        for j in 0..<count where !chosen.contains(j) && (best < 0 || logits[i, j] > logits[i, best]) { best = j }
        chosen.append(best)
      }
      let greatest = logits[i, chosen[0]]
      var total: Float = 0
      for j in 0..<count {
        probabilities[i, j] = exp(logits[i, j] - greatest)
        total += probabilities[i, j]
      }
      let selected = chosen.reduce(Float(0)) { $0 + probabilities[i, $1] }
      for j in chosen { slots[j].append(Slot(row: Int32(i), gate: probabilities[i, j] / selected)) }
      for j in 0..<count {
        probabilities[i, j] /= total
        sums[j] += Double(probabilities[i, j])
      }
    }
    let output = arena.zeros(z.rows, z.columns)
    var inner: [(input: Matrix, before: Matrix, after: Matrix, output: Matrix)] = []
    for (expert, slots) in zip(experts, slots) {
      let input = arena.matrix(slots.count, z.columns)
      gather(input, from: z, slots.map(\.row))
      let before = arena.matrix(slots.count, z.columns)
      multiply(before, input, expert.up.weight, transposeB: true, bias: expert.up.bias)
      let after = arena.matrix(slots.count, z.columns)
      geluForward(after, before)
      let result = arena.matrix(slots.count, z.columns)
      multiply(result, after, expert.down.weight, transposeB: true, bias: expert.down.bias)
      for (n, slot) in slots.enumerated() { accumulate(output, Int(slot.row), factor: slot.gate, result, n) }
      inner.append((input, before, after, result))
    }
    let assignments = Double(max(1, z.rows * expertsPerItem))
    let load = slots.map { Float(Double($0.count) / assignments) }
    let balance = zip(load, sums).reduce(0.0) { $0 + Double($1.0) * $1.1 / Double(max(1, z.rows)) } * Double(count)
    return Pass(
      output: output, loadBalancingLoss: balance, load: load, probabilities: probabilities, slots: slots, inner: inner)
  }

  /// dInput (rows, d) is overwritten; the parameters' gradients are added to.
  func backward(
    _ pass: Pass, _ z: Matrix, _ dOutput: Matrix, dInput: Matrix, dRouter: DenseParameters.Linear, dExperts: [DenseParameters.Expert],
    loadBalancingWeight: Float, arena: Arena
  ) {
    zero(dInput)
    let count = experts.count
    let dLogits = arena.zeros(z.rows, count)
    // The gates' softmax: dlogit = gate·(dgate − Σ gate·dgate), the sum over the row's slots.
    let gateMean = arena.zeros(z.rows, 1)
    for (slots, inner) in zip(pass.slots, pass.inner) {
      for (n, slot) in slots.enumerated() {
        gateMean[Int(slot.row), 0] += slot.gate * dot(dOutput, Int(slot.row), inner.output, n)
      }
    }
    for j in 0..<count {
      let slots = pass.slots[j]
      let inner = pass.inner[j]
      let dResult = arena.zeros(slots.count, z.columns)
      for (n, slot) in slots.enumerated() {
        let row = Int(slot.row)
        dLogits[row, j] += slot.gate * (dot(dOutput, row, inner.output, n) - gateMean[row, 0])
        accumulate(dResult, n, factor: slot.gate, dOutput, row)
      }
      multiply(dExperts[j].down.weight, dResult, inner.after, transposeA: true, adding: dExperts[j].down.weight)
      addColumnSums(dExperts[j].down.bias, dResult)
      let dBefore = arena.matrix(slots.count, z.columns)
      multiply(dBefore, dResult, experts[j].down.weight)
      geluBackward(dBefore, dBefore, inner.before)
      multiply(dExperts[j].up.weight, dBefore, inner.input, transposeA: true, adding: dExperts[j].up.weight)
      addColumnSums(dExperts[j].up.bias, dBefore)
      let dGathered = arena.matrix(slots.count, z.columns)
      multiply(dGathered, dBefore, experts[j].up.weight)
      scatterAdd(dInput, dGathered, slots.map(\.row))
    }
    if loadBalancingWeight != 0, z.rows > 0 {
      // d/dlogit of E·Σ f·P: f is a constant, P the mean of the full softmax.
      let factor = loadBalancingWeight * Float(count) / Float(z.rows)
      for i in 0..<z.rows {
        var mean: Float = 0
        for j in 0..<count { mean += pass.load[j] * pass.probabilities[i, j] }
        for j in 0..<count { dLogits[i, j] += factor * pass.probabilities[i, j] * (pass.load[j] - mean) }
      }
    }
    multiply(dRouter.weight, dLogits, z, transposeA: true, adding: dRouter.weight)
    addColumnSums(dRouter.bias, dLogits)
    multiply(dInput, dLogits, router.weight, adding: dInput)
  }
}
