import Kernels

/// For each item those whose dense content is most like its own, by the mean cosine of the modalities: what an item that nobody had yet
/// is found by.
///
/// A list holds the most alike of all items that have a list. An item's list is made when its description is new, and the item is offered
/// to the others' lists then; ``relate(_:multiplications:between:)`` does a bounded part of what waits. An item that is no more stays in the others'
/// lists, where its number leads nowhere, until another one takes a place there.
struct ContentNeighbors: Sendable, Equatable {
  struct Neighbor: Sendable, Equatable {
    var item: ItemNumber
    /// The mean over the model's modalities of the cosine of both items' content, one that is missing counting as 0; above 0.
    var similarity: Float
  }

  /// Items in a list.
  let capacity: Int
  /// By row, best first.
  private(set) var lists: [[Neighbor]]
  /// By row what ``ItemCatalogue/contentFingerprints`` was when the list was made; 0 when there is none.
  private(set) var fingerprints: [UInt64]

  /// Rows that are compared with all others at a time.
  private static let block = 16
  /// Rows that they are compared with at a time.
  private static let tile = 4096

  init(capacity: Int, lists: [[Neighbor]] = [], fingerprints: [UInt64] = []) {
    self.capacity = capacity
    self.lists = lists
    self.fingerprints = fingerprints
  }

  /// How much more alike than the last of a full list: in 0 … 1, whatever the cosines of these features usually are; 1 for a list of twins.
  func margins(of row: Int) -> some Sequence<(item: ItemNumber, margin: Float)> {
    let list = lists[row]
    let floor = list.count < capacity ? 0 : list.last?.similarity ?? 0
    let range = 1 - floor
    return list.lazy.map { ($0.item, range > 1e-3 ? ($0.similarity - floor) / range : 1) }
  }

  /// Makes the lists of items whose description is new, those of the highest rows first.
  ///
  /// - Parameters:
  ///   - multiplications: about how many are done before the rest has to wait.
  ///   - between: called between pieces of work.
  /// - Returns: the rows whose lists were made.
  mutating func relate(_ catalogue: ItemCatalogue, multiplications: Int, between: () -> Void) -> [Int32] {
    guard capacity > 0 else { return [] }
    let wanted = catalogue.contentFingerprints
    if lists.count < wanted.count {
      lists += repeatElement([], count: wanted.count - lists.count)
      fingerprints += repeatElement(0, count: wanted.count - fingerprints.count)
    }
    let each = max(1, wanted.count * catalogue.features.reduce(0) { $0 + $1.columns })
    let listed = fingerprints
    let rows = Array(wanted.indices.reversed().lazy.filter { wanted[$0] != listed[$0] }.prefix(max(1, multiplications / each)))
    forget(rows, catalogue)
    let present = rows.filter { wanted[$0] != 0 }
    for start in stride(from: 0, to: present.count, by: Self.block) {
      between()
      relate(Array(present[start..<min(start + Self.block, present.count)]), catalogue)
    }
    return present.map { Int32($0) }
  }

  /// Empties the lists of rows and takes their items out of the others'.
  private mutating func forget(_ rows: some Collection<Int>, _ catalogue: ItemCatalogue) {
    var listed = Set<ItemNumber>()
    for row in rows where fingerprints[row] != 0 {
      fingerprints[row] = 0
      lists[row] = []
      if let item = catalogue.owners[row] { listed.insert(item) }
    }
    guard !listed.isEmpty else { return }
    for row in lists.indices where lists[row].contains(where: { listed.contains($0.item) }) { lists[row].removeAll { listed.contains($0.item) } }
  }

  private mutating func relate(_ rows: [Int], _ catalogue: ItemCatalogue) {
    let similarities = Matrix(rows: rows.count, columns: lists.count)
    for start in stride(from: 0, to: lists.count, by: Self.tile) {
      let part = start..<min(start + Self.tile, lists.count)
      catalogue.contentSimilarities(of: rows, to: part, into: similarities.columns(part))
    }
    for (i, row) in rows.enumerated() {
      guard let item = catalogue.owners[row] else { continue }
      fingerprints[row] = catalogue.contentFingerprints[row]
      var best = TopKCollector(k: capacity)
      for other in lists.indices where other != row && fingerprints[other] != 0 {
        let similarity = similarities[i, other]
        if similarity > 0, similarity > best.threshold { best.offer(similarity, index: Int32(other)) }
        offer(Neighbor(item: item, similarity: similarity), to: other, catalogue)
      }
      lists[row] = best.sorted().compactMap { similarity, other in
        catalogue.owners[Int(other)].map { Neighbor(item: $0, similarity: similarity) }
      }
    }
  }

  /// Of items as much alike the newest stay.
  private mutating func offer(_ neighbor: Neighbor, to row: Int, _ catalogue: ItemCatalogue) {
    guard neighbor.similarity > 0 else { return }
    if lists[row].count == capacity, let least = lists[row].last, neighbor.similarity < least.similarity { return }
    lists[row].removeAll { catalogue.row(of: $0.item) == nil }
    let place = lists[row].firstIndex { $0.similarity <= neighbor.similarity } ?? lists[row].count
    lists[row].insert(neighbor, at: place)
    if lists[row].count > capacity { lists[row].removeLast() }
  }
}
