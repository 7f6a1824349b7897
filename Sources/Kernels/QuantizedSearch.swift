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
  fileprivate static let blockRows = 4096
  /// At least so many are searched before more is known of what is among the best.
  private static let leastRows = 128
  /// What sums of products of floats are off at most, for each unit of the factors' norms.
  static let rounding: Float = 1e-5
  /// About so many rows of a catalogue that has sixteen times as many or more, to guess what has to be reached; nil of a smaller one.
  static func sampleSize(of rows: Int) -> Int? { rows < 16 * 2048 ? nil : min(max(rows / 48, 2048), 8192) }

  /// For each query the rows that may be among the `count` with the highest h·v + bias + addition: all that are, and few others.
  ///
  /// - Parameters:
  ///   - queries: h, (queries, columns).
  ///   - bias: (1, rows); −∞ leaves a row out.
  ///   - count: how many of the best are wanted.
  ///   - known: of each query, scores of settled rows that are in its list if they are high enough. The higher they are, the fewer rows are found.
  ///   - additions: of each query, a row at most once.
  ///   - settled: of each query, with room for all rows, those that have no place in its list, or are there with an addition or a known score.
  ///   - arena: for the rows that a block brings, and what a sample does.
  /// - Returns: in no order, with their additions, without those that are known.
  public func search(
    _ queries: Matrix, bias: Matrix, count: Int, known: [[Float]], additions: [[RowAddition]], settled: ArraySlice<RowSet>, arena: Arena
  ) -> [[RowAddition]] {
    precondition(queries.columns == columns && bias.columns == rows && count > 0)
    precondition([known.count, additions.count, settled.count].allSatisfy { $0 == queries.rows } && settled.allSatisfy { $0.capacity >= rows })
    guard queries.rows > 0, rows > 0 else { return additions.map { _ in [] } }
    let query = quantize(queries)
    let meanNorm = dot(mean.pointer, mean.pointer, columns).squareRoot()
    // Bounds are of scores less this, which is the same for all rows.
    let commons = (0..<queries.rows).map { dot(queries.row($0), mean.pointer, columns) }
    let empty = commons.enumerated().map { i, common in
      // What 32-bit floats round: the product with the mean, and the sums.
      let greatest = max(
        additions[i].reduce(abs(common)) { max($0, abs($1.addition)) }, known[i].reduce(0) { $1.isFinite ? max($0, abs($1)) : $0 })
      var candidates = Candidates(count: count, rounding: 2e-5 * query.norms[i] * meanNorm + 1e-6 * greatest)
      for score in known[i] { candidates.consider(Candidates.known, 0, upper: score - common, width: 0) }
      return candidates
    }
    let additions = additions.map { AdditionsByBlock($0, rows: rows) }
    return query.values.withUnsafeBufferPointer { values in
      let asked = self.asked(query, values)
      let pass = SearchPass(matrix: self, queries: queries, commons: commons, bias: bias, additions: additions, settled: settled, arena: arena)
      var candidates = empty
      guess(&candidates, asked, pass)
      pass.run(candidates.indices.map { $0 }, &candidates, asked)
      // Where less than `count` reached what was guessed, the search begins anew without a guess.
      let missed = candidates.indices.filter { !candidates[$0].isCertain }
      for i in missed { candidates[i] = empty[i] }
      pass.run(missed, &candidates, asked)
      return candidates.indices.map { candidates[$0].rows }
    }
  }

  /// - Parameter values: of the queries.
  func asked(_ queries: Queries, _ values: UnsafeBufferPointer<Int8>) -> [quantized_query] {
    queries.starts.indices.map { i in
      quantized_query(
        values: values.baseAddress.map { $0 + i * paddedColumns }, start: queries.starts[i], scale: queries.scales[i], error: error(of: queries, i),
        nibble_error: Self.bounded(queries.nibbleErrors[i]), least: -.infinity)
    }
  }

  /// How far products with a query are off at most, for each unit of a row's scale.
  private func error(of query: Queries, _ i: Int) -> Float {
    Self.bounded(query.norms[i] * greatestError + (query.errors[i] + Self.rounding * query.norms[i]) * greatestNorm)
  }

  /// Above 0, so that a query of zeros keeps off 0·∞, and finite, as a row of zeros has the scale 0.
  fileprivate static func bounded(_ error: Float) -> Float {
    error.isFinite ? max(error, .leastNormalMagnitude) : .greatestFiniteMagnitude
  }

  /// For queries of which too few scores are known, what the `count` best have to reach at least as far as a sample of the rows tells: so that much
  /// fewer are found in the rows that come first.
  private func guess(_ candidates: inout [Candidates], _ asked: [quantized_query], _ pass: SearchPass) {
    guard let sample = Self.sampleSize(of: rows), let count = candidates.first?.count else { return }
    // Of the best so many are in the sample, and hardly ever two and a half standard deviations and two more.
    let expected = Double(count) * Double(sample) / Double(rows)
    let rank = Int((expected + 2.5 * expected.squareRoot() + 2).rounded(.up))
    // Of a piece at most one row of each lane is kept.
    guard rank < count, rank <= sample / 4 else { return }
    let unknown = candidates.indices.filter { !candidates[$0].isFull }
    guard !unknown.isEmpty else { return }
    for (i, least) in zip(unknown, pass.lowerBounds(ofRank: rank, inOneOf: rows / sample, unknown, asked)) { candidates[i].guess(least) }
  }

  /// - Parameter range: it begins at a multiple of `QUANTIZED_PADDING`.
  func part(_ range: Range<Int>, _ bias: Matrix) -> quantized_rows {
    let first = range.lowerBound
    return quantized_rows(
      values: values.base + first * paddedColumns, scales: scales.base + first, nibbles: nibbles.map { $0.pairs.base + first / 2 * paddedColumns },
      nibble_scales: nibbles.map { $0.scales.base + first }, bias: bias.pointer + first, count: Int32(range.count), columns: Int32(paddedColumns))
  }

  /// What the passes over the rows have in common.
  private struct SearchPass {
    let matrix: QuantizedMatrix
    let queries: Matrix
    /// Of each query its product with the mean.
    let commons: [Float]
    let bias: Matrix
    let additions: [AdditionsByBlock]
    let settled: ArraySlice<RowSet>
    let hits: UnsafeMutablePointer<quantized_hit>
    let arena: Arena

    init(
      matrix: QuantizedMatrix, queries: Matrix, commons: [Float], bias: Matrix, additions: [AdditionsByBlock], settled: ArraySlice<RowSet>,
      arena: Arena
    ) {
      self.matrix = matrix
      self.queries = queries
      self.commons = commons
      self.bias = bias
      self.additions = additions
      self.settled = settled
      self.arena = arena
      let capacity = settled.count * Int(quantized_hit_stride(Int64(blockRows)))
      hits = UnsafeMutableRawPointer(arena.matrix(2, capacity).pointer).bindMemory(to: quantized_hit.self, capacity: capacity)
    }

    /// All rows for some of the queries.
    func run(_ queries: [Int], _ candidates: inout [Candidates], _ asked: [quantized_query]) {
      guard !queries.isEmpty else { return }
      // Where little is known yet of what is among the best, most of the first rows are found: they go by in small steps.
      let isInformed = queries.allSatisfy { candidates[$0].isFull }
      if let nibbles = matrix.nibbles, isInformed, queries.count == 1 {
        return run(queries[0], &candidates[queries[0]], asked[queries[0]], by: nibbles)
      }
      for first in stride(from: 0, to: matrix.rows, by: blockRows) {
        let end = min(first + blockRows, matrix.rows)
        var block = matrix.part(first..<end, bias)
        for i in queries { additions[i].consider(first, &block, asked[i], matrix.instructions, &candidates[i]) }
        var start = first
        while start < end {
          let step = isInformed ? blockRows : max(leastRows, start / 8 / QUANTIZED_PADDING * QUANTIZED_PADDING)
          let next = min(start + step, end)
          find(start..<next, queries, &candidates, asked)
          start = next
        }
      }
      for i in queries { candidates[i].tighten() }
    }

    /// Of each query what at least `rank` rows reach in one of so many pieces, without those that are settled, and few others do; −∞ where there
    /// are less.
    func lowerBounds(ofRank rank: Int, inOneOf distance: Int, _ queries: [Int], _ asked: [quantized_query]) -> [Float] {
      let lanes = Int(QUANTIZED_GROUP)
      // The rows of that rank and above are nearly even among the lanes, which may have some more of them each.
      let kept = rank / lanes + 4
      let greatest = arena.matrix(queries.count, kept * lanes)
      greatest.pointer.update(repeating: -.infinity, count: greatest.count)
      // Not the first piece of all: what is oldest may well be what is best.
      let pieces = Array(stride(from: distance / 2, to: (matrix.rows + RowSet.wordSize - 1) / RowSet.wordSize, by: distance))
      let leftOut = queries.flatMap { i in pieces.map { settled[settled.startIndex + i].word($0) } }
      var rows = matrix.part(0..<matrix.rows, bias)
      leftOut.withUnsafeBufferPointer { leftOut in
        var sample = quantized_sample(
          count: Int32(pieces.count), first: Int32(distance / 2), distance: Int32(distance), kept: Int32(kept),
          left_out: leftOut.baseAddress)
        quantized_greatest(matrix.instructions.code, &rows, &sample, queries.map { asked[$0] }, Int32(queries.count), greatest.pointer)
      }
      return queries.indices.map { place in
        UnsafeBufferPointer(start: greatest.row(place), count: kept * lanes).sorted(by: >)[rank - 1]
      }
    }

    /// Lets the candidates of some queries consider these rows, without additions.
    func find(_ range: Range<Int>, _ queries: [Int], _ candidates: inout [Candidates], _ asked: [quantized_query]) {
      let asking = queries.map { i in
        candidates[i].prune()
        var query = asked[i]
        query.least = candidates[i].least
        return query
      }
      var rows = matrix.part(range, bias)
      let stride = Int(quantized_hit_stride(Int64(range.count)))
      withUnsafeTemporaryAllocation(of: Int32.self, capacity: asking.count) { counts in
        quantized_find(matrix.instructions.code, &rows, asking, Int32(asking.count), hits, counts.baseAddress)
        for (place, i) in queries.enumerated() where counts[place] > 0 {
          candidates[i].consider(
            UnsafeBufferPointer(start: hits + place * stride, count: Int(counts[place])), from: Int32(range.lowerBound),
            scales: matrix.scales.base, width: 2 * asking[place].error, settled: settled[settled.startIndex + i])
        }
      }
    }

    /// All rows for one query, of which it is known or guessed what has to be reached: the nibbles say which may reach it, whose products are then
    /// computed. With more queries at a time the products take longer than what is read for them, so that to read less would gain nothing.
    func run(_ i: Int, _ candidates: inout Candidates, _ query: quantized_query, by nibbles: QuantizedMatrix.Nibbles) {
      candidates.tighten()
      var query = query
      query.least = candidates.least
      let settled = settled[settled.startIndex + i]
      var passed: [quantized_hit] = []
      passed.reserveCapacity(blockRows)
      for first in stride(from: 0, to: matrix.rows, by: blockRows) {
        var block = matrix.part(first..<min(first + blockRows, matrix.rows), bias)
        additions[i].consider(first, &block, query, matrix.instructions, &candidates)
        let count = Int(quantized_find_by_nibbles(matrix.instructions.code, &block, &query, hits))
        for hit in UnsafeBufferPointer(start: hits, count: count) {
          let row = Int32(first) + hit.row
          if hit.upper > -.infinity, !settled.contains(row) { passed.append(quantized_hit(row: row, upper: hit.upper)) }
        }
      }
      // Those that reach it as far as their nibbles tell, and not only perhaps, raise what has to be reached: so fewer of the others need a product.
      let first = query.least + QuantizedMatrix.bounded(query.nibble_error * nibbles.error)
      consider(rows(of: passed, from: first, to: .infinity), i, &candidates, query, nibbles)
      candidates.tighten()
      consider(rows(of: passed, from: candidates.least, to: first.nextDown), i, &candidates, query, nibbles)
      candidates.tighten()
    }

    /// Those of the hits whose upper bound is in this range. Which they are the processor can't foresee: it is asked without a branch.
    private func rows(of hits: [quantized_hit], from least: Float, to greatest: Float) -> [Int32] {
      [Int32](unsafeUninitializedCapacity: hits.count) { rows, count in
        for hit in hits {
          rows.initializeElement(at: count, to: hit.row)
          count += (hit.upper >= least ? 1 : 0) & (hit.upper <= greatest ? 1 : 0)
        }
      }
    }

    /// Lets them consider these rows, without additions, by their vectors.
    private func consider(
      _ rows: [Int32], _ i: Int, _ candidates: inout Candidates, _ query: quantized_query, _ nibbles: QuantizedMatrix.Nibbles
    ) {
      for (row, product) in zip(rows, dots(queries, i, matrix.vectors, rows: rows)) {
        let rounding = product.isFinite ? QuantizedMatrix.rounding * query.nibble_error * matrix.greatestNorm * nibbles.scale(Int(row)) : .infinity
        candidates.consider(
          row, 0, upper: rounding.isFinite ? product - commons[i] + bias[0, Int(row)] + rounding : .infinity, width: 2 * rounding)
      }
    }
  }
}

/// Rows, a bit for each.
public struct RowSet: Sendable {
  private var words: [UInt64]

  public init(capacity: Int) { words = Array(repeating: 0, count: (capacity + 63) / 64) }

  public var capacity: Int { words.count * 64 }

  @inline(__always)
  public func contains(_ row: Int32) -> Bool { words[Int(row) >> 6] & Self.bit(row) != 0 }

  /// - Returns: whether it was not there before.
  @discardableResult
  public mutating func insert(_ row: Int32) -> Bool {
    let before = words[Int(row) >> 6]
    words[Int(row) >> 6] = before | Self.bit(row)
    return before & Self.bit(row) == 0
  }

  /// Inserts rows with an addition, all of them below the capacity.
  ///
  /// - Returns: those that were not there before.
  public mutating func insert(_ additions: [RowAddition]) -> [RowAddition] {
    [RowAddition](unsafeUninitializedCapacity: additions.count) { fresh, count in
      words.withUnsafeMutableBufferPointer { words in
        for added in additions {
          assert(added.row >= 0 && Int(added.row) < words.count * 64)
          let (word, bit) = (Int(added.row) >> 6, Self.bit(added.row))
          fresh.initializeElement(at: count, to: added)
          count += words[word] & bit == 0 ? 1 : 0
          words[word] |= bit
        }
      }
    }
  }

  public mutating func removeAll() { words.withUnsafeMutableBufferPointer { $0.update(repeating: 0) } }

  /// Rows of a word, which are those of a piece of a sample.
  fileprivate static let wordSize = Int(QUANTIZED_PADDING)
  fileprivate func word(_ index: Int) -> UInt64 { words[index] }

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
  private let additions: [RowAddition]
  /// Of each block, and where the last one ends.
  private let starts: [Int]

  init(_ additions: [RowAddition], rows: Int) {
    var starts = [Int](repeating: 0, count: Self.block(rows - 1) + 2)
    for added in additions { starts[Self.block(Int(added.row)) + 1] += 1 }
    for block in starts.indices.dropFirst() { starts[block] += starts[block - 1] }
    var next = starts
    self.additions = [RowAddition](unsafeUninitializedCapacity: additions.count) { sorted, count in
      for added in additions {
        let block = Self.block(Int(added.row))
        sorted.initializeElement(at: next[block], to: added)
        next[block] += 1
      }
      count = additions.count
    }
    self.starts = starts
  }

  private static func block(_ row: Int) -> Int { row / QuantizedMatrix.blockRows }

  /// Considers those in the block that begins with the row `first`.
  func consider(
    _ first: Int, _ block: inout quantized_rows, _ query: quantized_query, _ instructions: SearchInstructions, _ candidates: inout Candidates
  ) {
    let number = Self.block(first)
    guard starts[number] < starts[number + 1] else { return }
    var query = query
    withUnsafeTemporaryAllocation(of: Float.self, capacity: QUANTIZED_GROUP) { upper in
      for added in additions[starts[number]..<starts[number + 1]] {
        let row = Int(added.row) - first
        quantized_upper_bounds(instructions.code, &block, Int32(row / QUANTIZED_GROUP), &query, upper.baseAddress)
        candidates.consider(
          added.row, added.addition, upper: upper[row % QUANTIZED_GROUP] + added.addition, width: 2 * query.error * block.scales[row])
      }
    }
  }
}

/// Known scores, and rows that may be among the `count` best of a query as far as bounds of their scores tell.
private struct Candidates {
  private struct Candidate {
    /// Or `known`.
    var row: Int32
    var addition: Float
    var upper: Float
    var lower: Float
  }

  /// In place of a row whose score is known.
  static let known: Int32 = -1

  let count: Int
  /// How far two sums of the same score may be apart by rounding.
  let rounding: Float
  /// What an upper bound has to reach: `count` scores are at least this, or it is a guess.
  private(set) var least = -Float.infinity
  private var guessed = -Float.infinity
  private var list: [Candidate] = []
  private var limit: Int

  init(count: Int, rounding: Float) {
    self.count = count
    self.rounding = rounding
    limit = count
  }

  /// Whether it is known or guessed what has to be reached.
  var isFull: Bool { least > -.infinity || list.count >= count }

  /// To begin with, candidates have to reach this.
  mutating func guess(_ least: Float) {
    guard least > self.least else { return }
    (self.least, guessed) = (least, least)
    list.removeAll { $0.upper < least }
    // What the guess lets pass is little more than what is found at last.
    limit = 3 * count
    list.reserveCapacity(limit + count)
  }

  /// Whether `count` scores reach what was guessed, after all was considered. If not, candidates may be missing.
  var isCertain: Bool { guessed == -.infinity || least > guessed }

  @inline(__always)
  mutating func consider(_ row: Int32, _ addition: Float, upper: Float, width: Float) {
    guard upper >= least, upper > -.infinity else { return }
    list.append(Candidate(row: row, addition: addition, upper: upper, lower: width.isFinite ? upper - width : -.infinity))
  }

  /// - Parameter first: the row that the hits count from.
  mutating func consider(_ hits: UnsafeBufferPointer<quantized_hit>, from first: Int32, scales: Floats, width: Float, settled: RowSet) {
    for hit in hits {
      let row = first + hit.row
      if settled.contains(row) { continue }
      consider(row, 0, upper: hit.upper, width: width * scales[Int(row)])
    }
  }

  /// Drops those that can't be among the best any more, if that is worth the while.
  mutating func prune() {
    if list.count >= limit { dropHopeless() }
  }

  /// Drops all that can't be.
  mutating func tighten() {
    if list.count >= count { dropHopeless() }
  }

  private mutating func dropHopeless() {
    let bound = boundOfGreatest()
    let reached = bound - rounding - 1e-6 * abs(bound)
    if reached > least {
      least = reached
      list.removeAll { $0.upper < reached }
    }
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

  /// Those that are not known, of what was considered.
  var rows: [RowAddition] { list.compactMap { $0.row == Self.known ? nil : RowAddition(row: $0.row, addition: $0.addition) } }
}
