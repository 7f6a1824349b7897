/// All that is wrong with a configuration, at once.
public struct SettingsError: Error, Sendable, CustomStringConvertible {
  public enum Code: String, Sendable {
    case unreadable, syntax
    case unknownKey = "unknown_key"
    case wrongType = "wrong_type"
    case outOfRange = "out_of_range"
    case inconsistent, secret
  }

  /// Where a value came from.
  public enum Source: Sendable, Equatable, CustomStringConvertible {
    case defaults
    case file(String, line: Int?)
    case environment(String)
    case flag(String)

    public var description: String {
      switch self {
      case .defaults: "default"
      case .file(let path, let line?): "\(path):\(line)"
      case .file(let path, nil): path
      case .environment(let name): name
      case .flag(let text): "--set \(text)"
      }
    }
  }

  /// One thing that is wrong.
  public struct Problem: Sendable, Equatable, CustomStringConvertible {
    public var code: Code
    /// The key at fault; empty where it is the whole file.
    public var key: String
    public var source: Source
    /// What was found and what is allowed.
    public var message: String

    public var description: String { key.isEmpty ? "\(source): \(message)" : "\(source): \(key): \(message)" }
  }

  public var problems: [Problem]

  /// A line for each problem.
  public var description: String { problems.map(\.description).joined(separator: "\n") }
}
