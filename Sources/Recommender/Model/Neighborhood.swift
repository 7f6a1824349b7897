import Kernels

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
/// ψ being functions of six evidences for a candidate i from the last items j₀ (the newest), j₁, … of the context:
/// - likeness Σₐ 0.5ᵃ·sim(jₐ, i), with sim = c / √(n(j)·n(i)) · c / (c + 1), c users having had both, n(i) users having had i;
/// - co-occurrence Σₐ 0.8ᵃ·c / (n(jₐ) + 1), which remembers longer and does not make up for popularity;
/// - transition Σₐ 0.5ᵃ·t(jₐ, i) / (n(jₐ) + 1), t(j, i) being how often i came right after j;
/// - two steps Σⱼ co-occurrence(j)·c(j, i) / (n(j) + 1) over the items j that co-occur most with the context: what goes with what goes with
///   it, for an i that the context's own items were never seen with;
/// - content Σₐ 0.8ᵃ·m(jₐ, i), m being the margin of ``ContentNeighbors``, which needs no count of i;
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
  static let featureCount = 14

  /// How far the evidence is trusted.
  struct Weights: Sendable, Equatable {
    /// w.
    var features = Features(0.25, 0.25, 0, 0, 0.25, 0.25, 0, 0, 0.25, 0, 0, 0, 0, 0, 0, 0)
    /// τ: what the whole score is to be multiplied by for its softmax to be calibrated. It leaves the ranking as it is.
    var scale: Float = 1
    /// Steps of the calibration so far.
    var steps: UInt32 = 0

    /// Σₖ wₖ·ψₖ.
    @inline(__always)
    func score(_ features: Features) -> Float {
      let sixteen = features * self.features
      let eight = sixteen.lowHalf + sixteen.highHalf
      let four = eight.lowHalf + eight.highHalf
      let two = four.lowHalf + four.highHalf
      return two.x + two.y
    }
  }
  /// How many of the last items count towards co-occurrence, in learning and in scoring.
  static let contextLength = 32
  private static let scoredLength = 10
  private static let decay: Float = 0.5
  private static let slowDecay: Float = 0.8
  /// The items from which a second step is taken.
  private static let middleCount = 64

  /// Neighbours that are kept of each item; 0 leaves the neighbourhood out.
  public let capacity: Int
  var weights = Weights()
  /// The item of each row when its counts were made: a row that went to another item starts anew.
  private(set) var owners: [ItemNumber?] = []
  /// n: users of each row's item.
  private(set) var users: [Float] = []
  private(set) var together: BoundedCountTable
  private(set) var next: BoundedCountTable
  private(set) var content: ContentNeighbors

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

  init(capacity: Int, contentCapacity: Int = 0) {
    self.capacity = capacity
    together = BoundedCountTable(capacity: capacity)
    next = BoundedCountTable(capacity: capacity)
    content = ContentNeighbors(capacity: contentCapacity)
  }

  /// As a checkpoint has it.
  init(
    capacity: Int, weights: Weights, owners: [ItemNumber?], users: [Float], together: BoundedCountTable, next: BoundedCountTable,
    content: ContentNeighbors
  ) {
    self.capacity = capacity
    self.weights = weights
    self.owners = owners
    self.users = users
    self.together = together
    self.next = next
    self.content = content
  }

  /// Relates items whose description is new to those with like content: see ``ContentNeighbors/relate(_:multiplications:between:)``.
  ///
  /// - Returns: whether there were any.
  @discardableResult
  mutating func relate(_ catalogue: ItemCatalogue, multiplications: Int, between: () -> Void) -> Bool {
    guard capacity > 0 else { return false }
    let related = content.relate(catalogue, multiplications: multiplications, between: between)
    for row in related { if let item = catalogue.owners[Int(row)] { _ = claim(item, catalogue) } }
    return !related.isEmpty
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

  /// By item number: the item's row among `owners` if its counts are of that item there; −1 else.
  func rows(of owners: [ItemNumber?]) -> [Int32] {
    var result: [Int32] = []
    for (row, owner) in self.owners.enumerated() where row < owners.count && owner != nil && owner == owners[row] {
      guard let item = owner.map({ Int($0) }) else { continue }
      if item >= result.count { result += repeatElement(-1, count: max(item + 1 - result.count, result.count / 2)) }
      result[item] = Int32(row)
    }
    return result
  }

  /// The candidates that a context points to. It keeps its memory for the next one.
  struct Evidence {
    /// The rows with some evidence, those of the context first.
    private(set) var rows: [Int32] = []
    /// Of each of ``rows`` likeness, co-occurrence, transition, two steps, content, and content over 1 + the item's users.
    private var sums: [SIMD8<Float>] = []
    /// How often each of the context's rows is in it, in the order of ``rows``.
    private var occurrences: [Float] = []
    /// By row its place among ``rows``; −1 for the others.
    private var places: [Int32] = []
    private var newest: Int32?
    private var middle = TopKCollector(k: Neighborhood.middleCount)

    /// - Parameter context: rows of the snapshot, oldest first.
    mutating func collect(_ snapshot: ModelSnapshot, context: some BidirectionalCollection<Int32>) {
      clear()
      if places.count < snapshot.rowCount { places += repeatElement(-1, count: snapshot.rowCount - places.count) }
      newest = context.last
      for row in context {
        let place = place(of: row)
        if place == occurrences.count { occurrences.append(0) }
        occurrences[place] += 1
      }
      let neighborhood = snapshot.neighborhood
      let users = neighborhood.users
      let rowOfItem = snapshot.countedRows
      var weight: Float = 1
      var slowWeight: Float = 1
      for row in context.suffix(Neighborhood.scoredLength).reversed() {
        let row = Int(row)
        defer {
          weight *= Neighborhood.decay
          slowWeight *= Neighborhood.slowDecay
        }
        guard row < neighborhood.owners.count, neighborhood.owners[row] == snapshot.owners[row] else { continue }
        let own = users[row]
        add(neighborhood.together.rows[row], \.item, rowOfItem) { entry, other in
          let norm = (max(1, own) * max(1, users[other])).squareRoot()
          return [weight * entry.count * entry.count / ((entry.count + 1) * norm), slowWeight * entry.count / (own + 1), 0, 0, 0, 0, 0, 0]
        }
        add(neighborhood.next.rows[row], \.item, rowOfItem) { entry, _ in [0, 0, weight * entry.count / (own + 1), 0, 0, 0, 0, 0] }
        guard row < neighborhood.content.lists.count else { continue }
        add(neighborhood.content.margins(of: row).lazy.filter { $0.margin > 0 }, \.item, rowOfItem) { like, other in
          [0, 0, 0, 0, slowWeight * like.margin, slowWeight * like.margin / (users[other] + 1), 0, 0]
        }
      }
      middle.removeAll()
      for place in rows.indices.dropFirst(occurrences.count) where sums[place][1] > middle.threshold {
        middle.offer(sums[place][1], index: rows[place])
      }
      for (together, row) in middle.sorted() where together > 0 {
        let share = together / (users[Int(row)] + 1)
        add(neighborhood.together.rows[Int(row)], \.item, rowOfItem) { entry, _ in [0, 0, 0, share * entry.count, 0, 0, 0, 0] }
      }
    }

    /// What each of ``rows`` adds to a score.
    func additions(_ weights: Weights) -> [RowAddition] {
      rows.indices.map { RowAddition(row: rows[$0], addition: weights.score(features(at: $0))) }
    }

    /// ψ of a row.
    func features(_ row: Int32) -> Features { places[Int(row)] < 0 ? .zero : features(at: Int(places[Int(row)])) }

    /// ψ of one of ``rows``.
    func features(at place: Int) -> Features {
      var scaled = SIMD8<Float>.zero
      scaled.evenHalf = sums[place].lowHalf * 10
      scaled.oddHalf = sums[place].lowHalf * 100
      var features = Features(lowHalf: logarithmOfOnePlus(scaled), highHalf: .zero)
      features[8] = sums[place][4].squareRoot()
      features[9] = sums[place][4]
      features[10] = sums[place][5]
      guard place < occurrences.count else { return features }
      features[11] = 1
      features[12] = rows[place] == newest ? 1 : 0
      features[13] = log(occurrences[place])
      return features
    }

    /// Adds to the sums of the entries' items, but for those of the context and those that are not counted any more.
    ///
    /// - Parameter evidence: of an entry and its item's row.
    @inline(__always)
    private mutating func add<Entries: Sequence>(
      _ entries: Entries, _ item: (Entries.Element) -> ItemNumber, _ rowOfItem: [Int32], _ evidence: (Entries.Element, Int) -> SIMD8<Float>
    ) {
      for entry in entries {
        let item = Int(item(entry))
        guard item < rowOfItem.count, case let row = rowOfItem[item], row >= 0 else { continue }
        let place = place(of: row)
        if place >= occurrences.count { sums[place] += evidence(entry, Int(row)) }
      }
    }

    @inline(__always)
    private mutating func place(of row: Int32) -> Int {
      if places[Int(row)] < 0 {
        places[Int(row)] = Int32(rows.count)
        rows.append(row)
        sums.append(.zero)
      }
      return Int(places[Int(row)])
    }

    private mutating func clear() {
      for row in rows { places[Int(row)] = -1 }
      rows.removeAll(keepingCapacity: true)
      sums.removeAll(keepingCapacity: true)
      occurrences.removeAll(keepingCapacity: true)
    }
  }
}
