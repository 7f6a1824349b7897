/// Why a backtest cannot be made.
public struct BacktestError: Error, Sendable, Equatable, CustomStringConvertible {
  public enum Code: Sendable, Equatable {
    /// The options contradict each other.
    case usage
    /// The data do not fit each other or the protocol.
    case data
    /// The data and the configuration do not fit each other.
    case configuration
    /// No product can be computed on this machine.
    case kernels
  }

  public let code: Code
  public let description: String

  init(_ code: Code, _ description: String) {
    self.code = code
    self.description = description
  }
}
