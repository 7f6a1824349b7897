import Foundation
import StateStore
import Testing

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
