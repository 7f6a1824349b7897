import Testing

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

import CQuantizedSearch
@testable import Kernels

/// A seeded generator of test values.
struct Values {
  var state: UInt64
  init(_ seed: UInt64) { state = seed &* 2 &+ 1 }
  mutating func next() -> UInt64 {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return state >> 33
  }
  mutating func float() -> Float { Float(next() % 20_001) / 5_000 - 2 }
  mutating func matrix(_ rows: Int, _ columns: Int) -> Matrix {
    Matrix((0..<rows * columns).map { _ in float() }, rows: rows, columns: columns)
  }
}

func expectClose(_ a: [Float], _ b: [Float], tolerance: Float = 1e-4, _ what: String = "") {
  #expect(a.count == b.count)
  let scale = max(1, b.map(abs).max() ?? 0)
  let worst = zip(a, b).map { abs($0 - $1) }.max() ?? 0
  #expect(worst <= tolerance * scale, "\(what): differs by \(worst) at a scale of \(scale)")
}

/// The slope of `loss` by each value of x, by central differences.
func slopes(_ x: Matrix, step: Float = 1e-2, _ loss: () -> Double) -> [Float] {
  (0..<x.rows).flatMap { i in
    (0..<x.columns).map { j in
      let kept = x[i, j]
      x[i, j] = kept + step
      let above = loss()
      x[i, j] = kept - step
      let below = loss()
      x[i, j] = kept
      return Float((above - below) / Double(2 * step))
    }
  }
}

func weighted(_ y: Matrix, _ weights: Matrix) -> Double {
  zip(y.array, weights.array).reduce(0) { $0 + Double($1.0) * Double($1.1) }
}

@Suite struct KernelTests {
  @Test func selfTestPasses() throws { try selfTest() }

  @Test(arguments: 0..<48)
  func productsAgreeWithThePlainForm(seed: Int) {
    var values = Values(UInt64(seed))
    // From one row or column to several tiles, and in every third case to more depth than is read at a time.
    let (m, n, k) = (Int(values.next() % 40) + 1, Int(values.next() % 150) + 1, Int(values.next() % (seed % 3 == 0 ? 700 : 40)) + 1)
    let (transposeA, transposeB, isAdded) = (seed & 1 == 1, seed & 2 == 2, seed & 4 == 4)
    let a = transposeA ? values.matrix(k, m) : values.matrix(m, k)
    let b = transposeB ? values.matrix(n, k) : values.matrix(k, n)
    let c = values.matrix(m, n)
    let bias = seed & 8 == 8 ? values.matrix(1, n) : nil
    // Otherwise what is added is the target itself.
    let added = seed & 16 == 16 ? values.matrix(m, n) : nil
    func addend(_ c: Matrix) -> Matrix? { isAdded ? added ?? c : nil }
    func product(_ compute: (Matrix) -> Void) -> [Float] {
      let result = Matrix(c.array, rows: m, columns: n)
      compute(result)
      return result.array
    }
    let plain = product { multiplyReference($0, a, b, transposeA: transposeA, transposeB: transposeB, bias: bias, adding: addend($0)) }
    for instructions in VectorInstructions.ofThisMachine {
      expectClose(
        product {
          multiply($0, a, b, transposeA: transposeA, transposeB: transposeB, bias: bias, adding: addend($0), instructions: instructions)
        }, plain)
      expectClose(
        product {
          multiplyByTiles($0, a, b, transposeA: transposeA, transposeB: transposeB, bias: bias, adding: addend($0), instructions: instructions)
        }, plain)
    }
  }

  @Test(arguments: VectorInstructions.ofThisMachine)
  func aProductWithoutDepthIsItsBias(instructions: VectorInstructions) {
    let bias = Matrix([1, 2, 3], rows: 1, columns: 3)
    let c = Matrix([Float](repeating: 7, count: 30), rows: 10, columns: 3)
    multiply(c, Matrix(rows: 10, columns: 0), Matrix(rows: 0, columns: 3), bias: bias, instructions: instructions)
    #expect((0..<10).allSatisfy { c.rows($0..<$0 + 1).array == [1, 2, 3] })
  }

  /// What lies beside the columns of a view is not touched.
  @Test(arguments: VectorInstructions.ofThisMachine)
  func productsStayWithinTheirColumns(instructions: VectorInstructions) {
    var values = Values(4)
    let whole = Matrix([Float](repeating: 7, count: 20 * 90), rows: 20, columns: 90)
    let (a, b) = (values.matrix(20, 33), values.matrix(33, 70))
    multiplyByTiles(whole.columns(10..<80), a, b, instructions: instructions)
    let plain = Matrix(rows: 20, columns: 70)
    multiplyReference(plain, a, b)
    expectClose(whole.columns(10..<80).array, plain.array)
    #expect((whole.columns(0..<10).array + whole.columns(80..<90).array).allSatisfy { $0 == 7 })
  }

  @Test func productsTakeColumnViews() {
    var values = Values(3)
    let a = values.matrix(5, 12)
    let b = values.matrix(7, 4)
    let c = Matrix(rows: 5, columns: 7)
    multiply(c, a.columns(4..<8), b, transposeB: true)
    let plain = Matrix(rows: 5, columns: 7)
    multiplyReference(plain, a.columns(4..<8), b, transposeB: true)
    expectClose(c.array, plain.array)
  }

  @Test(arguments: VectorInstructions.ofThisMachine)
  func exponentialsAreAccurate(instructions: VectorInstructions) {
    for count in [1, 2, 15, 16, 17, 40, 1_000] {
      let x = (0..<count).map { Float($0 * 37 % count) * -80 / Float(count) + 3 }
      let row = Matrix(x, rows: 1, columns: count)
      let result = exponentialsLessGreatest(row, row: 0, instructions: instructions)
      #expect(result.greatest == 3)
      for (found, x) in zip(row.array, x) { #expect(abs(Double(found) / Double.exponentialFunction(Double(x - 3)) - 1) < 4e-7) }
      #expect(abs(result.sum / row.array.reduce(0, +) - 1) < 1e-5)
    }
    let far = Matrix([-1_000, 0, -.infinity], rows: 1, columns: 3)
    #expect(exponentialsLessGreatest(far, row: 0, instructions: instructions).sum == 1)
    #expect(far[0, 0] < 1e-37 && far[0, 1] == 1 && far[0, 2] < 1e-37)
  }

  @Test(arguments: [1, 3, 16, 29, 64], VectorInstructions.ofThisMachine)
  func geluIsItsFormula(columns: Int, instructions: VectorInstructions) {
    var values = Values(UInt64(columns))
    let x = values.matrix(3, columns)
    scale(x, by: 4)
    x[0, 0] = -60
    x[2, columns - 1] = 60
    let y = Matrix(rows: 3, columns: columns)
    geluForward(y, x, instructions: instructions)
    for (found, x) in zip(y.array, x.array) {
      let inner = 2 * (2 / Double.pi).squareRoot() * (Double(x) + 0.044715 * Double(x) * Double(x) * Double(x))
      let expected = Double(x) / (1 + Double.exponentialFunction(-inner))
      #expect(abs(Double(found) - expected) < 1e-6 * max(1, abs(expected)))
    }
  }

  @Test(arguments: [1, 3, 16, 29, 64], VectorInstructions.ofThisMachine)
  func geluGradientAgreesWithFiniteDifferences(columns: Int, instructions: VectorInstructions) {
    var values = Values(UInt64(columns))
    let x = values.matrix(3, columns)
    let weights = values.matrix(3, columns)
    let y = Matrix(rows: 3, columns: columns)
    let dx = Matrix(rows: 3, columns: columns)
    geluBackward(dx, weights, x, instructions: instructions)
    expectClose(dx.array, slopes(x) { geluForward(y, x, instructions: instructions); return weighted(y, weights) }, tolerance: 2e-3)
    // In place, as the encoder has it.
    let place = Matrix(weights.array, rows: 3, columns: columns)
    geluBackward(place, place, x, instructions: instructions)
    #expect(place.array == dx.array)
  }

  @Test(arguments: [1, 5, 8, 20, 64], VectorInstructions.ofThisMachine)
  func layerNormGradientAgreesWithFiniteDifferences(columns: Int, instructions: VectorInstructions) {
    var values = Values(UInt64(columns) + 40)
    let (x, gain, bias, weights) = (values.matrix(3, columns), values.matrix(1, columns), values.matrix(1, columns), values.matrix(3, columns))
    let y = Matrix(rows: 3, columns: columns)
    let statistics = Matrix(rows: 3, columns: 2)
    func loss() -> Double {
      layerNormForward(y, x, gain: gain, bias: bias, statistics: statistics, instructions: instructions)
      return weighted(y, weights)
    }
    _ = loss()
    let (dx, dGain, dBias) = (Matrix(rows: 3, columns: columns), Matrix(rows: 1, columns: columns), Matrix(rows: 1, columns: columns))
    layerNormBackward(dx, dGain: dGain, dBias: dBias, weights, x, gain: gain, statistics: statistics, instructions: instructions)
    if columns > 1 { expectClose(dx.array, slopes(x, step: 3e-3, loss), tolerance: 5e-3, "x") }
    expectClose(dGain.array, slopes(gain, loss), tolerance: 2e-3, "gain")
    expectClose(dBias.array, slopes(bias, loss), tolerance: 2e-3, "bias")
  }

  static let shapes: [(lengths: [Int], queries: [Int], heads: Int, d: Int)] = [
    ([3, 1, 9], [3, 1, 9], 2, 8), ([3, 1, 9], [1, 1, 1], 2, 8), ([17, 50], [17, 4], 2, 64), ([5, 2], [2, 0], 1, 12), ([20], [20], 4, 16),
    ([33, 7], [33, 0], 1, 48),
  ]

  @Test(arguments: 0..<6, VectorInstructions.ofThisMachine)
  func attentionAgreesWithThePlainForm(index: Int, instructions: VectorInstructions) {
    let shape = Self.shapes[index]
    var values = Values(UInt64(index))
    let sequences = PackedSequences(lengths: shape.lengths, queryCounts: shape.queries)
    let q = values.matrix(sequences.queryCount, shape.d)
    let keyValue = values.matrix(sequences.tokenCount, 2 * shape.d)
    let (k, v) = (keyValue.columns(0..<shape.d), keyValue.columns(shape.d..<2 * shape.d))
    let fast = Matrix(rows: sequences.queryCount, columns: shape.d)
    let plain = Matrix(rows: sequences.queryCount, columns: shape.d)
    let probabilities = Matrix(rows: 1, columns: shape.heads * sequences.probabilityCount)
    attentionForward(
      fast, probabilities: probabilities, q: q, k: k, v: v, headCount: shape.heads, sequences: sequences,
      scratch: Matrix(rows: 1, columns: attentionScratchCount(sequences, headSize: shape.d / shape.heads)), instructions: instructions)
    attentionReference(plain, q: q, k: k, v: v, headCount: shape.heads, sequences: sequences)
    expectClose(fast.array, plain.array)
  }

  @Test(arguments: [0, 1, 3, 5], VectorInstructions.ofThisMachine)
  func attentionGradientAgreesWithFiniteDifferences(index: Int, instructions: VectorInstructions) {
    let shape = Self.shapes[index]
    var values = Values(UInt64(index) + 7)
    let sequences = PackedSequences(lengths: shape.lengths, queryCounts: shape.queries)
    let (rows, tokens, d) = (sequences.queryCount, sequences.tokenCount, shape.d)
    let (q, k, v, weights) = (values.matrix(rows, d), values.matrix(tokens, d), values.matrix(tokens, d), values.matrix(rows, d))
    let y = Matrix(rows: rows, columns: d)
    let probabilities = Matrix(rows: 1, columns: shape.heads * sequences.probabilityCount)
    let scratch = Matrix(rows: 1, columns: attentionScratchCount(sequences, headSize: d / shape.heads))
    func loss() -> Double {
      attentionForward(
        y, probabilities: probabilities, q: q, k: k, v: v, headCount: shape.heads, sequences: sequences, scratch: scratch,
        instructions: instructions)
      return weighted(y, weights)
    }
    _ = loss()
    let (dq, dk, dv) = (Matrix(rows: rows, columns: d), Matrix(rows: tokens, columns: d), Matrix(rows: tokens, columns: d))
    // What was there is overwritten, also where nobody looks.
    for gradient in [dq, dk, dv] { for j in 0..<d { gradient[gradient.rows - 1, j] = .nan } }
    attentionBackward(
      dq: dq, dk: dk, dv: dv, weights, probabilities: probabilities, q: q, k: k, v: v, headCount: shape.heads, sequences: sequences,
      scratch: scratch, instructions: instructions)
    expectClose(dq.array, slopes(q, loss), tolerance: 3e-3, "q")
    expectClose(dk.array, slopes(k, loss), tolerance: 3e-3, "k")
    expectClose(dv.array, slopes(v, loss), tolerance: 3e-3, "v")
  }

  @Test(arguments: [2, 8, 13, 40], VectorInstructions.ofThisMachine)
  func crossEntropyGradientAgreesWithFiniteDifferences(classes: Int, instructions: VectorInstructions) {
    var values = Values(UInt64(classes))
    let logits = values.matrix(3, classes)
    let targets = (0..<3).map { _ in Int32(values.next() % UInt64(classes)) }
    let weights: [Float] = [0.5, 0, 2]
    func loss() -> Double {
      softmaxCrossEntropy(Matrix(logits.array, rows: 3, columns: classes), targets: targets[...], weights: weights[...], instructions: instructions)
    }
    let gradient = Matrix(logits.array, rows: 3, columns: classes)
    _ = softmaxCrossEntropy(gradient, targets: targets[...], weights: weights[...], instructions: instructions)
    expectClose(gradient.array, slopes(logits, loss), tolerance: 2e-3)
  }

  @Test(.enabled(if: BFloat16.isThere), arguments: [(1, 1, 1), (7, 5, 3), (6, 64, 64), (33, 70, 21), (256, 69, 130), (5, 17, 600)])
  func productsOfPairsAreThoseOfRoundedNumbers(shape: (rows: Int, columns: Int, depth: Int)) {
    var values = Values(UInt64(shape.depth))
    let (a, b, bias) = (values.matrix(shape.rows, shape.depth), values.matrix(shape.depth, shape.columns), values.matrix(1, shape.columns))
    func rounded(_ x: Matrix) -> Matrix {
      // To the nearest of 8 significant bits, of two the even one.
      let numbers = x.array.map { Float(bitPattern: ($0.bitPattern + 0x7FFF + ($0.bitPattern >> 16 & 1)) & 0xFFFF_0000) }
      return Matrix(numbers, rows: x.rows, columns: x.columns)
    }
    func transposed(_ x: Matrix) -> Matrix {
      let result = Matrix(rows: x.columns, columns: x.rows)
      for i in 0..<x.rows { for j in 0..<x.columns { result[j, i] = x[i, j] } }
      return result
    }
    func columnPairs(_ x: Matrix) -> Matrix {
      let pairs = Matrix(rows: x.rows, columns: BFloat16.count(x.columns))
      BFloat16.pairColumns(pairs, x)
      return pairs
    }
    func rowPairs(_ x: Matrix) -> Matrix {
      let pairs = Matrix(rows: BFloat16.count(x.rows), columns: x.columns)
      BFloat16.pairRows(pairs, x)
      return pairs
    }
    let expected = Matrix(rows: shape.rows, columns: shape.columns)
    multiplyReference(expected, rounded(a), rounded(b), bias: bias)
    let result = Matrix(rows: shape.rows, columns: shape.columns)
    BFloat16.multiply(result, columnPairs(a), rowPairs(b), bias: bias)
    expectClose(result.array, expected.array, tolerance: 1e-5, "ab")
    BFloat16.multiply(result, columnPairs(a), columnPairs(transposed(b)), transposeB: true, bias: bias)
    expectClose(result.array, expected.array, tolerance: 1e-5, "abᵀ")
    multiplyReference(expected, rounded(a), rounded(b), adding: expected)
    BFloat16.multiply(result, rowPairs(transposed(a)), rowPairs(b), transposeA: true, adding: result)
    expectClose(result.array, expected.array, tolerance: 1e-5, "aᵀb")
  }

  /// With 8 significant bits a product is off by a 256th of each term at most.
  @Test(arguments: [(1, 5), (70, 701), (131, 2_048), (601, 300)])
  func crossEntropyOfShortNumbersIsNearlyThatOfFloats(shape: (rows: Int, classes: Int)) {
    var values = Values(UInt64(shape.classes))
    let (x, vectors, bias) = (values.matrix(shape.rows, 9), values.matrix(shape.classes, 9), values.matrix(1, shape.classes))
    let targets = (0..<shape.rows).map { _ in Int32(values.next() % UInt64(shape.classes)) }
    let weights = (0..<shape.rows).map { $0 % 4 == 1 ? 0 : Float($0 % 5) + 0.5 }
    let correction = (0..<shape.classes).map { Float($0 % 4) / 2 }
    func gradients(_ precision: SoftmaxPrecision) -> (loss: Double, dx: Matrix, dVectors: Matrix, dBias: Matrix) {
      let (dx, dVectors, dBias) = (
        Matrix(rows: shape.rows, columns: 9), Matrix(rows: shape.classes, columns: 9), Matrix(rows: 1, columns: shape.classes)
      )
      let classes = SoftmaxClasses(
        vectors: vectors, bias: bias, targetCorrection: correction, dVectors: dVectors, dBias: dBias, precision: precision)
      // Scratch memory holds anything.
      let arena = Arena()
      let used = arena.matrix(2_000, 1_000)
      for i in 0..<used.rows { used.rows(i..<i + 1).pointer.update(repeating: .nan, count: used.columns) }
      arena.reset()
      return (softmaxCrossEntropy(x, over: classes, targets: targets, weights: weights, dx: dx, arena: arena), dx, dVectors, dBias)
    }
    let (float, short) = (gradients(.float32), gradients(.bfloat16))
    #expect((float.loss == short.loss) == (!BFloat16.isThere || float.loss == 0))
    #expect(abs(float.loss - short.loss) <= 5e-3 * float.loss)
    expectClose(short.dx.array, float.dx.array, tolerance: 2e-2, "dx")
    expectClose(short.dVectors.array, float.dVectors.array, tolerance: 2e-2, "dVectors")
    expectClose(short.dBias.array, float.dBias.array, tolerance: 2e-2, "dBias")
  }

  @Test(arguments: [(1, 5), (3, 512), (70, 700), (64, 1_537), (130, 2_048), (600, 300)], VectorInstructions.ofThisMachine)
  func crossEntropyByPartsIsThatOfAllLogits(shape: (rows: Int, classes: Int), instructions: VectorInstructions) {
    var values = Values(UInt64(shape.classes))
    let x = values.matrix(shape.rows, 9)
    let vectors = values.matrix(shape.classes, 9)
    let bias = values.matrix(1, shape.classes)
    // Greater and greater towards the end for some, so that what was summed has to shrink; one class that has next to no probability.
    for i in 0..<shape.classes { bias[0, i] += Float(i) / 50 }
    bias[0, shape.classes / 2] = -1e9
    let targets = (0..<shape.rows).map { $0 == 0 ? Int32(shape.classes - 1) : Int32(values.next() % UInt64(shape.classes / 2)) }
    let weights = (0..<shape.rows).map { $0 % 3 == 1 ? 0 : Float($0 % 5) + 0.5 }
    for correction in [nil, (0..<shape.classes).map { Float($0 % 4) }] {
      let (dx, dVectors, dBias) = (Matrix(rows: shape.rows, columns: 9), values.matrix(shape.classes, 9), values.matrix(1, shape.classes))
      let (plainVectors, plainBias) = (Matrix(dVectors.array, rows: shape.classes, columns: 9), Matrix(dBias.array, rows: 1, columns: shape.classes))
      let classes = SoftmaxClasses(vectors: vectors, bias: bias, targetCorrection: correction, dVectors: dVectors, dBias: dBias)
      let loss = softmaxCrossEntropy(
        x, over: classes, targets: targets, weights: weights, dx: dx, arena: Arena(), instructions: instructions)

      let logits = Matrix(rows: shape.rows, columns: shape.classes)
      multiplyReference(logits, x, vectors, transposeB: true, bias: bias)
      if let correction { for (i, target) in targets.enumerated() { logits[i, Int(target)] -= correction[Int(target)] } }
      let plainLoss = softmaxCrossEntropy(logits, targets: targets[...], weights: weights[...], instructions: instructions)
      let plain = Matrix(rows: shape.rows, columns: 9)
      multiplyReference(plain, logits, vectors)
      multiplyReference(plainVectors, logits, x, transposeA: true, adding: plainVectors)
      addColumnSums(plainBias, logits)
      #expect(abs(loss / plainLoss - 1) < 1e-5)
      expectClose(dx.array, plain.array)
      expectClose(dVectors.array, plainVectors.array)
      expectClose(dBias.array, plainBias.array)
    }
  }

  @Test func dropoutKeepsItsShareAndRepeats() {
    let mask = DropoutMask(rate: 0.3, seed: 9)
    let x = Matrix([Float](repeating: 1, count: 200 * 61), rows: 200, columns: 61)
    mask.apply(x)
    let kept = x.array.filter { $0 != 0 }
    #expect(kept.allSatisfy { abs($0 - 1 / 0.7) < 1e-6 })
    #expect(abs(Double(kept.count) / Double(200 * 61) - 0.7) < 0.015)
    let again = Matrix([Float](repeating: 1, count: 61), rows: 1, columns: 61)
    mask.apply(again, rows: [17])
    #expect(again.array == x.rows(17..<18).array)
    let other = Matrix([Float](repeating: 1, count: 200 * 61), rows: 200, columns: 61)
    DropoutMask(rate: 0.3, seed: 10).apply(other)
    #expect(other.array != x.array)
  }

  @Test(arguments: 0..<20)
  func topKEqualsASort(seed: Int) {
    var values = Values(UInt64(seed))
    let columns = Int(values.next() % 3000) + 1
    let k = Int(values.next() % 60) + 1
    var scores = (0..<columns).map { _ in Float(values.next() % 500) }
    for j in 0..<columns where values.next() % 10 == 0 { scores[j] = j % 2 == 0 ? -.infinity : .nan }
    var collector = TopKCollector(k: k)
    collector.offer(1e9, index: 1)
    collector.removeAll()
    // In any order.
    let first = Int(values.next() % UInt64(columns))
    for j in 0..<columns {
      let index = (first + j) % columns
      if scores[index] < collector.threshold { continue }
      collector.offer(scores[index], index: Int32(index))
    }
    let expected = (0..<columns).filter { scores[$0] > -.infinity }.sorted { (scores[$0], -$0) > (scores[$1], -$1) }.prefix(k)
    #expect(collector.sorted().map { Int($0.index) } == Array(expected))
    #expect(collector.threshold == (expected.count < k ? -.infinity : scores[expected[k - 1]]))
  }

  /// Rows of many sizes, zeros and some that are not finite among them; each way to compute the products that this machine has.
  /// One query alone goes by nibbles.
  @Test(
    arguments: [(1, 1, 8), (7, 1, 64), (1_024, 3, 64), (1_025, 5, 24), (1_025, 1, 24), (3_000, 9, 61), (3_000, 1, 61)],
    SearchInstructions.ofThisMachine)
  func theSearchInEightBitsMissesNoneOfTheBest(_ shape: (rows: Int, queries: Int, columns: Int), instructions: SearchInstructions) {
    let (rows, queries, columns) = shape
    var values = Values(UInt64(rows))
    let matrix = values.matrix(rows, columns)
    for i in 0..<rows { scale(matrix.rows(i..<i + 1), by: [0, 1e-3, 1, 1, 1, 20][i % 6]) }
    // What all have in common.
    let common = values.matrix(1, columns)
    if queries > 4 { for i in 0..<rows { add(matrix.rows(i..<i + 1), common, factor: 300) } }
    let bias = values.matrix(1, rows)
    for j in stride(from: 3, to: rows, by: 11) { bias[0, j] = -.infinity }
    if rows > 1_500 {
      matrix[1_400, 2] = .nan
      matrix[1_401, 3] = -.infinity
      // So small that nothing is left of it in 8 bits, but for their mean.
      for j in 0..<columns { matrix[1_402, j] = .leastNormalMagnitude / 8 }
    }
    let asked = values.matrix(queries, columns)
    if queries > 3 { for j in 0..<columns { asked[3, j] *= .leastNormalMagnitude } }
    if queries > 2 { zero(asked.rows(2..<3)) }
    // Of every seventh row the score is another one, of every eleventh it is known, and every fifth may not be found.
    let additions = (0..<queries).map { query in
      stride(from: query % 3, to: rows, by: 7).filter { $0 % 5 != 0 && $0 % 11 != 0 }.map { RowAddition(row: Int32($0), addition: Float($0 % 13) - 6) }
    }
    let known = (0..<queries).map { query in
      stride(from: 0, to: rows, by: 11).filter { $0 % 5 != 0 }.map { dot(asked, query, matrix, $0) + bias[0, $0] }
    }
    let settled = (0..<queries).map { query in
      var set = RowSet(capacity: rows)
      for row in 0..<rows where row % 5 == 0 || row % 11 == 0 || (row >= query % 3 && (row - query % 3).isMultiple(of: 7)) { set.insert(Int32(row)) }
      return set
    }
    let found = QuantizedMatrix(matrix, instructions: instructions, hasNibbles: true).search(
      asked, bias: bias, count: 20, known: known, additions: additions, settled: settled[...], arena: Arena())
    for query in 0..<queries {
      let added = Dictionary(uniqueKeysWithValues: additions[query].map { (Int($0.row), $0.addition) })
      let scores = (0..<rows).map { row in
        row.isMultiple(of: 5) ? -.infinity : dot(asked, query, matrix, row) + bias[0, row] + (added[row] ?? 0)
      }
      let threshold = scores.filter(\.isFinite).sorted(by: >).prefix(20).last ?? 0
      let expected = (0..<rows).filter { scores[$0] >= threshold && $0 % 11 != 0 }
      let foundRows = Set(found[query].map { Int($0.row) })
      #expect(foundRows.count == found[query].count && foundRows.isSuperset(of: expected))
      #expect(foundRows.allSatisfy { !$0.isMultiple(of: 5) && !$0.isMultiple(of: 11) })
      for row in found[query] { #expect(row.addition == added[Int(row.row)] ?? 0) }
      // A query of zeros can't tell rows apart by their products.
      if rows > 1_000, query != 2 { #expect(foundRows.count < expected.count + 100, "of query \(query)") }
    }
  }

  @Test func theSearchLeavesFewToBeScored() {
    var values = Values(3)
    let matrix = values.matrix(20_000, 32)
    let asked = values.matrix(2, 32)
    let found = QuantizedMatrix(matrix).search(
      asked, bias: Matrix(rows: 1, columns: 20_000), count: 10, known: [[], []], additions: [[], []],
      settled: [RowSet](repeating: RowSet(capacity: 20_000), count: 2)[...], arena: Arena())
    for query in 0..<2 {
      #expect(found[query].count < 100)
      var collector = TopKCollector(k: 10)
      for row in found[query] { collector.offer(dot(asked, query, matrix, Int(row.row)), index: row.row) }
      let expected = (0..<20_000).sorted { dot(asked, query, matrix, $0) > dot(asked, query, matrix, $1) }.prefix(10)
      #expect(collector.sorted().map { Int($0.index) } == Array(expected))
    }
  }

  /// Of so many rows a sample says what has to be reached. Where the best of it are far above all others and fewer than asked for, it says too much.
  @Test(arguments: [(1, false), (1, true), (5, false), (5, true)], SearchInstructions.ofThisMachine)
  func aGuessThatIsTooHighMissesNothing(_ asking: (queries: Int, isMisleading: Bool), instructions: SearchInstructions) throws {
    var values = Values(4)
    let (rows, count, queries) = (40_000, 20, asking.queries)
    let matrix = values.matrix(rows, 16)
    let asked = values.matrix(queries, 16)
    let bias = Matrix(rows: 1, columns: rows)
    let sampleSize = try #require(QuantizedMatrix.sampleSize(of: rows))
    // The first piece of the sample, in which each has a lane of its own.
    let first = rows / sampleSize / 2 * 64
    if asking.isMisleading { for place in 0..<count / 2 { bias[0, first + place] = 50 } }
    // One query's best are settled, and another has additions.
    var settled = [RowSet](repeating: RowSet(capacity: rows), count: queries)
    var additions = [[RowAddition]](repeating: [], count: queries)
    if queries > 2 {
      for row in 0..<5 as Range<Int32> { settled[1].insert(row) }
      settled[2].insert(30_000)
      additions[2] = [RowAddition(row: 30_000, addition: 100)]
    }
    let found = QuantizedMatrix(matrix, instructions: instructions, hasNibbles: true).search(
      asked, bias: bias, count: count, known: [[Float]](repeating: [], count: queries), additions: additions, settled: settled[...], arena: Arena())
    for query in 0..<queries {
      let scores = (0..<rows).map { row in
        query == 1 && row < 5 ? -.infinity : dot(asked, query, matrix, row) + bias[0, row] + (query == 2 && row == 30_000 ? 100 : 0)
      }
      let threshold = scores.sorted(by: >)[count - 1]
      let foundRows = Set(found[query].map { Int($0.row) })
      #expect(foundRows.isSuperset(of: (0..<rows).filter { scores[$0] >= threshold }), "of query \(query)")
      #expect(foundRows.count == found[query].count && foundRows.count < 4 * count)
    }
  }

  /// Numbers whose squares vanish in 32 bits, and numbers whose squares overflow.
  @Test(arguments: [1e-37, 1e-25, 1e25, 1e37] as [Float], SearchInstructions.ofThisMachine)
  func theSearchFindsTheBestOfAnyMagnitude(magnitude: Float, instructions: SearchInstructions) {
    var values = Values(6)
    let matrix = values.matrix(2_000, 16)
    // Its bound must hold without a bias, too; there is a row of zeros.
    zero(matrix.rows(7..<8))
    let asked = values.matrix(2, 16)
    scale(asked, by: magnitude)
    let found = QuantizedMatrix(matrix, instructions: instructions, hasNibbles: true).search(
      asked, bias: Matrix(rows: 1, columns: 2_000), count: 10, known: [[], []], additions: [[], []],
      settled: [RowSet](repeating: RowSet(capacity: 2_000), count: 2)[...], arena: Arena())
    for query in 0..<2 {
      let products = (0..<2_000).map { row in (0..<16).reduce(0.0) { $0 + Double(asked[query, $1]) * Double(matrix[row, $1]) } }
      let best = (0..<2_000).sorted { products[$0] > products[$1] }.prefix(10)
      #expect(Set(found[query].map { Int($0.row) }).isSuperset(of: best), "of query \(query)")
    }
  }

  /// A query alone, of which it is known but for one row what is among the best; that one's nibbles may tell too little of it.
  @Test(arguments: SearchInstructions.ofThisMachine)
  func whatNibblesUnderestimateIsFound(instructions: SearchInstructions) {
    var values = Values(9)
    let matrix = values.matrix(2_000, 24)
    let quantized = QuantizedMatrix(matrix, instructions: instructions, hasNibbles: true)
    for _ in 0..<20 {
      let asked = values.matrix(1, 24)
      let scores = (0..<2_000).map { dot(asked, 0, matrix, $0) }
      let best = (0..<2_000).sorted { scores[$0] > scores[$1] }
      let known = best[..<9] + [best[10]]
      var settled = RowSet(capacity: 2_000)
      for row in known { settled.insert(Int32(row)) }
      let found = quantized.search(
        asked, bias: Matrix(rows: 1, columns: 2_000), count: 10, known: [known.map { scores[$0] }], additions: [[]], settled: [settled], arena: Arena())
      #expect(found[0].contains { Int($0.row) == best[9] } && found[0].count < 5)
    }
  }

  /// Of rows of many sizes, zeros and some that are not finite among them, and their queries.
  @Test(arguments: [(1, 1), (63, 3), (64, 8), (100, 61), (1_000, 64), (1_025, 130)], SearchInstructions.ofThisMachine)
  func noRowIsAboveItsBoundByNibbles(_ shape: (rows: Int, columns: Int), instructions: SearchInstructions) {
    let (count, columns) = shape
    var values = Values(UInt64(count))
    let x = values.matrix(count, columns)
    for i in 0..<count { scale(x.rows(i..<i + 1), by: [1, 0, 1e-36, 1e-3, 1, 1e4][i % 6]) }
    if count > 60 {
      x[50, 0] = .nan
      x[51, columns - 1] = .infinity
      // One column stands out: all others are nearest to 0, which no nibble is.
      x[52, 0] = 1e5
    }
    let bias = values.matrix(1, count)
    for i in stride(from: 7, to: count, by: 10) { bias[0, i] = -.infinity }
    let matrix = QuantizedMatrix(x, instructions: instructions, hasNibbles: true)
    let asked = values.matrix(3, columns)
    zero(asked.rows(1..<2))
    scale(asked.rows(2..<3), by: 1e-36)
    let found = boundsByNibbles(matrix, asked, bias, instructions)
    let plain = boundsByNibbles(matrix, asked, bias, .plain)
    for query in 0..<asked.rows {
      #expect(Set(found[query].keys) == Set(plain[query].keys))
      for row in 0..<count {
        guard let upper = found[query][row], let expected = plain[query][row] else {
          // Not a number: what has no bound is left out.
          #expect(bias[0, row] == -.infinity)
          continue
        }
        func sum(_ term: (Int) -> Double) -> Double { (0..<columns).reduce(0) { $0 + term($1) } }
        func value(_ column: Int) -> Double { Double(x[row, column]) - Double(matrix.mean[0, column]) }
        let norms = (sum { Double(asked[query, $0]) * Double(asked[query, $0]) } * sum { value($0) * value($0) }).squareRoot()
        let tolerance = 1e-6 * Double(abs(bias[0, row])) + 1e-5 * norms
        #expect(upper == expected || Double(abs(upper - expected)) <= tolerance, "row \(row): \(upper), by the plain way \(expected)")
        guard norms.isFinite, bias[0, row].isFinite else {
          #expect(upper == (bias[0, row].isFinite ? .infinity : -.infinity))
          continue
        }
        let exact = sum { Double(asked[query, $0]) * value($0) } + Double(bias[0, row])
        #expect(Double(upper) >= exact - 1e-6 * Double(abs(bias[0, row])), "row \(row) of query \(query): \(exact) is above \(upper)")
        if row != 52, columns > 8 { #expect(Double(upper) <= exact + 0.5 * norms + tolerance, "row \(row) of query \(query)") }
      }
    }
  }

  /// Of a query with one great number all others are rounded to 0, and a row has their sum.
  @Test(arguments: SearchInstructions.ofThisMachine)
  func whatAQuerysRoundingLosesIsInItsBoundByNibbles(instructions: SearchInstructions) {
    let columns = 600
    let asked = Matrix([1] + [Float](repeating: 0.003, count: columns - 1), rows: 1, columns: columns)
    // All but the first value are what their nibbles stand for. As the other row is the same turned round, the mean is 0.
    let row = [127] + [Float](repeating: 120, count: columns - 1)
    let matrix = QuantizedMatrix(Matrix(row + row.map { -$0 }, rows: 2, columns: columns), instructions: instructions, hasNibbles: true)
    let upper = boundsByNibbles(matrix, asked, Matrix(rows: 1, columns: 2), instructions)[0]
    let product = 127 + 0.36 * Float(columns - 1)
    #expect(upper[0, default: 0] >= product && upper[0, default: 0] < 1.5 * product && upper[1, default: -1_000] >= -product)
  }

  /// Of each query the upper bounds by row.
  private func boundsByNibbles(
    _ matrix: QuantizedMatrix, _ asked: Matrix, _ bias: Matrix, _ instructions: SearchInstructions
  ) -> [[Int: Float]] {
    let queries = matrix.quantize(asked)
    var rows = matrix.part(0..<matrix.rows, bias)
    var hits = [quantized_hit](repeating: quantized_hit(), count: matrix.rows)
    return queries.values.withUnsafeBufferPointer { values in
      matrix.asked(queries, values).map { query in
        var query = query
        let count = quantized_find_by_nibbles(instructions.code, &rows, &query, &hits)
        return Dictionary(uniqueKeysWithValues: hits.prefix(Int(count)).map { (Int($0.row), $0.upper) })
      }
    }
  }

  /// The greatest products that there are: none may saturate.
  @Test(arguments: SearchInstructions.ofThisMachine)
  func productsOfTheGreatestValuesAreExact(instructions: SearchInstructions) {
    var values = Values(8)
    let (count, columns) = (64, 60)
    let x = Matrix(rows: count, columns: columns)
    // Each row, and it turned round: what all have in common is 0.
    for i in stride(from: 0, to: count, by: 2) {
      for j in 0..<columns {
        x[i, j] = i < 4 || values.next() & 1 == 0 ? 1 : -1
        x[i + 1, j] = -x[i, j]
      }
    }
    let matrix = QuantizedMatrix(x, instructions: instructions, hasNibbles: false)
    let query = matrix.quantize(Matrix([Float](repeating: 3, count: columns), rows: 1, columns: columns))
    let bias = Matrix(rows: 1, columns: count)
    var rows = matrix.part(0..<count, bias)
    var upper = [Float](repeating: 0, count: count)
    query.values.withUnsafeBufferPointer { values in
      var asked = quantized_query(
        values: values.baseAddress, start: query.starts[0], scale: query.scales[0], error: 0, nibble_error: 0, least: 0)
      upper.withUnsafeMutableBufferPointer { upper in
        for group in 0..<4 {
          quantized_upper_bounds(instructions.code, &rows, Int32(group), &asked, upper.baseAddress.map { $0 + 16 * group })
        }
      }
    }
    withExtendedLifetime((matrix, bias)) {}
    for i in 0..<count {
      let product = 3 * (0..<columns).reduce(Float(0)) { $0 + x[i, $1] }
      #expect(abs(upper[i] - product) < 1e-4 * 3 * Float(columns), "row \(i): \(upper[i]), not \(product)")
    }
  }

  /// Of every third piece of 64 rows each lane keeps its four greatest lower bounds, at most one of a piece, without the rows that are left out.
  @Test(arguments: SearchInstructions.ofThisMachine)
  func aSampleKeepsTheGreatestLowerBoundsOfEachLane(instructions: SearchInstructions) {
    var values = Values(5)
    let (count, columns, queryCount, kept) = (1_000, 24, 6, 4)
    let matrix = QuantizedMatrix(values.matrix(count, columns), instructions: instructions, hasNibbles: false)
    let bias = values.matrix(1, count)
    var rows = matrix.part(0..<count, bias)
    let asked = matrix.quantize(values.matrix(queryCount, columns))
    let pieces = Array(stride(from: 0, to: 16, by: 3))
    let leftOut = (0..<queryCount * pieces.count).map { _ in values.next() & values.next() }
    var greatest = [Float](repeating: -.infinity, count: queryCount * kept * 16)
    var lowerBounds: [[Float]] = []
    asked.values.withUnsafeBufferPointer { values in
      guard let first = values.baseAddress else { return }
      let queries = (0..<queryCount).map {
        quantized_query(
          values: first + $0 * columns, start: asked.starts[$0], scale: 0.02, error: 0.1 + Float($0), nibble_error: 0, least: .infinity)
      }
      leftOut.withUnsafeBufferPointer { leftOut in
        var sample = quantized_sample(count: Int32(pieces.count), first: 0, distance: 3, kept: Int32(kept), left_out: leftOut.baseAddress)
        quantized_greatest(instructions.code, &rows, &sample, queries, Int32(queryCount), &greatest)
      }
      for query in queries {
        var turned = query
        turned.error = -query.error
        var bounds = [Float](repeating: 0, count: 1_024)
        bounds.withUnsafeMutableBufferPointer { bounds in
          for group in 0..<64 {
            quantized_upper_bounds(QUANTIZED_PLAIN, &rows, Int32(group), &turned, bounds.baseAddress.map { $0 + 16 * group })
          }
        }
        lowerBounds.append(bounds)
      }
    }
    withExtendedLifetime((matrix, bias)) {}
    for (q, bounds) in lowerBounds.enumerated() {
      for lane in 0..<16 {
        let best: [Float] = pieces.enumerated().map { place, piece in
          let counting = stride(from: lane, to: 64, by: 16).filter { leftOut[q * pieces.count + place] >> UInt64($0) & 1 == 0 }
          return counting.map { bounds[piece * 64 + $0] }.max() ?? -.infinity
        }
        for (level, expected) in best.sorted(by: >).prefix(kept).enumerated() {
          let found = greatest[(q * kept + level) * 16 + lane]
          #expect(found == expected || abs(found - expected) < 1e-4, "query \(q), lane \(lane): \(found), not \(expected)")
        }
      }
    }
  }

  @Test func theLogarithmOfOnePlusIsThatOfTheLibrary() {
    var x: Float = 0
    while x < 1e6 {
      let found = logarithmOfOnePlus(SIMD8(repeating: x))
      #expect(abs(found[0] - log1p(x)) < 2e-7 + 2e-7 * log1p(x), "log(1 + \(x))")
      #expect(found == SIMD8(repeating: found[0]))
      x = x * 1.01 + 1e-5
    }
  }

  @Test func notANumberAndInfinityAreFound() {
    let x = Matrix([Float](repeating: 3, count: 21), rows: 3, columns: 7)
    #expect(allFinite(x))
    x[2, 6] = .nan
    #expect(!allFinite(x))
    x[2, 6] = -.infinity
    #expect(!allFinite(x))
  }

  @Test func workersRunEachShardOnce() {
    let workers = WorkerThreads(count: 3)
    defer { workers.stop() }
    let counts = Matrix(rows: 3, columns: 1)
    for _ in 0..<500 { workers.run { counts[$0, 0] += 1 } }
    #expect(counts.array == [500, 500, 500])
  }
}

extension SearchInstructions {
  /// The plain ones, and those that the machine has.
  fileprivate static var ofThisMachine: [SearchInstructions] {
    switch best {
    case .plain: [.plain]
    case .avx2: [.plain, .avx2]
    case .vnni: [.plain, .avx2, .vnni]
    }
  }
}

extension VectorInstructions {
  fileprivate static var ofThisMachine: [VectorInstructions] { best == .avx512 ? [.floor, .avx512] : [.floor] }
}
