import COneDNN

/// What oneDNN answered when it could not compute.
public struct KernelError: Error, Equatable, CustomStringConvertible {
  public let status: Int32
  public var description: String {
    "oneDNN's dnnl_sgemm answered status \(status): its code generator may be forbidden to write executable memory (systemd's MemoryDenyWriteExecute=yes)"
  }
}

/// C = alpha·op(A)·op(B) + beta·C, by oneDNN's JIT.
///
/// - Parameters:
///   - c: (m, n), overwritten or, with `beta` 1, added to.
///   - a: (m, k), or (k, m) with `transposeA`.
///   - b: (k, n), or (n, k) with `transposeB`.
public func multiply(
  _ c: Matrix, _ a: Matrix, _ b: Matrix, transposeA: Bool = false, transposeB: Bool = false, alpha: Float = 1, beta: Float = 0
) {
  let k = transposeA ? a.rows : a.columns
  precondition(
    (transposeA ? a.columns : a.rows) == c.rows && (transposeB ? b.rows : b.columns) == c.columns
      && (transposeB ? b.columns : b.rows) == k, "the shapes of a product agree")
  guard c.rows > 0, c.columns > 0 else { return }
  if k == 0 {
    if beta == 0 { zero(c) }
    return
  }
  let status = dnnl_sgemm(
    CChar(UInt8(ascii: transposeA ? "T" : "N")), CChar(UInt8(ascii: transposeB ? "T" : "N")), dnnl_dim_t(c.rows), dnnl_dim_t(c.columns),
    dnnl_dim_t(k), alpha, a.pointer, dnnl_dim_t(a.stride), b.pointer, dnnl_dim_t(b.stride), beta, c.pointer, dnnl_dim_t(c.stride))
  // An unchecked failure leaves the output untouched and trains on rubbish. `selfTest()` at start turns the one known cause into an error.
  guard status == dnnl_success else { fatalError(KernelError(status: Int32(bitPattern: status.rawValue)).description) }
}

/// The plain form of ``multiply``, for tests.
package func multiplyReference(
  _ c: Matrix, _ a: Matrix, _ b: Matrix, transposeA: Bool = false, transposeB: Bool = false, alpha: Float = 1, beta: Float = 0
) {
  let k = transposeA ? a.rows : a.columns
  for i in 0..<c.rows {
    for j in 0..<c.columns {
      var sum = 0.0
      for x in 0..<k { sum += Double(transposeA ? a[x, i] : a[i, x]) * Double(transposeB ? b[j, x] : b[x, j]) }
      c[i, j] = alpha * Float(sum) + (beta == 0 ? 0 : beta * c[i, j])
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
