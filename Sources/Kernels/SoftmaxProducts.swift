/// How the products of a softmax over classes are computed.
public enum SoftmaxPrecision: Sendable {
  case float32
  /// Of operands rounded to bfloat16, with sums of 32 bits, where the machine has instructions for that; elsewhere as ``float32``.
  case bfloat16

  /// On this machine.
  public static let fastest: SoftmaxPrecision = BFloat16.isFast ? .bfloat16 : .float32
}

extension SoftmaxClasses {
  /// By this precision, for up to so many rows.
  func products(rows: Int, _ arena: Arena, _ instructions: VectorInstructions) -> any SoftmaxProducts {
    let most = min(rows, Self.blockSize)
    return precision == .bfloat16 && BFloat16.isThere && instructions == .avx512
      ? ShortProducts(rows: most, self, arena) : FloatProducts(rows: most, self, arena, instructions)
  }
}

/// The three products of a block's rows and a part's classes, and what they hold for it: logits, dx and dVectors with dBias.
protocol SoftmaxProducts {
  /// x·vectorsᵀ + bias of a part: (rows, its classes), valid until the next call. A block's first part comes first.
  func logits(_ part: Int, _ x: Matrix) -> Matrix
  /// dx + exponentials·vectors, or without dx in a block's first part. The exponentials, in place of the logits, are kept for ``addToClasses``.
  func addToRows(_ dx: Matrix, _ part: Int, _ exponentials: Matrix)
  /// Adds exponentialsᵀ·scaled to the part's dVectors, and factors·exponentials to its dBias.
  func addToClasses(_ part: Int, scaled: Matrix, factors: Matrix)
}

private struct FloatProducts: SoftmaxProducts {
  let classes: SoftmaxClasses
  let instructions: VectorInstructions
  /// For each part (rows, its classes). Between two rows there is a cache line more, lest they displace each other in the first cache.
  private let exponentials: [Matrix]

  init(rows: Int, _ classes: SoftmaxClasses, _ arena: Arena, _ instructions: VectorInstructions) {
    self.classes = classes
    self.instructions = instructions
    exponentials = classes.parts.map { arena.matrix(rows, SoftmaxClasses.partSize + 16).columns(0..<$0.count) }
  }

  func logits(_ part: Int, _ x: Matrix) -> Matrix {
    let (range, values) = (classes.parts[part], exponentials[part].rows(0..<x.rows))
    multiply(values, x, classes.vectors.rows(range), transposeB: true, bias: classes.bias.columns(range), instructions: instructions)
    return values
  }

  func addToRows(_ dx: Matrix, _ part: Int, _ exponentials: Matrix) {
    multiply(dx, exponentials, classes.vectors.rows(classes.parts[part]), adding: part > 0 ? dx : nil, instructions: instructions)
  }

  func addToClasses(_ part: Int, scaled: Matrix, factors: Matrix) {
    let values = exponentials[part].rows(0..<scaled.rows)
    let (dVectors, dBias) = (classes.dVectors.rows(classes.parts[part]), classes.dBias.columns(classes.parts[part]))
    multiply(dBias, factors, values, adding: dBias, instructions: instructions)
    multiply(dVectors, values, scaled, transposeA: true, adding: dVectors, instructions: instructions)
  }
}

/// Of operands that are rounded to bfloat16. The target's own part of the gradients is not rounded: where it has nearly all of the probability, what
/// is left of a gradient is the rounding, a 512th at most.
private struct ShortProducts: SoftmaxProducts {
  let classes: SoftmaxClasses
  private let values: Matrix  // (rows, a part's classes)
  /// Pairs, along what each product sums over.
  private let x: Matrix  // (rows, d / 2)
  private let vectors: Matrix  // (a part's classes, d / 2)
  private let pairedVectors: Matrix  // (a part's classes / 2, d)
  private let byClass: Matrix  // (rows, a part's classes / 2)
  private let scaled: Matrix  // (rows / 2, d)
  private let factors: Matrix  // (1, rows / 2)
  /// Of each part the exponentials (rows / 2, its classes).
  private let byRow: [Matrix]

  init(rows: Int, _ classes: SoftmaxClasses, _ arena: Arena) {
    self.classes = classes
    let (part, d) = (SoftmaxClasses.partSize, classes.vectors.columns)
    let pairs = BFloat16.count
    values = arena.matrix(rows, part + 16)
    x = arena.matrix(rows, pairs(d))
    vectors = arena.matrix(part, pairs(d))
    pairedVectors = arena.matrix(pairs(part), d)
    byClass = arena.matrix(rows, pairs(part) + 16)
    scaled = arena.matrix(pairs(rows), d)
    factors = arena.matrix(1, pairs(rows))
    byRow = classes.parts.map { arena.matrix(pairs(rows), part + 16).columns(0..<$0.count) }
  }

  func logits(_ part: Int, _ x: Matrix) -> Matrix {
    let range = classes.parts[part]
    let (values, vectors) = (values.rows(0..<x.rows).columns(0..<range.count), vectors.rows(0..<range.count))
    let pairs = self.x.rows(0..<x.rows)
    if part == 0 { BFloat16.pairColumns(pairs, x) }
    BFloat16.pairColumns(vectors, classes.vectors.rows(range))
    BFloat16.multiply(values, pairs, vectors, transposeB: true, bias: classes.bias.columns(range))
    return values
  }

  func addToRows(_ dx: Matrix, _ part: Int, _ exponentials: Matrix) {
    let range = classes.parts[part]
    let paired = pairedVectors.rows(0..<BFloat16.count(range.count))
    BFloat16.pairRows(paired, classes.vectors.rows(range))
    let byClass = byClass.rows(0..<dx.rows).columns(0..<paired.rows)
    BFloat16.pairColumns(byClass, exponentials)
    BFloat16.multiply(dx, byClass, paired, adding: part > 0 ? dx : nil)
    BFloat16.pairRows(byRow[part].rows(0..<BFloat16.count(dx.rows)), exponentials)
  }

  func addToClasses(_ part: Int, scaled: Matrix, factors: Matrix) {
    let pairs = BFloat16.count(scaled.rows)
    let (values, ownFactors, ownScaled) = (byRow[part].rows(0..<pairs), self.factors.columns(0..<pairs), self.scaled.rows(0..<pairs))
    let (dVectors, dBias) = (classes.dVectors.rows(classes.parts[part]), classes.dBias.columns(classes.parts[part]))
    BFloat16.pairColumns(ownFactors, factors)
    BFloat16.multiply(dBias, ownFactors, values, adding: dBias)
    BFloat16.pairRows(ownScaled, scaled)
    BFloat16.multiply(dVectors, values, ownScaled, transposeA: true, adding: dVectors)
  }
}
