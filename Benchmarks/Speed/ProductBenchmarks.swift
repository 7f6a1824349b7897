import Kernels

/// `products`: the tiles over oneDNN on the products of a part of a mini-batch, of a few sequences and of the softmax, by turns; what
/// `multiply` chooses by.
func productBenchmarks(_ timer: Timer, _ report: Report) throws {
  var timer = timer
  timer.seconds = 0.05
  let (d, inner, items) = (64, 256, 12_101)
  for (m, n, k) in [(256, d, d), (256, 2 * d, d), (256, inner, d), (256, d, inner), (8, d, d), (8, inner, d), (1, inner, d), (64, items, d)] {
    try compare(timer, report, m, n, k, transposeB: true)
  }
  for (m, n, k) in [(256, d, 2 * d), (256, inner, d), (64, d, items)] { try compare(timer, report, m, n, k) }
  for (m, n, k) in [(d, d, 256), (inner, d, 256), (d, inner, 256), (items, d, 64)] { try compare(timer, report, m, n, k, transposeA: true) }
}

private func compare(
  _ timer: Timer, _ report: Report, _ m: Int, _ n: Int, _ k: Int, transposeA: Bool = false, transposeB: Bool = false
) throws {
  func matrix(_ rows: Int, _ columns: Int) -> Matrix { Matrix([Float](repeating: 1e-3, count: rows * columns), rows: rows, columns: columns) }
  let (a, b, c) = (transposeA ? matrix(k, m) : matrix(m, k), transposeB ? matrix(n, k) : matrix(k, n), matrix(m, n))
  let units = Double(2 * m * n * k)
  let results = try timer.interleaved([
    Timer.Work(units: units) { multiplyByTiles(c, a, b, transposeA: transposeA, transposeB: transposeB, adding: transposeA ? c : nil) },
    Timer.Work(units: units) { multiplyByLibrary(c, a, b, transposeA: transposeA, transposeB: transposeB, adding: transposeA ? c : nil) },
  ])
  let name = "products.\(m)x\(k)\(transposeA ? "t" : "").\(k)x\(n)\(transposeB ? "t" : "")"
  report.add("\(name).gflops", results[0], unit: "GFLOP/s", scale: 1e-9)
  report.add("\(name).over_onednn", results[0].ratio(to: results[1]), unit: "of oneDNN")
}
