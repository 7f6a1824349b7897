import COneDNN
import CVectorKernels

/// What oneDNN answered when it could not compute.
public struct KernelError: Error, Equatable, CustomStringConvertible {
  public let status: Int32
  public var description: String {
    "oneDNN's dnnl_sgemm answered status \(status): its code generator may be forbidden to write executable memory (systemd's MemoryDenyWriteExecute=yes)"
  }
}

/// C = op(A)·op(B) + bias + D, both of which may be left out.
///
/// The narrow products of the model's layers are computed by tiles whose sums stay in registers, where the machine has AVX-512; the others by
/// oneDNN, which is faster there.
///
/// - Parameters:
///   - c: (m, n), overwritten.
///   - a: (m, k), or (k, m) with `transposeA`.
///   - b: (k, n), or (n, k) with `transposeB`.
///   - bias: (1, n), for each row.
///   - adding: D, (m, n); it may be C.
///   - instructions: the best that the machine has, but in a test.
public func multiply(
  _ c: Matrix, _ a: Matrix, _ b: Matrix, transposeA: Bool = false, transposeB: Bool = false, bias: Matrix? = nil, adding: Matrix? = nil,
  instructions: VectorInstructions = .best
) {
  if instructions == .avx512, tilesAreFaster(c, transposeA: transposeA) {
    multiplyByTiles(c, a, b, transposeA: transposeA, transposeB: transposeB, bias: bias, adding: adding, instructions: instructions)
  } else {
    multiplyByLibrary(c, a, b, transposeA: transposeA, transposeB: transposeB, adding: adding)
    if let bias { addBias(c, bias) }
  }
}

/// As measured with AVX-512: `make bench GROUP=products`.
private func tilesAreFaster(_ c: Matrix, transposeA: Bool) -> Bool {
  transposeA ? c.rows <= 1024 : c.rows >= 8
}

/// ``multiply`` by tiles, whatever the shape.
package func multiplyByTiles(
  _ c: Matrix, _ a: Matrix, _ b: Matrix, transposeA: Bool = false, transposeB: Bool = false, bias: Matrix? = nil, adding: Matrix? = nil,
  instructions: VectorInstructions = .best
) {
  multiplyByTiles(c, a, b, transposeA: transposeA, transposeB: transposeB, bias: bias, adding: adding) {
    multiply_matrices(instructions.code, $0, &$1)
  }
}

/// - Parameter tiles: what multiplies.
func multiplyByTiles(
  _ c: Matrix, _ a: Matrix, _ b: Matrix, transposeA: Bool, transposeB: Bool, bias: Matrix?, adding: Matrix?,
  _ tiles: (_ to: product, _ of: inout operands) -> Void
) {
  let k = depth(c, a, b, transposeA: transposeA, transposeB: transposeB)
  precondition(bias.map { $0.columns == c.columns } ?? true)
  precondition(adding.map { $0.rows == c.rows && $0.columns == c.columns } ?? true)
  guard c.rows > 0, c.columns > 0 else { return }
  var operands = operands(
    a: a.pointer, b: b.pointer, a_row: transposeA ? 1 : Int64(a.stride), a_column: transposeA ? Int64(a.stride) : 1, b_stride: Int64(b.stride),
    b_is_transposed: transposeB, rows: Int64(c.rows), columns: Int64(c.columns), depth: Int64(k))
  let target = product(
    c: c.pointer, stride: Int64(c.stride), factor: 1, bias: bias?.pointer, added: adding?.pointer, added_stride: Int64(adding?.stride ?? 0))
  tiles(target, &operands)
}

/// ``multiply`` by oneDNN's JIT, whatever the shape; without a bias.
package func multiplyByLibrary(
  _ c: Matrix, _ a: Matrix, _ b: Matrix, transposeA: Bool = false, transposeB: Bool = false, adding: Matrix? = nil
) {
  let k = depth(c, a, b, transposeA: transposeA, transposeB: transposeB)
  guard c.rows > 0, c.columns > 0 else { return }
  if let adding, adding.pointer != c.pointer { copy(c, from: adding) }
  if k == 0 {
    if adding == nil { zero(c) }
    return
  }
  let status = dnnl_sgemm(
    CChar(UInt8(ascii: transposeA ? "T" : "N")), CChar(UInt8(ascii: transposeB ? "T" : "N")), dnnl_dim_t(c.rows), dnnl_dim_t(c.columns),
    dnnl_dim_t(k), 1, a.pointer, dnnl_dim_t(a.stride), b.pointer, dnnl_dim_t(b.stride), adding == nil ? 0 : 1, c.pointer, dnnl_dim_t(c.stride))
  // An unchecked failure leaves the output untouched and trains on rubbish. `selfTest()` at start turns the one known cause into an error.
  guard status == dnnl_success else { fatalError(KernelError(status: Int32(bitPattern: status.rawValue)).description) }
}

/// k, of shapes that agree.
private func depth(_ c: Matrix, _ a: Matrix, _ b: Matrix, transposeA: Bool, transposeB: Bool) -> Int {
  let k = transposeA ? a.rows : a.columns
  precondition(
    (transposeA ? a.columns : a.rows) == c.rows && (transposeB ? b.rows : b.columns) == c.columns
      && (transposeB ? b.columns : b.rows) == k, "the shapes of a product agree")
  return k
}

/// The plain form of ``multiply``, for tests.
package func multiplyReference(
  _ c: Matrix, _ a: Matrix, _ b: Matrix, transposeA: Bool = false, transposeB: Bool = false, bias: Matrix? = nil, adding: Matrix? = nil
) {
  let k = transposeA ? a.rows : a.columns
  for i in 0..<c.rows {
    for j in 0..<c.columns {
      var sum = 0.0
      for x in 0..<k { sum += Double(transposeA ? a[x, i] : a[i, x]) * Double(transposeB ? b[j, x] : b[x, j]) }
      c[i, j] = Float(sum + Double((bias?[0, j] ?? 0) + (adding?[i, j] ?? 0)))
    }
  }
}

/// Binds the calling thread's products to that one thread: parallelism lies above the kernels, never inside oneDNN's OpenMP pool.
/// Call it once on each thread that computes.
public func useSingleThreadedProducts() { omp_set_num_threads(1) }

/// Computes one product and compares it with the plain reference.
///
/// - Throws: ``KernelError`` when oneDNN can't generate code in this process.
public func selfTest() throws(KernelError) {
  useSingleThreadedProducts()
  let a = Matrix((0..<24 * 40).map { Float($0 % 7) - 3 }, rows: 24, columns: 40)
  let b = Matrix((0..<40 * 32).map { Float($0 % 5) - 2 }, rows: 40, columns: 32)
  let fast = Matrix(rows: 24, columns: 32)
  let plain = Matrix(rows: 24, columns: 32)
  let status = dnnl_sgemm(
    CChar(UInt8(ascii: "N")), CChar(UInt8(ascii: "N")), 24, 32, 40, 1, a.pointer, 40, b.pointer, 32, 0, fast.pointer, 32)
  multiplyReference(plain, a, b)
  guard status == dnnl_success, fast.array == plain.array else { throw KernelError(status: Int32(bitPattern: status.rawValue)) }
}
