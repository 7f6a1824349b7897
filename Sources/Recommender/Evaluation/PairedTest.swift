/// Compares two systems on the same cases.
///
/// The p-value is that of a sign-flipping permutation test (two-sided, no assumption on the distribution); the interval is the normal
/// one on the mean of the differences.
///
/// ### References
/// Smucker, Allan, Carterette: A Comparison of Statistical Significance Tests for Information Retrieval Evaluation. CIKM 2007.
public struct PairedTest: Sendable, Equatable {
  /// The mean of `a − b`.
  public let meanDifference: Double
  /// `meanDifference` over the mean of `b`; nil if that is 0.
  public let relativeDifference: Double?
  public let standardError: Double
  /// Covers the true difference in 95 of 100 experiments.
  public let interval: ClosedRange<Double>
  /// `meanDifference / standardError`; 0 if the two never differ.
  public let t: Double
  /// How often chance alone would differ at least as much; never below 1 / (permutations + 1).
  public let pValue: Double

  /// - Parameters:
  ///   - a: a metric for each case, such as ``RankingMetrics/cases(_:)``.
  ///   - b: the other system's on the same cases, in the same order.
  ///   - generator: seed it, so that the test gives the same twice.
  public init(_ a: [Double], _ b: [Double], permutations: Int = 10_000, using generator: inout some RandomNumberGenerator) {
    precondition(a.count == b.count, "the cases must be the same")
    let differences = zip(a, b).map { $0 - $1 }
    let count = Double(max(differences.count, 1))
    let sum = differences.reduce(0, +)
    let mean = sum / count
    let squares = differences.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
    let baseline = b.reduce(0, +) / count
    meanDifference = mean
    relativeDifference = baseline == 0 ? nil : mean / baseline
    standardError = differences.count > 1 ? (squares / (count - 1) / count).squareRoot() : 0
    interval = mean - 1.96 * standardError...mean + 1.96 * standardError
    t = standardError > 0 ? mean / standardError : 0

    // A difference of nothing has no sign to flip. Rounding must not tell a sum from its equal in another order.
    let signed = differences.filter { $0 != 0 }
    let observed = abs(sum) - 1e-9 * signed.reduce(0) { $0 + abs($1) }
    var asExtreme = 0
    for _ in 0..<permutations {
      var flipped = 0.0
      var bits: UInt64 = 0
      for (index, difference) in signed.enumerated() {
        if index & 63 == 0 { bits = generator.next() }
        flipped += Double(bitPattern: difference.bitPattern ^ (bits & 1) << 63)
        bits >>= 1
      }
      if abs(flipped) >= observed { asExtreme += 1 }
    }
    pValue = Double(asExtreme + 1) / Double(permutations + 1)
  }
}

/// Mean and spread of one figure over several seeds.
public struct SeedSummary: Sendable, Equatable {
  public let mean: Double
  /// Of the sample (n − 1); 0 for fewer than two values.
  public let standardDeviation: Double

  public init(_ values: [Double]) {
    let mean = values.reduce(0, +) / Double(max(values.count, 1))
    self.mean = mean
    let squares = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
    standardDeviation = values.count > 1 ? (squares / Double(values.count - 1)).squareRoot() : 0
  }
}
