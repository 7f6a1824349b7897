import CQuantizedSearch

/// The rows of a matrix less their mean in 8 bits, each with a scale of its own (symmetric linear quantisation), and how far they are off.
///
/// It finds, for a query h, the rows v whose h·v + bias may be above a threshold, at a quarter of the memory traffic and by the CPU's
/// products of 8-bit integers. With v less the mean, and v̂ and ĥ the rounded ones,
///
///     |h·v − ĥ·v̂| ≤ ‖h‖·‖v − v̂‖ + ‖h − ĥ‖·‖v̂‖ ≤ (‖h‖·r + ‖h − ĥ‖)·‖v̂‖,   r = max ‖v − v̂‖/‖v̂‖,
///
/// so that no row above the threshold is missed; who asks computes the exact product of the few that are found
/// (``search(_:bias:count:known:additions:settled:arena:)``).
public struct QuantizedMatrix: Sendable {
  public let rows: Int
  public let columns: Int
  /// `columns`, and zeros up to a multiple of 4.
  let paddedColumns: Int
  /// v̂ = scale·value, value in −127 … 127, as `quantized_rows` has them.
  let values: IntegerBuffer<Int8>
  let scales: FloatBuffer
  /// What a query's zero point adds to the product with the values, negative.
  let offsets: IntegerBuffer<Int32>
  /// (1, columns): what all rows share tells them not apart, and would take the 8 bits from what does.
  let mean: Matrix
  /// ‖v̂‖; ∞ for a row that is not finite, or too small for its scale.
  let norms: FloatBuffer
  /// r.
  private(set) var relativeError: Float = 0

  /// A query's values are in 1 … 255 around this, which stands for 0. In 1 … 127 where the CPU has no instructions of its own for such products:
  /// the sum of two of 7 and 8 bits fits in 16. Of long rows they are fewer, so that a whole sum is under 2²².
  private var zeroPoint: Int { min(instructions == .vnni ? 128 : 64, (1 << 21) / (127 * max(1, columns))) }
  /// By which products are computed.
  let instructions: SearchInstructions

  final class IntegerBuffer<Element: FixedWidthInteger>: @unchecked Sendable {
    // @unchecked: written by the initialiser alone.
    let base: UnsafeMutablePointer<Element>

    init(count: Int) {
      let bytes = max(count, 1) * MemoryLayout<Element>.size
      base = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64).bindMemory(to: Element.self, capacity: max(count, 1))
      base.initialize(repeating: 0, count: max(count, 1))
    }

    deinit { base.deallocate() }
  }

  /// - Parameters:
  ///   - matrix: (rows, columns). A row that is not finite is found for every query.
  ///   - instructions: the best that the machine has, but in a test.
  public init(_ matrix: Matrix, instructions: SearchInstructions = .best) {
    self.instructions = instructions
    rows = matrix.rows
    columns = matrix.columns
    let (group, padding) = (QUANTIZED_GROUP, QUANTIZED_PADDING)
    let padded = (rows + padding - 1) / padding * padding
    paddedColumns = (columns + 3) / 4 * 4
    values = IntegerBuffer(count: padded * paddedColumns)
    scales = FloatBuffer(count: padded)
    offsets = IntegerBuffer(count: padded)
    norms = FloatBuffer(count: padded)
    mean = Self.mean(of: matrix)
    let difference = FloatBuffer(count: columns)
    for i in 0..<rows {
      difference.base.update(from: matrix.row(i), count: columns)
      accumulate(difference.base, -1, mean.pointer, columns)
      let row = quantize(difference.base, values.base + i / group * group * paddedColumns + i % group * 4)
      scales.base[i] = row.scale
      offsets.base[i] = Int32(-zeroPoint * row.sum)
      norms.base[i] = row.norm
      if row.norm > 0, row.norm.isFinite { relativeError = max(relativeError, row.error / row.norm) }
    }
  }

  /// Of the rows that are finite.
  private static func mean(of matrix: Matrix) -> Matrix {
    let mean = Matrix(rows: 1, columns: matrix.columns)
    var count: Float = 0
    for i in 0..<matrix.rows where allFinite(matrix.rows(i..<i + 1)) {
      count += 1
      accumulate(mean.pointer, 1, matrix.row(i), matrix.columns)
    }
    if count > 0 { scale(mean, by: 1 / count) }
    // Sums of numbers that are too large.
    if !allFinite(mean) { zero(mean) }
    return mean
  }

  /// - Parameter target: of the row's first value; four stand together, and the next four 64 bytes on.
  private func quantize(_ x: Floats, _ target: UnsafeMutablePointer<Int8>) -> (scale: Float, sum: Int, norm: Float, error: Float) {
    let greatest = greatestMagnitude(x, columns)
    guard greatest != 0 else { return (0, 0, 0, 0) }
    let scale = greatest / 127
    let inverse = 127 / greatest
    // What is nearly 0 has no inverse.
    guard greatest.isFinite, inverse.isFinite else { return (0, 0, .infinity, 0) }
    var sum = Vector.zero
    var squares = Vector.zero
    var errors = Vector.zero
    forEachVector(columns) { j, lanes in
      let value = load(x, j, lanes)
      let rounded = nearestInteger(value * inverse)
      for lane in 0..<lanes { target[((j &+ lane) >> 2) << 6 | (j &+ lane) & 3] = Int8(truncatingIfNeeded: rounded.integer[lane]) }
      sum += rounded.value
      let back = rounded.value * scale
      squares = squares.adding(back, times: back)
      errors = errors.adding(value - back, times: value - back)
    }
    return (scale, Int(sum.total), squares.total.squareRoot(), errors.total.squareRoot())
  }

  struct Queries {
    /// (queries, `paddedColumns`).
    var values: [UInt8]
    var scales: [Float] = []
    var norms: [Float] = []
    var errors: [Float] = []
  }

  func quantize(_ queries: Matrix) -> Queries {
    let zeroPoint = zeroPoint
    var result = Queries(values: Array(repeating: UInt8(zeroPoint), count: queries.rows * paddedColumns))
    for i in 0..<queries.rows {
      let x = queries.row(i)
      let greatest = greatestMagnitude(x, columns)
      let isUsable = greatest.isFinite && greatest / Float(zeroPoint - 1) >= .leastNormalMagnitude
      let scale = isUsable ? greatest / Float(zeroPoint - 1) : 0
      var (squares, errors): (Float, Float) = (0, 0)
      for j in 0..<columns {
        let whole = isUsable ? (x[j] / scale).rounded() : 0
        result.values[i * paddedColumns + j] = UInt8(zeroPoint + Int(whole))
        squares += x[j] * x[j]
        errors += (x[j] - whole * scale) * (x[j] - whole * scale)
      }
      result.scales.append(scale)
      result.norms.append(squares.squareRoot())
      result.errors.append(errors.squareRoot())
    }
    return result
  }
}

private func greatestMagnitude(_ x: Floats, _ count: Int) -> Float {
  var greatest: Float = 0
  for j in 0..<count {
    let magnitude = abs(x[j])
    if magnitude.isNaN { return .nan }
    greatest = max(greatest, magnitude)
  }
  return greatest
}
