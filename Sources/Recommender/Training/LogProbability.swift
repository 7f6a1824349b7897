#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// draws · log(1 − 1/count): the log of the chance that so many uniform draws all miss one item.
func log1pMinusInverse(_ count: Int, times draws: Int) -> Double { Double(draws) * log1p(-1 / Double(count)) }

/// log(1 − eˣ) for x < 0.
func logOneMinusExp(_ x: Double) -> Double { log(max(-expm1(x), 1e-300)) }

/// log(1 + x).
func log1p(_ x: Double) -> Double {
  #if canImport(Glibc)
    Glibc.log1p(x)
  #else
    Darwin.log1p(x)
  #endif
}
