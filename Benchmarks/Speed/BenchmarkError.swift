/// Why a benchmark's figure would be worth nothing.
struct BenchmarkError: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) { self.description = description }
}

/// Holds a figure to its work: a fast wrong answer is no figure.
func check(_ holds: Bool, _ message: @autoclosure () -> String) throws(BenchmarkError) {
  if !holds { throw BenchmarkError(message()) }
}
