/// An owned block of 32-bit floats, aligned to a cache line, set to zero at the start.
///
/// It is a reference: views (``Matrix``) share it. Whoever owns it decides which thread writes; nothing here locks.
public final class FloatBuffer: @unchecked Sendable {
  // @unchecked: the memory is shared as plain memory is. Immutable snapshots are shared between threads, buffers that
  // are written belong to one thread at a time.
  public let count: Int
  let base: UnsafeMutablePointer<Float>

  /// - Parameter count: the number of floats.
  public init(count: Int) {
    precondition(count >= 0, "a buffer holds no negative number of floats")
    self.count = count
    let bytes = UnsafeMutableRawPointer.allocate(byteCount: max(count, 1) * MemoryLayout<Float>.stride, alignment: 64)
    base = bytes.bindMemory(to: Float.self, capacity: max(count, 1))
    base.initialize(repeating: 0, count: max(count, 1))
  }

  public convenience init(_ values: [Float]) {
    self.init(count: values.count)
    values.withUnsafeBufferPointer { source in
      if let start = source.baseAddress { base.update(from: start, count: source.count) }
    }
  }

  deinit { base.deallocate() }

  public subscript(index: Int) -> Float {
    get {
      assert(index >= 0 && index < count)
      return base[index]
    }
    set {
      assert(index >= 0 && index < count)
      base[index] = newValue
    }
  }

  /// A copy, or a larger buffer that starts with the same values and goes on with zeros.
  public func copy(count newCount: Int? = nil) -> FloatBuffer {
    let result = FloatBuffer(count: newCount ?? count)
    result.base.update(from: base, count: min(count, result.count))
    return result
  }

  public func fill(_ value: Float) { base.update(repeating: value, count: count) }

  public var array: [Float] { Array(UnsafeBufferPointer(start: base, count: count)) }

  /// The values' bytes in the machine's order (little endian on every machine that this runs on).
  public func withBytes<R>(_ body: (RawSpan) -> R) -> R {
    body(UnsafeRawBufferPointer(start: base, count: count * MemoryLayout<Float>.stride).bytes)
  }

  /// Overwrites the values from as many bytes; false when the number of bytes is another one.
  public func load(bytes: RawSpan) -> Bool {
    guard bytes.byteCount == count * MemoryLayout<Float>.stride else { return false }
    bytes.withUnsafeBytes { source in
      UnsafeMutableRawBufferPointer(start: base, count: source.count).copyMemory(from: source)
    }
    return true
  }
}

/// A row-major view, (rows, columns), of a buffer; `stride` floats lie between the starts of two rows.
public struct Matrix: Sendable {
  public let buffer: FloatBuffer
  public let offset: Int
  public let rows: Int
  public let columns: Int
  public let stride: Int

  public init(_ buffer: FloatBuffer, offset: Int = 0, rows: Int, columns: Int, stride: Int? = nil) {
    self.buffer = buffer
    self.offset = offset
    self.rows = rows
    self.columns = columns
    self.stride = stride ?? columns
    precondition(
      rows == 0 || columns == 0 || (offset >= 0 && offset + (rows - 1) * self.stride + columns <= buffer.count),
      "a matrix lies within its buffer")
  }

  /// A matrix of zeros with a buffer of its own.
  public init(rows: Int, columns: Int) {
    self.init(FloatBuffer(count: rows * columns), rows: rows, columns: columns)
  }

  public init(_ values: [Float], rows: Int, columns: Int) {
    precondition(values.count == rows * columns)
    self.init(FloatBuffer(values), rows: rows, columns: columns)
  }

  public subscript(row: Int, column: Int) -> Float {
    get { buffer[offset + row * stride + column] }
    nonmutating set { buffer[offset + row * stride + column] = newValue }
  }

  /// Rows `range`, sharing the memory.
  public func rows(_ range: Range<Int>) -> Matrix {
    Matrix(buffer, offset: offset + range.lowerBound * stride, rows: range.count, columns: columns, stride: stride)
  }

  /// Columns `range`, sharing the memory.
  public func columns(_ range: Range<Int>) -> Matrix {
    Matrix(buffer, offset: offset + range.lowerBound, rows: rows, columns: range.count, stride: stride)
  }

  /// The values, row by row.
  public var array: [Float] { (0..<rows).flatMap { row in (0..<columns).map { self[row, $0] } } }

  var pointer: UnsafeMutablePointer<Float> { buffer.base + offset }
  func row(_ index: Int) -> UnsafeMutablePointer<Float> { buffer.base + offset + index * stride }
  var isContiguous: Bool { stride == columns || rows <= 1 }
  var count: Int { rows * columns }
}

/// Scratch memory for one step: hands out matrices one after the other and takes them all back at once.
///
/// The first steps may allocate; once the largest step was seen, none does. Matrices handed out are NOT set to zero.
/// One thread owns it.
public final class Arena {
  private var blocks: [FloatBuffer] = []
  private var block = 0
  private var used = 0

  public init() {}

  /// Takes back everything that was handed out. Several blocks are merged into one, so that the next step finds room.
  public func reset() {
    if blocks.count > 1 {
      let total = blocks.reduce(0) { $0 + $1.count }
      blocks = [FloatBuffer(count: total)]
    }
    block = 0
    used = 0
  }

  /// An uninitialised matrix, valid until ``reset()``.
  public func matrix(_ rows: Int, _ columns: Int) -> Matrix {
    let needed = (rows * columns + 15) & ~15
    while block < blocks.count, used + needed > blocks[block].count {
      block += 1
      used = 0
    }
    if block == blocks.count { blocks.append(FloatBuffer(count: max(needed, 1 << 18))) }
    defer { used += needed }
    return Matrix(blocks[block], offset: used, rows: rows, columns: columns)
  }

  /// The same, set to zero.
  public func zeros(_ rows: Int, _ columns: Int) -> Matrix {
    let result = matrix(rows, columns)
    zero(result)
    return result
  }

  /// The floats held, in use or not.
  public var capacity: Int { blocks.reduce(0) { $0 + $1.count } }
}
