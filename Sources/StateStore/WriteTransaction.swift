import LMDB

/// The one transaction that changes the state; it also sees its own changes.
///
/// A user's sequence and stale mark are read once, changed in memory, and written once when the transaction ends, in the order of the keys:
/// a batch with many events of one user costs one look-up and one write for them.
public final class WriteTransaction: ReadTransaction {
  private let writer: LMDB.WriteTransaction
  private var hand = UsersInHand()
  private var storedCounters: Counters?
  private var currentCounters: Counters?
  /// The record that is being written, and the key that is being looked up.
  private var record: [UInt8] = []
  private var key: [UInt8] = []
  var memory: WriterMemory
  /// LMDB found no free page: the transaction cannot be committed, whatever became of the error.
  private(set) var isFull = false

  init(_ writer: LMDB.WriteTransaction, _ databases: Databases, _ options: StateStore.Options, _ memory: WriterMemory) {
    self.writer = writer
    self.memory = memory
    super.init(writer, databases, options)
  }

  override func settle() throws(StateStoreError) {
    try putUsers()
    if !hand.users.isEmpty { memory.userCount = hand.users.count }
    if let counters = currentCounters, counters != storedCounters {
      record.removeAll(keepingCapacity: true)
      counters.encode(to: &record)
      try put(databases.meta, MetaKey.counters, record)
      storedCounters = counters
    }
  }

  private func putUsers() throws(StateStoreError) {
    guard hand.users.contains(where: { $0.isUnwritten }) else { return }
    let order = try hand.inOrderOfKeys(coder)
    let sequences = try orderedAccess(databases.sequences)
    let marks = try orderedAccess(databases.stale)
    for place in order where hand.users[place].isUnwritten { try write(&hand.users[place], sequences, marks) }
  }

  private func write(
    _ user: inout UsersInHand.User, _ sequences: borrowing OrderedAccess, _ marks: borrowing OrderedAccess
  ) throws(StateStoreError) {
    try coder.write(keyOf: user.id, to: &key)
    if user.isChanged {
      record.removeAll(keepingCapacity: true)
      user.sequence.encode(user: user.id, key: key, to: &record)
      try put(sequences, key, record)
      user.isChanged = false
    }
    if let mark = user.mark {
      try store(mark, user.id, marks)
      user.mark = nil
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

  /// Looks users up who are about to be asked for, in the order of their keys, so that each look-up begins where the one before ended.
  ///
  /// - Returns: nil where there is no id, and where ``user(_:)`` is to tell what is wrong with it, or with a record under its hash.
  public func users(_ ids: [String?]) throws(StateStoreError) -> [TransactionUser?] {
    var found: [TransactionUser?] = []
    found.reserveCapacity(ids.count)
    for id in ids {
      if let id, ExternalIDCoder.isDirectKey(id) { found.append(try known(id)) } else { found.append(nil) }
    }
    let sequences = try orderedAccess(databases.sequences)
    for place in try hand.inOrderOfKeys(coder) where !hand.users[place].isLoaded {
      try coder.write(keyOf: hand.users[place].id, to: &key)
      try load(place, try value(sequences, key))
    }
    return found
  }

  /// Throws `.invalidID`, `.collision`.
  public func user(_ id: String) throws(StateStoreError) -> TransactionUser {
    let user = try known(id)
    if !hand.users[user.place].isLoaded {
      try coder.write(keyOf: id, to: &key)
      try load(user.place, try value(databases.sequences, key))
    }
    return user
  }

  private func known(_ id: String) throws(StateStoreError) -> TransactionUser {
    try ExternalIDCoder.check(id)
    if hand.users.isEmpty { hand.reserve(memory.userCount) }
    return TransactionUser(place: hand.place(of: id))
  }

  /// - Parameter bytes: the record of the user whose key was looked up.
  private func load(_ place: Int, _ bytes: [UInt8]?) throws(StateStoreError) {
    if let bytes { hand.users[place].sequence = try SequenceRecord(bytes, user: hand.users[place].id, key: key) }
    hand.users[place].isLoaded = true
  }

  public override func sequence(of user: String) throws(StateStoreError) -> UserSequence? {
    let place = try self.user(user).place
    return hand.users[place].sequence.isStored ? try hand.users[place].sequence.decoded(user: user) : nil
  }

  /// Puts the user's last interactions in place of what is in the array.
  public func readInteractions(of user: TransactionUser, into interactions: inout [Interaction]) throws(StateStoreError) {
    try hand.users[user.place].sequence.interactions.decode(into: &interactions)
  }

  /// Whether the user has a candidate pool, and where the item stands in it.
  public func rank(of item: ItemNumber, inPoolOf user: TransactionUser) throws(StateStoreError) -> (hasPool: Bool, rank: Int?) {
    let id = hand.users[user.place].id
    try coder.write(keyOf: id, to: &key)
    guard let bytes = try value(databases.pools, key) else { return (false, nil) }
    return (true, try PoolRecord.rank(of: item, in: bytes, user: id, key: key))
  }

  /// Puts an interaction in its place in the user's sequence and appends it to the journal, with the interactions before it as context.
  ///
  /// Throws `.invalidID`, `.collision`, or `.invalidValue` for a time beyond what is kept: the state is then as before the call.
  @discardableResult
  public func append(_ event: UserInteraction) throws(StateStoreError) -> AppendOutcome { try append(event, of: try user(event.user)) }

  /// - Parameter user: the event's.
  @discardableResult
  public func append(_ event: UserInteraction, of user: TransactionUser) throws(StateStoreError) -> AppendOutcome {
    assert(hand.users[user.place].id == event.user)
    guard event.interaction.time.magnitude <= UInt64(PackedInteractions.maximumTime) else {
      throw StateStoreError(.invalidValue, "the time \(event.interaction.time) is out of range")
    }
    return try append(event, to: &hand.users[user.place])
  }

  private func append(_ event: UserInteraction, to user: inout UsersInHand.User) throws(StateStoreError) -> AppendOutcome {
    let interaction = event.interaction
    let lastTime = user.sequence.interactions.lastTime
    if user.sequence.interactions.count == 0 || interaction.time > lastTime {
      try user.sequence.interactions.keepLast(options.sequenceLength)
      let number = try appendToJournal(event, user.sequence.interactions, previous: user.sequence.lastJournalSequence)
      try user.sequence.interactions.append(interaction)
      try user.sequence.interactions.keepLast(options.sequenceLength)
      user.sequence.lastJournalSequence = number
    } else {
      var kept = try user.sequence.interactions.decoded()
      if options.deduplicates,
        kept.contains(where: { $0.item == interaction.item && $0.type == interaction.type && $0.time == interaction.time })
      {
        return .duplicate
      }
      guard lastTime - interaction.time <= options.lateInteractionBound else { return .tooLate(newest: lastTime) }
      let place = kept.firstIndex { $0.time > interaction.time } ?? kept.endIndex
      let context = PackedInteractions(kept[..<place].suffix(options.sequenceLength))
      user.sequence.lastJournalSequence = try appendToJournal(event, context, previous: user.sequence.lastJournalSequence)
      kept.insert(interaction, at: place)
      user.sequence.interactions = PackedInteractions(kept.suffix(options.sequenceLength))
    }
    user.sequence.partition = event.partition
    user.isChanged = true
    return .appended(sequence: user.sequence.lastJournalSequence)
  }

  /// Says that the user's list is out of date. A mark takes the place of the one before, but keeps the earlier due time:
  /// a user whose events never pause is ranked all the same.
  public func markStale(_ user: String, _ mark: StaleMark) throws(StateStoreError) { markStale(try known(user), mark) }

  public func markStale(_ user: TransactionUser, _ mark: StaleMark) {
    let dueTime = min(mark.dueTime, hand.users[user.place].mark?.dueTime ?? mark.dueTime)
    hand.users[user.place].mark = StaleMark(sequence: mark.sequence, asOf: mark.asOf, dueTime: dueTime)
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
    let place = try user(id).place
    let key = try coder.key(id)
    var next = hand.users[place].sequence.lastJournalSequence
    // The chain ends at the user's first entry, or where the journal was trimmed.
    while next > 0, let bytes = try value(databases.journal, [UInt8](bigEndian: next)) {
      guard let link = try JournalCoding.link(bytes), ExactID(link.user) == ExactID(id), link.distanceToPrevious <= next else {
        throw StateStoreError.damaged("journal entry \(next) is not of the user whose entries it links")
      }
      try delete(databases.journal, [UInt8](bigEndian: next))
      next = link.distanceToPrevious == 0 ? 0 : next - link.distanceToPrevious
    }
    hand.forget(place)
    // What the transaction holds back of others is not looked at here.
    if let bytes = try value(databases.stale, key) { try removeMark(try StaleMark(bytes, user: id, key: key), key: key) }
    var counters = try self.counters()
    counters.revisionFloor = max(counters.revisionFloor, try revision(of: id))
    currentCounters = counters
    try delete(databases.pools, key)
    try delete(databases.sequences, key)

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

  /// - Parameter user: whose key was looked up.
  private func store(_ mark: StaleMark, _ user: String, _ marks: borrowing OrderedAccess) throws(StateStoreError) {
    var mark = mark
    let dueBefore = try value(marks, key).map { (bytes) throws(StateStoreError) in try StaleMark.dueTime(bytes, user: user, key: key) }
    if let dueBefore, dueBefore <= mark.dueTime {
      mark.dueTime = dueBefore
    } else {
      if let dueBefore { try delete(databases.staleByDueTime, StaleMark.dueKey(dueBefore, userKey: key)) }
      try put(databases.staleByDueTime, StaleMark.dueKey(mark.dueTime, userKey: key), [])
    }
    record.removeAll(keepingCapacity: true)
    mark.encode(user: user, key: key, to: &record)
    try put(marks, key, record)
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
