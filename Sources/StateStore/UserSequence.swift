/// The last interactions of a user, as they are kept.
public struct UserSequence: Hashable, Sendable {
  public var user: String
  /// The partition of the interactions topic that the user's newest event came from; -1 when it did not come from there.
  public var partition: Int32
  /// In time order, oldest first; at most the store's `sequenceLength`.
  public var interactions: [Interaction]
  /// The journal sequence of the user's newest entry.
  public var lastJournalSequence: UInt64

  public init(user: String, partition: Int32, interactions: [Interaction], lastJournalSequence: UInt64) {
    self.user = user
    self.partition = partition
    self.interactions = interactions
    self.lastJournalSequence = lastJournalSequence
  }
}

/// A user's sequence as its record holds it, with the interactions still packed.
///
/// Record: version, the id where the key is a hash, partition, last journal sequence, packed interactions.
package struct SequenceRecord {
  private static let version: UInt8 = 2

  var partition: Int32
  var lastJournalSequence: UInt64
  var interactions: PackedInteractions

  /// Whether the user has a sequence: each of its interactions takes a place in the journal.
  var isStored: Bool { lastJournalSequence > 0 }

  package init(partition: Int32, lastJournalSequence: UInt64 = 0, interactions: PackedInteractions = PackedInteractions()) {
    self.partition = partition
    self.lastJournalSequence = lastJournalSequence
    self.interactions = interactions
  }

  package init(_ bytes: [UInt8], user: String, key: [UInt8]) throws(StateStoreError) {
    var reader = RecordReader(bytes)
    try reader.version(Self.version)
    try ExternalIDCoder.checkIdentity(user, key: key, from: &reader)
    try self.init(fields: &reader)
  }

  /// Reads a record whose user is not known beforehand.
  package static func withUser(_ bytes: [UInt8], key: [UInt8]) throws(StateStoreError) -> (user: String, record: SequenceRecord) {
    var reader = RecordReader(bytes)
    try reader.version(version)
    let user = try ExternalIDCoder.readIdentity(key: key, from: &reader)
    return (user, try SequenceRecord(fields: &reader))
  }

  private init(fields reader: inout RecordReader) throws(StateStoreError) {
    partition = Int32(bitPattern: try reader.varint(as: UInt32.self))
    lastJournalSequence = try reader.varint()
    interactions = try PackedInteractions(from: &reader)
  }

  package func encode(user: String, key: [UInt8], to record: inout [UInt8]) {
    record.append(Self.version)
    ExternalIDCoder.appendIdentity(user, key: key, to: &record)
    record.appendVarint(UInt64(UInt32(bitPattern: partition)))
    record.appendVarint(lastJournalSequence)
    interactions.encode(to: &record)
  }

  package func decoded(user: String) throws(StateStoreError) -> UserSequence {
    UserSequence(
      user: user, partition: partition, interactions: try interactions.decoded(), lastJournalSequence: lastJournalSequence)
  }
}
