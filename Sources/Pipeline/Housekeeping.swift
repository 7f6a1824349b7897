import Kafka
import Logging
import Settings
import StateStore

/// What has to be done by the clock: gauges of the store, a line of figures in the log, dead readers, a look at the consumer group.
final class Housekeeping {
  private let store: StateStore
  private let settings: LiveSettings
  private let metrics: PipelineMetrics
  private let logger: Logger
  private let work: WorkSignal

  init(store: StateStore, settings: LiveSettings, metrics: PipelineMetrics, logger: Logger, work: WorkSignal) {
    self.store = store
    self.settings = settings
    self.metrics = metrics
    self.logger = logger
    self.work = work
  }

  func run() {
    var lastLine = ContinuousClock.now
    var lastLook = ContinuousClock.now - .seconds(25)
    var linesBefore: PipelineMetrics.Totals?
    while !work.isClosed {
      work.wait(.seconds(1))
      do {
        let info = try store.info()
        metrics.store(used: info.usedBytes, map: info.mapBytes, staleUsers: info.staleUsers)
      } catch {
        logger.warning("the store can't be measured", metadata: ["error": "\(error)"])
      }
      if ContinuousClock.now - lastLine >= settings.current.quality.logInterval {
        log(since: linesBefore, over: ContinuousClock.now - lastLine)
        linesBefore = metrics.current
        lastLine = .now
      }
      if ContinuousClock.now - lastLook >= .seconds(30), !work.isClosed {
        lastLook = .now
        lookAtGroup()
        do { try store.clearDeadReaders() } catch { logger.warning("dead readers can't be cleared", metadata: ["error": "\(error)"]) }
      }
    }
  }

  private func log(since before: PipelineMetrics.Totals?, over time: Duration) {
    let now = metrics.current
    let quality = now.quality
    let rate = Double(now.events - (before?.events ?? 0)) / max(1e-3, Double(time.wholeMilliseconds) / 1000)
    logger.info(
      "figures",
      metadata: [
        "events": "\(now.events)", "events_per_second": "\(rate.shown(1))", "lag": "\(now.lag.map { String($0) } ?? "unknown")",
        "learning_steps": "\(now.learningSteps)", "cross_entropy": "\(now.crossEntropy?.shown(3) ?? "-")",
        "preference_loss": "\(now.preference?.shown(3) ?? "-")", "model": "\(now.modelVersion)", "lists": "\(now.listsPublished)",
        "hit_rate": "\(quality.model.hitRate.shown(4))", "ndcg": "\(quality.model.ndcg.shown(4))", "mrr": "\(quality.model.mrr.shown(4))",
        "popularity_hit_rate": "\(quality.popularity.hitRate.shown(4))", "popularity_ndcg": "\(quality.popularity.ndcg.shown(4))",
        "scored": "\(quality.events)",
      ])
  }

  /// One daemon owns the whole group: a second member would take half of the partitions, and half of the users' events, away from it.
  private func lookAtGroup() {
    let group = settings.current.kafka.groupID
    do {
      let client = try AdminClient(properties: settings.current.kafka.clientProperties)
      let members = try client.groupMembers(group, within: .seconds(3))
      metrics.members(members.count)
      if members.count > 1 {
        logger.error(
          "the consumer group has more than one member: this daemon sees only a part of the events; stop the others",
          metadata: ["group": "\(group)", "members": "\(members.map { "\($0.clientID)@\($0.host)" }.joined(separator: ", "))"])
      }
    } catch {
      logger.debug("the consumer group can't be looked at", metadata: ["error": "\(error)"])
    }
  }
}

extension Double {
  /// So many digits behind the point.
  func shown(_ digits: Int) -> String {
    guard isFinite, magnitude < 1e15 else { return "\(self)" }
    var factor = 1.0
    for _ in 0..<digits { factor *= 10 }
    let scaled = (magnitude * factor).rounded()
    let whole = UInt64(scaled / factor)
    let fraction = String(UInt64(scaled - Double(whole) * factor))
    let text = digits == 0 ? "\(whole)" : "\(whole).\(String(repeating: "0", count: digits - fraction.count))\(fraction)"
    return self < 0 && scaled > 0 ? "-" + text : text
  }
}
