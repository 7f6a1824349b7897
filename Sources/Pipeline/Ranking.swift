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
  /// Of the items, to see whether a later list differs.
  var digest: UInt64
}

/// Ranks stale users with the newest snapshot, stores their pools, and says what has to be published. It knows no Kafka and no threads.
/// One thread owns it.
final class Ranking {
  private let store: StateStore
  var settings: Settings {
    didSet { excludes = Self.excludes(typeNames, settings) }
  }
  private let ranker = TopKRanker()
  private var catalogue = CatalogueView()
  /// By the store's type code: whether items with such an interaction are left out.
  private var excludes: [Bool]
  private let typeNames: [String]
  /// In milliseconds; more than a reload of the debounce, or a clock that is adjusted, makes of a difference.
  private static let clockTolerance: Int64 = 60_000
  /// Users whose list is on its way to the broker: they are not ranked again before that is settled.
  private(set) var inFlight: Set<String> = []

  init(store: StateStore, settings: Settings) throws(StateStoreError) {
    self.store = store
    self.settings = settings
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
  /// - Returns: the lists, and how many users were ranked.
  func rankStale(
    snapshot: ModelSnapshot, popular: [StoredItemNumber], now: Int64
  ) throws -> (publications: [Publication], ranked: Int) {
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
    guard !candidates.isEmpty else { return ([], 0) }
    let requests = candidates.map { request($0.sequence) }
    let lists = ranker.rank(
      requests, count: settings.pool.size, snapshot: snapshot, allowed: catalogue.allowed, lookup: catalogue.row(of:))
    var publications: [Publication] = []
    var pools: [(user: String, pool: PoolRecord)] = []
    var settled: [StaleUser] = []
    for (index, candidate) in candidates.enumerated() {
      guard candidate.sequence != nil else {
        publications.append(
          Publication(user: candidate.user.user, recommendation: nil, markSequence: candidate.user.mark.sequence, digest: 0))
        continue
      }
      let items = poolItems(lists[index], snapshot, popular: popular, excluded: requests[index].excluded)
      let published = publishedItems(items)
      let digest = Self.digest(published.map(\.item))
      let previous = candidate.pool?.published
      let isDue = previous.map { $0.digest != digest || now - $0.time >= settings.ranker.maxAge.wholeMilliseconds } ?? true
      let pool = PoolRecord(
        modelVersion: snapshot.version, revision: candidate.revision + (isDue ? 1 : 0), items: items.map { StoredItemNumber(rawValue: $0.item) },
        scores: items.map(\.score), published: isDue ? nil : previous, madeTime: now)
      pools.append((candidate.user.user, pool))
      if isDue {
        publications.append(
          Publication(
            user: candidate.user.user,
            recommendation: recommendation(
              candidate.user.user, published, revision: pool.revision, model: snapshot.version, asOf: candidate.user.mark.asOf, now: now),
            markSequence: candidate.user.mark.sequence, digest: digest))
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
    }
    for publication in publications { inFlight.insert(publication.user) }
    return (publications, candidates.count)
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
      modelVersion: 0, revision: pool.revision + 1, items: items.map { StoredItemNumber(rawValue: $0.item) }, scores: items.map(\.score),
      madeTime: now)
    try store.write { (transaction) throws(StateStoreError) in try transaction.putPool(record, of: key) }
    inFlight.insert(key)
    return Publication(
      user: key, recommendation: recommendation(key, items, revision: record.revision, model: 0, asOf: nil, now: now), markSequence: nil,
      digest: digest)
  }

  /// The broker has these lists: their marks are cleared and what was published is noted.
  func acknowledge(_ publications: [Publication], now: Int64) throws {
    guard !publications.isEmpty else { return }
    try store.write { (transaction) throws(StateStoreError) in
      for publication in publications {
        if let sequence = publication.markSequence { try transaction.clearStale(publication.user, ifSequence: sequence) }
        guard let recommendation = publication.recommendation, var pool = try transaction.pool(of: publication.user) else { continue }
        pool.published = PoolRecord.Publication(digest: publication.digest, count: recommendation.items.count, time: now)
        try transaction.putPool(pool, of: publication.user)
      }
    }
    for publication in publications { inFlight.remove(publication.user) }
  }

  /// These lists did not reach the broker: their users stay marked and are ranked again.
  func release(_ publications: [Publication]) {
    for publication in publications { inFlight.remove(publication.user) }
  }

  private struct Ranked {
    var item: UInt32
    var score: Float
  }

  private func request(_ sequence: UserSequence?) -> RankingRequest {
    let interactions = sequence?.interactions ?? []
    let excluded = interactions.filter { excludes.indices.contains(Int($0.type.rawValue)) ? excludes[Int($0.type.rawValue)] : true }
    // When the list will be read is not known, hence no "now".
    return RankingRequest(
      events: interactions.map(ItemEvent.init), excluded: Array(Set(excluded.compactMap { catalogue.row(of: $0.item.rawValue) })))
  }

  private func poolItems(
    _ list: [RankedItem], _ snapshot: ModelSnapshot, popular: [StoredItemNumber], excluded: [Int32]
  ) -> [Ranked] {
    if !list.isEmpty {
      return list.compactMap { ranked in
        // Since the snapshot the row may have gone to another item.
        guard let item = snapshot.owners[Int(ranked.row)], catalogue.row(of: item) == ranked.row else { return nil }
        return Ranked(item: item, score: ranked.score)
      }
    }
    let allowed = popular.filter { number in
      catalogue[number.rawValue].map { entry in entry.available && entry.row.map { !excluded.contains($0) } ?? false } ?? false
    }
    return allowed.enumerated().map { Ranked(item: $1.rawValue, score: -Float($0)) }
  }

  /// The first K, no more of a category than the cap allows.
  private func publishedItems(_ items: [Ranked]) -> [Ranked] {
    let cap = settings.rules.categoryCap
    guard cap > 0 else { return Array(items.prefix(settings.ranker.topK)) }
    var counts: [String: Int] = [:]
    var result: [Ranked] = []
    for item in items where result.count < settings.ranker.topK {
      let categories = catalogue[item.item]?.categories ?? []
      guard categories.allSatisfy({ counts[$0, default: 0] < cap }) else { continue }
      for category in categories { counts[category, default: 0] += 1 }
      result.append(item)
    }
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

/// What the services hand to each other: immutable values under a lock.
final class SharedState: Sendable {
  private let snapshots: Mutex<ModelSnapshot>
  private let popularItems = Mutex<(items: [StoredItemNumber], scores: [Float])>(([], []))

  init(snapshot: ModelSnapshot) { snapshots = Mutex(snapshot) }

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
  /// The popular list of so many items.
  func popularList(_ count: Int) -> (items: [StoredItemNumber], scores: [Float]) {
    let items = popularity.top(count) { _ in true }
    return (items.map { StoredItemNumber(rawValue: UInt32(bitPattern: $0)) }, items.map { Float(popularity.count(of: $0)) })
  }
}
