import CQuantizedSearch

/// A row, and what is added to its score for one query.
public struct RowAddition: Sendable, Equatable {
  public var row: Int32
  public var addition: Float

  public init(row: Int32, addition: Float) {
    self.row = row
    self.addition = addition
  }
}

extension QuantizedMatrix {
  /// Rows that are searched at a time: they stay in the cache while the queries pass by.
  private static let blockRows = 1024
  /// Of the first block that many at a time.
  private static let firstRows = 128

  /// For each query the rows that may be among the `count` with the highest h·v + bias + addition: all that are, and few others.
  ///
  /// - Parameters:
  ///   - queries: h, (queries, columns).
  ///   - bias: (1, rows); −∞ leaves a row out.
  ///   - count: how many of the best are wanted.
  ///   - known: of each query, scores of settled rows that are in its list if they are high enough. The higher they are, the fewer rows are found.
  ///   - additions: of each query, a row at most once.
  ///   - settled: of each query, rows that have no place in its list, or are there with an addition or a known score.
  ///   - arena: for the rows that a block brings.
  /// - Returns: in no order, with their additions, without those that are known.
  public func search(
    _ queries: Matrix, bias: Matrix, count: Int, known: [[Float]], additions: [[RowAddition]], settled: ArraySlice<RowSet>, arena: Arena
  ) -> [[RowAddition]] {
    precondition(queries.columns == columns && bias.columns == rows && count > 0)
    precondition([known.count, additions.count, settled.count].allSatisfy { $0 == queries.rows })
    guard queries.rows > 0, rows > 0 else { return additions.map { _ in [] } }
    let query = quantize(queries)
    let meanNorm = dot(mean.pointer, mean.pointer, columns).squareRoot()
    var candidates = (0..<queries.rows).map { i in
      // Bounds are of scores less this, which is the same for all rows.
      let common = dot(queries.row(i), mean.pointer, columns)
      // What 32-bit floats round: the product with the mean, and the sums.
      let greatest = max(
        additions[i].reduce(abs(common)) { max($0, abs($1.addition)) }, known[i].reduce(0) { $1.isFinite ? max($0, abs($1)) : $0 })
      var candidates = Candidates(count: count, rounding: 2e-5 * query.norms[i] * meanNorm + 1e-6 * greatest)
      for score in known[i] { candidates.consider(nil, upper: score - common, width: 0) }
      return candidates
    }
    let additions = additions.map { AdditionsByBlock($0, blockRows: Self.blockRows, rows: rows) }
    query.values.withUnsafeBufferPointer { queryValues in
      guard let first = queryValues.baseAddress else { return }
      var asked = candidates.indices.map { i in
        quantized_query(
          values: first + i * paddedColumns, scale: query.scales[i],
          // The last term is for rounding, too; it keeps a query of zeros off 0·∞.
          error: query.norms[i] * relativeError + query.errors[i] + max(1e-5 * query.norms[i], .leastNormalMagnitude), least: -.infinity)
      }
      let capacity = queries.rows * Self.blockRows
      let hits = UnsafeMutableRawPointer(arena.matrix(2, capacity).pointer).bindMemory(to: quantized_hit.self, capacity: capacity)
      var hitCounts = [Int32](repeating: 0, count: queries.rows)
      for first in stride(from: 0, to: rows, by: Self.blockRows) {
        let end = min(first + Self.blockRows, rows)
        var block = part(first..<end, bias)
        for i in candidates.indices { additions[i].consider(first, &block, &asked[i], instructions, &candidates[i]) }
        // Of the first rows most are found, since little is known yet of what is among the best: they go by in small steps.
        let step = first == 0 ? Self.firstRows : Self.blockRows
        for start in stride(from: first, to: end, by: step) {
          for i in candidates.indices {
            candidates[i].prune()
            asked[i].least = candidates[i].least
          }
          var rows = part(start..<min(start + step, end), bias)
          quantized_find(instructions.code, &rows, asked, Int32(asked.count), hits, &hitCounts)
          for i in candidates.indices {
            candidates[i].consider(
              UnsafeBufferPointer(start: hits + i * Int(rows.count), count: Int(hitCounts[i])), from: Int32(start), norms: norms.base,
              width: 2 * asked[i].error, settled: settled[settled.startIndex + i])
          }
        }
      }
    }
    return candidates.indices.map { candidates[$0].rows }
  }

  /// - Parameter range: it begins at a multiple of `QUANTIZED_PADDING`.
  private func part(_ range: Range<Int>, _ bias: Matrix) -> quantized_rows {
    let first = range.lowerBound
    return quantized_rows(
      values: values.base + first * paddedColumns, scales: scales.base + first, offsets: offsets.base + first, norms: norms.base + first,
      bias: bias.pointer + first, count: Int32(range.count), columns: Int32(paddedColumns))
  }
}

/// Rows, a bit for each.
public struct RowSet: Sendable {
  private var words: [UInt64]

  public init(capacity: Int) { words = Array(repeating: 0, count: (capacity + 63) / 64) }

  public var capacity: Int { words.count * 64 }

  public func contains(_ row: Int32) -> Bool { words[Int(row) >> 6] & Self.bit(row) != 0 }
  public mutating func insert(_ row: Int32) { words[Int(row) >> 6] |= Self.bit(row) }
  public mutating func remove(_ row: Int32) { words[Int(row) >> 6] &= ~Self.bit(row) }

  private static func bit(_ row: Int32) -> UInt64 { 1 << UInt64(row & 63) }
}

/// By which instructions the products are computed.
public enum SearchInstructions: CaseIterable, Sendable {
  /// The reference for the others.
  case plain, avx2, vnni

  /// Of the machine.
  public static let best: SearchInstructions =
    switch quantized_best() {
    case QUANTIZED_VNNI: .vnni
    case QUANTIZED_AVX2: .avx2
    default: .plain
    }

  var code: quantized_instructions {
    switch self {
    case .plain: QUANTIZED_PLAIN
    case .avx2: QUANTIZED_AVX2
    case .vnni: QUANTIZED_VNNI
    }
  }
}

/// A query's additions by the block that their rows are in.
private struct AdditionsByBlock {
  private var additions: [RowAddition]
  /// Of each block, and where the last one ends.
  private var starts: [Int]
  private let blockRows: Int

  init(_ additions: [RowAddition], blockRows: Int, rows: Int) {
    self.additions = additions
    self.blockRows = blockRows
    starts = Array(repeating: 0, count: (rows + blockRows - 1) / blockRows + 1)
    for added in additions { starts[Int(added.row) / blockRows + 1] += 1 }
    for block in starts.indices.dropFirst() { starts[block] += starts[block - 1] }
    var next = starts
    for added in additions {
      self.additions[next[Int(added.row) / blockRows]] = added
      next[Int(added.row) / blockRows] += 1
    }
  }

  /// Considers those in the block that begins with the row `first`.
  func consider(
    _ first: Int, _ block: inout quantized_rows, _ query: inout quantized_query, _ instructions: SearchInstructions, _ candidates: inout Candidates
  ) {
    let number = first / blockRows
    withUnsafeTemporaryAllocation(of: Float.self, capacity: QUANTIZED_GROUP) { upper in
      for added in additions[starts[number]..<starts[number + 1]] {
        let row = Int(added.row) - first
        quantized_upper_bounds(instructions.code, &block, Int32(row / QUANTIZED_GROUP), &query, upper.baseAddress)
        candidates.consider(added, upper: upper[row % QUANTIZED_GROUP] + added.addition, width: 2 * query.error * block.norms[row])
      }
    }
  }
}

/// Known scores, and rows that may be among the `count` best of a query as far as bounds of their scores tell.
private struct Candidates {
  private struct Candidate {
    /// Nil for a score that is known.
    var row: RowAddition?
    var upper: Float
    var lower: Float
  }

  let count: Int
  /// How far two sums of the same score may be apart by rounding.
  let rounding: Float
  /// What an upper bound has to reach: `count` scores are at least this.
  private(set) var least = -Float.infinity
  private var list: [Candidate] = []
  private var limit: Int

  init(count: Int, rounding: Float) {
    self.count = count
    self.rounding = rounding
    limit = count
  }

  mutating func consider(_ row: RowAddition?, upper: Float, width: Float) {
    guard upper >= least, upper > -.infinity else { return }
    list.append(Candidate(row: row, upper: upper, lower: width.isFinite ? upper - width : -.infinity))
  }

  /// - Parameter first: the row that the hits count from.
  mutating func consider(_ hits: UnsafeBufferPointer<quantized_hit>, from first: Int32, norms: Floats, width: Float, settled: RowSet) {
    for hit in hits where hit.upper >= least {
      let row = first + hit.row
      if settled.contains(row) { continue }
      consider(RowAddition(row: row, addition: 0), upper: hit.upper, width: width * norms[Int(row)])
    }
  }

  /// Drops those that can't be among the best any more, if that is worth the while.
  mutating func prune() {
    guard list.count > limit else { return }
    let bound = boundOfGreatest()
    least = max(least, bound - rounding - 1e-6 * abs(bound))
    list.removeAll { $0.upper < least }
    limit = list.count + count
  }

  /// Nearly the `count`-th greatest lower bound and not above it, by counting how many lie in each of 256 equal intervals.
  private func boundOfGreatest() -> Float {
    var (least, greatest) = (Float.infinity, -Float.infinity)
    for candidate in list where candidate.lower > -.infinity {
      least = min(least, candidate.lower)
      greatest = max(greatest, candidate.lower)
    }
    let width = (greatest - least) / 256
    guard width > 0, width.isFinite else { return -.infinity }
    let reciprocal = 1 / width
    guard reciprocal.isFinite else { return -.infinity }
    return withUnsafeTemporaryAllocation(of: Int32.self, capacity: 256) { counts in
      counts.initialize(repeating: 0)
      for candidate in list where candidate.lower > -.infinity { counts[min(255, Int((candidate.lower - least) * reciprocal))] += 1 }
      var rest = Int32(count)
      for interval in (0..<256).reversed() {
        rest -= counts[interval]
        // Less than the interval's beginning by what the product rounds.
        if rest <= 0 { return least + width * (Float(interval) - 0.01) }
      }
      return -.infinity
    }
  }

  var rows: [RowAddition] {
    mutating get {
      limit = count
      prune()
      return list.compactMap(\.row)
    }
  }
}
