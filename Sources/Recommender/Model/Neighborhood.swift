#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The neighbourhood part of the policy: which items the same users had, and which came next. Counting learns from one event what a
/// gradient step has to see many times; the encoder generalises where nothing was counted. Their sum ranks:
///
///     f(s, i) = h(s)·v(i) + b(i) + Σₖ wₖ·ψₖ(s, i)
///
/// ψ being functions of four evidences for a candidate i from the last items j₀ (the newest), j₁, … of the context:
/// - likeness Σₐ 0.5ᵃ·sim(jₐ, i), with sim = c / √(n(j)·n(i)) · c / (c + 1), c users having had both, n(i) users having had i;
/// - co-occurrence Σₐ 0.8ᵃ·c / (n(jₐ) + 1), which remembers longer and does not make up for popularity;
/// - transition Σₐ 0.5ᵃ·t(jₐ, i) / (n(jₐ) + 1), t(j, i) being how often i came right after j;
/// - repetition, for an i of the context: that it is there, that it is the newest, how often it was come back to. It stands in place
///   of the others, for which the user's own counts would speak, and matters where seen items may be recommended again.
///
/// Counts are exact until an item has more neighbours than the capacity; then a newcomer wears down the smallest count until it takes
/// its place (as in Misra and Gries, 1982), so that memory is bounded.
///
/// ### References
/// Koren: Factorization Meets the Neighborhood. KDD 2008. Cheng et al.: Wide & Deep Learning, arXiv 1606.07792.
public struct Neighborhood: Sendable, Equatable {
  /// ψ of a candidate; the lanes beyond ``featureCount`` are 0.
  typealias Features = SIMD16<Float>
  static let featureCount = 9

  /// How far the evidence is trusted.
  struct Weights: Sendable, Equatable {
    /// w.
    var features = Features(0.25, 0.25, 0, 0, 0.25, 0.25, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    /// τ: what the whole score is to be multiplied by for its softmax to be calibrated. It leaves the ranking as it is.
    var scale: Float = 1
    /// Steps of the calibration so far.
    var steps: UInt32 = 0

    /// Σₖ wₖ·ψₖ.
    func score(_ features: Features) -> Float { (features * self.features).sum() }
  }
  /// How many of the last items count towards co-occurrence, in learning and in scoring.
  static let contextLength = 32
  private static let scoredLength = 10
  private static let decay: Float = 0.5
  private static let slowDecay: Float = 0.8

  /// Neighbours that are kept of each item; 0 leaves the neighbourhood out.
  public let capacity: Int
  var weights = Weights()
  /// The item of each row when its counts were made: a row that went to another item starts anew.
  private(set) var owners: [ItemNumber?] = []
  /// n: users of each row's item.
  private(set) var users: [Float] = []
  private(set) var together: BoundedCountTable
  private(set) var next: BoundedCountTable

  /// Counts by row and item number, at most `capacity` for each row. A row is as long as it needs to be, and copied only when it changes.
  struct BoundedCountTable: Sendable, Equatable {
    struct Count: Sendable, Equatable {
      var item: ItemNumber
      var count: Float
    }

    let capacity: Int
    private(set) var rows: [[Count]] = []

    init(capacity: Int, rows: [[Count]] = []) {
      self.capacity = capacity
      self.rows = rows
    }

    mutating func reserve(_ count: Int) {
      if count > rows.count { rows += repeatElement([], count: count - rows.count) }
    }

    mutating func clear(_ row: Int) { rows[row] = [] }

    mutating func add(_ weight: Float, to item: ItemNumber, of row: Int) {
      var least = 0
      for slot in rows[row].indices {
        if rows[row][slot].item == item {
          rows[row][slot].count += weight
          return
        }
        if rows[row][slot].count < rows[row][least].count { least = slot }
      }
      if rows[row].count < capacity {
        rows[row].append(Count(item: item, count: weight))
      } else if rows[row][least].count > weight {
        rows[row][least].count -= weight
      } else {
        rows[row][least] = Count(item: item, count: weight)
      }
    }
  }

  init(capacity: Int) {
    self.capacity = capacity
    together = BoundedCountTable(capacity: capacity)
    next = BoundedCountTable(capacity: capacity)
  }

  /// As a checkpoint has it.
  init(
    capacity: Int, weights: Weights, owners: [ItemNumber?], users: [Float], together: BoundedCountTable, next: BoundedCountTable
  ) {
    self.capacity = capacity
    self.weights = weights
    self.owners = owners
    self.users = users
    self.together = together
    self.next = next
  }

  /// Counts one interaction: the last of `items`, after those before it.
  ///
  /// - Parameter weight: of the interaction's type; it counts as so many.
  mutating func observe(_ items: some BidirectionalCollection<ItemNumber>, weight: Float = 1, catalogue: ItemCatalogue) {
    guard capacity > 0, weight > 0, let item = items.last, let row = claim(item, catalogue) else { return }
    let context = items.dropLast()
    if let last = context.last, last != item, let lastRow = claim(last, catalogue) { next.add(weight, to: item, of: lastRow) }
    // A repeated item is no further user.
    guard !context.contains(item) else { return }
    users[row] += weight
    var seen = Set<ItemNumber>()
    for other in context.suffix(Self.contextLength) where seen.insert(other).inserted {
      guard let otherRow = claim(other, catalogue) else { continue }
      together.add(weight, to: item, of: otherRow)
      together.add(weight, to: other, of: row)
    }
  }

  /// The item's row, its counts being of this item.
  private mutating func claim(_ item: ItemNumber, _ catalogue: ItemCatalogue) -> Int? {
    guard let row = catalogue.row(of: item).map({ Int($0) }) else { return nil }
    if row >= owners.count {
      owners += repeatElement(nil, count: catalogue.rowCount - owners.count)
      users += repeatElement(0, count: catalogue.rowCount - users.count)
      together.reserve(catalogue.rowCount)
      next.reserve(catalogue.rowCount)
    }
    if owners[row] != item {
      owners[row] = item
      users[row] = 0
      together.clear(row)
      next.clear(row)
    }
    return row
  }

  /// The candidates that a context points to. One thread owns it: it keeps scratch memory.
  final class Evidence {
    private var alike: [Float] = []
    private var together: [Float] = []
    private var next: [Float] = []
    private var occurrences: [Float] = []
    private var newest: Int32?
    /// The rows with some evidence.
    private(set) var rows: [Int32] = []

    /// - Parameters:
    ///   - context: the rows of the context, oldest first.
    ///   - owners: the items of all rows that may be candidates.
    func collect(
      _ neighborhood: Neighborhood, context: some BidirectionalCollection<Int32>, owners: [ItemNumber?], lookup: (ItemNumber) -> Int32?
    ) {
      clear()
      let rowCount = owners.count
      let isCounted = { (row: Int) in row < neighborhood.owners.count && row < rowCount && neighborhood.owners[row] == owners[row] }
      if together.count < rowCount {
        alike += repeatElement(0, count: rowCount - alike.count)
        together += repeatElement(0, count: rowCount - together.count)
        next += repeatElement(0, count: rowCount - next.count)
        occurrences += repeatElement(0, count: rowCount - occurrences.count)
      }
      newest = context.last
      for row in context {
        touch(Int(row))
        occurrences[Int(row)] += 1
      }
      var weight: Float = 1
      var slowWeight: Float = 1
      for row in context.suffix(Neighborhood.scoredLength).reversed() {
        let row = Int(row)
        defer {
          weight *= Neighborhood.decay
          slowWeight *= Neighborhood.slowDecay
        }
        guard isCounted(row) else { continue }
        let users = neighborhood.users[row]
        let table = neighborhood.together
        for entry in table.rows[row] {
          guard let other = lookup(entry.item).map({ Int($0) }), isCounted(other), occurrences[other] == 0 else { continue }
          let count = entry.count
          let norm = (max(1, users) * max(1, neighborhood.users[other])).squareRoot()
          touch(other)
          alike[other] += weight * count * count / ((count + 1) * norm)
          together[other] += slowWeight * count / (users + 1)
        }
        let transitions = neighborhood.next
        for entry in transitions.rows[row] {
          guard let other = lookup(entry.item).map({ Int($0) }), isCounted(other), occurrences[other] == 0 else { continue }
          touch(other)
          next[other] += weight * entry.count / (users + 1)
        }
      }
    }

    /// ψ of a row.
    func features(_ row: Int32) -> Features {
      let index = Int(row)
      var features = Features.zero
      for (k, evidence) in [alike[index], together[index], next[index]].enumerated() {
        features[2 * k] = log1p(10 * evidence)
        features[2 * k + 1] = log1p(100 * evidence)
      }
      guard occurrences[index] > 0 else { return features }
      features[6] = 1
      features[7] = row == newest ? 1 : 0
      features[8] = log(occurrences[index])
      return features
    }

    private func touch(_ row: Int) {
      if together[row] == 0, next[row] == 0, occurrences[row] == 0 { rows.append(Int32(row)) }
    }

    private func clear() {
      for row in rows {
        alike[Int(row)] = 0
        together[Int(row)] = 0
        next[Int(row)] = 0
        occurrences[Int(row)] = 0
      }
      rows.removeAll(keepingCapacity: true)
    }
  }
}
