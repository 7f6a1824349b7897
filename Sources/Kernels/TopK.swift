/// Collects the exact k greatest of a stream of scores in a heap whose root is the least of them.
///
/// Of equal scores the lower index wins; none is negative.
public struct TopKCollector: Sendable {
  public let k: Int
  private var heap: [Key] = []

  /// A score and an index in one number, which is greater for what precedes.
  private struct Key: Comparable {
    let bits: UInt64

    init(_ score: Float, _ index: Int32) {
      // Neither of −0 and 0 precedes the other. Of negative numbers all bits are turned, of the others the sign.
      let bits = (score + 0).bitPattern
      let ordered = bits ^ (UInt32(bitPattern: Int32(bitPattern: bits) >> 31) | 0x8000_0000)
      self.bits = UInt64(ordered) << 32 | UInt64(~UInt32(bitPattern: index))
    }

    var score: Float {
      let ordered = UInt32(truncatingIfNeeded: bits >> 32)
      return Float(bitPattern: ordered ^ (~UInt32(bitPattern: Int32(bitPattern: ordered) >> 31) | 0x8000_0000))
    }
    var index: Int32 { Int32(bitPattern: ~UInt32(truncatingIfNeeded: bits)) }

    @inline(__always)
    static func < (a: Key, b: Key) -> Bool { a.bits < b.bits }
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
    guard score > -.infinity else { return }
    let key = Key(score, index)
    if heap.count < k {
      heap.append(key)
      siftUp(key)
    } else if heap[0] < key {
      siftDown(key)
    }
  }

  /// Moves the key, which is at the end, to its place.
  private mutating func siftUp(_ key: Key) {
    var place = heap.count - 1
    while place > 0, key < heap[(place - 1) / 2] {
      heap[place] = heap[(place - 1) / 2]
      place = (place - 1) / 2
    }
    heap[place] = key
  }

  /// Puts the key into the place that it has when the root is gone.
  private mutating func siftDown(_ key: Key) {
    var place = 0
    while 2 * place + 1 < heap.count {
      var child = 2 * place + 1
      if child + 1 < heap.count, heap[child + 1] < heap[child] { child += 1 }
      guard heap[child] < key else { break }
      heap[place] = heap[child]
      place = child
    }
    heap[place] = key
  }

  /// At most k pairs, best first.
  public func sorted() -> [(score: Float, index: Int32)] { heap.sorted(by: >).map { ($0.score, $0.index) } }
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
