/// Why a data file could not be read.
public struct DatasetError: Error, Sendable, Equatable, CustomStringConvertible {
  public enum Code: Sendable, Equatable {
    /// The file could not be opened or read.
    case io
    /// The compressed stream is damaged or cut off.
    case damaged
    /// The header, or the file's kind, is not one that can be read.
    case format
    /// A line does not hold what its header promises.
    case line
  }

  public let code: Code
  public let path: String
  /// Counted from 1; absent where the whole file is meant.
  public let line: Int?
  public let message: String

  package init(_ code: Code, path: String, line: Int? = nil, _ message: String) {
    self.code = code
    self.path = path
    self.line = line
    self.message = message
  }

  /// `path:line: message`, as compilers write it.
  public var description: String {
    line.map { "\(path):\($0): \(message)" } ?? "\(path): \(message)"
  }
}
