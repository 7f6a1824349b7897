import DaemonSupport
import Logging
import Recommender
import Settings
import StateStore

/// Runs ``Learning`` on a thread of its own: strides as interactions come, snapshots to the ranker, checkpoints by the clock, and the
/// quality guard. It never holds up ingestion.
final class LearnerService {
  private let learning: Learning
  private let settings: LiveSettings
  private let shared: SharedState
  private let metrics: PipelineMetrics
  private let logger: Logger
  private let heartbeat: Watchdog.Heartbeat
  private let work: WorkSignal
  private let ranks: BoundedQueue<[(model: Int?, popularity: Int?)]>
  private let onSnapshot: () -> Void
  private var qualityGuard: QualityGuard
  /// This thread's processor time when it last stood back.
  private var processorTime = Duration.zero
  /// nil where the thread's priority is one throughout.
  private var spareTime: SpareTime?
  /// How late lists may be before the learner stands back.
  private static let toleratedLateness = Duration.milliseconds(20)

  /// - Parameters:
  ///   - work: woken when the journal grew, closed to stop.
  ///   - ranks: the live ranks of what was ingested, for the guard.
  init(
    learning: Learning, settings: LiveSettings, shared: SharedState, metrics: PipelineMetrics, logger: Logger, heartbeat: Watchdog.Heartbeat,
    work: WorkSignal, ranks: BoundedQueue<[(model: Int?, popularity: Int?)]>, onSnapshot: @escaping () -> Void
  ) {
    self.learning = learning
    self.settings = settings
    self.shared = shared
    self.metrics = metrics
    self.logger = logger
    self.heartbeat = heartbeat
    self.work = work
    self.ranks = ranks
    self.onSnapshot = onSnapshot
    qualityGuard = QualityGuard(QualityGuard.Configuration(settings.current.learner))
  }

  /// Learns until told to stop, then writes a last checkpoint.
  func run() throws {
    // The threads that made the first snapshot do not have this one's priority.
    learning.learner.stop()
    learning.learner.betweenPieces = { [unowned self] in standBack() }
    defer { learning.learner.stop() }
    // Where cores are short, lists are to be fresh first: the learner samples what it has no time for.
    if settings.current.learner.cpuPriority == .low { spareTime = SpareTime() }
    var lastStride = ContinuousClock.now
    var lastCheckpoint = ContinuousClock.now
    while !work.isClosed {
      heartbeat.beat()
      let settings = settings.current
      learning.reconfigure(settings)
      let isPartialDue = ContinuousClock.now - lastStride >= settings.learner.snapshotInterval
      let start = ContinuousClock.now
      spareTime?.begin()
      if let progress = try learning.step(partial: isPartialDue && !settings.learner.deterministic) {
        publishSnapshot()
        lastStride = .now
        metrics.learned(progress, version: learning.learner.snapshot.version, backlog: try learning.backlog(), time: .now - start)
      } else if isPartialDue, try followItems(settings) {
        // New items are recommendable at once, before anything was learned of them.
        learning.learner.renewSnapshot()
        publishSnapshot()
        lastStride = .now
      } else {
        work.wait(.milliseconds(100))
      }
      try watchQuality(settings)
      if ContinuousClock.now - lastCheckpoint >= settings.learner.checkpointInterval {
        try checkpoint()
        lastCheckpoint = .now
      }
    }
    try checkpoint()
  }

  /// - Returns: whether there is something new of the items.
  private func followItems(_ settings: Settings) throws -> Bool {
    let changed = try learning.followCatalogue()
    // What strides learn from may not depend on the clock in the deterministic mode.
    let related = !settings.learner.deterministic && learning.learner.relateContent()
    return changed || related
  }

  /// Lets ranking catch up where cores are short, which no priority brings about by itself: two busy threads may share a core while another
  /// one learns. It waits at most nine times as long as it computed, so that a tenth of a core is left for learning whatever comes.
  private func standBack() {
    if spareTime?.end() ?? false { learning.learner.stop() }
    defer { spareTime?.begin() }
    let stopped = ContinuousClock.now
    let longest = (threadProcessorTime() - processorTime) * 9
    while shared.lateness > Self.toleratedLateness, ContinuousClock.now - stopped < longest, !work.isClosed { work.wait(.milliseconds(2)) }
    processorTime = threadProcessorTime()
  }

  private func publishSnapshot() {
    let snapshot = learning.learner.snapshot
    // Users go on with the last snapshot that is sound.
    guard snapshot.isFinite else {
      logger.error("a snapshot with numbers that are not finite is not published", metadata: ["version": "\(snapshot.version)"])
      return
    }
    shared.snapshot = snapshot
    metrics.snapshot(snapshot.version)
    onSnapshot()
  }

  private func checkpoint() throws {
    let before = learning.newestEntry?.modelVersion
    do {
      try learning.checkpoint()
      if let entry = learning.newestEntry, entry.modelVersion != before { metrics.checkpointed(entry.name, version: entry.modelVersion) }
    } catch let error as StateStoreError where error.isOutOfRoom || error.code == .io {
      // Learning goes on; the checkpoint before stays the newest.
      logger.error("no checkpoint could be written", metadata: ["error": "\(error)"])
    }
  }

  private func watchQuality(_ settings: Settings) throws {
    guard settings.learner.guardRelativeDrop > 0, !settings.learner.deterministic else { return }
    while case .element(let batch) = ranks.pop(timeout: .zero) {
      for rank in batch {
        switch qualityGuard.record(model: rank.model, popularity: rank.popularity) {
        case .pending: break
        case .good: learning.markGood()
        case .fallen(let ndcg, let good):
          guard let name = try learning.rollBack() else { continue }
          metrics.rolledBack(to: name, version: learning.learner.snapshot.version)
          logger.critical(
            "live quality fell significantly: the model goes back to its last good checkpoint",
            metadata: ["ndcg": "\(ndcg)", "good_ndcg": "\(good)", "checkpoint": "\(name)"])
          qualityGuard = QualityGuard(QualityGuard.Configuration(settings.learner))
          publishSnapshot()
        }
      }
    }
  }
}

extension QualityGuard.Configuration {
  init(_ learner: Settings.Learner) {
    self.init(
      relativeDrop: learner.guardRelativeDrop, significance: learner.guardSignificance, blockEvents: learner.guardMinimumEvents)
  }
}
