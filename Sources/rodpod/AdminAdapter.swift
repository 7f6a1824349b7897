import AdminAPI
import DaemonSupport
import Foundation
import Pipeline
import Recommender
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
    return StatusReport(
      version: BuildInformation.version, events: totals.events, lag: totals.lag, deadLetters: totals.deadLetters,
      deadLetterSamples: totals.deadLetterSamples.reversed().map { sample in
        DeadLetterSample(
          time: date(sample.time), reason: sample.reason, message: sample.message, topic: sample.topic, partition: sample.partition,
          offset: sample.offset, value: sample.value)
      },
      learningSteps: totals.learningSteps, learningBacklog: totals.learningBacklog, loss: totals.crossEntropy,
      modelVersion: totals.modelVersion, modelEvents: totals.modelEvents.reversed().map(modelEvent),
      expertLoad: totals.expertLoad.map(Double.init), listsPublished: totals.listsPublished, staleUsers: totals.staleUsers,
      latency: totals.latency.map { Latency(median: $0.median / .seconds(1), percentile99: $0.percentile99 / .seconds(1)) },
      catalogueCoverage: totals.catalogueCoverage, quality: quality(totals.quality))
  }

  private func quality(_ quality: PipelineMetrics.Quality) -> LiveQuality? {
    guard quality.events > 0 else { return nil }
    return LiveQuality(
      k: daemon.settings.quality.k, window: quality.events, model: RankingQuality(quality.model),
      popularity: RankingQuality(quality.popularity), newItems: RankingQuality(quality.newItems), newUsers: RankingQuality(quality.newUsers),
      poolHitRate: quality.poolHitRate)
  }

  private func modelEvent(_ event: PipelineMetrics.ModelEvent) -> ModelEvent {
    ModelEvent(
      kind: event.kind == .rollback ? .rollback : .checkpoint, time: date(event.time), version: event.version, checkpoint: event.checkpoint,
      model: event.quality.map { RankingQuality($0.model) }, popularity: event.quality.map { RankingQuality($0.popularity) })
  }

  func recommendations(user: String, fresh: Bool, _ options: ListOptions) async throws -> RecommendationList {
    let list = try await answering { () async throws(PipelineError) in
      try await fresh ? daemon.freshList(of: user, ListFilter(options)) : daemon.storedList(of: user, ListFilter(options))
    }
    var answer = self.list(list, user: user)
    guard options.explains else { return answer }
    let explanations = try await answering { () async throws(PipelineError) in try await daemon.explain(list, to: user) }
    for (index, why) in explanations.enumerated() {
      answer.items[index].nearest = why.nearest.map(scored)
      answer.items[index].parts = why.parts.map {
        ScoredItem.Parts(encoder: Double($0.encoder), bias: Double($0.bias), neighborhood: Double($0.neighborhood))
      }
      answer.items[index].idShare = why.idShare.map(Double.init)
    }
    return answer
  }

  func recommendations(session items: [String], _ options: ListOptions) async throws -> RecommendationList {
    let list = try await answering { () async throws(PipelineError) in
      try await daemon.freshList(session: items, ListFilter(options))
    }
    return self.list(list, user: nil)
  }

  private func list(_ list: RequestedList, user: String?) -> RecommendationList {
    let source: RecommendationList.Source =
      switch list.source {
      case .published: .published
      case .fresh: .fresh
      case .popular: .popular
      }
    return RecommendationList(
      user: user, items: list.items.map(scored), source: source, revision: list.revision, model: list.modelVersion,
      generatedAt: list.madeTime.map(date))
  }

  private func scored(_ entry: RequestedList.Entry) -> ScoredItem {
    ScoredItem(item: entry.item.id, title: entry.item.description?.title, score: Double(entry.score))
  }

  /// So many changes of a user's list are shown.
  private static let shownChanges = 10

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
      var changes: [UserDetails.Change] = []
      for change in daemon.listChanges(of: id, limit: Self.shownChanges) {
        var moves: [UserDetails.Move] = []
        for move in change.moves {
          let item = try transaction.item(move.item)
          moves.append(UserDetails.Move(item: item?.id ?? "", title: item?.description?.title, from: move.from, to: move.to))
        }
        changes.append(
          UserDetails.Change(revision: change.revision, model: change.modelVersion, generatedAt: date(change.madeTime), moves: moves))
      }
      return UserDetails(user: id, sequence: shown, changes: changes)
    } ?? { throw LookupError(.notFound) }()
  }

  func item(_ id: String) async throws -> ItemDetails {
    guard let item = try read({ (transaction) throws(StateStoreError) in try transaction.item(id: id) }) else { throw LookupError(.notFound) }
    let description = item.description
    return ItemDetails(
      item: id, title: description?.title, categories: description?.categories ?? [], brand: description?.brand, price: description?.price,
      available: item.row != nil && description?.available ?? true, features: (description?.features ?? [:]).mapValues(\.count))
  }

  func similarItems(to id: String, _ options: ListOptions) async throws -> [ScoredItem] {
    let items = try await answering { () async throws(PipelineError) in try await daemon.similarItems(to: id, ListFilter(options)) }
    guard let items else { throw LookupError(.notFound) }
    return items.map(scored)
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

  private func answering<Result: Sendable>(_ body: () async throws(PipelineError) -> Result) async throws -> Result {
    do {
      return try await body()
    } catch {
      throw LookupError(error.code == .unavailable ? .unavailable : .failed, error.message)
    }
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

extension ListFilter {
  init(_ options: ListOptions) {
    self.init(count: options.limit, categories: Set(options.categories), excluded: Set(options.excluded))
  }
}

extension RankingQuality {
  init(_ figures: PipelineMetrics.Quality.Figures) {
    self.init(hitRate: figures.hitRate, ndcg: figures.ndcg, mrr: figures.mrr)
  }
}
