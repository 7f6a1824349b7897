import CQuantizedSearch

/// The rows of a matrix less their mean in 8 bits, each with a scale of its own (symmetric linear quantisation), and how far they are off.
///
/// It finds, for a query h, the rows v whose h·v + bias may be above a threshold, at a quarter of the memory traffic and by the CPU's
/// products of 8-bit integers. With v less the mean, and v̂ and ĥ the rounded ones,
///
///     |h·v − ĥ·v̂| ≤ ‖h‖·‖v − v̂‖ + ‖h − ĥ‖·‖v̂‖ ≤ (‖h‖·max ‖v − v̂‖/scale + ‖h − ĥ‖·max ‖v̂‖/scale)·scale,
///
/// so that no row above the threshold is missed; who asks computes the exact product of the few that are found
/// (``search(_:bias:count:known:additions:settled:arena:)``). A search for a single query reads the values' high halves alone, with bounds of the
/// same kind.
public struct QuantizedMatrix: Sendable {
  public let rows: Int
  public let columns: Int
  /// `columns`, and zeros up to a multiple of 4.
  let paddedColumns: Int
  /// v̂ = scale·(value − 128), value in 1 … 255, as `quantized_rows` has them.
  let values: Block<UInt8>
  /// ∞ for a row that is not finite, or too small for its scale.
  let scales: FloatBuffer
  /// (1, columns): what all rows share tells them not apart, and would take the 8 bits from what does.
  let mean: Matrix
  /// The greatest ‖v̂‖ and ‖v − v̂‖ of all rows, each in units of the row's scale.
  private(set) var greatestNorm: Float = 0
  private(set) var greatestError: Float = 0
  /// What a search for one query reads; nil of rows that are so few that they stay in a core's second cache.
  private(set) var nibbles: Nibbles?
  /// What was quantised.
  let vectors: Matrix

  /// The values' high halves: half as much to read, where the memory's bandwidth is what limits the search. Of each row it is known how far they
  /// are off; with s = `queryShare` and v̂ by the nibbles, a product is off by at most
  ///
  ///     ‖h‖·‖v − v̂‖ + ‖h − ĥ‖·‖v̂‖ ≤ √(‖h‖² + (‖h − ĥ‖/s)²)·√(‖v − v̂‖² + (s·‖v̂‖)²).
  struct Nibbles {
    /// As `quantized_rows` has them, what is off being the second root.
    let pairs: Block<UInt8>
    let scales: Block<UInt32>
    /// What a row's nibbles are off on average.
    fileprivate(set) var error: Float = 0

    fileprivate init(rows: Int, columns: Int) {
      pairs = Block(repeating: 0, count: rows / 2 * columns)
      scales = Block(repeating: 0, count: rows)
    }

    /// A row's scale.
    func scale(_ row: Int) -> Float { Float(bitPattern: scales.base[row] & 0xFFFF_0000) }

    /// - Parameter groupSize: how many values a group has.
    fileprivate func take(from values: Block<UInt8>, groups: Int, groupSize: Int) {
      for pair in 0..<groups / 2 {
        let high = values.base + 2 * pair * groupSize
        let target = pairs.base + pair * groupSize
        for i in 0..<groupSize { target[i] = high[i] & 0xF0 | high[groupSize + i] >> 4 }
      }
    }
  }

  /// A query's values are in −127 … 127. In −64 … 64 where the CPU has no instructions of its own for such products: the sum of two of 7 and 8 bits
  /// fits in 16. Of long rows they are fewer, so that a float holds a whole sum exactly.
  private var greatestQueryValue: Int { min(instructions == .vnni ? 127 : 64, max(1, (1 << 24) / (127 * max(1, columns)))) }
  /// Between what a query's rounding is in proportion to it and what a nibble's is: so the bound is hardly above what it bounds.
  private static let queryShare: Float = 0.02
  /// The value that stands for 0.
  static let zeroPoint: UInt8 = 128
  /// By which products are computed.
  let instructions: SearchInstructions

  final class Block<Element: BitwiseCopyable>: @unchecked Sendable {
    // @unchecked: written by the initialiser alone.
    let base: UnsafeMutablePointer<Element>

    init(repeating value: Element, count: Int) {
      let bytes = UnsafeMutableRawPointer.allocate(byteCount: max(count, 1) * MemoryLayout<Element>.stride, alignment: 64)
      base = bytes.bindMemory(to: Element.self, capacity: max(count, 1))
      base.initialize(repeating: value, count: max(count, 1))
    }

    deinit { base.deallocate() }
  }

  /// - Parameter matrix: (rows, columns), which may not be written any more. A row that is not finite is found for every query.
  public init(_ matrix: Matrix) { self.init(matrix, instructions: .best, hasNibbles: Self.sampleSize(of: matrix.rows) != nil) }

  /// For tests.
  init(_ matrix: Matrix, instructions: SearchInstructions, hasNibbles: Bool) {
    self.instructions = instructions
    vectors = matrix
    rows = matrix.rows
    columns = matrix.columns
    let (group, padding) = (QUANTIZED_GROUP, QUANTIZED_PADDING)
    let padded = (rows + padding - 1) / padding * padding
    paddedColumns = (columns + 3) / 4 * 4
    values = Block(repeating: Self.zeroPoint, count: padded * paddedColumns)
    scales = FloatBuffer(count: padded)
    nibbles = hasNibbles ? Nibbles(rows: padded, columns: paddedColumns) : nil
    mean = Self.mean(of: matrix)
    let difference = FloatBuffer(count: columns)
    var nibbleErrors: Float = 0
    for i in 0..<rows {
      difference.base.update(from: matrix.row(i), count: columns)
      accumulate(difference.base, -1, mean.pointer, columns)
      let row = quantize(difference.base, values.base + i / group * group * paddedColumns + i % group * 4)
      scales.base[i] = row.scale
      greatestNorm = max(greatestNorm, row.norm)
      greatestError = max(greatestError, row.error)
      nibbles?.scales.base[i] = row.nibbleScale
      let nibbleError = Float(bitPattern: row.nibbleScale << 16)
      if nibbleError.isFinite { nibbleErrors += nibbleError }
    }
    nibbles?.take(from: values, groups: padded / group, groupSize: group * paddedColumns)
    nibbles?.error = nibbleErrors / Float(rows)
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

  /// A row's scale, ‖v̂‖ and ‖v − v̂‖ in units of it, and what `quantized_rows` has in `nibble_scales`.
  private typealias RowScale = (scale: Float, norm: Float, error: Float, nibbleScale: UInt32)

  /// - Parameter target: of the row's first value; four stand together, and the next four 64 bytes on.
  private func quantize(_ x: Floats, _ target: UnsafeMutablePointer<UInt8>) -> RowScale {
    let greatest = greatestMagnitude(x, columns)
    guard greatest != 0 else { return (0, 0, 0, 0) }
    let scale = greatest / 127
    let inverse = 127 / greatest
    // What is nearly 0 has no inverse.
    guard greatest.isFinite, inverse.isFinite else { return (.infinity, 0, 0, Float.infinity.bitPattern >> 16) }
    let nibbleScale = Float(bitPattern: scale.bitPattern & 0xFFFF_0000)
    let nibbleUnit = Vector(all: nibbleScale / scale)
    var squares = Vector.zero
    var errors = Vector.zero
    var nibbleErrors = Vector.zero
    forEachVector(columns) { j, lanes in
      let inUnits = load(x, j, lanes) * inverse
      let rounded = nearestInteger(inUnits)
      for lane in 0..<lanes {
        target[((j &+ lane) >> 2) << 6 | (j &+ lane) & 3] = UInt8(truncatingIfNeeded: rounded.integer[lane] &+ Int32(Self.zeroPoint))
      }
      squares = squares.adding(rounded.value, times: rounded.value)
      let error = inUnits - rounded.value
      errors = errors.adding(error, times: error)
      var near = convertedToFloat(rounded.integer & ~15 | 8) * nibbleUnit
      for lane in lanes..<8 { near[lane] = 0 }
      let nibbleError = inUnits - near
      nibbleErrors = nibbleErrors.adding(nibbleError, times: nibbleError).adding(near, times: near * Vector(all: Self.queryShare * Self.queryShare))
    }
    // Rounded up.
    let off = min((scale * nibbleErrors.total.squareRoot()).bitPattern >> 16 + 1, Float.infinity.bitPattern >> 16)
    return (scale, squares.total.squareRoot(), errors.total.squareRoot(), nibbleScale.bitPattern | off)
  }

  struct Queries {
    /// (queries, `paddedColumns`).
    var values: [Int8]
    /// As `quantized_query` has it.
    var starts: [Int32] = []
    var scales: [Float] = []
    var norms: [Float] = []
    var errors: [Float] = []
    /// √(‖h‖² + (‖h − ĥ‖/s)²), for ``Nibbles``.
    var nibbleErrors: [Float] = []
  }

  func quantize(_ queries: Matrix) -> Queries {
    let greatestValue = Float(greatestQueryValue)
    var result = Queries(values: Array(repeating: 0, count: queries.rows * paddedColumns))
    for i in 0..<queries.rows {
      let x = queries.row(i)
      let greatest = greatestMagnitude(x, columns)
      let isUsable = greatest.isFinite && greatest / greatestValue >= .leastNormalMagnitude
      let scale = isUsable ? greatest / greatestValue : 0
      // Whose squares neither vanish nor overflow.
      let unit = isUsable ? scale : greatest
      var start: Int32 = 0
      var (squares, errors): (Float, Float) = (0, 0)
      for j in 0..<columns where greatest != 0 {
        let inUnits = x[j] / unit
        let whole = isUsable ? inUnits.rounded() : 0
        result.values[i * paddedColumns + j] = Int8(whole)
        start -= Int32(Self.zeroPoint) * Int32(whole)
        squares += inUnits * inUnits
        errors += (inUnits - whole) * (inUnits - whole)
      }
      result.starts.append(start)
      result.scales.append(scale)
      result.norms.append(unit * squares.squareRoot())
      result.errors.append(unit * errors.squareRoot())
      let rounding = (errors.squareRoot() + Self.rounding * squares.squareRoot()) / Self.queryShare
      result.nibbleErrors.append(unit * (squares + rounding * rounding).squareRoot())
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
