package import Foundation
import Synchronization

/// How the daemon's figures moved since its start: sampled every few seconds, thinned out as it grows, so that it always spans the whole
/// run in bounded memory.
package final class StatusHistory: Sendable {
  /// How often a sample is taken.
  package static let samplingInterval: Duration = .seconds(1)
  /// Points that are kept at most.
  package static let capacity = 512

  /// One sample.
  package struct Point: Codable, Sendable, Equatable {
    package var time: Date
    package var eventsPerSecond: Double?
    package var lag: UInt64?
    package var learningSteps: UInt64
    package var loss: Double?
    package var model: RankingQuality?
    package var popularity: RankingQuality?
    package var poolHitRate: Double?
    package var catalogueCoverage: Double?
    package var latency: Latency?

    enum CodingKeys: String, CodingKey {
      case time, lag, loss, model, popularity, latency
      case poolHitRate = "pool_hit_rate"
      case catalogueCoverage = "catalogue_coverage"
      case eventsPerSecond = "events_per_second"
      case learningSteps = "learning_steps"
    }
  }

  /// The body of `/status.json`.
  package struct Status: Codable, Sendable {
    package var ready: Bool
    package var unreadyReasons: [String]
    package var uptimeSeconds: Double
    /// Over the last seconds.
    package var eventsPerSecond: Double?
    package var learningStepsPerSecond: Double?
    package var now: StatusReport
    package var history: [Point]

    enum CodingKeys: String, CodingKey {
      case ready, now, history
      case unreadyReasons = "unready_reasons"
      case uptimeSeconds = "uptime_seconds"
      case eventsPerSecond = "events_per_second"
      case learningStepsPerSecond = "learning_steps_per_second"
    }
  }

  private struct State {
    var points: [Point] = []
    /// Only every so many-th sample is kept as a point.
    var stride = 1
    var samples = 0
    /// The last few samples, for the rates.
    var recent: [(instant: ContinuousClock.Instant, events: UInt64, steps: UInt64)] = []

    /// Per second, between the oldest and the newest of the recent samples.
    func rate(_ value: (UInt64, UInt64) -> UInt64) -> Double? {
      guard let first = recent.first, let last = recent.last, last.instant > first.instant else { return nil }
      let before = value(first.events, first.steps)
      let after = value(last.events, last.steps)
      return after < before ? nil : Double(after - before) / ((last.instant - first.instant) / .seconds(1))
    }
  }

  private static let recentSamples = 6
  private let started = ContinuousClock.now
  private let state = Mutex(State())

  package init() {}

  package func add(_ report: StatusReport, time: Date = .now, instant: ContinuousClock.Instant = .now) {
    state.withLock { state in
      state.recent.append((instant, report.events, report.learningSteps))
      if state.recent.count > Self.recentSamples { state.recent.removeFirst() }
      defer { state.samples += 1 }
      guard state.samples.isMultiple(of: state.stride) else { return }
      if state.points.count == Self.capacity {
        state.points = state.points.enumerated().filter { $0.offset.isMultiple(of: 2) }.map(\.element)
        state.stride *= 2
        guard state.samples.isMultiple(of: state.stride) else { return }
      }
      state.points.append(
        Point(
          time: time, eventsPerSecond: state.rate { events, _ in events }, lag: report.lag, learningSteps: report.learningSteps,
          loss: report.loss, model: report.quality?.model, popularity: report.quality?.popularity,
          poolHitRate: report.quality?.poolHitRate, catalogueCoverage: report.catalogueCoverage, latency: report.latency))
    }
  }

  /// All that the page shows.
  package func status(now report: StatusReport, unreadyReasons: [String]) -> Status {
    state.withLock { state in
      Status(
        ready: unreadyReasons.isEmpty, unreadyReasons: unreadyReasons, uptimeSeconds: (ContinuousClock.now - started) / .seconds(1),
        eventsPerSecond: state.rate { events, _ in events }, learningStepsPerSecond: state.rate { _, steps in steps }, now: report,
        history: state.points)
    }
  }
}
