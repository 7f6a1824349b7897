/// Collects the exact k greatest of a stream of scores in a heap whose root is the least of them.
///
/// Of equal scores the lower index wins.
public struct TopKCollector: Sendable {
  public let k: Int
  private var heap: [Candidate] = []

  private struct Candidate {
    var score: Float
    var index: Int32

    func precedes(_ other: Candidate) -> Bool { score > other.score || (score == other.score && index < other.index) }
  }

  public init(k: Int) {
    precondition(k > 0)
    self.k = k
    heap.reserveCapacity(k)
  }

  /// What is below it is not among the k greatest.
  public var threshold: Float { heap.count < k ? -.infinity : heap[0].score }

  public mutating func removeAll() { heap.removeAll(keepingCapacity: true) }

  /// −∞ and NaN are never taken.
  public mutating func offer(_ score: Float, index: Int32) {
    let candidate = Candidate(score: score, index: index)
    guard score > -.infinity else { return }
    if heap.count < k {
      heap.append(candidate)
      siftUp()
    } else if candidate.precedes(heap[0]) {
      heap[0] = candidate
      siftDown()
    }
  }

  private mutating func siftUp() {
    var child = heap.count - 1
    while child > 0, heap[(child - 1) / 2].precedes(heap[child]) {
      heap.swapAt(child, (child - 1) / 2)
      child = (child - 1) / 2
    }
  }

  private mutating func siftDown() {
    var parent = 0
    while true {
      let children = (2 * parent + 1, 2 * parent + 2)
      var least = parent
      if children.0 < heap.count, heap[least].precedes(heap[children.0]) { least = children.0 }
      if children.1 < heap.count, heap[least].precedes(heap[children.1]) { least = children.1 }
      if least == parent { return }
      heap.swapAt(least, parent)
      parent = least
    }
  }

  /// At most k pairs, best first.
  public func sorted() -> [(score: Float, index: Int32)] {
    heap.sorted { $0.precedes($1) }.map { ($0.score, $0.index) }
  }
}

/// How many values of a row are at least `bound`.
public func countAtLeast(_ x: Matrix, row: Int, _ bound: Float) -> Int {
  let values = x.row(row)
  var counts = SIMD8<Int32>.zero
  let whole = x.columns & ~7
  forEachVector(whole) { j, _ in
    // The mask of "below" is −1 there and 0 where the value counts.
    counts = counts &+ 1 &+ load(values, j).isLess(than: Vector(all: bound))
  }
  var total = Int(counts.wrappedSum())
  for j in whole..<x.columns where values[j] >= bound { total += 1 }
  return total
}
