/// Why the daemon could not start or had to stop.
public struct PipelineError: Error, Sendable, CustomStringConvertible {
  public enum Code: Sendable {
    /// A service that is needed can't be reached or refuses: Kafka, a topic.
    case unavailable
    /// What is configured does not fit what is stored, or can't work.
    case configuration
    /// The store can't be read or written.
    case storage
    /// A fault of the program.
    case failed
  }

  public let code: Code
  public let message: String

  public init(_ code: Code, _ message: String) {
    self.code = code
    self.message = message
  }

  public var description: String { message }
}
