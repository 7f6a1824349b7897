public import DaemonSupport
import Events
import Kafka
import Kernels
public import Logging
public import Recommender
public import Settings
public import StateStore
import Synchronization

/// The daemon's services: ingest, learner and ranker, each on a thread of its own, over one store.
///
/// Started in the order store, model, topics, threads; stopped in the order ingest (what is in hand is committed), learner (a last
/// checkpoint), ranker (what is on its way is waited for).
public final class Daemon: Sendable {
  public let metrics: PipelineMetrics
  public let store: StateStore
  public let watchdog = Watchdog()
  private let live: LiveSettings
  private let logger: Logger
  private let shared: SharedState
  private let learnerWork = WorkSignal()
  private let rankerWork = WorkSignal()
  private let housekeepingWork = WorkSignal()
  private let requests: RequestService
  private let recentLists = RecentLists()
  private let isStopping = Atomic(false)
  private let threads = Mutex<[DedicatedThread]>([])
  private let firstFailure = Mutex<PipelineError?>(nil)
  private let onFailure: @Sendable (PipelineError) -> Void

  /// Starts the services; returns when they run.
  ///
  /// - Parameters:
  ///   - patience: how long the broker may take to answer.
  ///   - isStopping: ends that wait when it becomes true.
  ///   - onFailure: called once when a service can't go on; the owner then calls ``stop()``.
  /// - Throws: ``PipelineError``.
  public init(
    settings: Settings, logger: Logger, patience: Duration = .seconds(30), isStopping: () -> Bool = { false },
    onFailure: @escaping @Sendable (PipelineError) -> Void
  ) throws(PipelineError) {
    self.logger = logger
    self.onFailure = onFailure
    live = LiveSettings(settings)
    metrics = PipelineMetrics(k: settings.quality.k)
    do {
      try selfTest()
      store = try StateStore.open(at: settings.store.path, options: StateStore.Options(settings))
      requests = RequestService(store: store, settings: live)
      // The types' codes are given before anything reads them.
      try Ingest.typeCodes(store, settings)
      let learning = try Learning(store: store, settings: settings, logger: logger.for("learner"))
      shared = SharedState(snapshot: learning.learner.snapshot)
      metrics.snapshot(learning.learner.snapshot.version)
      try Topics(settings: settings, logger: logger).ensure(patience: patience, isStopping: isStopping)
      try start(learning)
    } catch let error as KafkaError where error.code == .invalidConfiguration {
      throw PipelineError(.configuration, "kafka.properties: \(error)")
    } catch {
      throw PipelineError(error)
    }
  }

  private func start(_ learning: Learning) throws {
    let settings = live.current
    let ranks = BoundedQueue<[(model: Int?, popularity: Int?)]>(capacity: 256)
    // Each service is made here, so that its errors are the start's, and then belongs to its thread alone.
    nonisolated(unsafe) let ingest = try IngestService(
      settings: live, store: store, shared: shared, metrics: metrics, logger: logger.for("ingest"),
      heartbeat: watchdog.register("ingest", bound: .seconds(60)),
      isStopping: { [self] in isStopping.load(ordering: .relaxed) },
      onCommit: { [learnerWork, rankerWork] in
        learnerWork.wake()
        rankerWork.wake()
      },
      // A guard that lags behind misses ranks; ingestion never waits for it.
      onRanks: { _ = ranks.push($0, timeout: .zero) })
    nonisolated(unsafe) let learner = LearnerService(
      learning: learning, settings: live, shared: shared, metrics: metrics, logger: logger.for("learner"),
      heartbeat: watchdog.register("learner", bound: .seconds(120)), work: learnerWork, ranks: ranks,
      onSnapshot: { [rankerWork] in rankerWork.wake() })
    nonisolated(unsafe) let ranker = try RankerService(
      ranking: Ranking(store: store, settings: settings, recentLists: recentLists, threads: settings.ranker.threads), settings: live,
      shared: shared, metrics: metrics, logger: logger.for("ranker"), heartbeat: watchdog.register("ranker", bound: .seconds(60)), work: rankerWork)
    nonisolated(unsafe) let housekeeping = Housekeeping(
      store: store, settings: live, metrics: metrics, logger: logger.for("housekeeping"), work: housekeepingWork)
    try run("ranker") { try ranker.run() }
    try run("learner", priority: ThreadPriority(settings.learner.cpuPriority)) { try learner.run() }
    try run("ingest") { try ingest.run() }
    try run("housekeeping") { housekeeping.run() }
    try run("requests") { [requests] in requests.run() }
  }

  private func run(_ name: String, priority: ThreadPriority = .normal, _ body: @escaping @Sendable () throws -> Void) throws(SystemError) {
    let thread = try DedicatedThread(name: name, priority: priority) { [weak self] in
      do {
        useSingleThreadedProducts()
        try body()
      } catch {
        self?.failed(name, PipelineError(error))
      }
    }
    threads.withLock { $0.append(thread) }
  }

  private func failed(_ name: String, _ error: PipelineError) {
    logger.critical("a service can't go on", metadata: ["service": "\(name)", "error": "\(error)"])
    let isFirst = firstFailure.withLock { failure in
      defer { failure = failure ?? error }
      return failure == nil
    }
    if isFirst { onFailure(error) }
  }

  /// Stops the services in order, within the configured time. Blocks: call it from a thread that may wait.
  ///
  /// - Returns: false when a service did not end in time; what it had committed is safe.
  @discardableResult
  public func stop() -> Bool {
    let deadline = ContinuousClock.now + live.current.lifecycle.shutdownTimeout
    isStopping.store(true, ordering: .relaxed)
    housekeepingWork.close()
    requests.close()
    var isClean = join(["ingest"], deadline)
    learnerWork.close()
    isClean = join(["learner"], deadline) && isClean
    rankerWork.close()
    isClean = join(["ranker", "housekeeping", "requests"], deadline) && isClean
    if !isClean { logger.error("a service did not stop in time") }
    return isClean
  }

  private func join(_ names: [String], _ deadline: ContinuousClock.Instant) -> Bool {
    let waiting = threads.withLock { $0.filter { names.contains($0.name) } }
    return waiting.allSatisfy { thread in (try? thread.join(timeout: max(.zero, deadline - .now))) ?? true }
  }

  /// Takes over what may change at run time.
  ///
  /// - Returns: what was taken over and what needs a restart.
  public func reload(_ settings: Settings) -> SettingsChanges {
    let changes = SettingsChanges(from: live.current, to: settings)
    live.current = changes.result
    return changes
  }

  public var settings: Settings { live.current }

  /// The newest policy that ranks.
  public var snapshot: ModelSnapshot { shared.snapshot }

  /// The list that the user has: the pool whose first items are published, or the popular list for a user without one.
  public func storedList(of user: String, _ filter: ListFilter) throws(PipelineError) -> RequestedList {
    do {
      let list = try store.read { (transaction) throws(StateStoreError) -> RequestedList? in
        guard let pool = try transaction.pool(of: user) else { return nil }
        return RequestedList(
          source: .published, items: try transaction.select(zip(pool.items, pool.scores), filter, categoryCap: settings.rules.categoryCap),
          revision: pool.revision, modelVersion: pool.modelVersion, madeTime: pool.madeTime)
      }
      return try list ?? popularList(filter)
    } catch {
      throw PipelineError(error)
    }
  }

  /// The list that the user would have now, by the newest snapshot; nothing is stored or published.
  public func freshList(of user: String, _ filter: ListFilter) async throws(PipelineError) -> RequestedList {
    try await fresh(filter) { ranking, snapshot in try ranking.list(of: user, filter, snapshot: snapshot) }
  }

  /// The list of somebody without an id, for the items of their session, oldest first. Items that are not known are passed over.
  public func freshList(session items: [String], _ filter: ListFilter) async throws(PipelineError) -> RequestedList {
    try await fresh(filter) { ranking, snapshot in try ranking.list(session: items, filter, snapshot: snapshot) }
  }

  private func fresh(
    _ filter: ListFilter, _ rank: @escaping @Sendable (Ranking, ModelSnapshot) throws -> [RequestedList.Entry]?
  ) async throws(PipelineError) -> RequestedList {
    let snapshot = snapshot
    guard let items = try await requests.perform({ try rank($0, snapshot) }) else {
      do { return try popularList(filter) } catch { throw PipelineError(error) }
    }
    return RequestedList(source: .fresh, items: items, modelVersion: snapshot.version, madeTime: millisecondsSince1970())
  }

  /// The items with the most similar vectors, best first, without the item itself; nil when the item is not in the catalogue or not in the
  /// snapshot yet.
  public func similarItems(to item: String, _ filter: ListFilter) async throws(PipelineError) -> [RequestedList.Entry]? {
    let snapshot = snapshot
    return try await requests.perform { try $0.similar(to: item, filter, snapshot: snapshot) }
  }

  /// Why each of a list's items is in it, by the newest snapshot and what the user did up to now; in the list's order.
  public func explain(_ list: RequestedList, to user: String) async throws(PipelineError) -> [Explanation] {
    let snapshot = snapshot
    return try await requests.perform { try $0.explain(list.items.map(\.item), to: user, snapshot: snapshot) }
  }

  /// How the user's published list changed since the daemon's start, as far as the newest lists of all users tell; the newest change first.
  public func listChanges(of user: String, limit: Int) -> [ListChange] { recentLists.changes(of: user, limit: limit) }

  private func popularList(_ filter: ListFilter) throws(StateStoreError) -> RequestedList {
    let popular = shared.popular
    return try store.read { (transaction) throws(StateStoreError) in
      RequestedList(
        source: .popular, items: try transaction.select(zip(popular.items, popular.scores), filter, categoryCap: settings.rules.categoryCap))
    }
  }

  /// Why nobody should rely on the daemon now; empty when it serves.
  public var unreadyReasons: [String] {
    (isStopping.load(ordering: .relaxed) ? ["the daemon is stopping"] : [])
      + (metrics.current.stoppedBecause.map { ["consumption stands still: \($0)"] } ?? [])
      + watchdog.stalls().map(\.description) + (firstFailure.withLock { $0 }.map { [$0.message] } ?? [])
  }

  /// Asks for a user to be erased, by the tombstone that everybody may write to the topic of interactions: so it takes its place in the
  /// user's order of events.
  ///
  /// - Throws: ``PipelineError`` with `unavailable` when the broker does not take it.
  public func forget(user: String) throws(PipelineError) {
    do {
      let producer = try Producer(properties: live.current.kafka.producerProperties, observers: .daemon(logger, metrics))
      defer { producer.close(within: .seconds(1)) }
      _ = try producer.produce(topic: live.current.topics.interactions, key: Array(user.utf8), value: nil)
      for report in producer.flush(within: .seconds(5)).deliveries { _ = try report.result.get() }
      guard producer.outstandingCount == 0 else { throw PipelineError(.unavailable, "the broker does not answer") }
    } catch {
      throw PipelineError(error)
    }
  }
}

extension ThreadPriority {
  fileprivate init(_ setting: Settings.CPUPriority) {
    self =
      switch setting {
      case .normal: .normal
      case .low: .low
      case .idle: .idle
      }
  }
}

extension PipelineError {
  /// Any service's error by what it means for the daemon.
  package init(_ error: any Error) {
    switch error {
    case let error as PipelineError: self = error
    case let error as KafkaError: self.init(.unavailable, error.description)
    case let error as StateStoreError: self.init(.storage, error.description)
    case let error as KernelError: self.init(.failed, error.description)
    case let error as InvalidPointer: self.init(.configuration, "\(error)")
    default: self.init(.failed, "\(error)")
    }
  }
}

extension StateStore.Options {
  /// The store's options as they are configured.
  public init(_ settings: Settings) {
    self.init(
      initialBytes: settings.store.mapSizeBytes, maximumBytes: settings.store.maxBytes,
      sequenceLength: settings.model.maximumSequenceLength, lateInteractionBound: settings.events.maxLate.wholeMilliseconds,
      deduplicates: settings.events.deduplicate, maximumItems: settings.store.maxItems,
      admissionInteractions: settings.store.admissionInteractions)
  }
}

extension Logger {
  /// A logger of one service.
  func `for`(_ service: String) -> Logger {
    var logger = self
    logger[metadataKey: "service"] = "\(service)"
    return logger
  }
}
