/// One modality's features: a row of numbers for each item of the catalogue file, in its order.
public struct FeatureMatrix: Sendable {
  public let rowCount: Int
  public let columnCount: Int
  /// (rowCount, columnCount), row by row. A missing row is zero.
  public let values: [Float]
  /// Whether each row holds features; a row that is NaN throughout means that the item has none.
  public let isPresent: [Bool]

  public func row(_ index: Int) -> ArraySlice<Float> { values[index * columnCount..<(index + 1) * columnCount] }

  /// Reads a `.npy` file: two dimensions, float16 or float32, little-endian, in C order; plain or gzip.
  ///
  /// Format: NEP 1, versions 1.0 to 3.0.
  /// - Throws: `format` for any other array, `damaged` for one that is cut off, `line` (the row, from 1) for a number that
  ///   is not finite in a row that is not missing.
  public static func read(_ path: String) throws(DatasetError) -> FeatureMatrix {
    var source = try ByteSource(path: path)
    var bytes: [UInt8] = []

    func fill(_ count: Int, _ source: inout ByteSource, _ bytes: inout [UInt8]) throws(DatasetError) {
      while bytes.count < count {
        if try source.read(into: &bytes, limit: count - bytes.count) == 0 { throw DatasetError(.damaged, path: path, "ends too early") }
      }
    }

    try fill(10, &source, &bytes)
    guard bytes.starts(with: [0x93] + Array("NUMPY".utf8)) else { throw DatasetError(.format, path: path, "is not a .npy file") }
    let lengthBytes: Int
    switch bytes[6] {
    case 1: lengthBytes = 2
    case 2, 3: lengthBytes = 4
    case let version: throw DatasetError(.format, path: path, "has the unknown .npy version \(version)")
    }
    try fill(8 + lengthBytes, &source, &bytes)
    let headerCount = bytes[8..<8 + lengthBytes].reversed().reduce(0) { $0 << 8 | Int($1) }
    guard headerCount <= 1 << 20 else { throw DatasetError(.format, path: path, "has a header of \(headerCount) bytes") }
    try fill(8 + lengthBytes + headerCount, &source, &bytes)
    let header = try Header(String(decoding: bytes[(8 + lengthBytes)...], as: UTF8.self), path: path)

    let rowBytes = header.columns * header.bytesPerNumber
    let rowsPerRead = max(1, 256 * 1024 / max(1, rowBytes))
    var values: [Float] = []
    // The header may promise more than the file holds.
    values.reserveCapacity(min(header.rows * header.columns, 1 << 26))
    var isPresent: [Bool] = []
    while isPresent.count < header.rows {
      let rows = min(rowsPerRead, header.rows - isPresent.count)
      bytes.removeAll(keepingCapacity: true)
      try fill(rows * rowBytes, &source, &bytes)
      for row in 0..<rows {
        var finite = 0
        var missing = 0
        for column in 0..<header.columns {
          let offset = row * rowBytes + column * header.bytesPerNumber
          let low = UInt32(bytes[offset]) | UInt32(bytes[offset + 1]) << 8
          let value =
            header.bytesPerNumber == 2
            ? float(half: UInt16(low)) : Float(bitPattern: low | UInt32(bytes[offset + 2]) << 16 | UInt32(bytes[offset + 3]) << 24)
          if value.isFinite { finite += 1 } else if value.isNaN { missing += 1 }
          values.append(value.isFinite ? value : 0)
        }
        let isWhole = finite == header.columns
        guard isWhole || missing == header.columns else {
          throw DatasetError(.line, path: path, line: isPresent.count + 1, "a number is not finite")
        }
        isPresent.append(isWhole)
      }
    }
    bytes.removeAll()
    if try source.read(into: &bytes, limit: 1) > 0 { throw DatasetError(.damaged, path: path, "goes on after its last row") }
    return FeatureMatrix(rowCount: header.rows, columnCount: header.columns, values: values, isPresent: isPresent)
  }

  /// IEEE 754 binary16, in integer arithmetic: `Float16` does not exist on every platform.
  static func float(half: UInt16) -> Float {
    let sign = UInt32(half & 0x8000) << 16
    let exponent = UInt32(half >> 10 & 0x1F)
    let fraction = UInt32(half & 0x3FF)
    switch exponent {
    case 0:
      let magnitude = Float(fraction) * 0x1p-24
      return sign == 0 ? magnitude : -magnitude
    case 31: return Float(bitPattern: sign | 0x7F80_0000 | fraction << 13)
    default: return Float(bitPattern: sign | (exponent + 112) << 23 | fraction << 13)
    }
  }

  /// The Python dictionary literal that describes the array.
  private struct Header {
    let rows: Int
    let columns: Int
    let bytesPerNumber: Int

    init(_ text: String, path: String) throws(DatasetError) {
      func value(_ key: String) -> Substring? {
        text.firstRange(of: "'\(key)':").map { text[$0.upperBound...].drop { $0 == " " } }
      }
      guard let descriptor = value("descr"), let order = value("fortran_order"), let shape = value("shape") else {
        throw DatasetError(.format, path: path, "has a .npy header that lacks a key")
      }
      if descriptor.hasPrefix("'<f2'") {
        bytesPerNumber = 2
      } else if descriptor.hasPrefix("'<f4'") {
        bytesPerNumber = 4
      } else {
        throw DatasetError(.format, path: path, "holds \(descriptor.prefix { $0 != "," }); float16 or float32, little-endian, is needed")
      }
      guard order.hasPrefix("False") else { throw DatasetError(.format, path: path, "is in Fortran order; C order is needed") }
      let dimensions = shape.dropFirst().prefix { $0 != ")" }.split(separator: ",").map { Int($0.filter { $0 != " " }) }
      guard shape.first == "(", dimensions.count == 2, let rows = dimensions[0], let columns = dimensions[1],
        rows >= 0, 1...1 << 20 ~= columns,
        !rows.multipliedReportingOverflow(by: columns * 4).overflow
      else {
        throw DatasetError(.format, path: path, "has the shape \(shape.prefix { $0 != ")" })); two dimensions are needed")
      }
      self.rows = rows
      self.columns = columns
    }
  }
}
