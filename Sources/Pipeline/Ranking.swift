import Events
import Recommender
import Settings
import StateStore
import Synchronization

/// A list that has to be sent: the key, and the value or a tombstone.
struct Publication {
  var user: String
  /// nil erases the user's list.
  var recommendation: Recommendation?
  /// The stale mark that is cleared once the broker has it; nil for the guests' list.
  var markSequence: UInt64?
  /// The list's items, best first; none for a tombstone.
  var numbers: [StoredItemNumber]
  /// Of the items, to see whether a later list differs.
  var digest: UInt64
  /// When the oldest event was taken in that the list answers, in milliseconds since 1970; nil when it answers none.
  var eventTime: Int64?
}

/// Ranks stale users with the newest snapshot, stores their pools, and says what has to be published; makes lists on request. It knows no
/// Kafka. One thread owns it.
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
  /// What a list's revision is more than that before it; nil before the first list. See ``StateStore/beginPublishing()``.
  private var revisionStep: UInt64?
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
    var revision: UInt64
  }

  /// Ranks up to a batch of users that are due, stores their pools and returns the lists that have to go out; those unchanged are settled.
  ///
  /// - Parameters:
  ///   - popular: the popular list's items, for those of whose history nothing is known.
  ///   - now: milliseconds since 1970.
  ///   - acknowledged: lists that the broker has, as in ``acknowledge(_:now:)``, noted in the same transaction if anybody is ranked.
  /// - Returns: the lists, how many users were ranked, and for how long the first of them had been due.
  func rankStale(
    snapshot: ModelSnapshot, popular: [StoredItemNumber], now: Int64, acknowledged: [Publication] = []
  ) throws -> (publications: [Publication], ranked: Int, lateness: Duration) {
    let limit = settings.ranker.batchSize
    let candidates = try store.read { (transaction) throws(StateStoreError) in
      try catalogue.follow(transaction)
      // Nobody is due later than the debounce from now, unless the clock was set back since: then all are due, lest they wait until then.
      let isClockBack = try transaction.latestDueTime().map { $0 > now + settings.ranker.debounce.wholeMilliseconds + Self.clockTolerance } ?? false
      let due = try transaction.staleUsers(limit: limit + inFlight.count, dueBefore: isClockBack ? .max : now + 1)
      var candidates: [Candidate] = []
      for user in due where !inFlight.contains(user.user) && candidates.count < limit {
        candidates.append(
          Candidate(
            user: user, sequence: try transaction.sequence(of: user.user), pool: try transaction.pool(of: user.user),
            revision: try transaction.revision(of: user.user)))
      }
      return candidates
    }
    guard let longestDue = candidates.first else { return ([], 0, .zero) }
    let step = try beginPublishing()
    let requests = candidates.map { candidate in
      var request = request(candidate.sequence?.interactions ?? [])
      request.likely = candidate.pool?.items.compactMap { catalogue.row(of: $0.rawValue) } ?? []
      return request
    }
    let lists = staleRanker.rank(requests, count: settings.pool.size, snapshot: available(snapshot), lookup: catalogue.row(of:))
    var publications: [Publication] = []
    var pools: [(user: String, pool: PoolRecord)] = []
    var settled: [StaleUser] = []
    for (index, candidate) in candidates.enumerated() {
      guard candidate.sequence != nil else {
        recentLists.remove(candidate.user.user)
        publications.append(
          Publication(user: candidate.user.user, recommendation: nil, markSequence: candidate.user.mark.sequence, numbers: [], digest: 0))
        continue
      }
      let items = poolItems(lists[index], snapshot, popular: popular, excluded: requests[index].excluded)
      let published = publishedItems(items)
      let digest = Self.digest(published.map(\.item))
      let previous = candidate.pool?.published
      let isDue = previous.map { $0.digest != digest || now - $0.time >= settings.ranker.maxAge.wholeMilliseconds } ?? true
      let pool = PoolRecord(
        modelVersion: snapshot.version, revision: candidate.revision + (isDue ? step : 0), items: items.map { StoredItemNumber(rawValue: $0.item) },
        scores: items.map(\.score), published: isDue ? nil : previous, madeTime: now)
      pools.append((candidate.user.user, pool))
      if isDue {
        publications.append(
          Publication(
            user: candidate.user.user,
            recommendation: recommendation(
              candidate.user.user, published, revision: pool.revision, model: snapshot.version, asOf: candidate.user.mark.asOf, now: now),
            markSequence: candidate.user.mark.sequence, numbers: published.map { StoredItemNumber(rawValue: $0.item) }, digest: digest,
            eventTime: candidate.user.mark.asOf.isOfStream ? candidate.user.mark.dueTime - settings.ranker.debounce.wholeMilliseconds : nil))
      } else {
        settled.append(candidate.user)
      }
    }
    try store.write { (transaction) throws(StateStoreError) in
      // The revision is stored before the list is sent, so that it rises whatever happens in between. What was published is not known from
      // here to the acknowledgement: a list that is never acknowledged may stand in the topic all the same.
      for (user, pool) in pools {
        // Unless the user was erased since they were read.
        if try transaction.sequence(of: user) != nil { try transaction.putPool(pool, of: user) }
      }
      for user in settled { try transaction.clearStale(user.user, ifSequence: user.mark.sequence) }
      try note(acknowledged, now, transaction)
    }
    landed(acknowledged)
    for publication in publications { inFlight.insert(publication.user) }
    return (publications, candidates.count, .milliseconds(max(0, now - longestDue.user.mark.dueTime)))
  }

  private func beginPublishing() throws(StateStoreError) -> UInt64 {
    if let revisionStep { return revisionStep }
    let step = try 1 + store.beginPublishing()
    revisionStep = step
    return step
  }

  /// No list goes out any more.
  func endPublishing() throws(StateStoreError) {
    if revisionStep != nil { try store.endPublishing() }
    revisionStep = nil
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
      return (record: try transaction.pool(of: key), revision: try transaction.revision(of: key))
    }
    let ranked = zip(popular, scores).compactMap { number, score in
      catalogue[number.rawValue].flatMap { $0.available && $0.row != nil ? Ranked(item: number.rawValue, score: score) : nil }
    }
    let items = publishedItems(ranked)
    guard !items.isEmpty else { return nil }
    let digest = Self.digest(items.map(\.item))
    guard digest != pool.record?.published?.digest else { return nil }
    let record = PoolRecord(
      modelVersion: 0, revision: try pool.revision + beginPublishing(), items: items.map { StoredItemNumber(rawValue: $0.item) },
      scores: items.map(\.score), madeTime: now)
    try store.write { (transaction) throws(StateStoreError) in try transaction.putPool(record, of: key) }
    inFlight.insert(key)
    return Publication(
      user: key, recommendation: recommendation(key, items, revision: record.revision, model: 0, asOf: nil, now: now), markSequence: nil,
      numbers: record.items, digest: digest)
  }

  /// The broker has these lists: their marks are cleared and what was published is noted.
  func acknowledge(_ publications: [Publication], now: Int64) throws {
    guard !publications.isEmpty else { return }
    try store.write { (transaction) throws(StateStoreError) in try note(publications, now, transaction) }
    landed(publications)
  }

  private func note(_ publications: [Publication], _ now: Int64, _ transaction: WriteTransaction) throws(StateStoreError) {
    for publication in publications {
      if let sequence = publication.markSequence { try transaction.clearStale(publication.user, ifSequence: sequence) }
      guard let recommendation = publication.recommendation, var pool = try transaction.pool(of: publication.user) else { continue }
      pool.published = PoolRecord.Publication(digest: publication.digest, count: recommendation.items.count, time: now)
      try transaction.putPool(pool, of: publication.user)
    }
  }

  private func landed(_ publications: [Publication]) {
    for publication in publications {
      inFlight.remove(publication.user)
      if let list = publication.recommendation {
        recentLists.add(
          RecentLists.List(
            user: publication.user, items: publication.numbers, revision: list.revision, modelVersion: list.model, madeTime: list.generatedAt))
      }
    }
  }

  /// When the next user is due, in milliseconds since 1970; nil when nobody is.
  func nextDueTime() throws(StateStoreError) -> Int64? {
    try store.read { (transaction) throws(StateStoreError) in try transaction.nextDueTime() }
  }

  /// The share of the items that may be recommended which stand in the newest published lists; nil without any.
  var catalogueCoverage: Double? {
    let items = catalogue.allowed.count { $0 }
    let shown = recentLists.itemCount
    return items > 0 && shown > 0 ? min(1, Double(shown) / Double(items)) : nil
  }

  /// These lists did not reach the broker: their users stay marked and are ranked again.
  func release(_ publications: [Publication]) {
    for publication in publications { inFlight.remove(publication.user) }
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
