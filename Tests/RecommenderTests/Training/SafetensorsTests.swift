import Foundation
import Testing

@testable import Recommender

struct SafetensorsTests {
  private func file() -> Safetensors {
    var file = Safetensors()
    file.metadata = ["a": "1", "quote": "\"ü\\"]
    file.set("floats", "F32", shape: [2, 3], [1, -2.5, 3, .infinity, 0, .leastNonzeroMagnitude] as [Float])
    file.set("empty", "I64", shape: [0], [Int64]())
    file.set("also_empty", "F32", shape: [0, 8], [Float]())
    file.set("bytes", "U8", shape: [3], [1, 2, 255] as [UInt8])
    file.set("numbers", "U64", shape: [1], [UInt64.max])
    return file
  }

  @Test func whatIsWrittenIsReadBack() throws {
    let written = file()
    let read = try Safetensors(decoding: written.encoded())
    #expect(read.metadata == written.metadata)
    #expect(Set(read.names) == Set(written.names))
    for name in written.names { #expect(read[name] == written[name], "\(name)") }
    #expect(try read.values("floats", "F32", as: Float.self) == [1, -2.5, 3, .infinity, 0, .leastNonzeroMagnitude])
    #expect(try read.encoded() == written.encoded())
  }

  @Test func theLayoutIsThatOfTheFormat() throws {
    let bytes = try file().encoded()
    let length = (0..<8).reduce(0) { $0 | Int(bytes[$1]) << (8 * $1) }
    #expect((8 + length) % 8 == 0)
    let header = try #require(try JSONSerialization.jsonObject(with: Data(bytes[8..<8 + length])) as? [String: [String: Any]])
    #expect(header["floats"]?["dtype"] as? String == "F32")
    #expect(header["floats"]?["shape"] as? [Int] == [2, 3])
    #expect(header["floats"]?["data_offsets"] as? [Int] == [0, 24])
    #expect(bytes.count == 8 + length + 24 + 3 + 8)
  }

  @Test func anotherTypeOrNameIsRefused() {
    #expect(throws: Safetensors.FormatError.self) { try file().values("floats", "I32", as: Int32.self) }
    #expect(throws: Safetensors.FormatError.self) { try file().values("nothing", "F32", as: Float.self) }
  }

  @Test func everyTruncationIsRefused() throws {
    let bytes = try file().encoded()
    for count in 0..<bytes.count { #expect(throws: Safetensors.FormatError.self) { try Safetensors(decoding: Array(bytes[..<count])) } }
    #expect(throws: Safetensors.FormatError.self) { try Safetensors(decoding: bytes + [0]) }
  }

  @Test(arguments: [
    #"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, #"{"t":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
    #"{"t":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, #"{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,400]}}"#,
    #"{"t":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}}"#, #"{"t":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}"#,
    #"{"t":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}"#, #"{"t":[]}"#, "[]", "{", "",
  ])
  func aHeaderThatDoesNotFitIsRefused(header: String) {
    let length = UInt64(header.utf8.count)
    let bytes = (0..<8).map { UInt8(truncatingIfNeeded: length >> (8 * UInt64($0))) } + Array(header.utf8) + [0, 0, 0, 0]
    #expect(throws: Safetensors.FormatError.self) { try Safetensors(decoding: bytes) }
  }
}
