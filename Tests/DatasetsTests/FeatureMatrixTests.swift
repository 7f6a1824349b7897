import Datasets
import TestSupport
import Testing

@Suite struct FeatureMatrixTests {
  let folder: TemporaryFolder

  init() throws { folder = TemporaryFolder() }

  private func array(_ description: String, shape: String, version: UInt8 = 1, order: String = "False", _ data: [UInt8]) throws -> String {
    let header = Array("{'descr': '\(description)', 'fortran_order': \(order), 'shape': \(shape), }\n".utf8)
    let length = version == 1 ? 2 : 4
    let count = (0..<length).map { UInt8(truncatingIfNeeded: header.count >> (8 * $0)) }
    return try folder.write([0x93] + Array("NUMPY".utf8) + [version, 0] + count + header + data)
  }

  private func bytes(_ values: [Float]) -> [UInt8] {
    values.flatMap { value in (0..<4).map { UInt8(truncatingIfNeeded: value.bitPattern >> (8 * $0)) } }
  }

  private func code(_ path: String) -> DatasetError.Code? {
    #expect(throws: DatasetError.self) { try FeatureMatrix.read(path) }?.code
  }

  @Test(arguments: [1, 2, 3] as [UInt8])
  func `float32 is read row by row, whatever the header's version`(version: UInt8) throws {
    let matrix = try FeatureMatrix.read(try array("<f4", shape: "(2, 3)", version: version, bytes([1, -2, 3.5, 0, 0x1p-140, 6])))
    #expect(matrix.rowCount == 2)
    #expect(matrix.columnCount == 3)
    #expect(Array(matrix.row(0)) == [1, -2, 3.5])
    #expect(Array(matrix.row(1)) == [0, 0x1p-140, 6])
    #expect(matrix.isPresent == [true, true])
  }

  @Test func `every finite float16 is read exactly`() throws {
    let halves = (0...UInt16.max).filter { $0 & 0x7C00 != 0x7C00 }
    let data = halves.flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] }
    let matrix = try FeatureMatrix.read(try array("<f2", shape: "(\(halves.count), 1)", data))
    #expect(matrix.rowCount == halves.count)
    #expect(zip(halves, matrix.values).allSatisfy { half, value in
      let exponent = Int(half >> 10 & 0x1F)
      let fraction = Float(half & 0x3FF) / 1024
      let magnitude = exponent == 0 ? fraction * 0x1p-14 : (1 + fraction) * Float(sign: .plus, exponent: exponent - 15, significand: 1)
      return value == (half & 0x8000 == 0 ? magnitude : -magnitude)
    })
  }

  @Test func `a row of NaN is missing, one that is not finite in part is refused with its number`() throws {
    let matrix = try FeatureMatrix.read(try array("<f4", shape: "(2, 2)", bytes([.nan, .nan, 1, 2])))
    #expect(matrix.isPresent == [false, true])
    #expect(matrix.values == [0, 0, 1, 2])
    let error = #expect(throws: DatasetError.self) {
      try FeatureMatrix.read(try array("<f4", shape: "(2, 2)", bytes([1, 2, .nan, 1])))
    }
    #expect(error?.line == 2)
    #expect(throws: DatasetError.self) { try FeatureMatrix.read(try array("<f4", shape: "(1, 2)", bytes([.infinity, .infinity]))) }
  }

  @Test func `arrays of another kind are refused`() throws {
    #expect(code(try array("<f8", shape: "(1, 1)", bytes([1, 1]))) == .format)
    #expect(code(try array(">f4", shape: "(1, 1)", bytes([1]))) == .format)
    #expect(code(try array("<f4", shape: "(1, 1)", order: "True", bytes([1]))) == .format)
    #expect(code(try array("<f4", shape: "(1,)", bytes([1]))) == .format)
    #expect(code(try array("<f4", shape: "(1, 1, 1)", bytes([1]))) == .format)
    #expect(code(try array("<f4", shape: "(4611686018427387904, 4)", bytes([1]))) == .format)
    #expect(code(try array("<f4", shape: "(1, 1)", version: 9, bytes([1]))) == .format)
    #expect(code(try folder.write("item,title\nnot,an array\n")) == .format)
  }

  @Test func `too few and too many numbers are damage`() throws {
    #expect(code(try array("<f4", shape: "(2, 2)", bytes([1, 2, 3]))) == .damaged)
    #expect(code(try array("<f4", shape: "(1, 2)", bytes([1, 2, 3]))) == .damaged)
    #expect(code(try folder.write([0x93, 0x4E])) == .damaged)
  }
}
