// Records are bytes: a version, then fields in a fixed order. Integers that are mostly small are LEB128 varints (signed ones zigzag);
// the others and floating-point bits are little-endian. A reader checks every length, because a damaged page must be an error and not a
// crash.

extension [UInt8] {
  @inline(__always)
  mutating func appendVarint(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    append(UInt8(truncatingIfNeeded: rest))
  }

  @inline(__always)
  mutating func appendSigned(_ value: Int64) {
    appendVarint(UInt64(bitPattern: (value << 1) ^ (value >> 63)))
  }

  @inline(__always)
  mutating func appendLittleEndian<Value: FixedWidthInteger>(_ value: Value) {
    for shift in stride(from: 0, to: Value.bitWidth, by: 8) { append(UInt8(truncatingIfNeeded: value >> Value(shift))) }
  }

  mutating func appendString(_ value: String) {
    appendVarint(UInt64(value.utf8.count))
    append(contentsOf: value.utf8)
  }

  mutating func appendOptional<Value>(_ value: Value?, _ write: (inout [UInt8], Value) -> Void) {
    append(value == nil ? 0 : 1)
    if let value { write(&self, value) }
  }

  /// Big-endian, so that LMDB's byte order of keys is the order of the numbers.
  @inline(__always)
  mutating func appendBigEndian<Value: FixedWidthInteger>(_ value: Value) {
    for shift in stride(from: Value.bitWidth - 8, through: 0, by: -8) { append(UInt8(truncatingIfNeeded: value >> Value(shift))) }
  }

  @inline(__always)
  init<Value: FixedWidthInteger>(bigEndian value: Value) {
    self = []
    reserveCapacity(Value.bitWidth / 8)
    appendBigEndian(value)
  }
}

extension Span<UInt8> {
  /// The big-endian number in the bytes from `offset` on; nil when there are too few.
  func bigEndian<Value: FixedWidthInteger>(_ type: Value.Type, at offset: Int = 0) -> Value? {
    guard offset >= 0, count - offset >= Value.bitWidth / 8 else { return nil }
    var value: Value = 0
    for index in 0..<Value.bitWidth / 8 { value = value << 8 | Value(truncatingIfNeeded: self[offset + index]) }
    return value
  }
}

/// Reads a record's fields in order. Throws `.corrupted` where the bytes end early or cannot be what is asked for.
struct RecordReader {
  let bytes: [UInt8]
  private(set) var position = 0

  init(_ bytes: [UInt8], from position: Int = 0) {
    self.bytes = bytes
    self.position = position
  }

  var remaining: Int { bytes.count - position }

  @inline(__always)
  mutating func byte() throws(StateStoreError) -> UInt8 {
    guard position < bytes.count else { throw Self.damaged }
    defer { position += 1 }
    return bytes[position]
  }

  @inline(__always)
  mutating func varint() throws(StateStoreError) -> UInt64 {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while true {
      let next = try byte()
      // The tenth byte has room for one bit.
      guard shift < 63 || next <= 1 else { throw Self.damaged }
      value |= UInt64(next & 0x7F) << shift
      if next < 0x80 { return value }
      shift += 7
    }
  }

  mutating func varint<Value: FixedWidthInteger>(as type: Value.Type) throws(StateStoreError) -> Value {
    guard let value = Value(exactly: try varint()) else { throw Self.damaged }
    return value
  }

  mutating func signed() throws(StateStoreError) -> Int64 {
    let value = try varint()
    return Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1)
  }

  @inline(__always)
  mutating func littleEndian<Value: FixedWidthInteger>(_ type: Value.Type) throws(StateStoreError) -> Value {
    let size = Value.bitWidth / 8
    guard remaining >= size else { throw Self.damaged }
    var value: Value = 0
    for index in 0..<size { value |= Value(truncatingIfNeeded: bytes[position + index]) << Value(index * 8) }
    position += size
    return value
  }

  mutating func flag() throws(StateStoreError) -> Bool {
    switch try byte() {
    case 0: return false
    case 1: return true
    default: throw Self.damaged
    }
  }

  mutating func optional<Value>(
    _ read: (inout RecordReader) throws(StateStoreError) -> Value
  ) throws(StateStoreError) -> Value? {
    try flag() ? try read(&self) : nil
  }

  /// How many elements follow, each of at least `size` bytes: so that a damaged count cannot ask for more memory than the record has.
  mutating func count(elementSize size: Int) throws(StateStoreError) -> Int {
    let count = try varint()
    guard count <= UInt64(remaining / size) else { throw Self.damaged }
    return Int(count)
  }

  mutating func raw(_ count: Int) throws(StateStoreError) -> ArraySlice<UInt8> {
    guard count >= 0, remaining >= count else { throw Self.damaged }
    defer { position += count }
    return bytes[position..<position + count]
  }

  mutating func string() throws(StateStoreError) -> String {
    guard let string = String(validating: try raw(try count(elementSize: 1)), as: UTF8.self) else { throw Self.damaged }
    return string
  }

  mutating func rest() -> ArraySlice<UInt8> {
    defer { position = bytes.count }
    return bytes[position...]
  }

  mutating func version(_ expected: UInt8) throws(StateStoreError) { _ = try version(expected...expected) }

  mutating func version(_ known: ClosedRange<UInt8>) throws(StateStoreError) -> UInt8 {
    let found = try byte()
    guard known.contains(found) else { throw StateStoreError.damaged("a record has the unknown version \(found)") }
    return found
  }

  func end() throws(StateStoreError) {
    guard position == bytes.count else { throw Self.damaged }
  }

  static let damaged = StateStoreError.damaged("a record is damaged")
}
