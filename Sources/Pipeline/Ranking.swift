import Events
import Recommender
import Settings
import StateStore
import Synchronization

/// What the store has to know of a user once their list is settled.
struct SettledList {
  /// The stale mark that it answers; nil for the guests' list.
  var markSequence: UInt64?
  /// What the list is made of, and what of it was published; nil for a user who was erased.
  var pool: PoolRecord?
}

/// A list that has to be sent: the key, and the value or a tombstone.
struct Publication {
  var user: String
  /// nil erases the user's list.
  var recommendation: Recommendation?
  /// The list's items, best first; none for a tombstone.
  var numbers: [StoredItemNumber]
  /// Holds once the broker has it.
  var settled: SettledList
  /// When the oldest event was taken in that the list answers, in milliseconds since 1970; nil when it answers none.
  var eventTime: Int64?
}

/// Ranks stale users with the newest snapshot, says what has to be published, and stores the pools of lists that are; makes lists on request.
/// It knows no Kafka. One thread owns it.
///
/// Nothing is written before a list is sent: one transaction notes many that the broker has. What is lost on the way there is made again, as
/// the users are still marked; ``StateStore/beginPublishing()`` says how revisions rise all the same.
final class Ranking {
  private let store: StateStore
  var settings: Settings {
    didSet { excludes = Self.excludes(typeNames, settings) }
  }
  /// For lists on request.
  private let ranker = TopKRanker()
  private let staleRanker: ParallelRanker
  private var catalogue = CatalogueView()
  /// The newest policy with what is unavailable left out, and the snapshot and the catalogue that it was made of.
  private var restricted: (snapshot: ModelSnapshot, origin: ModelSnapshot, change: UInt64)?
  /// By the store's type code: whether items with such an interaction are left out.
  private var excludes: [Bool]
  private let typeNames: [String]
  /// In milliseconds; more than a reload of the debounce, or a clock that is adjusted, makes of a difference.
  private static let clockTolerance: Int64 = 60_000
  /// Users whose list is on its way to the broker: they are not ranked again before that is settled.
  private(set) var inFlight: Set<String> = []
  /// By user: lists that are settled and that the store does not know of yet.
  private var settled: [String: SettledList] = [:]
  /// nil while no list goes out.
  private var revisions: RevisionSource?
  private let recentLists: RecentLists

  /// - Parameters:
  ///   - recentLists: takes the lists that the broker has.
  ///   - threads: that rank stale users.
  init(store: StateStore, settings: Settings, recentLists: RecentLists = RecentLists(), threads: Int = 1) throws(StateStoreError) {
    self.store = store
    self.settings = settings
    self.recentLists = recentLists
    staleRanker = ParallelRanker(threads: threads)
    let names = try store.read { (transaction) throws(StateStoreError) in try transaction.interactionTypes() }
    typeNames = names
    excludes = Self.excludes(names, settings)
  }

  private static func excludes(_ names: [String], _ settings: Settings) -> [Bool] {
    names.map { settings.rules.excludeTypes?.contains($0) ?? true }
  }

  /// One user as read for ranking.
  private struct Candidate {
    var user: StaleUser
    var sequence: UserSequence?
    var pool: PoolRecord?
    /// Of the newest list.
    var revision: UInt64
  }

  /// Ranks up to a batch of users that are due and returns the lists that have to go out; those unchanged are settled.
  ///
  /// - Parameters:
  ///   - popular: the popular list's items, for those of whose history nothing is known.
  ///   - now: milliseconds since 1970.
  /// - Returns: the lists, how many users were ranked, and for how long the first of them had been due.
  func rankStale(
    snapshot: ModelSnapshot, popular: [StoredItemNumber], now: Int64
  ) throws -> (publications: [Publication], ranked: Int, lateness: Duration) {
    let candidates = try dueCandidates(now: now)
    guard let longestDue = candidates.first else { return ([], 0, .zero) }
    let revisions = try currentRevisions()
    let requests = candidates.map { candidate in
      var request = request(candidate.sequence?.interactions ?? [])
      request.likely = candidate.pool?.items.compactMap { catalogue.row(of: $0.rawValue) } ?? []
      return request
    }
    let lists = staleRanker.rank(requests, count: settings.pool.size, snapshot: available(snapshot), lookup: catalogue.row(of:))
    var publications: [Publication] = []
    for (index, candidate) in candidates.enumerated() {
      let (user, mark) = (candidate.user.user, candidate.user.mark)
      guard candidate.sequence != nil else {
        recentLists.remove(user)
        // The store will not hear of it.
        if let pool = settled[user]?.pool { revisions.lose(pool.revision) }
        publications.append(
          Publication(user: user, recommendation: nil, numbers: [], settled: SettledList(markSequence: mark.sequence, pool: nil)))
        continue
      }
      let items = poolItems(lists[index], snapshot, popular: popular, excluded: requests[index].excluded)
      var pool = PoolRecord(
        modelVersion: snapshot.version, revision: candidate.revision, items: items.map { StoredItemNumber(rawValue: $0.item) },
        scores: items.map(\.score), published: candidate.pool?.published, madeTime: now)
      let published = publishedItems(items)
      let digest = Self.digest(published.map(\.item))
      if let previous = pool.published, previous.digest == digest, now - previous.time < settings.ranker.maxAge.wholeMilliseconds,
        revisions.knows(pool.revision)
      {
        settled[user] = SettledList(markSequence: mark.sequence, pool: pool)
        continue
      }
      pool.revision = try revisions.next(after: candidate.revision)
      pool.published = PoolRecord.Publication(digest: digest, count: published.count, time: now)
      publications.append(
        Publication(
          user: user,
          recommendation: recommendation(user, published, revision: pool.revision, model: snapshot.version, asOf: mark.asOf, now: now),
          numbers: published.map { StoredItemNumber(rawValue: $0.item) }, settled: SettledList(markSequence: mark.sequence, pool: pool),
          eventTime: mark.asOf.isOfStream ? mark.dueTime - settings.ranker.debounce.wholeMilliseconds : nil))
    }
    for publication in publications { inFlight.insert(publication.user) }
    return (publications, candidates.count, .milliseconds(max(0, now - longestDue.user.mark.dueTime)))
  }

  /// The users to rank now, the longest due first, as the store has them or as they were settled since.
  private func dueCandidates(now: Int64) throws -> [Candidate] {
    let limit = settings.ranker.batchSize
    return try store.read { (transaction) throws(StateStoreError) in
      try catalogue.follow(transaction)
      // Nobody is due later than the debounce from now, unless the clock was set back since: then all are due, lest they wait until then.
      let isClockBack = try transaction.latestDueTime().map { $0 > now + settings.ranker.debounce.wholeMilliseconds + Self.clockTolerance } ?? false
      let due = try transaction.staleUsers(limit: limit + inFlight.count + settled.count, dueBefore: isClockBack ? .max : now + 1)
      var candidates: [Candidate] = []
      for user in due where !isAnswered(user) {
        if candidates.count == limit { break }
        let (pool, revision) = try newestPool(of: user.user, transaction)
        candidates.append(Candidate(user: user, sequence: try transaction.sequence(of: user.user), pool: pool, revision: revision))
      }
      return candidates
    }
  }

  /// Whether the mark has a list that is on its way, or that is settled and not noted yet.
  private func isAnswered(_ user: StaleUser) -> Bool {
    inFlight.contains(user.user) || settled[user.user]?.markSequence == user.mark.sequence
  }

  /// The user's pool as it was settled last, and the revision of their newest list.
  private func newestPool(
    of user: String, _ transaction: ReadTransaction
  ) throws(StateStoreError) -> (record: PoolRecord?, revision: UInt64) {
    if let pool = settled[user]?.pool { return (pool, pool.revision) }
    if let pool = try transaction.pool(of: user) { return (pool, pool.revision) }
    return (nil, try transaction.revision(of: user))
  }

  private func currentRevisions() throws(StateStoreError) -> RevisionSource {
    if let revisions { return revisions }
    let new = RevisionSource(store, floor: try store.beginPublishing())
    revisions = new
    return new
  }

  /// No list goes out any more, and what is settled is noted.
  func endPublishing() throws(StateStoreError) {
    try noteSettled()
    for list in settled.values { if let pool = list.pool { revisions?.lose(pool.revision) } }
    settled.removeAll()
    try revisions?.end()
    revisions = nil
  }

  /// Ends the threads.
  func stop() { staleRanker.stop() }

  private func available(_ snapshot: ModelSnapshot) -> ModelSnapshot {
    if let restricted, restricted.origin === snapshot, restricted.change == catalogue.change { return restricted.snapshot }
    let result = snapshot.restricted(to: catalogue.allowed)
    restricted = (result, snapshot, catalogue.change)
    return result
  }

  /// The guests' list, when it is another one than was sent before.
  func guestList(popular: [StoredItemNumber], scores: [Float], now: Int64) throws -> Publication? {
    let key = settings.ranker.guestKey
    guard !key.isEmpty, !inFlight.contains(key) else { return nil }
    let pool = try store.read { (transaction) throws(StateStoreError) in
      try catalogue.follow(transaction)
      return try newestPool(of: key, transaction)
    }
    let ranked = zip(popular, scores).compactMap { number, score in
      catalogue[number.rawValue].flatMap { $0.available && $0.row != nil ? Ranked(item: number.rawValue, score: score) : nil }
    }
    let items = publishedItems(ranked)
    guard !items.isEmpty else { return nil }
    let revisions = try currentRevisions()
    let digest = Self.digest(items.map(\.item))
    if digest == pool.record?.published?.digest, revisions.knows(pool.revision) { return nil }
    let record = PoolRecord(
      modelVersion: 0, revision: try revisions.next(after: pool.revision), items: items.map { StoredItemNumber(rawValue: $0.item) },
      scores: items.map(\.score), published: PoolRecord.Publication(digest: digest, count: items.count, time: now), madeTime: now)
    inFlight.insert(key)
    return Publication(
      user: key, recommendation: recommendation(key, items, revision: record.revision, model: 0, asOf: nil, now: now), numbers: record.items,
      settled: SettledList(markSequence: nil, pool: record))
  }

  /// The broker has these lists.
  func acknowledge(_ publications: [Publication]) {
    for publication in publications {
      inFlight.remove(publication.user)
      settled[publication.user] = publication.settled
      if let list = publication.recommendation {
        recentLists.add(
          RecentLists.List(
            user: publication.user, items: publication.numbers, revision: list.revision, modelVersion: list.model, madeTime: list.generatedAt))
      }
    }
  }

  /// Whether there are lists that the store does not know of yet.
  var hasSettled: Bool { !settled.isEmpty }

  /// Stores the pools of the lists that are settled and clears the marks that they answer, in one transaction.
  func noteSettled() throws(StateStoreError) {
    guard !settled.isEmpty else { return }
    let lists = settled.sorted { $0.key < $1.key }
    settled = try store.write { (transaction) throws(StateStoreError) in
      var left: [String: SettledList] = [:]
      for (user, list) in lists where try !note(list, of: user, transaction) { left[user] = list }
      return left
    }
  }

  /// - Returns: whether the store knows of it now.
  private func note(_ list: SettledList, of user: String, _ transaction: WriteTransaction) throws(StateStoreError) -> Bool {
    var isNewest = true
    if let sequence = list.markSequence { isNewest = try transaction.clearStale(user, ifSequence: sequence) }
    guard let pool = list.pool else { return true }
    // Where the mark is another by now, and no pool is there, the user may have been erased since: nothing of before may come back. They are
    // ranked again, or a tombstone goes out.
    if !isNewest { isNewest = try transaction.hasPool(user) }
    if isNewest { try transaction.putPool(pool, of: user) }
    return isNewest
  }

  /// When the next user is due after a time, in milliseconds since 1970; nil when nobody is.
  func nextDueTime(after time: Int64) throws(StateStoreError) -> Int64? {
    try store.read { (transaction) throws(StateStoreError) in try transaction.nextDueTime(after: time) }
  }

  /// The share of the items that may be recommended which stand in the newest published lists; nil without any.
  var catalogueCoverage: Double? {
    let items = catalogue.allowed.count { $0 }
    let shown = recentLists.itemCount
    return items > 0 && shown > 0 ? min(1, Double(shown) / Double(items)) : nil
  }

  /// Nobody knows whether the broker has these lists: their users stay marked and are ranked again.
  func release(_ publications: [Publication]) {
    for publication in publications {
      inFlight.remove(publication.user)
      if let list = publication.recommendation { revisions?.lose(list.revision) }
    }
  }

  /// The list that a user would have now. Nothing is stored or published.
  ///
  /// - Returns: best first; nil when nothing is known of what the user did.
  func list(of user: String, _ filter: ListFilter, snapshot: ModelSnapshot) throws(StateStoreError) -> [RequestedList.Entry]? {
    try list(filter, snapshot) { (transaction) throws(StateStoreError) in try transaction.sequence(of: user)?.interactions ?? [] }
  }

  /// The list of somebody without an id, for the items of a session, oldest first: interactions of the first configured type. Items that are
  /// not known are passed over.
  ///
  /// - Returns: best first; nil when none of the items is known.
  func list(session items: [String], _ filter: ListFilter, snapshot: ModelSnapshot) throws(StateStoreError) -> [RequestedList.Entry]? {
    let type = settings.events.types.first.flatMap { first in typeNames.firstIndex(of: first.name) } ?? 0
    return try list(filter, snapshot) { (transaction) throws(StateStoreError) in
      var interactions: [StoredInteraction] = []
      for id in items {
        guard let number = try transaction.itemNumber(of: id) else { continue }
        // Of its time only the order is known.
        interactions.append(StoredInteraction(item: number, type: InteractionTypeCode(rawValue: UInt8(type)), time: -1))
      }
      return interactions
    }
  }

  private func list(
    _ filter: ListFilter, _ snapshot: ModelSnapshot, _ interactions: (ReadTransaction) throws(StateStoreError) -> [StoredInteraction]
  ) throws(StateStoreError) -> [RequestedList.Entry]? {
    try store.read { (transaction) throws(StateStoreError) -> [RequestedList.Entry]? in
      try catalogue.follow(transaction)
      var request = self.request(try interactions(transaction))
      let isKnown = request.events.contains { event in
        catalogue.row(of: event.item).map { Int($0) < snapshot.rowCount && snapshot.owners[Int($0)] == event.item } ?? false
      }
      guard isKnown else { return nil }
      for id in filter.excluded {
        if let row = try transaction.itemNumber(of: id).flatMap({ catalogue.row(of: $0.rawValue) }) { request.excluded.append(row) }
      }
      let restricted =
        filter.categories.isEmpty ? available(snapshot) : snapshot.restricted(to: catalogue.allowed(in: filter.categories))
      // The cap takes from more than the list holds.
      let list = ranker.rank([request], count: max(filter.count, settings.pool.size), snapshot: restricted, lookup: catalogue.row(of:))
      return try transaction.select(
        ranked(list[0], snapshot).lazy.map { (StoredItemNumber(rawValue: $0.item), $0.score) }, filter, categoryCap: settings.rules.categoryCap)
    }
  }

  /// The items whose vectors are most similar, best first, without the item itself.
  ///
  /// - Returns: nil when the item is not in the catalogue, or not in the snapshot yet.
  func similar(to id: String, _ filter: ListFilter, snapshot: ModelSnapshot) throws(StateStoreError) -> [RequestedList.Entry]? {
    try store.read { (transaction) throws(StateStoreError) -> [RequestedList.Entry]? in
      guard let item = try transaction.item(id: id), let row = snapshot.row(of: item) else { return nil }
      let similar = snapshot.similar(to: row, count: snapshot.rowCount).lazy.compactMap { pair in
        snapshot.owners[Int(pair.row)].map { (StoredItemNumber(rawValue: $0), pair.similarity) }
      }
      return try transaction.select(similar, filter, categoryCap: 0)
    }
  }

  /// Why each of these items would be in the user's list, by this snapshot and what the user did up to now.
  ///
  /// - Returns: one an item, empty for one that the snapshot does not have.
  func explain(_ items: [CatalogueItem], to user: String, snapshot: ModelSnapshot) throws(StateStoreError) -> [Explanation] {
    try store.read { (transaction) throws(StateStoreError) -> [Explanation] in
      try catalogue.follow(transaction)
      let request = self.request(try transaction.sequence(of: user)?.interactions ?? [])
      var history: [(item: CatalogueItem, row: Int32)] = []
      for number in Set(request.events.map(\.item)) {
        guard let item = try transaction.item(StoredItemNumber(rawValue: number)), let row = snapshot.row(of: item) else { continue }
        history.append((item, row))
      }
      let rows = items.map(snapshot.row(of:))
      let parts = ranker.scoreParts(of: rows, request, snapshot: snapshot, lookup: catalogue.row(of:))
      return zip(rows, parts).map { row, parts in
        guard let row else { return Explanation() }
        let nearest = history.map { RequestedList.Entry(item: $0.item, score: snapshot.similarity(row, $0.row)) }
        return Explanation(
          nearest: Array(nearest.sorted { $0.score > $1.score }.prefix(Explanation.nearestItems)), parts: parts, idShare: snapshot.idShare(row))
      }
    }
  }

  private struct Ranked {
    var item: UInt32
    var score: Float
  }

  private func request(_ interactions: [StoredInteraction]) -> RankingRequest {
    let excluded = interactions.filter { excludes.indices.contains(Int($0.type.rawValue)) ? excludes[Int($0.type.rawValue)] : true }
    // When the list will be read is not known, hence no "now".
    return RankingRequest(
      events: interactions.map(ItemEvent.init), excluded: Array(Set(excluded.compactMap { catalogue.row(of: $0.item.rawValue) })))
  }

  private func poolItems(
    _ list: [RankedItem], _ snapshot: ModelSnapshot, popular: [StoredItemNumber], excluded: [Int32]
  ) -> [Ranked] {
    if !list.isEmpty { return ranked(list, snapshot) }
    let allowed = popular.filter { number in
      catalogue[number.rawValue].map { entry in entry.available && entry.row.map { !excluded.contains($0) } ?? false } ?? false
    }
    return allowed.enumerated().map { Ranked(item: $1.rawValue, score: -Float($0)) }
  }

  private func ranked(_ list: [RankedItem], _ snapshot: ModelSnapshot) -> [Ranked] {
    list.compactMap { ranked in
      // Since the snapshot the row may have gone to another item.
      guard let item = snapshot.owners[Int(ranked.row)], catalogue.row(of: item) == ranked.row else { return nil }
      return Ranked(item: item, score: ranked.score)
    }
  }

  /// The first K, no more of a category than the cap allows.
  private func publishedItems(_ items: [Ranked]) -> [Ranked] {
    var cap = CategoryCap(settings.rules.categoryCap)
    var result: [Ranked] = []
    for item in items where result.count < settings.ranker.topK && cap.take(catalogue[item.item]?.categories ?? []) { result.append(item) }
    return result
  }

  private func recommendation(
    _ user: String, _ items: [Ranked], revision: UInt64, model: UInt64, asOf: AsOf?, now: Int64
  ) -> Recommendation {
    Recommendation(
      user: user,
      items: items.compactMap { item in catalogue[item.item].map { Recommendation.ScoredItem(item: $0.id, score: item.score) } },
      revision: revision, model: model,
      asOf: asOf.flatMap { asOf in
        asOf.isOfStream ? Recommendation.Position(topic: asOf.topic, partition: asOf.partition, offset: asOf.offset, time: asOf.time) : nil
      },
      generatedAt: now)
  }

  /// FNV-1a over the item numbers.
  private static func digest(_ items: [UInt32]) -> UInt64 {
    items.reduce(14_695_981_039_346_656_037) { hash, item in
      (0..<4).reduce(hash) { ($0 ^ UInt64(item >> (8 * UInt32($1)) & 0xFF)) &* 1_099_511_628_211 }
    }
  }
}

extension ModelSnapshot {
  /// The row that is this item's in the snapshot; nil when it is not there yet, or no more.
  fileprivate func row(of item: CatalogueItem) -> Int32? {
    guard let row = item.row, Int(row) < rowCount, owners[Int(row)] == item.number.rawValue else { return nil }
    return Int32(bitPattern: row)
  }
}

/// Gives the lists their revisions, which are reserved in the store before they are given.
private final class RevisionSource {
  private let store: StateStore
  /// Up to here nobody knows which lists the topic has.
  private var floor: UInt64
  private var ceiling: UInt64
  /// So many are reserved at once, as that waits for the disk.
  private static let reserve: UInt64 = 1000

  /// - Parameter floor: of ``StateStore/beginPublishing()``.
  init(_ store: StateStore, floor: UInt64) {
    self.store = store
    self.floor = floor
    ceiling = floor
  }

  func next(after newest: UInt64) throws(StateStoreError) -> UInt64 {
    let next = max(newest, floor) + 1
    if next > ceiling {
      try store.reserveRevisions(upTo: next + Self.reserve)
      ceiling = next + Self.reserve
    }
    return next
  }

  /// Whether the topic's newest list of a user is the one with this revision, if that is the store's newest.
  func knows(_ revision: UInt64) -> Bool { revision > floor }

  /// A list with this revision may have gone out or not.
  func lose(_ revision: UInt64) { floor = max(floor, revision) }

  func end() throws(StateStoreError) { try store.endPublishing(floor: floor) }
}

/// What the services hand to each other: immutable values under a lock.
final class SharedState: Sendable {
  private let snapshots: Mutex<ModelSnapshot>
  private let latenessMilliseconds = Atomic<Int64>(0)
  private let popularItems = Mutex<(items: [StoredItemNumber], scores: [Float])>(([], []))

  init(snapshot: ModelSnapshot) { snapshots = Mutex(snapshot) }

  /// For how long the first of the lists that were ranked last had been due; zero while none can be ranked.
  var lateness: Duration {
    get { .milliseconds(latenessMilliseconds.load(ordering: .relaxed)) }
    set { latenessMilliseconds.store(newValue.wholeMilliseconds, ordering: .relaxed) }
  }

  /// The newest policy.
  var snapshot: ModelSnapshot {
    get { snapshots.withLock { $0 } }
    set { snapshots.withLock { $0 = newValue } }
  }

  /// The most popular items of late, best first, with their counts.
  var popular: (items: [StoredItemNumber], scores: [Float]) {
    get { popularItems.withLock { $0 } }
    set { popularItems.withLock { $0 = newValue } }
  }
}

extension LiveQuality {
  /// The guests' list of so many items.
  func popularList(_ count: Int) -> (items: [StoredItemNumber], scores: [Float]) {
    let items = guests.top(count) { _ in true }
    return (items.map { StoredItemNumber(rawValue: UInt32(bitPattern: $0)) }, items.map { Float(guests.count(of: $0)) })
  }
}
