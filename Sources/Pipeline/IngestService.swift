import DaemonSupport
import Events
import Kafka
import Logging
import Settings
import StateStore
import Synchronization

/// Owns the consumer, on a thread of its own: decodes, validates, dead-letters what is bad, and commits the rest by ``Ingest``.
///
/// The offsets of record are those in the store, in the same transaction as what they brought. Those committed to Kafka are advisory.
final class IngestService {
  private let live: LiveSettings
  private var settings: Settings
  private let store: StateStore
  private let shared: SharedState
  private let metrics: PipelineMetrics
  private let logger: Logger
  private let heartbeat: Watchdog.Heartbeat
  private let isStopping: @Sendable () -> Bool
  /// Called after each commit.
  private let onCommit: () -> Void
  /// Called with the live ranks of each commit.
  private let onRanks: ([(model: Int?, popularity: Int?)]) -> Void

  private let ingest: Ingest
  private var interactions: InteractionDecoder
  private var items: ItemDecoder
  private let deadLetters: DeadLetterProducer
  private var records: [IngestRecord] = []
  private var rejected: [(message: OwnedMessage, rejection: Rejection)] = []
  /// The messages that `records` came in: what the state refuses is dead-lettered as it came.
  private var originals = MessageLog()
  /// Of each of `records` the place of its message in `originals`.
  private var origins: [Int] = []
  private var next: [TopicPartition: Int64] = [:]
  /// Where the partition goes on that was read last; not in `next` yet.
  private var reading: (partition: TopicPartition, next: Int64)?
  private var advisory: [TopicPartition: Int64] = [:]
  private var lastAdvisory = ContinuousClock.now
  /// Messages in hand.
  private var consumed = 0
  /// Of keys and values of the messages in hand.
  private var bytesInHand = 0
  private var failure: PipelineError?
  private static let batchBytes = 16 << 20

  init(
    settings live: LiveSettings, store: StateStore, shared: SharedState, metrics: PipelineMetrics, logger: Logger,
    heartbeat: Watchdog.Heartbeat, isStopping: @escaping @Sendable () -> Bool, onCommit: @escaping () -> Void,
    onRanks: @escaping ([(model: Int?, popularity: Int?)]) -> Void
  ) throws {
    let settings = live.current
    self.live = live
    self.settings = settings
    self.store = store
    self.shared = shared
    self.metrics = metrics
    self.logger = logger
    self.heartbeat = heartbeat
    self.isStopping = isStopping
    self.onCommit = onCommit
    self.onRanks = onRanks
    ingest = try Ingest(store: store, settings: settings)
    interactions = try InteractionDecoder(InteractionDecoder.Configuration(settings))
    items = try ItemDecoder(ItemDecoder.Configuration(settings, dimensions: store.featureDimensions()))
    deadLetters = try DeadLetterProducer(settings: settings, metrics: metrics, logger: logger)
    shared.popular = ingest.quality.popularList(Self.popularCount(settings))
    metrics.quality(ingest.quality)
  }

  private static func popularCount(_ settings: Settings) -> Int { max(settings.pool.size, 2 * settings.ranker.topK) + 100 }

  /// Consumes until told to stop.
  ///
  /// - Throws: ``PipelineError`` when it can't go on.
  func run() throws {
    let consumer = try Consumer(
      properties: settings.kafka.consumerProperties,
      handlers: RebalanceHandlers(
        assigned: { [unowned self] consumer, partitions in try startPositions(consumer, partitions) },
        revoked: { [unowned self] consumer, partitions, lost in revoked(consumer, partitions, lost: lost) }),
      observers: .daemon(logger, metrics))
    try consumer.subscribe([settings.topics.interactions, settings.topics.items])
    var lastCommit = ContinuousClock.now - settings.store.commitInterval
    while !isStopping() {
      heartbeat.beat()
      settings = live.current
      ingest.debounce = settings.ranker.debounce.wholeMilliseconds
      let interval = settings.store.commitInterval
      take(consumer, timeout: .milliseconds(100))
      // Commits are spaced by the interval, so that a trickle of events does not become a stream of fsyncs.
      while !isFull, !isStopping(), consumed > 0, ContinuousClock.now - lastCommit < interval {
        take(consumer, timeout: interval - (ContinuousClock.now - lastCommit))
      }
      do {
        let start = ContinuousClock.now
        if try commit(consumer) { lastCommit = start }
      } catch is StoppedWhileWaiting {
        // Nothing of what is in hand was written: it is read again at the next start.
        break
      }
      try report(consumer)
      if let failure { throw failure }
    }
    // What is in hand is committed by the revocation inside.
    if !consumer.close(within: .seconds(5)) { logger.warning("the Kafka consumer did not close in time and is left to itself") }
    deadLetters.close()
    if let failure { throw failure }
  }

  private var isFull: Bool { max(consumed, records.count) >= mostEvents || bytesInHand >= Self.batchBytes }

  private var mostEvents: Int { min(settings.store.commitMaxEvents, ingest.mostTogether) }

  private func take(_ consumer: Consumer, timeout: Duration) {
    let topics = consumer.topics
    let now = millisecondsSince1970()
    let result = consumer.poll(
      maximumCount: max(1, mostEvents - consumed), maximumBytes: max(1, Self.batchBytes - bytesInHand), timeout: timeout
    ) { message in decode(message, topics[message.topicIndex], now: now) }
    handle(result, of: consumer)
  }

  private func handle(_ result: PollResult, of consumer: Consumer) {
    for gap in result.outOfRange {
      metrics.offsetOutOfRange()
      logger.error(
        "an offset is no longer in the topic: records were lost upstream",
        metadata: ["partition": "\(gap.partition)", "offset": "\(gap.offset)", "detail": "\(gap.message)"])
    }
    for failure in result.errors {
      logger.log(
        level: failure.error.logLevel, "Kafka reports an error",
        metadata: ["partition": "\(failure.partition.map(\.description) ?? "-")", "error": "\(failure.error)"])
    }
    for error in result.commitFailures { logger.debug("Kafka refused an advisory offset", metadata: ["error": "\(error)"]) }
    if let error = result.rebalanceFailure { failure = PipelineError(.storage, "where to start reading can't be found: \(error)") }
    if let error = consumer.fatalError {
      failure = PipelineError(.unavailable, "the Kafka consumer can't go on: \(error)")
    }
  }

  private func decode(_ message: borrowing Message, _ topic: String, now: Int64) {
    consumed += 1
    bytesInHand += message.byteCount
    note(topic, message.partition, next: message.offset + 1)
    let headers = message.headers
    let attributes = headers.isEmpty ? nil : CloudEventAttributes(headers: headers.lazy.map { ($0.name, $0.value) })
    if topic == settings.topics.interactions {
      let timestamp = message.timestamp?.milliseconds ?? now
      let decoded = message.withKey { key in
        message.withValue { value in
          interactions.decode(value: value, key: key, timestamp: timestamp, attributes: attributes, now: now)
        }
      }
      switch decoded {
      case .interaction(let interaction): take(CollectionOfOne(.interaction(interaction)), message, headers, topic)
      case .interactions(let interactions): take(interactions.lazy.map { .interaction($0) }, message, headers, topic)
      case .forget(let user): take(CollectionOfOne(.forget(user: user)), message, headers, topic)
      case .ignored: break
      case .rejected(let rejection): rejected.append((message.copy(), rejection))
      }
    } else {
      let decoded = message.withKey { key in
        message.withValue { value in items.decode(value: value, key: key, attributes: attributes) }
      }
      switch decoded {
      case .description(let description): take(CollectionOfOne(.describe(description)), message, headers, topic)
      case .retire(let item): take(CollectionOfOne(.retire(item: item)), message, headers, topic)
      case .rejected(let rejection): rejected.append((message.copy(), rejection))
      }
    }
  }

  /// Messages come in runs of one partition.
  private func note(_ topic: String, _ partition: Int32, next offset: Int64) {
    if let reading, reading.partition.partition == partition, reading.partition.topic == topic {
      self.reading?.next = offset
    } else {
      noteReading()
      reading = (TopicPartition(topic, partition), offset)
    }
  }

  private func noteReading() {
    if let reading { next[reading.partition] = reading.next }
    reading = nil
  }

  private func take(_ events: some Sequence<IngestRecord.Event>, _ message: borrowing Message, _ headers: [Header], _ topic: String) {
    let origin = originals.append(message, headers: headers, topic: topic)
    for event in events {
      records.append(IngestRecord(event: event, topic: topic, partition: message.partition, offset: message.offset))
      origins.append(origin)
    }
  }

  /// Dead letters first, then the state with the offsets: a crash in between repeats dead letters, and loses nothing.
  ///
  /// - Returns: whether there was anything.
  @discardableResult
  private func commit(_ consumer: Consumer?) throws -> Bool {
    guard consumed > 0 else { return false }
    let start = ContinuousClock.now
    while true {
      heartbeat.beat()
      try sendDeadLetters(consumer)
      do {
        noteReading()
        let offsets = next.map { PartitionOffset(topic: $0.key.topic, partition: $0.key.partition, next: $0.value) }
        let outcome = try ingest.apply(records, offsets: offsets, now: millisecondsSince1970())
        metrics.consumed(consumed, outcome, commit: .now - start)
        metrics.stopped(because: nil)
        onRanks(outcome.ranks)
        break
      } catch let refused as Ingest.Refused {
        // A message has one letter, with what is wrong first.
        var lettered: Int?
        for (index, rejection) in refused.records where origins[index] != lettered {
          rejected.append((originals[origins[index]], rejection))
          lettered = origins[index]
        }
        leaveOut(refused.records.map(\.index))
      } catch let error as StateStoreError where error.isOutOfRoom {
        try wait(consumer, because: "the store has no room: \(error)")
      }
    }
    for (partition, offset) in next { advisory[partition] = offset }
    dropBatch()
    onCommit()
    return true
  }

  private func dropBatch() {
    records.removeAll(keepingCapacity: true)
    origins.removeAll(keepingCapacity: true)
    originals.removeAll()
    rejected.removeAll(keepingCapacity: true)
    next.removeAll(keepingCapacity: true)
    reading = nil
    (consumed, bytesInHand) = (0, 0)
  }

  /// - Parameter places: of records; they rise.
  private func leaveOut(_ places: [Int]) {
    let refused = Set(places)
    let kept = records.indices.filter { !refused.contains($0) }
    records = kept.map { records[$0] }
    origins = kept.map { origins[$0] }
  }

  private func sendDeadLetters(_ consumer: Consumer?) throws {
    while !rejected.isEmpty {
      let left = deadLetters.send(rejected)
      if let reason = left.reason, !left.rejected.isEmpty {
        rejected = left.rejected
        try wait(consumer, because: "the dead-letter topic '\(settings.topics.deadLetters)' can't be written: \(reason)")
      } else {
        rejected.removeAll(keepingCapacity: true)
      }
    }
  }

  /// Stands still for a moment, says why, and stays a member of the group meanwhile.
  private func wait(_ consumer: Consumer?, because reason: String) throws {
    if metrics.current.stoppedBecause != reason {
      logger.error("consumption stands still", metadata: ["reason": "\(reason)"])
      metrics.stopped(because: reason)
    }
    guard !isStopping() else { throw StoppedWhileWaiting() }
    heartbeat.beat()
    guard let consumer else { throw PipelineError(.unavailable, reason) }
    try consumer.pause(consumer.assignment)
    let until = ContinuousClock.now + .seconds(1)
    while ContinuousClock.now < until, !isStopping() {
      let result = consumer.poll(maximumCount: 1, timeout: .milliseconds(100)) {
        decode($0, consumer.topics[$0.topicIndex], now: millisecondsSince1970())
      }
      handle(result, of: consumer)
      if let failure { throw failure }
    }
    try consumer.resume(consumer.assignment)
  }

  /// The daemon is to stop while it stands still.
  private struct StoppedWhileWaiting: Error {}

  /// From the stored offsets. A partition that was added to a topic in use is read whole; of a topic that was never read, the place where
  /// each partition starts is stored at once, so that what comes while the daemon is away is not taken for old.
  private func startPositions(_ consumer: Consumer, _ partitions: [TopicPartition]) throws -> [TopicPartition: StartPosition] {
    let stored = try store.read { (transaction) throws(StateStoreError) in try transaction.offsets() }
    var known = Dictionary(stored.map { (TopicPartition($0.topic, $0.partition), $0.next) }, uniquingKeysWith: { $1 })
    if settings.kafka.startAt == .latest {
      let topics = Set(known.keys.map(\.topic))
      let new = try partitions.filter { !topics.contains($0.topic) }.map { partition in
        let end = try consumer.watermarks(of: partition, within: .seconds(30)).high
        known[partition] = end
        return PartitionOffset(topic: partition.topic, partition: partition.partition, next: end)
      }
      if !new.isEmpty {
        try store.write { (transaction) throws(StateStoreError) in for offset in new { try transaction.setOffset(offset) } }
      }
    }
    logger.info(
      "partitions are assigned", metadata: ["partitions": "\(partitions.sorted().map(\.description).joined(separator: ", "))"])
    return Dictionary(uniqueKeysWithValues: partitions.map { ($0, known[$0].map(StartPosition.offset) ?? .beginning) })
  }

  private func revoked(_ consumer: Consumer, _ partitions: [TopicPartition], lost: Bool) {
    do {
      try commit(nil)
    } catch {
      // Nothing was written, so nothing is lost: the records are read again from the stored offsets.
      logger.warning("what was in hand at a revocation is left to be read again", metadata: ["error": "\(error)"])
      dropBatch()
    }
    if !lost {
      do { try consumer.commit(advisory) } catch { logger.debug("no advisory offsets at a revocation", metadata: ["error": "\(error)"]) }
    }
    logger.info("partitions are revoked", metadata: ["partitions": "\(partitions.map(\.description).joined(separator: ", "))", "lost": "\(lost)"])
  }

  /// Once a second: advisory offsets, lag, the popular list, live quality.
  private func report(_ consumer: Consumer) throws {
    guard ContinuousClock.now - lastAdvisory >= .seconds(1) else { return }
    lastAdvisory = .now
    do { try consumer.commit(advisory) } catch { logger.debug("no advisory offsets", metadata: ["error": "\(error)"]) }
    advisory.removeAll(keepingCapacity: true)
    let lags = consumer.lags()
    metrics.lag(lags.isEmpty ? nil : UInt64(lags.values.reduce(0, +)))
    shared.popular = ingest.quality.popularList(Self.popularCount(settings))
    metrics.quality(ingest.quality)
  }
}

/// Writes dead letters and waits until the broker has them.
final class DeadLetterProducer {
  private let settings: Settings
  private let metrics: PipelineMetrics
  private let logger: Logger
  private var producer: Producer

  init(settings: Settings, metrics: PipelineMetrics, logger: Logger) throws {
    self.settings = settings
    self.metrics = metrics
    self.logger = logger
    producer = try Producer(properties: settings.kafka.producerProperties, observers: .daemon(logger, metrics))
  }

  /// - Returns: what the broker did not take, and why; empty when it has all.
  func send(
    _ rejected: [(message: OwnedMessage, rejection: Rejection)]
  ) -> (rejected: [(message: OwnedMessage, rejection: Rejection)], reason: String?) {
    var left = Set(rejected.indices)
    var reason: String?
    for (index, (message, rejection)) in rejected.enumerated() {
      let letter = DeadLetter(
        key: message.key, value: message.value, headers: message.headers.map { DeadLetter.Header(name: $0.name, value: $0.value) },
        topic: message.topic, partition: message.partition, offset: message.offset, timestamp: message.timestamp?.milliseconds,
        rejection: rejection)
      do {
        let outcome = try producer.produce(
          topic: settings.topics.deadLetters, key: letter.key, value: letter.value,
          headers: letter.headers.map { Header($0.name, $0.value) }, token: UInt64(index))
        if case .queueFull = outcome { reason = "the producer's queue is full" }
      } catch let error {
        reason = error.description
      }
    }
    let deadline = ContinuousClock.now + .seconds(10)
    repeat {
      for report in producer.flush(within: .milliseconds(500)).deliveries {
        switch report.result {
        case .success: left.remove(Int(report.token))
        case .failure(let error): reason = error.description
        }
      }
    } while producer.outstandingCount > 0 && ContinuousClock.now < deadline && producer.fatalError == nil
    if producer.outstandingCount > 0 || producer.fatalError != nil {
      reason = producer.fatalError?.description ?? reason ?? "the broker does not answer"
      renew()
    }
    for index in rejected.indices where !left.contains(index) {
      metrics.deadLettered(rejected[index].message, rejected[index].rejection)
      logger.debug(
        "a record is dead-lettered",
        metadata: [
          "origin": "\(rejected[index].message.topic)[\(rejected[index].message.partition)]@\(rejected[index].message.offset)",
          "rejection": "\(rejected[index].rejection)",
        ])
    }
    return (left.sorted().map { rejected[$0] }, left.isEmpty ? nil : reason ?? "the broker did not acknowledge")
  }

  /// What is not acknowledged is sent again by a new producer: a dead letter may then stand twice, but none is lost.
  private func renew() {
    producer.close(within: .seconds(1))
    do {
      producer = try Producer(properties: settings.kafka.producerProperties, observers: .daemon(logger, metrics))
    } catch {
      logger.error("no new producer for dead letters", metadata: ["error": "\(error)"])
    }
  }

  func close() { producer.close(within: .seconds(2)) }
}

extension InteractionDecoder.Configuration {
  init(_ settings: Settings) {
    let types = settings.events.types.enumerated().map { ($1.name, UInt8(clamping: $0)) }
    self.init(types: Dictionary(types, uniquingKeysWith: { first, _ in first }))
    let configured = settings.events.fields.interactions
    fields.user = configured.user
    fields.item = configured.item
    fields.type = configured.type
    fields.time = configured.time
    fields.value = configured.value
    fields.session = configured.session
    fields.context = configured.context
    fields.shown = configured.shown
    maximumFuture = settings.events.maxFuture.wholeMilliseconds
    ignoresOtherTypes = settings.events.otherTypes == .ignore
    maximumMessageBytes = settings.events.maxMessageBytes
  }
}

extension ItemDecoder.Configuration {
  init(_ settings: Settings, dimensions known: [String: Int]) {
    self.init()
    let configured = settings.events.fields.items
    fields.item = configured.item
    fields.title = configured.title
    fields.categories = configured.categories
    fields.brand = configured.brand
    fields.price = configured.price
    fields.available = configured.available
    fields.features = configured.features
    // What is configured wins over what was seen before.
    dimensions = known.merging(settings.model.modalities) { $1 }
    maximumMessageBytes = settings.events.maxMessageBytes
  }
}

extension StateStore {
  /// The dimension of each modality that the catalogue holds, so that it stays fixed over restarts.
  func featureDimensions() throws(StateStoreError) -> [String: Int] {
    var result: [String: Int] = [:]
    var view = CatalogueView()
    _ = try read { (transaction) throws(StateStoreError) in
      try view.follow(transaction) { item in
        for (name, values) in item.description?.features ?? [:] { result[name] = values.count }
      }
    }
    return result
  }
}
