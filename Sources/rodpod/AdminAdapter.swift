import AdminAPI
import DaemonSupport
import Foundation
import Pipeline
import class Recommender.ModelSnapshot
import Settings
import StateStore

/// Answers the admin server's questions from the running daemon.
struct AdminAdapter: StatusSource, LookupService {
  let daemon: Daemon
  let registry: MetricsRegistry

  func unreadyReasons() async -> [String] { daemon.unreadyReasons }

  func metricsText() async -> String { registry.render() }

  func report() async -> StatusReport {
    let totals = daemon.metrics.current
    let quality = totals.quality
    return StatusReport(
      version: BuildInformation.version, events: totals.events, lag: totals.lag, deadLetters: totals.deadLetters,
      learningSteps: totals.learningSteps, loss: totals.crossEntropy, modelVersion: totals.modelVersion, listsPublished: totals.listsPublished,
      staleUsers: totals.staleUsers,
      quality: quality.events == 0
        ? nil
        : LiveQuality(
          k: daemon.settings.quality.k, window: quality.events, model: RankingQuality(quality.model),
          popularity: RankingQuality(quality.popularity)))
  }

  func recommendations(user: String, limit: Int) async throws -> RecommendationList {
    let pool = try read { (transaction) throws(StateStoreError) -> (PoolRecord, [ScoredItem])? in
      guard let pool = try transaction.pool(of: user) else { return nil }
      return (pool, try scored(zip(pool.items, pool.scores).prefix(limit).map { ($0, Double($1)) }, transaction))
    }
    if let (pool, items) = pool {
      return RecommendationList(
        user: user, items: items, source: .published, revision: pool.revision, model: pool.modelVersion, generatedAt: date(pool.madeTime))
    }
    let popular = try daemon.popularItems(limit: limit)
    return RecommendationList(user: user, items: popular.map { ScoredItem(item: $0.id, score: Double($0.count)) }, source: .popular)
  }

  func user(_ id: String) async throws -> UserDetails {
    try read { (transaction) throws(StateStoreError) -> UserDetails? in
      guard let sequence = try transaction.sequence(of: id) else { return nil }
      let types = try transaction.interactionTypes()
      var shown: [UserDetails.Interaction] = []
      for interaction in sequence.interactions.reversed() {
        let item = try transaction.item(interaction.item)
        let code = Int(interaction.type.rawValue)
        shown.append(
          UserDetails.Interaction(
            item: item?.id ?? "", title: item?.description?.title, type: types.indices.contains(code) ? types[code] : "",
            time: interaction.knownTime.map(date)))
      }
      return UserDetails(user: id, sequence: shown)
    } ?? { throw LookupError(.notFound) }()
  }

  func item(_ id: String) async throws -> ItemDetails {
    guard let item = try read({ (transaction) throws(StateStoreError) in try transaction.item(id: id) }) else { throw LookupError(.notFound) }
    let description = item.description
    return ItemDetails(
      item: id, title: description?.title, categories: description?.categories ?? [], brand: description?.brand, price: description?.price,
      available: item.row != nil && description?.available ?? true, features: (description?.features ?? [:]).mapValues(\.count))
  }

  func similarItems(to id: String, limit: Int) async throws -> [ScoredItem] {
    let snapshot = daemon.snapshot
    guard let item = try read({ (transaction) throws(StateStoreError) in try transaction.item(id: id) }), let row = item.row,
      Int(row) < snapshot.rowCount
    else { throw LookupError(.notFound) }
    let similar = snapshot.similar(to: Int32(bitPattern: row), count: limit)
    return try read { (transaction) throws(StateStoreError) in
      try scored(
        similar.compactMap { pair in snapshot.owners[Int(pair.row)].map { (ItemNumber(rawValue: $0), Double(pair.similarity)) } }, transaction)
    }
  }

  func forgetUser(_ id: String) async throws {
    do { try daemon.forget(user: id) } catch { throw LookupError(.unavailable, error.message) }
  }

  func model() async throws -> ModelDetails {
    let totals = daemon.metrics.current
    let snapshot = daemon.snapshot
    return ModelDetails(
      version: snapshot.version, steps: totals.learningSteps, parameters: snapshot.parameterCount,
      items: snapshot.owners.count { $0 != nil }, hyperparameters: daemon.settings.modelDescription)
  }

  private func scored(_ items: [(ItemNumber, Double)], _ transaction: ReadTransaction) throws(StateStoreError) -> [ScoredItem] {
    var result: [ScoredItem] = []
    for (number, score) in items {
      guard let item = try transaction.item(number) else { continue }
      result.append(ScoredItem(item: item.id, title: item.description?.title, score: score))
    }
    return result
  }

  private func read<Result>(_ body: (ReadTransaction) throws(StateStoreError) -> Result) throws -> Result {
    do {
      return try daemon.store.read(body)
    } catch {
      throw LookupError(.failed, error.description)
    }
  }

  private func date(_ milliseconds: Int64) -> Date { Date(timeIntervalSince1970: Double(milliseconds) / 1000) }
}

extension RankingQuality {
  init(_ figures: PipelineMetrics.Quality.Figures) {
    self.init(hitRate: figures.hitRate, ndcg: figures.ndcg, mrr: figures.mrr)
  }
}
