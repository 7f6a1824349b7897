import Kernels
import Testing

@testable import Recommender

struct SequenceEncoderTests {
  /// An encoder of random parameters and three packed sequences, one with an item that is no more.
  struct Subject {
    let configuration = ModelConfiguration(
      hiddenSize: 8, layerCount: 2, headCount: 2, innerSize: 12, maximumSequenceLength: 6, interactionTypeCount: 3, usesAttributes: false)
    let parameters: DenseParameters
    let vectors: Matrix
    let batch: SequenceBatch
    var random: Xoshiro256

    init(queries: [Int], lengths: [Int] = [5, 1, 3], seed: UInt64 = 3) {
      var random = Xoshiro256(seed: seed)
      parameters = DenseParameters(configuration)
      parameters.fillForCheck(using: &random)
      vectors = Matrix.normal(7, 8, using: &random)
      let tokens = lengths.reduce(0, +)
      var items = (0..<tokens).map { _ in Int32(random.next(below: 7)) }
      items[1] = -1
      batch = SequenceBatch(
        sequences: PackedSequences(lengths: lengths, queryCounts: queries), items: items,
        types: (0..<tokens).map { _ in Int32(random.next(below: 3)) }, gapBefore: (0..<tokens).map { _ in Int32(random.next(below: 32)) },
        gapNext: (0..<tokens).map { _ in Int32(random.next(below: 32)) }, positions: lengths.flatMap { (0..<Int32($0)).reversed() })
      self.random = random
    }

    var encoder: SequenceEncoder { SequenceEncoder(configuration: configuration, parameters: parameters.encoder) }

    func hidden(_ batch: SequenceBatch, _ dropout: DropoutPlan?) -> Matrix {
      encoder.forward(batch, vectors: vectors, dropout: dropout, arena: Arena()).hidden.copied
    }
  }

  static let dropout = DropoutPlan(rate: 0.25, seed: 11)

  @Test(arguments: [[5, 1, 3], [2, 1, 1], [1, 1, 1], [1, 0, 2]], [false, true])
  func everyGradientAgreesWithFiniteDifferences(queries: [Int], drops: Bool) {
    var subject = Subject(queries: queries)
    let plan = drops ? Self.dropout : nil
    let weights = Matrix.normal(queries.reduce(0, +), 8, using: &subject.random)
    let arena = Arena()
    let encoder = subject.encoder
    let pass = encoder.forward(subject.batch, vectors: subject.vectors, dropout: plan, arena: arena)
    let gradients = DenseParameters(subject.configuration)
    let dVectors = Matrix(rows: 7, columns: 8)
    encoder.backward(
      pass, subject.batch, weights, dVectors: dVectors, gradients: gradients.encoder, dropout: plan, arena: arena)
    let fixed = subject
    let loss = { fixed.hidden(fixed.batch, plan).inner(weights) }
    for (tensor, gradient) in zip(subject.parameters.tensors, gradients.tensors) {
      expectGradient(gradient.values, by: tensor.values, tensor.name, loss)
    }
    expectGradient(dVectors, by: subject.vectors, "item vectors", loss)
  }

  @Test(arguments: [false, true])
  func lastPositionsAloneEqualThoseOfAllPositions(drops: Bool) {
    let plan = drops ? Self.dropout : nil
    let whole = Subject(queries: [5, 1, 3])
    let all = whole.hidden(whole.batch, plan).array
    for queries in [[1, 1, 1], [3, 1, 2]] {
      let some = Subject(queries: queries)
      let expected = some.batch.sequences.queryTokens.flatMap { all[Int($0) * 8..<Int($0 + 1) * 8] }
      expectClose(some.hidden(some.batch, plan).array, expected, "\(queries)")
    }
    if drops { #expect(all != whole.hidden(whole.batch, nil).array) }
  }

  @Test func gradientsOfLastPositionsEqualThoseOfAllPositions() {
    var last = Subject(queries: [1, 1, 1])
    let whole = Subject(queries: [5, 1, 3])
    let weights = Matrix.normal(3, 8, using: &last.random)
    let spread = Matrix(rows: 9, columns: 8)
    scatterAdd(spread, weights, last.batch.sequences.queryTokens)
    func gradient(_ subject: Subject, _ dHidden: Matrix) -> [Float] {
      let arena = Arena()
      let gradients = DenseParameters(subject.configuration)
      let dVectors = Matrix(rows: 7, columns: 8)
      let pass = subject.encoder.forward(subject.batch, vectors: subject.vectors, dropout: Self.dropout, arena: arena)
      subject.encoder.backward(
        pass, subject.batch, dHidden, dVectors: dVectors, gradients: gradients.encoder, dropout: Self.dropout, arena: arena)
      return gradients.buffer.array + dVectors.array
    }
    expectClose(gradient(last, weights), gradient(whole, spread))
  }

  @Test func aPackedBatchEqualsOneSequenceAtATime() {
    let subject = Subject(queries: [5, 1, 3])
    let packed = subject.hidden(subject.batch, nil).array
    let offsets = subject.batch.sequences.tokenOffsets
    var single: [Float] = []
    for b in 0..<3 {
      let range = offsets[b]..<offsets[b + 1]
      let one = SequenceBatch(
        sequences: PackedSequences(lengths: [range.count], queryCounts: [range.count]), items: Array(subject.batch.items[range]),
        types: Array(subject.batch.types[range]), gapBefore: Array(subject.batch.gapBefore[range]),
        gapNext: Array(subject.batch.gapNext[range]), positions: Array(subject.batch.positions[range]))
      single += subject.hidden(one, nil).array
    }
    expectClose(packed, single)
  }

  @Test func noPositionSeesALaterOne() {
    let subject = Subject(queries: [5, 1, 3])
    let before = subject.hidden(subject.batch, nil).array
    var changed = subject.batch
    changed.items[4] = (changed.items[4] + 1) % 7
    changed.types[4] = (changed.types[4] + 1) % 3
    let after = subject.hidden(changed, nil).array
    #expect(Array(before[..<32]) == Array(after[..<32]))
    #expect(before[32..<40] != after[32..<40])
    #expect(Array(before[40...]) == Array(after[40...]))
  }
}
