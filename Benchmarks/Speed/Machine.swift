import Kernels

/// What one core of this machine can do at most: without it no other figure means anything.
struct Machine {
  /// 32-bit operations a second of oneDNN on a large square product.
  let operationsPerSecond: Double
  /// Bytes a second that one thread reads from memory, beyond all caches.
  let bytesPerSecond: Double

  init(_ timer: Timer, _ report: Report) throws {
    let size = 768
    let a = Matrix([Float](repeating: 0.5, count: size * size), rows: size, columns: size)
    let b = Matrix([Float](repeating: 0.25, count: size * size), rows: size, columns: size)
    let c = Matrix(rows: size, columns: size)
    let products = try timer(units: 2 * size * size * size) { multiplyByLibrary(c, a, b) }
    try check(c[size - 1, size - 1] == 0.125 * Float(size), "oneDNN's product of constants is not what it has to be")
    report.add("machine.sgemm_gflops", products, unit: "GFLOP/s", scale: 1e-9)

    // Sixteen times the largest cache that a shared machine has for one core.
    let values = [SIMD16<Float>](repeating: SIMD16(repeating: 1), count: 8 << 20)
    var total: Float = 0
    let reads = try timer(units: values.count * 64) { total = Self.sum(values) }
    try check(total == Float(values.count * 16), "the sum of ones is not their number")
    report.add("machine.read_gigabytes_per_second", reads, unit: "GB/s", scale: 1e-9)
    operationsPerSecond = products.median
    bytesPerSecond = reads.median
  }

  /// Four chains of additions, so that memory and not the adder is the limit.
  private static func sum(_ values: [SIMD16<Float>]) -> Float {
    var sums = (SIMD16<Float>.zero, SIMD16<Float>.zero, SIMD16<Float>.zero, SIMD16<Float>.zero)
    var index = 0
    while index + 4 <= values.count {
      sums.0 += values[index]
      sums.1 += values[index + 1]
      sums.2 += values[index + 2]
      sums.3 += values[index + 3]
      index += 4
    }
    return ((sums.0 + sums.1) + (sums.2 + sums.3)).sum()
  }
}
