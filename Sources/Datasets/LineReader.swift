/// The lines of a text file, plain or gzip, as bytes without their ends.
public struct LineReader: ~Copyable {
  private var source: ByteSource
  private var bytes: [UInt8] = []
  private var next = 0
  private var atEnd = false
  /// The number of the line read last, from 1.
  public private(set) var line = 0

  /// - Throws: `io` if the file cannot be opened.
  public init(path: String) throws(DatasetError) { source = try ByteSource(path: path) }

  /// The share of the file that has been read.
  public var fractionRead: Double { source.fractionRead }

  /// The next line that is not blank; nil at the end.
  ///
  /// - Throws: `io`, `damaged`, or `line` for one longer than ``maximumBytes``, after which reading cannot go on.
  public mutating func read() throws(DatasetError) -> [UInt8]? {
    while let text = try readAny() {
      if !text.allSatisfy({ $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") }) { return text }
    }
    return nil
  }

  /// The longest line.
  public static let maximumBytes = 64 << 20

  private mutating func readAny() throws(DatasetError) -> [UInt8]? {
    var searched = next
    while true {
      if let end = bytes[searched...].firstIndex(of: UInt8(ascii: "\n")) {
        defer { next = end + 1 }
        line += 1
        return Array(bytes[next..<end].last == UInt8(ascii: "\r") ? bytes[next..<end - 1] : bytes[next..<end])
      }
      if atEnd {
        guard next < bytes.count else { return nil }
        defer { next = bytes.count }
        line += 1
        return Array(bytes[next...])
      }
      guard bytes.count - next <= Self.maximumBytes else {
        throw DatasetError(.line, path: source.path, line: line + 1, "is longer than \(Self.maximumBytes) bytes")
      }
      bytes.removeFirst(next)
      next = 0
      searched = bytes.count
      atEnd = try source.read(into: &bytes, limit: 1 << 18) == 0
    }
  }
}
