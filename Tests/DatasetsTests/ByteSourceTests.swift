import Datasets
import Foundation
import TestSupport
import Testing

/// Compression is seen through the readers that use it.
@Suite struct ByteSourceTests {
  let folder: TemporaryFolder

  init() throws { folder = TemporaryFolder() }

  private func gzip() throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: fixture("movielens-small/ratings.csv.gz")))) }

  @Test func `gzip is known by its first bytes, not by the name`() throws {
    let path = try folder.write(try gzip(), to: "ratings.csv")
    #expect(try InteractionHistory.read([path]).count == 100_004)
    let plain = try folder.write("user,item\nu,i\n", to: "plain.csv.gz")
    #expect(try InteractionHistory.read([plain]).count == 1)
  }

  @Test func `the members of a concatenated gzip file are read one after the other`() throws {
    // The header of the second member is a line like any other: it is refused with its line number.
    let bytes = try gzip()
    let error = #expect(throws: DatasetError.self) { try InteractionHistory.read([try folder.write(bytes + bytes)]) }
    #expect(error?.line == 100_006)
  }

  @Test(arguments: [0.1, 0.5, 0.9, 0.99999])
  func `a gzip file that is cut off is damaged`(share: Double) throws {
    let bytes = try gzip()
    let path = try folder.write(Array(bytes.prefix(Int(Double(bytes.count) * share))))
    let error = #expect(throws: DatasetError.self) { try InteractionHistory.read([path]) }
    #expect(error?.code == .damaged)
  }

  @Test func `a flipped bit in a gzip file is noticed`() throws {
    var bytes = try gzip()
    bytes[bytes.count / 2] ^= 1
    #expect(throws: DatasetError.self) { try InteractionHistory.read([try folder.write(bytes)]) }
  }
}
