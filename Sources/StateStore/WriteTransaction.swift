import LMDB

/// The one transaction that changes the state; it also sees its own changes.
///
/// A user's sequence and stale mark are read once, changed in memory, and written once when the transaction ends, in the order of the keys:
/// a batch with many events of one user costs one look-up and one write for them.
public final class WriteTransaction: ReadTransaction {
  /// A user as this transaction sees them.
  private final class User {
    let id: String
    let key: [UInt8]
    var sequence: SequenceRecord?
    var isLoaded = false
    var isChanged = false
    var mark: StaleMark?

    init(id: String, key: [UInt8]) {
      self.id = id
      self.key = key
    }
  }

  private let writer: LMDB.WriteTransaction
  private var users: [ExactID: User] = [:]
  /// Who was asked for last: one event asks for its user several times.
  private var lastUser: User?
  private var storedCounters: Counters?
  private var currentCounters: Counters?
  private var record: [UInt8] = []
  var memory: WriterMemory
  /// LMDB found no free page: the transaction cannot be committed, whatever became of the error.
  private(set) var isFull = false

  init(_ writer: LMDB.WriteTransaction, _ databases: Databases, _ options: StateStore.Options, _ memory: WriterMemory) {
    self.writer = writer
    self.memory = memory
    super.init(writer, databases, options)
  }

  override func settle() throws(StateStoreError) {
    try putUsers(users.values.filter { $0.isChanged || $0.mark != nil })
    if !users.isEmpty { memory.userCount = users.count }
    if let counters = currentCounters, counters != storedCounters {
      record.removeAll(keepingCapacity: true)
      counters.encode(to: &record)
      try put(databases.meta, MetaKey.counters, record)
      storedCounters = counters
    }
  }

  /// In the order of their keys.
  private func putUsers(_ changed: [User]) throws(StateStoreError) {
    guard !changed.isEmpty else { return }
    // Most keys differ in their first bytes.
    var order = changed.indices.map { place in
      let key = changed[place].key
      return (prefix: (0..<UInt128.bitWidth / 8).reduce(0 as UInt128) { $0 << 8 | UInt128($1 < key.count ? key[$1] : 0) }, place: place)
    }
    order.sort { left, right in
      left.prefix == right.prefix
        ? changed[left.place].key.lexicographicallyPrecedes(changed[right.place].key) : left.prefix < right.prefix
    }
    let sequences = try orderedAccess(databases.sequences)
    let marks = try orderedAccess(databases.stale)
    for (_, place) in order {
      let user = changed[place]
      if user.isChanged, let sequence = user.sequence {
        record.removeAll(keepingCapacity: true)
        sequence.encode(user: user.id, key: user.key, to: &record)
        try put(sequences, user.key, record)
        user.isChanged = false
      }
      if let mark = user.mark {
        try store(mark, user, marks)
        user.mark = nil
      }
    }
  }

  override func counters() throws(StateStoreError) -> Counters {
    if let currentCounters { return currentCounters }
    let counters = try super.counters()
    storedCounters = counters
    currentCounters = counters
    return counters
  }

  func take<Number: FixedWidthInteger>(_ counter: WritableKeyPath<Counters, Number>) throws(StateStoreError) -> Number {
    var counters = try self.counters()
    let number = counters[keyPath: counter]
    guard number < .max else { throw StateStoreError(.invalidValue, "the store has run out of numbers") }
    counters[keyPath: counter] = number + 1
    currentCounters = counters
    return number
  }

  public override func sequence(of user: String) throws(StateStoreError) -> UserSequence? {
    try loaded(user).sequence.map { (sequence) throws(StateStoreError) in try sequence.decoded(user: user) }
  }

  /// Puts the user's last interactions in place of what is in the array.
  public func readInteractions(of user: String, into interactions: inout [Interaction]) throws(StateStoreError) {
    interactions.removeAll(keepingCapacity: true)
    try loaded(user).sequence?.interactions.decode(into: &interactions)
  }

  /// Puts an interaction in its place in the user's sequence and appends it to the journal, with the interactions before it as context.
  ///
  /// Throws `.invalidID`, `.collision`, or `.invalidValue` for a time beyond what is kept: the state is then as before the call.
  @discardableResult
  public func append(_ event: UserInteraction) throws(StateStoreError) -> AppendOutcome {
    let interaction = event.interaction
    guard interaction.time.magnitude <= UInt64(PackedInteractions.maximumTime) else {
      throw StateStoreError(.invalidValue, "the time \(interaction.time) is out of range")
    }
    let user = try loaded(event.user)
    var sequence = user.sequence ?? SequenceRecord(partition: event.partition)
    // So that the record is changed in place.
    user.sequence = nil
    defer { user.sequence = sequence.lastJournalSequence == 0 ? nil : sequence }

    var context = sequence.interactions
    if context.count == 0 || interaction.time > context.lastTime {
      try context.keepLast(options.sequenceLength)
      sequence.interactions = PackedInteractions()
      let number = try appendToJournal(event, context, previous: sequence.lastJournalSequence)
      try context.append(interaction)
      try context.keepLast(options.sequenceLength)
      sequence.interactions = context
      sequence.lastJournalSequence = number
    } else {
      var kept = try context.decoded()
      if options.deduplicates,
        kept.contains(where: { $0.item == interaction.item && $0.type == interaction.type && $0.time == interaction.time })
      {
        return .duplicate
      }
      guard context.lastTime - interaction.time <= options.lateInteractionBound else { return .tooLate(newest: context.lastTime) }
      let place = kept.firstIndex { $0.time > interaction.time } ?? kept.endIndex
      let number = try appendToJournal(
        event, PackedInteractions(kept[..<place].suffix(options.sequenceLength)), previous: sequence.lastJournalSequence)
      kept.insert(interaction, at: place)
      sequence.interactions = PackedInteractions(kept.suffix(options.sequenceLength))
      sequence.lastJournalSequence = number
    }
    sequence.partition = event.partition
    user.isChanged = true
    return .appended(sequence: sequence.lastJournalSequence)
  }

  /// Says that the user's list is out of date. A mark takes the place of the one before, but keeps the earlier due time:
  /// a user whose events never pause is ranked all the same.
  public func markStale(_ user: String, _ mark: StaleMark) throws(StateStoreError) {
    let user = try known(user)
    let dueTime = min(mark.dueTime, user.mark?.dueTime ?? mark.dueTime)
    user.mark = StaleMark(sequence: mark.sequence, asOf: mark.asOf, dueTime: dueTime)
  }

  /// Clears the user's mark if it is still the one of this journal sequence; returns whether it did.
  @discardableResult
  public func clearStale(_ user: String, ifSequence sequence: UInt64) throws(StateStoreError) -> Bool {
    guard let mark = try staleMark(of: user), mark.sequence == sequence else { return false }
    try removeMark(mark, key: try coder.key(user))
    return true
  }

  /// Stores a user's pool.
  ///
  /// Throws `.revisionNotRising` when its revision is lower than that of the user's stored pool: the same is for a pool made anew whose list
  /// does not go out.
  public func putPool(_ pool: PoolRecord, of user: String) throws(StateStoreError) {
    guard pool.items.count == pool.scores.count else {
      throw StateStoreError(.invalidValue, "a pool has \(pool.items.count) items and \(pool.scores.count) scores")
    }
    let key = try coder.key(user)
    if let bytes = try value(databases.pools, key) {
      let newest = try PoolRecord.revision(bytes, user: user, key: key)
      guard pool.revision >= newest else {
        throw StateStoreError(.revisionNotRising, "a pool has revision \(pool.revision); the newest is \(newest)")
      }
    }
    record.removeAll(keepingCapacity: true)
    pool.encode(user: user, key: key, to: &record)
    try put(databases.pools, key, record)
  }

  /// Sets where consumption of a partition goes on.
  public func setOffset(_ offset: PartitionOffset) throws(StateStoreError) {
    try put(databases.offsets, offset.key, [UInt8](bigEndian: UInt64(bitPattern: offset.next)))
  }

  /// The code of an interaction type, given at first sight. Throws `.invalidValue` for an empty name or the 257th type.
  public func interactionTypeCode(_ name: String) throws(StateStoreError) -> InteractionTypeCode {
    let names = try interactionTypes()
    if let code = names.firstIndex(where: { ExactID($0) == ExactID(name) }) { return InteractionTypeCode(rawValue: UInt8(code)) }
    guard !name.isEmpty, let code = UInt8(exactly: names.count) else {
      throw StateStoreError(.invalidValue, name.isEmpty ? "a type's name is empty" : "there are more than 256 interaction types")
    }
    try put(databases.interactionTypes, [code], Array(name.utf8), append: true)
    memory.interactionTypes = names + [name]
    return InteractionTypeCode(rawValue: code)
  }

  public override func itemNumber(of id: String) throws(StateStoreError) -> ItemNumber? {
    let exact = ExactID(id)
    if let known = memory.items[exact] { return known.number }
    guard let number = try super.itemNumber(of: id) else { return nil }
    memory.remember(exact, WriterMemory.Item(number: number))
    return number
  }

  public override func interactionTypes() throws(StateStoreError) -> [String] {
    if let names = memory.interactionTypes { return names }
    let names = try super.interactionTypes()
    memory.interactionTypes = names
    return names
  }

  /// Removes up to `limit` journal entries that come before a sequence; returns how many. The caller sees to it that they were learned
  /// from.
  @discardableResult
  public func trimJournal(keepingFrom sequence: UInt64, limit: Int = .max) throws(StateStoreError) -> Int {
    try lmdbCall { (writer) throws(LMDBError) in
      try writer.deleteRange(databases.journal, to: [UInt8](bigEndian: sequence), limit: limit)
    }
  }

  /// Erases a user: sequence, pool, stale mark, and all their journal entries. Appends a `.forget` entry, so that the learner drops its
  /// examples too, and returns its sequence. Only the fingerprint in that entry is left, until it is trimmed.
  @discardableResult
  public func forget(_ id: String) throws(StateStoreError) -> UInt64 {
    let user = try loaded(id)
    var next = user.sequence?.lastJournalSequence ?? 0
    // The chain ends at the user's first entry, or where the journal was trimmed.
    while next > 0, let bytes = try value(databases.journal, [UInt8](bigEndian: next)) {
      guard let link = try JournalCoding.link(bytes), ExactID(link.user) == ExactID(id), link.distanceToPrevious <= next else {
        throw StateStoreError.damaged("journal entry \(next) is not of the user whose entries it links")
      }
      try delete(databases.journal, [UInt8](bigEndian: next))
      next = link.distanceToPrevious == 0 ? 0 : next - link.distanceToPrevious
    }
    user.mark = nil
    user.isChanged = false
    user.sequence = nil
    // What the transaction holds back of others is not looked at here.
    if let bytes = try value(databases.stale, user.key) { try removeMark(try StaleMark(bytes, user: id, key: user.key), key: user.key) }
    var counters = try self.counters()
    counters.revisionFloor = max(counters.revisionFloor, try revision(of: id))
    currentCounters = counters
    try delete(databases.pools, user.key)
    try delete(databases.sequences, user.key)

    let number = try take(\.nextJournalSequence)
    record.removeAll(keepingCapacity: true)
    JournalCoding.encode(forget: UserFingerprint(id), to: &record)
    try put(databases.journal, [UInt8](bigEndian: number), record, append: true)
    return number
  }

  /// Registers a checkpoint whose file is on disk, in place of one of the same model version.
  public func putCheckpoint(_ entry: CheckpointEntry) throws(StateStoreError) {
    record.removeAll(keepingCapacity: true)
    entry.encode(to: &record)
    try put(databases.checkpoints, [UInt8](bigEndian: entry.modelVersion), record)
  }

  /// Takes a checkpoint out of the registry.
  public func removeCheckpoint(modelVersion: UInt64) throws(StateStoreError) {
    try delete(databases.checkpoints, [UInt8](bigEndian: modelVersion))
  }

  private func known(_ id: String) throws(StateStoreError) -> User {
    let exact = ExactID(id)
    if let lastUser, ExactID(lastUser.id) == exact { return lastUser }
    if let user = users[exact] {
      lastUser = user
      return user
    }
    let user = User(id: id, key: try coder.key(id))
    if users.isEmpty { users.reserveCapacity(memory.userCount) }
    users[exact] = user
    lastUser = user
    return user
  }

  private func loaded(_ id: String) throws(StateStoreError) -> User {
    let user = try known(id)
    if !user.isLoaded {
      if let bytes = try value(databases.sequences, user.key) {
        user.sequence = try SequenceRecord(bytes, user: id, key: user.key)
      }
      user.isLoaded = true
    }
    return user
  }

  private func appendToJournal(
    _ event: UserInteraction, _ context: PackedInteractions, previous: UInt64
  ) throws(StateStoreError) -> UInt64 {
    let number = try take(\.nextJournalSequence)
    guard previous < number else { throw StateStoreError.damaged("a user's last journal sequence lies ahead of the journal") }
    record.removeAll(keepingCapacity: true)
    JournalCoding.encode(event, context: context, distanceToPrevious: previous == 0 ? 0 : number - previous, to: &record)
    try put(databases.journal, [UInt8](bigEndian: number), record, append: true)
    return number
  }

  private func store(_ mark: StaleMark, _ user: User, _ marks: borrowing OrderedAccess) throws(StateStoreError) {
    var mark = mark
    let dueBefore = try value(marks, user.key).map { (bytes) throws(StateStoreError) in try StaleMark.dueTime(bytes, user: user.id, key: user.key) }
    if let dueBefore, dueBefore <= mark.dueTime {
      mark.dueTime = dueBefore
    } else {
      if let dueBefore { try delete(databases.staleByDueTime, StaleMark.dueKey(dueBefore, userKey: user.key)) }
      try put(databases.staleByDueTime, StaleMark.dueKey(mark.dueTime, userKey: user.key), [])
    }
    record.removeAll(keepingCapacity: true)
    mark.encode(user: user.id, key: user.key, to: &record)
    try put(marks, user.key, record)
  }

  private func removeMark(_ mark: StaleMark, key: [UInt8]) throws(StateStoreError) {
    try delete(databases.stale, key)
    try delete(databases.staleByDueTime, StaleMark.dueKey(mark.dueTime, userKey: key))
  }
}

/// LMDB's calls with the store's error.
extension WriteTransaction {
  func put(_ database: Database, _ key: [UInt8], _ value: [UInt8], append: Bool = false) throws(StateStoreError) {
    try lmdbCall { (writer) throws(LMDBError) in try writer.put(database, key, value, append: append) }
  }

  private func orderedAccess(_ database: Database) throws(StateStoreError) -> OrderedAccess {
    do throws(LMDBError) { return try writer.orderedAccess(database) } catch { throw StateStoreError(error) }
  }

  private func value(_ access: borrowing OrderedAccess, _ key: [UInt8]) throws(StateStoreError) -> [UInt8]? {
    do throws(LMDBError) { return try access.bytes(key) } catch { throw StateStoreError(error) }
  }

  private func put(_ access: borrowing OrderedAccess, _ key: [UInt8], _ value: [UInt8]) throws(StateStoreError) {
    do throws(LMDBError) { try access.put(key, value) } catch { throw noting(error) }
  }

  func delete(_ database: Database, _ key: [UInt8]) throws(StateStoreError) {
    _ = try lmdbCall { (writer) throws(LMDBError) in try writer.delete(database, key) }
  }

  @inline(__always)
  private func lmdbCall<Result>(
    _ body: (LMDB.WriteTransaction) throws(LMDBError) -> Result
  ) throws(StateStoreError) -> Result {
    do throws(LMDBError) { return try body(writer) } catch { throw noting(error) }
  }

  private func noting(_ error: LMDBError) -> StateStoreError {
    if error.code == .mapFull { isFull = true }
    return StateStoreError(error)
  }
}
