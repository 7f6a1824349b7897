import Events
import Recommender
import Settings
import StateStore

/// A record as it came from a topic, decoded, with its origin.
struct IngestRecord {
  enum Event {
    case interaction(Events.Interaction)
    case forget(user: String)
    case describe(Events.ItemDescription)
    case retire(item: String)
  }

  var event: Event
  var topic: String
  var partition: Int32
  var offset: Int64

  /// Whose sequence it belongs to.
  var user: String? {
    switch event {
    case .interaction(let interaction): interaction.user
    case .forget(let user): user
    case .describe, .retire: nil
    }
  }
}

/// Takes decoded events into the state: sequences, journal, stale marks and offsets in one transaction, so that each event counts exactly
/// once whatever is killed whenever. It knows no Kafka: the daemon's consumer and the replay of a file feed it alike. One thread owns it.
final class Ingest {
  struct Outcome {
    /// Interactions that took a place in a sequence and in the journal.
    var interactions = 0
    var duplicates = 0
    /// Interactions with an item that is not let in, see `store.max_items`.
    var unadmitted = 0
    var forgotten = 0
    var described = 0
    var retired = 0
    /// Live ranks of model and popularity for what could be scored.
    var ranks: [(model: Int?, popularity: Int?)] = []
  }

  /// Records that can't be placed, by their places, which rise: nothing of their batch was written. There may be more behind the last.
  struct Refused: Error {
    var records: [(index: Int, rejection: Rejection)]
  }

  private let store: StateStore
  /// Added to the clock for a user's due time, in milliseconds.
  var debounce: Int64
  /// The store's code by the decoder's.
  private let types: [InteractionTypeCode]
  /// By the store's code, whether an item with such an interaction is recommended to the user no more.
  private let excludes: [Bool]
  private(set) var quality: LiveQuality
  private var share: UserShare
  /// What the user of an event has before it; kept for its room.
  private var own: [StoredInteraction] = []
  /// Of the batch; kept for their room.
  private var cases = PrequentialCases()
  /// Undescribed items that were not used for so long, in milliseconds, make room; nil keeps them.
  private let retention: Int64?
  /// At most so many at a time, so that a leap of the stream's clock holds nothing up.
  private static let releasedTogether = 1000
  /// How many records ``apply(_:offsets:now:)`` is to be given at a time. Until a transaction ends LMDB keeps the pages in memory that it changes: in a small
  /// store many events share them, and their users; in a large one each may bring a page of its own.
  private(set) var mostTogether = 0
  /// Milliseconds since 1970 of the newest event: the stream's own clock.
  private(set) var streamTime: Int64 = 0

  /// - Parameter settings: the order of `events.types` is the order of the decoder's codes.
  init(store: StateStore, settings: Settings) throws(StateStoreError) {
    self.store = store
    debounce = settings.ranker.debounce.wholeMilliseconds
    types = try Self.typeCodes(store, settings)
    var excludes = Array(repeating: true, count: Int(UInt8.max) + 1)
    if let excluding = settings.rules.excludeTypes {
      for (type, code) in zip(settings.events.types, types) { excludes[Int(code.rawValue)] = excluding.contains(type.name) }
    }
    self.excludes = excludes
    share = UserShare(settings.learner.maxUserShare)
    retention = settings.store.unusedItemDays > 0 ? Int64(settings.store.unusedItemDays) * 86_400_000 : nil
    quality = LiveQuality(
      window: settings.quality.windowEvents, popularityWindow: settings.quality.popularityWindowEvents,
      guestWindow: settings.ranker.guestWindowEvents)
    try countPast(limit: max(settings.quality.popularityWindowEvents, settings.ranker.guestWindowEvents))
    mostTogether = Self.mostTogether(sequencesSize: try store.read { (transaction) throws(StateStoreError) in try transaction.sequencesSize() })
  }

  /// - Parameter sequencesSize: in bytes.
  static func mostTogether(sequencesSize: Int) -> Int { sequencesSize > 128 << 20 ? 30_000 : .max }

  /// The store's codes of `events.types`, in their order; new ones are given.
  @discardableResult
  static func typeCodes(_ store: StateStore, _ settings: Settings) throws(StateStoreError) -> [InteractionTypeCode] {
    try store.write { (transaction) throws(StateStoreError) in
      var codes: [InteractionTypeCode] = []
      for type in settings.events.types { codes.append(try transaction.interactionTypeCode(type.name)) }
      return codes
    }
  }

  /// After a start, recent popularity goes on from what the journal still holds; some of it does not count.
  private func countPast(limit: Int) throws(StateStoreError) {
    let next = try store.read { (transaction) throws(StateStoreError) in try transaction.nextJournalSequence() }
    let reach = UInt64(4 * limit)
    try store.forEachJournalRecord(from: next > reach ? next - reach : 1, upTo: next) { record in
      guard case .interaction(let example) = record.entry else { return }
      guard share.admit(example.user, example.target.item.rawValue) else { return }
      quality.count(example.target.item, isRepeat: example.context.contains { $0.item == example.target.item })
      streamTime = max(streamTime, example.target.time)
    }
  }

  /// Commits a batch whole, with the offsets that it reaches.
  ///
  /// - Parameter now: milliseconds since 1970, for the debounce.
  /// - Throws: ``Refused`` for records that the state can't hold, such as those that lie too far behind their user's newest (dead-letter them
  ///   and apply the others); ``StateStoreError``. In both cases nothing was written.
  func apply(_ records: [IngestRecord], offsets: [PartitionOffset], now: Int64) throws -> Outcome {
    var outcome = Outcome()
    var newest = streamTime
    var refused = Refused(records: [])
    do {
      try store.write { (transaction) throws(StateStoreError) in
        // It may run again when the map grows.
        outcome = Outcome()
        cases.removeAll()
        refused.records.removeAll()
        let users = try transaction.users(records.map(\.user))
        for index in records.indices {
          do throws(StateStoreError) {
            // What comes too late, or has no place in the catalogue, changes nothing for the others: all such are found at once.
            if let rejection = try apply(records[index], of: users[index], transaction, now: now, &newest, &outcome) { refused.records.append((index, rejection)) }
          } catch where [.collision, .invalidID, .invalidValue, .catalogueFull].contains(error.code) {
            let reason: Rejection.Reason = error.code == .collision ? .idCollision : .outOfRange
            refused.records.append((index, Rejection(reason, error.message)))
            if error.code != .catalogueFull { break }
          }
        }
        guard refused.records.isEmpty else { throw StateStoreError(.invalidValue, "records are refused") }
        if let retention { try transaction.releaseItems(unusedSince: newest - retention, limit: Self.releasedTogether) }
        for offset in offsets { try transaction.setOffset(offset) }
        mostTogether = Self.mostTogether(sequencesSize: try transaction.sequencesSize())
      }
    } catch {
      if !refused.records.isEmpty { throw refused }
      throw error
    }
    streamTime = newest
    outcome.ranks = countCases()
    return outcome
  }

  /// - Returns: the ranks of what could be scored.
  private func countCases() -> [(model: Int?, popularity: Int?)] {
    var ranks: [(model: Int?, popularity: Int?)] = []
    ranks.reserveCapacity(cases.count)
    cases.forEach { event, excluded in
      guard share.admit(event.user, event.item.rawValue) else { return }
      if let rank = quality.record(event, excluded: excluded) { ranks.append(rank) }
    }
    return ranks
  }

  private func apply(
    _ record: IngestRecord, of user: TransactionUser?, _ transaction: WriteTransaction, now: Int64, _ newest: inout Int64,
    _ outcome: inout Outcome
  ) throws(StateStoreError) -> Rejection? {
    switch record.event {
    case .interaction(let event):
      newest = max(newest, event.time)
      return try append(event, of: user, record, transaction, now: now, &outcome)
    case .forget(let user):
      let sequence = try transaction.forget(user)
      // The mark outlives the user until the tombstone of their list is acknowledged.
      try transaction.markStale(user, mark(sequence, record, time: newest, due: now))
      outcome.forgotten += 1
    case .describe(let description):
      try transaction.describeItem(description.item, StoredItemDescription(description))
      outcome.described += 1
    case .retire(let item):
      try transaction.retireItem(item)
      outcome.retired += 1
    }
    return nil
  }

  private func append(
    _ event: Events.Interaction, of user: TransactionUser?, _ record: IngestRecord, _ transaction: WriteTransaction, now: Int64,
    _ outcome: inout Outcome
  ) throws(StateStoreError) -> Rejection? {
    guard let item = try transaction.admitItem(event.item, at: event.time) else {
      outcome.unadmitted += 1
      return nil
    }
    var shown: [StoredItemNumber] = []
    for id in event.shown { if let item = try transaction.admitItem(id, at: event.time) { shown.append(item) } }
    let user = if let user { user } else { try transaction.user(event.user) }
    try transaction.readInteractions(of: user, into: &own)
    let interaction = StoredInteraction(item: item, type: types[Int(event.type)], time: event.time, value: event.value.map { Float($0) })
    let appended = try transaction.append(
      UserInteraction(user: event.user, partition: record.partition, interaction: interaction, shown: shown), of: user)
    switch appended {
    case .duplicate: outcome.duplicates += 1
    case .tooLate(let newest):
      return Rejection(
        .timeTooLate, field: "time", "time is \(Timestamp.rfc3339(event.time)), too far behind the user's newest, \(Timestamp.rfc3339(newest))")
    case .appended(let sequence):
      outcome.interactions += 1
      try score(item, event.user, user, transaction)
      transaction.markStale(user, mark(sequence, record, time: event.time, due: now + debounce))
    }
    return nil
  }

  private func score(
    _ item: StoredItemNumber, _ id: String, _ user: TransactionUser, _ transaction: WriteTransaction
  ) throws(StateStoreError) {
    let pool = try transaction.rank(of: item, inPoolOf: user)
    cases.append(
      PrequentialCase(
        user: id, item: item, isRepeat: own.contains { $0.item == item }, userInteractions: own.count, poolRank: pool.rank,
        hadPool: pool.hasPool),
      excluding: own.lazy.filter { [excludes] in excludes[Int($0.type.rawValue)] }.map { Int32(bitPattern: $0.item.rawValue) })
  }

  private func mark(_ sequence: UInt64, _ record: IngestRecord, time: Int64, due: Int64) -> StaleMark {
    StaleMark(
      sequence: sequence, asOf: AsOf(topic: record.topic, partition: record.partition, offset: record.offset, time: time), dueTime: due)
  }
}

extension StoredItemDescription {
  init(_ description: Events.ItemDescription) {
    self.init(
      title: description.title ?? "", categories: description.categories, brand: description.brand, price: description.price,
      available: description.available,
      features: Dictionary(description.features.map { ($0.name, $0.values) }, uniquingKeysWith: { first, _ in first }))
  }
}
