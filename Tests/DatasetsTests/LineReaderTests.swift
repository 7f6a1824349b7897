import Foundation
import TestSupport
import Testing

@testable import Datasets

struct LineReaderTests {
  private func lines(_ bytes: [UInt8]) throws -> [(Int, String)] {
    let path = FileManager.default.temporaryDirectory.appending(path: uniqueName("lines")).path
    defer { try? FileManager.default.removeItem(atPath: path) }
    try Data(bytes).write(to: URL(filePath: path))
    var reader = try LineReader(path: path)
    var result: [(Int, String)] = []
    while let line = try reader.read() { result.append((reader.line, String(decoding: line, as: UTF8.self))) }
    return result
  }

  @Test func blankLinesAreCountedAndPassedOver() throws {
    let found = try lines(Array("a\r\n\n  \nb\n\nc".utf8))
    #expect(found.map(\.0) == [1, 4, 6] && found.map(\.1) == ["a", "b", "c"])
    #expect(try lines([]).isEmpty)
  }

  @Test func linesAreWholeAcrossReads() throws {
    // Longer than what is read at a time, and of odd lengths.
    let texts = (0..<60).map { String(repeating: Character(UnicodeScalar(UInt8(97 + $0 % 26))), count: 1 + $0 * 7_919 % 70_000) }
    let found = try lines(Array(texts.joined(separator: "\n").utf8))
    #expect(found.map(\.1) == texts && found.map(\.0) == Array(1...60))
  }

  @Test func aFileThatIsNotThereIsAnError() {
    #expect(throws: DatasetError.self) { _ = try LineReader(path: "/nowhere/events.jsonl") }
  }
}
