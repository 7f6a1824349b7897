import COneDNN

/// The rows of a matrix less their mean in 8 bits, each with a scale of its own (symmetric linear quantisation), and how far they are off.
///
/// It finds, for a query h, the rows v whose h·v + bias may be above a threshold, at a quarter of the memory traffic and by the CPU's
/// products of 8-bit integers where it has them. With v less the mean, and v̂ and ĥ the rounded ones,
///
///     |h·v − ĥ·v̂| ≤ ‖h‖·‖v − v̂‖ + ‖h − ĥ‖·‖v̂‖ ≤ (‖h‖·r + ‖h − ĥ‖)·‖v̂‖,   r = max ‖v − v̂‖/‖v̂‖,
///
/// so that no row above the threshold is missed; who asks computes the exact product of the few that are found.
public struct QuantizedMatrix: Sendable {
  public let rows: Int
  public let columns: Int
  /// v̂ = scale·value, value in −127 … 127.
  private let values: ByteBuffer
  private let scales: FloatBuffer
  /// What a query's zero point adds to the product with v̂, negative.
  private let offsets: FloatBuffer
  /// (1, columns): what all rows share tells them not apart, and would take the 8 bits from what does.
  private let mean: Matrix
  /// ‖v̂‖; ∞ for a row that is not finite.
  private let norms: FloatBuffer
  /// r.
  private var relativeError: Float = 0

  /// Rows that are searched at a time: their products stay in the cache.
  private static let blockRows = 1024
  /// A query's values are in 1 … 127 around this, which stands for 0: the sum of two products of 7 and 8 bits fits in 16, which CPUs
  /// without instructions of their own for it need. Of long rows they are fewer, so that a whole sum is under 2²².
  private var zeroPoint: Int { min(64, (1 << 21) / (127 * max(1, columns))) }

  private final class ByteBuffer: @unchecked Sendable {
    // @unchecked: written by the initialiser alone.
    let base: UnsafeMutablePointer<Int8>

    init(count: Int) {
      base = UnsafeMutableRawPointer.allocate(byteCount: max(count, 1), alignment: 64).bindMemory(to: Int8.self, capacity: max(count, 1))
      base.initialize(repeating: 0, count: max(count, 1))
    }

    deinit { base.deallocate() }
  }

  /// - Parameter matrix: (rows, columns). A row that is not finite is found for every query.
  public init(_ matrix: Matrix) {
    rows = matrix.rows
    columns = matrix.columns
    values = ByteBuffer(count: rows * columns)
    scales = FloatBuffer(count: rows)
    offsets = FloatBuffer(count: rows)
    norms = FloatBuffer(count: rows)
    mean = Self.mean(of: matrix)
    let difference = FloatBuffer(count: columns)
    for i in 0..<rows {
      difference.base.update(from: matrix.row(i), count: columns)
      accumulate(difference.base, -1, mean.pointer, columns)
      let row = quantize(difference.base, values.base + i * columns)
      scales.base[i] = row.scale
      offsets.base[i] = -row.scale * Float(zeroPoint * row.sum)
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

  private func quantize(_ x: Floats, _ target: UnsafeMutablePointer<Int8>) -> (scale: Float, sum: Int, norm: Float, error: Float) {
    let greatest = greatestMagnitude(x, columns)
    guard greatest.isFinite else { return (0, 0, .infinity, 0) }
    guard greatest > 0 else { return (0, 0, 0, 0) }
    let scale = greatest / 127
    let inverse = 127 / greatest
    var sum = Vector.zero
    var squares = Vector.zero
    var errors = Vector.zero
    forEachVector(columns) { j, lanes in
      let value = load(x, j, lanes)
      let rounded = nearestInteger(value * inverse)
      for lane in 0..<lanes { target[j &+ lane] = Int8(truncatingIfNeeded: rounded.integer[lane]) }
      sum += rounded.value
      let back = rounded.value * scale
      squares = squares.adding(back, times: back)
      errors = errors.adding(value - back, times: value - back)
    }
    return (scale, Int(sum.total), squares.total.squareRoot(), errors.total.squareRoot())
  }

  /// Calls the body for each query and row of which h·v + bias may reach the query's threshold: for all rows that do, in rising order for
  /// each query, and for few others.
  ///
  /// - Parameters:
  ///   - queries: h, (queries, columns).
  ///   - bias: (1, rows); −∞ leaves a row out.
  ///   - thresholds: of each query, to begin with.
  ///   - arena: for the products of a block.
  ///   - body: gets the query and the row, and returns the query's threshold from there on.
  public func search(
    _ queries: Matrix, bias: Matrix, thresholds: [Float], arena: Arena, _ body: (_ query: Int, _ row: Int) -> Float
  ) {
    precondition(queries.columns == columns && bias.columns == rows && thresholds.count == queries.rows)
    guard queries.rows > 0, rows > 0 else { return }
    let query = quantize(queries)
    var thresholds = thresholds
    let meanNorm = dot(mean.pointer, mean.pointer, columns).squareRoot()
    // What a query's threshold is less than for v less the mean; the last term is for what 32-bit floats round.
    let shifts = (0..<queries.rows).map { dot(queries.row($0), mean.pointer, columns) + 1e-5 * query.norms[$0] * meanNorm }
    let products = UnsafeMutableRawPointer(arena.matrix(queries.rows, Self.blockRows).pointer)
      .bindMemory(to: Int32.self, capacity: queries.rows * Self.blockRows)
    for first in stride(from: 0, to: rows, by: Self.blockRows) {
      let block = first..<min(first + Self.blockRows, rows)
      multiply(products, query.values, queries.rows, block)
      for i in 0..<queries.rows {
        // The last term is for rounding, too; it keeps a query of zeros off 0·∞.
        let error = query.norms[i] * relativeError + query.errors[i] + max(1e-5 * query.norms[i], .leastNormalMagnitude)
        find(products + i * block.count, block, query.scales[i], bias.pointer, &thresholds[i], shifts[i], error) { body(i, $0) }
      }
    }
  }

  /// Calls the body for each row of a block whose upper bound reaches the threshold.
  ///
  /// - Parameter error: how far h·v is off at most, for each unit of ‖v̂‖.
  @inline(__always)
  private func find(
    _ products: UnsafeMutablePointer<Int32>, _ block: Range<Int>, _ scale: Float, _ bias: Floats, _ threshold: inout Float, _ shift: Float,
    _ error: Float, _ body: (Int) -> Float
  ) {
    func bound(_ threshold: Float) -> Float { threshold - shift - 4e-7 * (abs(threshold) + abs(shift)) }
    var least = bound(threshold)
    func findEach(_ rows: Range<Int>) {
      for row in rows {
        let product = Float(products[row &- block.lowerBound]) * scales.base[row] + offsets.base[row]
        if bias[row] + product * scale + error * norms.base[row] < least { continue }
        threshold = body(row)
        least = bound(threshold)
      }
    }
    var first = block.lowerBound
    // Most of the time none of the next 32 reaches it.
    while first &+ 32 <= block.upperBound {
      let lowest = Vector(all: least)
      var below = SIMD8<Int32>(repeating: -1)
      for row in stride(from: first, to: first &+ 32, by: 8) {
        let whole = UnsafeRawPointer(products + (row &- block.lowerBound)).loadUnaligned(as: SIMD8<Int32>.self)
        let product = load(offsets.base, row).adding(convertedToFloat(whole), times: load(scales.base, row))
        let upper = load(bias, row).adding(product, times: Vector(all: scale)).adding(load(norms.base, row), times: Vector(all: error))
        below &= upper.isLess(than: lowest)
      }
      if !below.hasAllBits { findEach(first..<first &+ 32) }
      first &+= 32
    }
    findEach(first..<block.upperBound)
  }

  private func multiply(_ products: UnsafeMutablePointer<Int32>, _ queries: [UInt8], _ count: Int, _ block: Range<Int>) {
    var offset: Int32 = 0
    let status = queries.withUnsafeBufferPointer { queries in
      dnnl_gemm_u8s8s32(
        CChar(UInt8(ascii: "N")), CChar(UInt8(ascii: "T")), CChar(UInt8(ascii: "F")), dnnl_dim_t(count), dnnl_dim_t(block.count),
        dnnl_dim_t(columns), 1, queries.baseAddress, dnnl_dim_t(columns), 0, values.base + block.lowerBound * columns,
        dnnl_dim_t(columns), 0, 0, products, dnnl_dim_t(block.count), &offset)
    }
    guard status == dnnl_success else { fatalError(KernelError(status: Int32(bitPattern: status.rawValue)).description) }
  }

  private struct Queries {
    var values: [UInt8]
    var scales: [Float] = []
    var norms: [Float] = []
    var errors: [Float] = []
  }

  private func quantize(_ queries: Matrix) -> Queries {
    let zeroPoint = zeroPoint
    var result = Queries(values: Array(repeating: UInt8(zeroPoint), count: queries.rows * columns))
    for i in 0..<queries.rows {
      let x = queries.row(i)
      let greatest = greatestMagnitude(x, columns)
      let isUsable = greatest.isFinite && greatest > 0
      let scale = isUsable ? greatest / Float(zeroPoint - 1) : 0
      var (squares, errors): (Float, Float) = (0, 0)
      for j in 0..<columns {
        let whole = isUsable ? (x[j] / scale).rounded() : 0
        result.values[i * columns + j] = UInt8(zeroPoint + Int(whole))
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
    // A NaN is kept.
    if !(magnitude <= greatest) { greatest = magnitude }
  }
  return greatest
}
