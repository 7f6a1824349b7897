// Numbers of any width one after the other, the lowest bit first. They begin at a byte; what is left of the last byte is zeros.

/// Writes numbers behind bytes.
struct BitWriter {
  private(set) var bytes: [UInt8] = []
  /// Bits of the last byte that are not used.
  private(set) var unusedBits = 0

  init() {}

  /// Goes on behind the last bit that is used.
  init(_ bytes: [UInt8], unusedBits: Int) {
    self.bytes = bytes
    self.unusedBits = unusedBits
  }

  /// Makes room for so many bits more, and for a few beyond.
  mutating func reserve(_ bits: Int) { bytes.reserveCapacity(bytes.count + bits / 8 + 16) }

  /// - Parameter width: in bits, up to 56; the value has no more.
  @inline(__always)
  mutating func append(_ value: UInt64, width: Int) {
    var pending = value
    var left = width
    if unusedBits > 0 {
      bytes[bytes.count - 1] |= UInt8(truncatingIfNeeded: pending << UInt64(8 - unusedBits))
      pending >>= UInt64(unusedBits)
      left -= unusedBits
    }
    while left > 0 {
      bytes.append(UInt8(truncatingIfNeeded: pending))
      pending >>= 8
      left -= 8
    }
    unusedBits = -left
  }

  /// So many ones and a zero.
  mutating func appendUnary(_ count: Int) {
    var left = count
    while left >= 32 {
      append(0xFFFF_FFFF, width: 32)
      left -= 32
    }
    append(1 << UInt64(left) - 1, width: left + 1)
  }
}

/// Reads what ``BitWriter`` wrote. Throws `.corrupted` where the bytes end early.
struct BitReader {
  private let bytes: [UInt8]
  /// The bit that is read next, from the first byte's lowest on.
  private(set) var position: Int

  init(_ bytes: [UInt8], from bit: Int = 0) {
    self.bytes = bytes
    position = bit
  }

  /// - Parameter width: in bits, up to 56.
  @inline(__always)
  mutating func read(_ width: Int) throws(StateStoreError) -> UInt64 {
    guard position + width <= bytes.count * 8 else { throw RecordReader.damaged }
    let value = next & (1 << UInt64(width) - 1)
    position += width
    return value
  }

  mutating func readUnary() throws(StateStoreError) -> Int {
    var count = 0
    while true {
      let ones = (~next).trailingZeroBitCount
      let left = bytes.count * 8 - position
      guard min(ones, 56) < left else { throw RecordReader.damaged }
      count += min(ones, 56)
      position += min(ones, 56)
      if ones < 56 {
        position += 1
        return count
      }
    }
  }

  /// The next 57 bits at least, zeros behind the end.
  @inline(__always)
  private var next: UInt64 {
    let first = position >> 3
    var word: UInt64 = 0
    if first + 8 <= bytes.count {
      word = UInt64(littleEndian: bytes.span.bytes.unsafeLoadUnaligned(fromByteOffset: first, as: UInt64.self))
    } else {
      var shift: UInt64 = 0
      for index in min(first, bytes.count)..<bytes.count {
        word |= UInt64(bytes[index]) << shift
        shift += 8
      }
    }
    return word >> UInt64(position & 7)
  }
}

extension FixedWidthInteger {
  /// How many bits the number takes; 0 for 0.
  var significantBits: Int { Self.bitWidth - leadingZeroBitCount }
}
