import Datasets
import Events
public import Logging
import Pipeline
import Recommender
public import Settings

/// A first model from a shop's history, in a new store that a daemon then goes on with.
///
/// The model is trained as in a replay that goes on from a history: `LearnerRun`.
public struct FirstModel: Sendable {
  /// `store.path` is the new store.
  public var settings: Settings
  /// The type of interactions that have none.
  public var defaultType: String
  /// The most passes over the history, and after how many without a gain on held-out interactions training stops.
  public var maximumEpochs: Int
  public var patience: Int

  private static let batch = 10_000

  public init(settings: Settings, defaultType: String? = nil, maximumEpochs: Int = 200, patience: Int = 5) {
    self.settings = settings
    self.defaultType = defaultType ?? settings.events.types.first?.name ?? ""
    self.maximumEpochs = maximumEpochs
    self.patience = patience
  }

  /// Checks the history, fills the store, trains, and writes the checkpoint. Until then, and when that fails, there is no store.
  ///
  /// - Parameter now: milliseconds since 1970, which no interaction may be ahead of by more than `events.max_future_ms`.
  /// - Throws: ``BacktestError`` when the data don't fit the configuration or each other; `PipelineError`.
  public func train(
    _ data: BacktestData, now: Int64, logger: Logger, progress: @escaping (Backtest.Progress) -> Void = { _ in }
  ) throws -> FirstModelReport {
    let start = ContinuousClock.now
    try checkModalities(data)
    let types = try typeIndices(data.history)
    let history = data.history.orderedByTime(leavingOutRepeats: settings.events.deduplicate)
    try checkTimes(history, now: now)
    guard (0..<Int32(history.userCount)).contains(where: { history.events(of: $0).count > 1 }) else {
      throw BacktestError(.data, "no user has two interactions, so there is nothing to learn what comes after what from")
    }
    let store = try HistoryImport(settings: settings, logger: logger)
    defer { store.learner.stop() }
    do {
      let items = try takeItems(data, into: store, progress)
      try takeInteractions(history, types, into: store, progress)
      let numbers = StoreNumbers(
        items: items,
        users: (0..<Int32(history.userCount)).map { HistoryImport.learnerNumber(ofUser: history.userIdentifiers[$0]) }, types: types)
      let training = train(
        store.learner, BacktestData(history: history, items: data.items, features: data.features, numbers: numbers), progress)
      return FirstModelReport(
        users: history.userCount, items: history.itemCount, interactions: history.count, repeats: data.history.count - history.count,
        untypedAs: data.history.types.contains(0) ? defaultType : nil, passes: training.epochs,
        validationNDCG: training.validationNDCG, checkpoint: try store.finish(), seconds: (.now - start) / .seconds(1))
    } catch {
      store.discard()
      throw error
    }
  }

  // What the history and the configuration have to agree on.

  private func checkModalities(_ data: BacktestData) throws(BacktestError) {
    let wrong = data.modalities.filter { settings.model.modalities[$0.key] != $0.value }
    guard wrong.isEmpty else {
      let configured = settings.model.modalities
      let found = wrong.keys.sorted().map { name in
        "\(name) has \(data.modalities[name] ?? 0) numbers, configured \(configured[name].map { "are \($0)" } ?? "is no such vector")"
      }
      let needed = configured.merging(data.modalities) { $1 }.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }
      throw BacktestError(
        .configuration,
        "the features do not fit model.modalities: \(found.joined(separator: "; ")). Set model.modalities: "
          + "{\(needed.joined(separator: ", "))}, also for the daemon")
    }
  }

  /// For each of the history's types its place in `events.types`.
  private func typeIndices(_ history: InteractionHistory) throws(BacktestError) -> [UInt8] {
    let known = settings.events.types.map(\.name)
    var used = [Bool](repeating: false, count: history.typeNames.count)
    for type in history.types { used[Int(type)] = true }
    let names = history.typeNames.map { $0.isEmpty ? defaultType : $0 }
    let unknown = zip(names, used).filter { $1 && !known.contains($0) }.map { "\"\($0.0)\"" }
    guard unknown.isEmpty else {
      throw BacktestError(
        .configuration,
        "types of interactions that events.types does not name: \(unknown.joined(separator: ", ")); known are "
          + known.joined(separator: ", "))
    }
    return names.map { name in UInt8(clamping: known.firstIndex(of: name) ?? 0) }
  }

  /// The daemon takes no such events either.
  private func checkTimes(_ history: InteractionHistory, now: Int64) throws(BacktestError) {
    let latest = now + Int64(settings.events.maxFuture / .milliseconds(1))
    guard let event = history.times.firstIndex(where: { $0 < 0 || $0 > latest }) else { return }
    let time = history.times[event]
    throw BacktestError(
      .data,
      "the interaction of user \"\(history.userIdentifiers[history.users[event]])\" with item "
        + "\"\(history.itemIdentifiers[history.items[event]])\" is of \(Timestamp.rfc3339(time)), which is "
        + (time < 0 ? "before 1970" : "in the future"))
  }

  // Into the store.

  /// - Returns: the store's number of each of the history's items.
  private func takeItems(
    _ data: BacktestData, into store: HistoryImport, _ progress: (Backtest.Progress) -> Void
  ) throws -> [Recommender.ItemNumber] {
    var numbers: [Recommender.ItemNumber] = []
    numbers.reserveCapacity(data.itemCount)
    while numbers.count < data.itemCount {
      let items = numbers.count..<min(numbers.count + Self.batch, data.itemCount)
      numbers += try store.take(
        items: items.map { index in
          HistoryImport.Item(id: data.history.itemIdentifiers[Int32(index)], description: description(of: Int32(index), data))
        })
      progress(Backtest.Progress(stage: "storing, \(numbers.count) items", fraction: 0))
    }
    return numbers
  }

  private func description(of item: Int32, _ data: BacktestData) -> ItemDescription? {
    guard let table = data.items, data.isDescribed(item) else { return nil }
    let title = table.titles[Int(item)]
    return ItemDescription(
      item: table.identifiers[item], title: title.isEmpty ? nil : title, categories: table.categories(of: item),
      brand: table.brand(of: item), features: data.featureVectors(of: item).map { ItemDescription.Feature(name: $0.name, values: $0.values) })
  }

  private func takeInteractions(
    _ history: InteractionHistory, _ types: [UInt8], into store: HistoryImport, _ progress: (Backtest.Progress) -> Void
  ) throws {
    let order = history.chronologicalOrder()
    var taken = 0
    while taken < order.count {
      let events = order[taken..<min(taken + Self.batch, order.count)]
      try store.take(interactions: events.map { interaction(Int($0), history, types) })
      taken = events.endIndex
      progress(Backtest.Progress(stage: "storing, \(taken) interactions", fraction: Double(taken) / Double(order.count)))
    }
  }

  private func interaction(_ event: Int, _ history: InteractionHistory, _ types: [UInt8]) -> Interaction {
    let user = history.users[event]
    let value = history.values.isEmpty ? Float.nan : history.values[event]
    return Interaction(
      user: history.userIdentifiers[user], item: history.itemIdentifiers[history.items[event]], type: types[Int(history.types[event])],
      // Without times only the order is known: the store's times below 0 say that.
      time: history.times.isEmpty ? Int64(event - history.offsets[Int(user) + 1]) : history.times[event],
      value: value.isFinite ? Double(value) : nil)
  }

  private func train(
    _ learner: OnlineLearner, _ data: BacktestData, _ progress: @escaping (Backtest.Progress) -> Void
  ) -> LearnerRun.Training {
    let backtest = Backtest(
      plan: .prequential(warmup: 1, block: .event), learner: learner.configuration, stride: settings.learner.stride,
      window: settings.learner.windowInteractions, popularityWindow: settings.quality.popularityWindowEvents,
      guestWindow: settings.ranker.guestWindowEvents, allowsRepeats: settings.rules.excludeTypes != nil, maximumEpochs: maximumEpochs,
      patience: patience, skipsBaselines: true)
    var run = LearnerRun(backtest: backtest, learner: learner, data: data, seed: learner.configuration.seed, progress: progress)
    run.learn(history: data.history.chronologicalOrder().map { Int($0) }, validation: nil)
    return run.training
  }
}
