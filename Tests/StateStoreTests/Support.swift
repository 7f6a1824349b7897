import Foundation
import StateStore
import Testing

/// A folder that goes with the test: to be kept in the suite, which lives as long as the test runs.
final class TemporaryFolder {
  let path: String

  init() {
    path = FileManager.default.temporaryDirectory.appending(path: "state-\(UUID().uuidString)").path
    try! FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
  }

  deinit {
    try? FileManager.default.removeItem(atPath: path)
  }
}

/// SplitMix64: the same numbers on every run.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }

  mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &self) }
}

extension Interaction {
  init(_ item: UInt32, type: UInt8 = 0, time: Int64, value: Float? = nil) {
    self.init(item: ItemNumber(rawValue: item), type: InteractionTypeCode(rawValue: type), time: time, value: value)
  }
}

extension StateStore {
  /// One interaction in a transaction of its own.
  @discardableResult
  func append(_ user: String, _ interaction: Interaction, partition: Int32 = 0, shown: [ItemNumber] = []) throws -> AppendOutcome {
    try write { (transaction) throws(StateStoreError) in
      try transaction.append(UserInteraction(user: user, partition: partition, interaction: interaction, shown: shown))
    }
  }

  func sequence(of user: String) throws -> UserSequence? {
    try read { (view) throws(StateStoreError) in try view.sequence(of: user) }
  }

  func journal(from sequence: UInt64 = 0, limit: Int = .max) throws -> [JournalRecord] {
    try read { (view) throws(StateStoreError) in try view.readJournal(from: sequence, limit: limit) }
  }

  func digest() throws -> [UInt8] {
    try read { (view) throws(StateStoreError) in try view.digest() }
  }
}

/// The error's code, where `body` throws one of the store.
func code<Result>(of body: () throws -> Result, sourceLocation: SourceLocation = #_sourceLocation) -> StateStoreError.Code? {
  #expect(throws: StateStoreError.self, sourceLocation: sourceLocation) { _ = try body() }?.code
}
