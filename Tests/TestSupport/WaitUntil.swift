import Foundation

public struct ConditionNotMet: Error, CustomStringConvertible {
  public let description: String

  public init(description: String) { self.description = description }
}

/// Returns once the condition holds. Between two looks other tests get the thread.
/// - Throws: `ConditionNotMet` when it still does not hold at the deadline, and what the condition throws.
public func waitUntil(
  _ what: String, within bound: Duration = .seconds(120), _ condition: () async throws -> Bool
) async throws {
  let deadline = ContinuousClock.now + bound
  while try await !condition() {
    guard ContinuousClock.now < deadline else { throw ConditionNotMet(description: "not within \(bound): \(what)") }
    try await Task.sleep(for: .milliseconds(5))
  }
}

/// A name that no other test or test run has, for topics and groups.
public func uniqueName(_ prefix: String) -> String {
  "\(prefix)-\(UUID().uuidString.prefix(13).lowercased())"
}
