/// External ids numbered in order of first appearance: an open-addressing hash table over one block of bytes.
///
/// An id costs its bytes, four bytes for where it starts, and about eight for its slot.
public struct IdentifierTable: Sendable {
  private var bytes: [UInt8] = []
  private var starts: [UInt32] = [0]
  /// Index of an id, or -1; the size is a power of two, at most half of it in use.
  private var slots: [Int32] = Array(repeating: -1, count: 16)

  public init() {}

  public init(_ identifiers: some Sequence<String>) {
    for identifier in identifiers { _ = intern(identifier) }
  }

  public var count: Int { starts.count - 1 }

  /// The id with this index, which must be below `count`.
  public subscript(index: Int32) -> String {
    String(decoding: bytes[Int(starts[Int(index)])..<Int(starts[Int(index) + 1])], as: UTF8.self)
  }

  /// The index of an id, if it was seen.
  public func index(of identifier: String) -> Int32? {
    let utf8 = Array(identifier.utf8)
    let found = slots[slot(of: utf8, 0..<utf8.count)]
    return found < 0 ? nil : found
  }

  /// The index of an id, a new one if it was never seen.
  public mutating func intern(_ identifier: String) -> Int32 {
    let utf8 = Array(identifier.utf8)
    return intern(utf8, 0..<utf8.count)
  }

  mutating func intern(_ source: [UInt8], _ range: Range<Int>) -> Int32 {
    let slot = slot(of: source, range)
    if slots[slot] >= 0 { return slots[slot] }
    let index = Int32(count)
    slots[slot] = index
    bytes.append(contentsOf: source[range])
    starts.append(UInt32(bytes.count))
    if count * 2 > slots.count { grow() }
    return index
  }

  /// The slot that holds the id, or the free one where it belongs.
  private func slot(of source: [UInt8], _ range: Range<Int>) -> Int {
    let mask = slots.count - 1
    var slot = Self.hash(source, range) & mask
    while true {
      let candidate = slots[slot]
      if candidate < 0 { return slot }
      let start = Int(starts[Int(candidate)])
      if Int(starts[Int(candidate) + 1]) - start == range.count {
        var offset = 0
        while offset < range.count, bytes[start + offset] == source[range.lowerBound + offset] { offset += 1 }
        if offset == range.count { return slot }
      }
      slot = (slot + 1) & mask
    }
  }

  private mutating func grow() {
    slots = Array(repeating: -1, count: slots.count * 2)
    let mask = slots.count - 1
    for index in 0..<count {
      var slot = Self.hash(bytes, Int(starts[index])..<Int(starts[index + 1])) & mask
      while slots[slot] >= 0 { slot = (slot + 1) & mask }
      slots[slot] = Int32(index)
    }
  }

  /// FNV-1a with a final mix, so that the low bits depend on every byte.
  private static func hash(_ source: [UInt8], _ range: Range<Int>) -> Int {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for position in range {
      hash = (hash ^ UInt64(source[position])) &* 0x0000_0100_0000_01b3
    }
    hash ^= hash >> 32
    hash &*= 0x9e37_79b9_7f4a_7c15
    return Int(truncatingIfNeeded: hash >> 20)
  }
}
