import DaemonSupport
import Events
import Kafka
import Logging
import Recommender
import Settings
import StateStore

/// Runs ``Ranking`` on a thread of its own and publishes by an idempotent producer. A mark is cleared only when the broker has
/// acknowledged the list; many are at once, since a transaction waits for the disk.
final class RankerService {
  private let ranking: Ranking
  private let settings: LiveSettings
  private let shared: SharedState
  private let metrics: PipelineMetrics
  private let logger: Logger
  private let heartbeat: Watchdog.Heartbeat
  private let work: WorkSignal
  private var producer: Producer
  private var pending: [UInt64: Publication] = [:]
  /// Who was due at this time, in milliseconds since 1970, was looked for.
  private var lookedAt: Int64 = 0
  private var lastNote = ContinuousClock.now
  private var lastGuests = ContinuousClock.now - .seconds(60)
  private var nextToken: UInt64 = 1
  private var retryAt = ContinuousClock.now
  /// Whether the store took what was last written to it.
  private var hasRoom = true
  /// At least so much time lies between two transactions that note what the broker has.
  private static let noteInterval = Duration.milliseconds(25)

  init(
    ranking: Ranking, settings: LiveSettings, shared: SharedState, metrics: PipelineMetrics, logger: Logger, heartbeat: Watchdog.Heartbeat,
    work: WorkSignal
  ) throws {
    self.ranking = ranking
    self.settings = settings
    self.shared = shared
    self.metrics = metrics
    self.logger = logger
    self.heartbeat = heartbeat
    self.work = work
    producer = try Producer(properties: settings.current.kafka.producerProperties, observers: .daemon(logger, metrics))
  }

  /// Ranks and publishes until told to stop, then waits a bounded time for what is on its way.
  func run() throws {
    defer { ranking.stop() }
    while !work.isClosed {
      heartbeat.beat()
      ranking.settings = settings.current
      settle(producer.poll(timeout: .zero))
      if try !takeTurn() {
        if pending.isEmpty { try work.wait(untilDue()) } else { settle(producer.poll(timeout: .milliseconds(1))) }
      }
      if let error = producer.fatalError { try renewProducer(error) }
    }
    try end()
  }

  /// - Returns: whether there was anybody to rank.
  private func takeTurn() throws -> Bool {
    // While the broker does not take lists, or the store no pools, they are not made over and over.
    guard pending.count < 4 * ranking.settings.ranker.batchSize, ContinuousClock.now >= retryAt else {
      // No list gets fresher by the learner's waiting.
      shared.lateness = .zero
      return false
    }
    do {
      // First, so that no more lists are made while the store has no room for those that are.
      if ranking.hasSettled, untilNote <= .zero {
        try ranking.noteSettled()
        lastNote = .now
      }
      let isBusy = try rank()
      if ContinuousClock.now - lastGuests >= .seconds(1) {
        lastGuests = .now
        try rankGuests()
      }
      hasRoom = true
      return isBusy
    } catch let error as StateStoreError where error.isOutOfRoom {
      standStill(error)
      return false
    }
  }

  private func end() throws {
    settle(producer.flush(within: .seconds(5)))
    if !pending.isEmpty {
      logger.warning("lists are not acknowledged yet: their users are ranked again at the next start", metadata: ["lists": "\(pending.count)"])
      ranking.release(Array(pending.values))
    }
    do throws(StateStoreError) {
      try ranking.endPublishing()
    } catch {
      guard error.isOutOfRoom else { throw error }
      standStill(error)
    }
    producer.close(within: .seconds(2))
  }

  /// - Returns: whether there was anybody to rank.
  private func rank() throws -> Bool {
    let start = ContinuousClock.now
    lookedAt = millisecondsSince1970()
    let (publications, ranked, lateness) = try ranking.rankStale(
      snapshot: shared.snapshot, popular: shared.popular.items, now: lookedAt)
    shared.lateness = lateness
    guard ranked > 0 else { return false }
    metrics.ranked(ranked, time: .now - start)
    try publish(publications)
    return true
  }

  private func rankGuests() throws {
    metrics.summarizeLists(catalogueCoverage: ranking.catalogueCoverage)
    let popular = shared.popular
    if let guests = try ranking.guestList(popular: popular.items, scores: popular.scores, now: millisecondsSince1970()) {
      try publish([guests])
    }
  }

  /// Nothing was written, so nothing is lost: the marks say who is to be ranked once there is room.
  private func standStill(_ error: StateStoreError) {
    if hasRoom { logger.error("ranking stands still: the store has no room", metadata: ["error": "\(error)"]) }
    hasRoom = false
    retryAt = .now + .seconds(1)
  }

  private func publish(_ publications: [Publication]) throws {
    let topic = settings.current.topics.recommendations
    for publication in publications {
      let value: [UInt8]?
      do {
        value = try publication.recommendation?.json()
      } catch {
        logger.error("a list can't be written", metadata: ["error": "\(error)"])
        ranking.release([publication])
        continue
      }
      let token = nextToken
      nextToken += 1
      pending[token] = publication
      var isQueued = false
      while !isQueued {
        do {
          switch try producer.produce(topic: topic, key: Array(publication.user.utf8), value: value, token: token) {
          case .enqueued: isQueued = true
          case .queueFull:
            heartbeat.beat()
            settle(producer.poll(timeout: .milliseconds(50)))
            if work.isClosed { return }
          }
        } catch {
          fail(token, error)
          isQueued = true
        }
      }
    }
  }

  private func settle(_ result: ProducerPollResult) {
    var acknowledged: [Publication] = []
    for report in result.deliveries {
      switch report.result {
      case .success:
        if let publication = pending.removeValue(forKey: report.token) { acknowledged.append(publication) }
      case .failure(let error): fail(report.token, error)
      }
    }
    if !acknowledged.isEmpty {
      ranking.acknowledge(acknowledged)
      let now = millisecondsSince1970()
      metrics.delivered(acknowledged.count, failed: 0)
      metrics.answered(after: acknowledged.compactMap { publication in publication.eventTime.map { .milliseconds(max(0, now - $0)) } })
    }
    for error in result.errors {
      logger.log(level: error.logLevel, "Kafka reports an error to the producer", metadata: ["error": "\(error)"])
    }
  }

  /// How long what is settled need not be noted yet.
  private var untilNote: Duration { Self.noteInterval - (ContinuousClock.now - lastNote) }

  /// How long there is nothing to do, as far as is known.
  private func untilDue() throws -> Duration {
    var longest = Duration.milliseconds(20)
    guard ContinuousClock.now >= retryAt else { return longest }
    if ranking.hasSettled { longest = min(longest, untilNote) }
    if let due = try ranking.nextDueTime(after: lookedAt) { longest = min(longest, .milliseconds(due - millisecondsSince1970())) }
    return max(.milliseconds(1), longest)
  }

  private func fail(_ token: UInt64, _ error: KafkaError) {
    guard let publication = pending.removeValue(forKey: token) else { return }
    logger.log(level: error.logLevel, "a list was not delivered; its user is ranked again", metadata: ["error": "\(error)"])
    metrics.delivered(0, failed: 1)
    ranking.release([publication])
    retryAt = .now + .seconds(1)
  }

  /// A fatal error is never retried in place. The stale marks say what has to be sent again.
  private func renewProducer(_ error: KafkaError) throws {
    logger.error("the producer met a fatal error and is made anew", metadata: ["error": "\(error)"])
    producer.close(within: .seconds(1))
    ranking.release(Array(pending.values))
    pending.removeAll()
    producer = try Producer(properties: settings.current.kafka.producerProperties, observers: .daemon(logger, metrics))
    retryAt = .now + .seconds(1)
  }
}
