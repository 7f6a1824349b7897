/// One interaction with all that is needed to learn from it.
public struct TrainingExample: Hashable, Sendable {
  public var user: String
  public var partition: Int32
  public var target: Interaction
  /// The user's interactions before the target, in time order, oldest first; at most the store's `sequenceLength`.
  public var context: [Interaction]
  /// The items that were on the screen.
  public var shown: [ItemNumber]

  public init(user: String, partition: Int32, target: Interaction, context: [Interaction], shown: [ItemNumber] = []) {
    self.user = user
    self.partition = partition
    self.target = target
    self.context = context
    self.shown = shown
  }
}

/// What happened, in the order in which it was committed.
public enum JournalEntry: Hashable, Sendable {
  case interaction(TrainingExample)
  /// A user was erased: whoever keeps examples of theirs drops them. The id itself is not kept.
  case forget(UserFingerprint)
}

/// An entry with its place in the journal. Sequences rise; there may be gaps, where a user was erased.
public struct JournalRecord: Hashable, Sendable {
  public var sequence: UInt64
  public var entry: JournalEntry

  public init(sequence: UInt64, entry: JournalEntry) {
    self.sequence = sequence
    self.entry = entry
  }
}

extension StateStore {
  /// Visits what the journal holds of the sequences from `start` up to `end`, `end` not among them, in their order; in pages, so that no
  /// transaction lasts long.
  public func forEachJournalRecord(
    from start: UInt64, upTo end: UInt64, _ body: (JournalRecord) throws(StateStoreError) -> Void
  ) throws(StateStoreError) {
    var next = start
    while next < end {
      let page = try read { (transaction) throws(StateStoreError) in try transaction.readJournal(from: next, limit: 2048) }
      guard let last = page.last else { return }
      for record in page where record.sequence < end { try body(record) }
      next = last.sequence + 1
    }
  }
}

/// The journal's record: version, kind, then for an interaction: user, partition, distance back to the user's entry before (0: none),
/// target, shown items, packed context; for a forgotten user the fingerprint.
///
/// The distances chain a user's entries, so that forgetting a user reads theirs alone.
package enum JournalCoding {
  static let version: UInt8 = 2
  private static let interactionKind: UInt8 = 0
  private static let forgetKind: UInt8 = 1

  package static func encode(
    _ event: UserInteraction, context: PackedInteractions, distanceToPrevious: UInt64, to record: inout [UInt8]
  ) {
    record.append(version)
    record.append(interactionKind)
    record.appendString(event.user)
    record.appendVarint(UInt64(UInt32(bitPattern: event.partition)))
    record.appendVarint(distanceToPrevious)
    record.appendVarint(UInt64(event.interaction.item.rawValue))
    record.append(event.interaction.type.rawValue)
    record.appendSigned(event.interaction.time)
    record.appendOptional(event.interaction.value) { $0.appendLittleEndian($1.bitPattern) }
    record.appendVarint(UInt64(event.shown.count))
    for item in event.shown { record.appendVarint(UInt64(item.rawValue)) }
    context.encode(to: &record)
  }

  package static func encode(forget user: UserFingerprint, to record: inout [UInt8]) {
    record.append(version)
    record.append(forgetKind)
    record.append(contentsOf: user.bytes)
  }

  package static func decode(_ bytes: [UInt8]) throws(StateStoreError) -> JournalEntry {
    var reader = RecordReader(bytes)
    try reader.version(version)
    switch try reader.byte() {
    case interactionKind:
      let user = try reader.string()
      let partition = Int32(bitPattern: try reader.varint(as: UInt32.self))
      _ = try reader.varint()
      let item = ItemNumber(rawValue: try reader.varint(as: UInt32.self))
      let type = InteractionTypeCode(rawValue: try reader.byte())
      let time = try reader.signed()
      let value = try reader.optional { (reader) throws(StateStoreError) in Float(bitPattern: try reader.littleEndian(UInt32.self)) }
      var shown: [ItemNumber] = []
      for _ in 0..<(try reader.count(elementSize: 1)) { shown.append(ItemNumber(rawValue: try reader.varint(as: UInt32.self))) }
      let context = try PackedInteractions(from: &reader).decoded()
      return .interaction(
        TrainingExample(
          user: user, partition: partition, target: Interaction(item: item, type: type, time: time, value: value),
          context: context, shown: shown))
    case forgetKind:
      let fingerprint = UserFingerprint(bytes: try reader.raw(32))
      try reader.end()
      return .forget(fingerprint)
    default:
      throw RecordReader.damaged
    }
  }

  /// Whose entry it is and how far back the user's entry before lies; nil for a `forget`.
  package static func link(_ bytes: [UInt8]) throws(StateStoreError) -> (user: String, distanceToPrevious: UInt64)? {
    var reader = RecordReader(bytes)
    try reader.version(version)
    guard try reader.byte() == interactionKind else { return nil }
    let user = try reader.string()
    _ = try reader.varint()
    return (user, try reader.varint())
  }
}
