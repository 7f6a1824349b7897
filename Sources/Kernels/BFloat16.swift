import CVectorKernels

/// Products of matrices whose elements are rounded to bfloat16: floats with 8 significant bits, of which a pair takes the place of one float. Their
/// sums are 32-bit floats.
enum BFloat16 {
  /// Whether the machine has instructions for them (AVX512_BF16). There is nothing else here.
  static let isThere = bfloat16_is_there()
  /// Whether they take as long as those for floats, and so do twice the work. On Intel's CPUs they take four times as long (Sapphire Rapids and its
  /// successors), on AMD's as long.
  static let isFast = bfloat16_is_fast()

  /// Element (i, t) = (x(i, 2t), x(i, 2t + 1)): (rows, columns / 2), rounded up.
  static func pairColumns(_ pairs: Matrix, _ x: Matrix) {
    precondition(isThere && pairs.rows == x.rows && pairs.columns == count(x.columns))
    pair_columns(pairs.pointer, Int64(pairs.stride), x.pointer, Int64(x.stride), Int64(x.rows), Int64(x.columns))
  }

  /// Element (t, j) = (x(2t, j), x(2t + 1, j)): (rows / 2, columns), rounded up.
  static func pairRows(_ pairs: Matrix, _ x: Matrix) {
    precondition(isThere && pairs.rows == count(x.rows) && pairs.columns == x.columns)
    pair_rows(pairs.pointer, Int64(pairs.stride), x.pointer, Int64(x.stride), Int64(x.rows), Int64(x.columns))
  }

  /// Pairs of so many numbers.
  static func count(_ numbers: Int) -> Int { (numbers + 1) / 2 }

  /// C = op(A)·op(B) + bias + D, as ``multiply``, where A and B are of pairs along what is summed over.
  static func multiply(
    _ c: Matrix, _ a: Matrix, _ b: Matrix, transposeA: Bool = false, transposeB: Bool = false, bias: Matrix? = nil, adding: Matrix? = nil
  ) {
    precondition(isThere)
    multiplyByTiles(c, a, b, transposeA: transposeA, transposeB: transposeB, bias: bias, adding: adding) { multiply_pairs($0, &$1) }
  }
}
