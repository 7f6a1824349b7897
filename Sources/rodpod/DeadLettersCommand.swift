import ArgumentParser
import DaemonSupport
import Events
import Foundation
import Kafka
import Logging
import Pipeline
import Settings

/// `rodpod dlq`: what was not accepted.
struct DeadLettersCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dlq",
    abstract: "Lists the dead letters, or sends them again to where they came from.",
    discussion: "Example: rodpod dlq list --config /etc/rodpod/rodpod.yaml --reason unknown_type",
    subcommands: [List.self, Replay.self])

  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "The dead letters with their origin and what was wrong, and how many there are by reason.",
      discussion: "Example: rodpod dlq list --config rodpod.yaml --reason time_in_future --limit 20")

    @OptionGroup var selection: Selection
    @Option(help: "Show so many of the newest at most; all are counted.") var limit = 100
    @Flag(help: "Print one JSON object a letter, with key and value, in place of lines.") var json = false
    @OptionGroup var options: ConfigurationOptions

    func validate() throws {
      guard limit >= 0 else { throw ValidationError("--limit is not negative") }
    }

    func run() throws {
      let settings = try options.load()
      _ = bootstrapLogging(format: .text, level: .warning)
      try exiting {
        let reader = try DeadLetterReader(settings: settings)
        defer { reader.close() }
        var newest: [(OwnedMessage, DeadLetter.Origin)] = []
        var counts: [String: Int] = [:]
        try reader.read(from: .beginning) { message, letter in
          guard let origin = letter.origin, selection.holds(origin) else { return }
          counts[origin.errorClass, default: 0] += 1
          newest.append((message, origin))
          if newest.count > 2 * limit + 1000 { newest.removeFirst(newest.count - limit) }
        }
        for (message, origin) in newest.suffix(limit) { print(json ? try object(message, origin) : line(message, origin)) }
        guard !json else { return }
        print("\(counts.values.reduce(0, +)) dead letters in the topic '\(settings.topics.deadLetters)'")
        for (reason, count) in counts.sorted(by: { ($1.value, $0.key) < ($0.value, $1.key) }) { print("  \(reason): \(count)") }
      }
    }

    private func line(_ message: OwnedMessage, _ origin: DeadLetter.Origin) -> String {
      let time = message.timestamp.map { Timestamp.rfc3339($0.milliseconds) + "  " } ?? ""
      return "\(time)\(origin.topic)[\(origin.partition)]@\(origin.offset)  \(origin.errorClass): \(origin.errorMessage)"
    }

    private func object(_ message: OwnedMessage, _ origin: DeadLetter.Origin) throws -> String {
      var fields: [String: Any] = [
        "partition": message.partition, "offset": message.offset, "origin_topic": origin.topic, "origin_partition": origin.partition,
        "origin_offset": origin.offset, "error_class": origin.errorClass, "error_message": origin.errorMessage,
      ]
      fields["error_field"] = origin.errorField
      fields["key"] = message.key.map { String(decoding: $0, as: UTF8.self) }
      fields["value"] = message.value.map { String(decoding: $0, as: UTF8.self) }
      let data = try JSONSerialization.data(withJSONObject: fields, options: [.sortedKeys, .withoutEscapingSlashes])
      return String(decoding: data, as: UTF8.self)
    }
  }

  struct Replay: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Sends dead letters again to the topics that they came from.",
      discussion: """
        Only what would be accepted now is sent, with its own key, value, headers and time: mend the configuration first. Where a replay \
        ended is committed for the group '<kafka.group_id>-dlq', and the next one goes on from there; --from-beginning looks at all again. \
        With --reason or --topic nothing is committed, since the others are still to be looked at.

        Example: rodpod dlq replay --config rodpod.yaml --from-beginning --reason unknown_type --dry-run
        """)

    @OptionGroup var selection: Selection
    @Flag(help: "Start at the topic's beginning, not where the last replay ended.") var fromBeginning = false
    @Flag(help: "Only tell what would be sent.") var dryRun = false
    @Option(help: ArgumentHelp("Send so many a second at most.", valueName: "events")) var rate: Double?
    @OptionGroup var options: ConfigurationOptions

    func validate() throws {
      if let rate, !(rate > 0) { throw ValidationError("--rate is above 0") }
    }

    func run() throws {
      let settings = try options.load()
      _ = bootstrapLogging(format: .text, level: .warning)
      try exiting { try replay(settings) }
    }

    private func replay(_ settings: Settings) throws {
      let reader = try DeadLetterReader(settings: settings)
      defer { reader.close() }
      var interactions = try EventValidation(.interactions, settings: settings)
      var items = try EventValidation(.items, settings: settings)
      let sender = dryRun ? nil : try EventSender(settings: settings, rate: rate)
      defer { sender?.close() }
      var replayed = 0
      var passedOver = 0
      var refused: [Rejection.Reason: Int] = [:]
      let now = Int64(Date().timeIntervalSince1970 * 1000)
      let ends = try reader.read(from: fromBeginning ? .beginning : .committed) { message, letter in
        guard let origin = letter.origin, selection.holds(origin) else {
          passedOver += 1
          return
        }
        do throws(Rejection) {
          switch origin.topic {
          case settings.topics.interactions: try check(&interactions, letter, origin, now)
          case settings.topics.items: try check(&items, letter, origin, now)
          default:
            // It is of a topic that is read no more.
            passedOver += 1
            return
          }
        } catch {
          refused[error.reason, default: 0] += 1
          return
        }
        replayed += 1
        try sender?.send(
          origin.topic, key: letter.key, value: letter.value, headers: letter.originalHeaders.map { Header($0.name, $0.value) },
          timestamp: origin.timestamp)
      }
      try sender?.finish()
      if !dryRun, selection.isEverything { try reader.commit(ends) }
      let left = refused.values.reduce(0, +)
      print("\(replayed) dead letters \(dryRun ? "would be" : "are") sent again, \(left) would still not be accepted, \(passedOver) are passed over")
      for (reason, count) in refused.byCount { print("  \(reason.rawValue): \(count)") }
    }

    private func check(
      _ validation: inout EventValidation, _ letter: DeadLetter, _ origin: DeadLetter.Origin, _ now: Int64
    ) throws(Rejection) {
      let attributes = CloudEventAttributes(headers: letter.originalHeaders.lazy.map { ($0.name, $0.value) })
      // Bytes that may be missing can't be lent in one expression.
      switch (letter.value, letter.key) {
      case (let value?, let key?):
        try validation.check(value.span.bytes, key: key.span.bytes, attributes: attributes, timestamp: origin.timestamp, now: now)
      case (let value?, nil):
        try validation.check(value.span.bytes, key: nil, attributes: attributes, timestamp: origin.timestamp, now: now)
      case (nil, let key?): try validation.check(nil, key: key.span.bytes, timestamp: origin.timestamp, now: now)
      case (nil, nil): try validation.check(nil, key: nil, timestamp: origin.timestamp, now: now)
      }
    }
  }

  /// Which letters are meant.
  struct Selection: ParsableArguments {
    @Option(help: "Only those with this reason, such as unknown_type. May be repeated.") var reason: [String] = []
    @Option(help: ArgumentHelp("Only those that came from this topic.", valueName: "topic")) var topic: String?

    var isEverything: Bool { reason.isEmpty && topic == nil }

    func validate() throws {
      for reason in reason where Rejection.Reason(rawValue: reason) == nil {
        let known = Rejection.Reason.allCases.map(\.rawValue).joined(separator: ", ")
        throw ValidationError("--reason is '\(reason)', known are \(known)")
      }
    }

    func holds(_ origin: DeadLetter.Origin) -> Bool {
      (reason.isEmpty || reason.contains(origin.errorClass)) && (topic == nil || topic == origin.topic)
    }
  }
}

/// Reads the dead-letter topic up to where it ends at the start.
private final class DeadLetterReader {
  private let settings: Settings
  private let consumer: Consumer
  private let partitions: [TopicPartition]

  /// - Throws: ``PipelineError`` with `unavailable` when Kafka can't be reached or the topic is missing, `configuration` for a wrong
  ///   `kafka.properties`.
  init(settings: Settings) throws(PipelineError) {
    self.settings = settings
    let topic = settings.topics.deadLetters
    do {
      consumer = try Consumer(properties: settings.kafka.readerProperties(group: settings.kafka.groupID + "-dlq"))
      let counts = try AdminClient(properties: settings.kafka.clientProperties).metadata(within: .seconds(10)).partitionCounts
      guard let count = counts[topic] else {
        throw PipelineError(.unavailable, "Kafka at \(settings.kafka.bootstrapServers) has no topic '\(topic)'; 'rodpod run' makes it")
      }
      partitions = (0..<Int32(count)).map { TopicPartition(topic, $0) }
    } catch {
      throw PipelineError(clientError: error, servers: settings.kafka.bootstrapServers)
    }
  }

  /// Hands over the letters, in the order of offsets within a partition.
  ///
  /// - Returns: the offset after the last one of each partition.
  /// - Throws: what `body` throws, and ``PipelineError`` when Kafka does not answer for 30 seconds.
  @discardableResult
  func read(
    from start: StartPosition, _ body: (OwnedMessage, DeadLetter) throws -> Void
  ) throws -> [TopicPartition: Int64] {
    do {
      try consumer.assign(Dictionary(uniqueKeysWithValues: partitions.map { ($0, start) }))
    } catch {
      throw PipelineError(error)
    }
    var ends: [TopicPartition: Int64] = [:]
    var unfinished = Set(partitions)
    var deadline = ContinuousClock.now + .seconds(30)
    while !unfinished.isEmpty {
      var messages: [OwnedMessage] = []
      let result = consumer.poll(maximumCount: 1000, timeout: .milliseconds(100)) { messages.append($0.copy()) }
      for message in messages {
        let letter = DeadLetter(
          key: message.key, value: message.value, headers: message.headers.map { DeadLetter.Header(name: $0.name, value: $0.value) })
        try body(message, letter)
        ends[TopicPartition(message.topic, message.partition)] = message.offset + 1
      }
      unfinished.subtract(result.endOfPartition)
      if !messages.isEmpty || !result.endOfPartition.isEmpty { deadline = .now + .seconds(30) }
      guard ContinuousClock.now < deadline, consumer.fatalError == nil else {
        let reason = consumer.fatalError?.description ?? result.errors.last?.error.description ?? "no answer within 30 seconds"
        throw PipelineError(.unavailable, "the topic '\(settings.topics.deadLetters)' can't be read: \(reason)")
      }
    }
    return ends
  }

  /// Returns when Kafka holds these offsets for the group.
  func commit(_ offsets: [TopicPartition: Int64]) throws {
    guard !offsets.isEmpty else { return }
    do {
      try consumer.commit(offsets)
      let deadline = ContinuousClock.now + .seconds(10)
      while try consumer.committedOffsets(of: Array(offsets.keys), within: .seconds(5)) != offsets {
        let result = consumer.poll(maximumCount: 1, timeout: .milliseconds(50)) { _ in }
        if let refused = result.commitFailures.first { throw refused }
        guard ContinuousClock.now < deadline else { throw PipelineError(.unavailable, "no answer within 10 seconds") }
      }
    } catch {
      throw PipelineError(.unavailable, "the letters are sent, but where the replay ended can't be committed: \(error)")
    }
  }

  func close() { consumer.close(within: .seconds(2)) }
}
