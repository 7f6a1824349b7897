import Events
import Foundation
import Kafka
import StateStore
import Testing
import TestBroker
import TestSupport

extension DaemonProcessTests {
  @Suite struct BadInputTests {
    /// A record that is not accepted, and what must be said of it.
    struct Bad {
      var topic = "interactions"
      var record: Record
      var reason: Rejection.Reason
      var field: String?

      init(_ reason: Rejection.Reason, _ field: String?, key: [UInt8]? = Array("u-bad".utf8), value: [UInt8]?, topic: String = "interactions") {
        self.topic = topic
        self.reason = reason
        self.field = field
        record = Record(key: key, value: value)
      }

      init(_ reason: Rejection.Reason, _ field: String?, _ value: String, topic: String = "interactions") {
        self.init(reason, field, value: Array(value.utf8), topic: topic)
      }
    }

    private static let longID = String(repeating: "x", count: 65_537)
    private static let now = Int64(Date().timeIntervalSince1970 * 1000)

    private static func interaction(_ changes: [String: String]) -> String {
      let fields = ["user": #""u-bad""#, "item": #""i-1""#, "type": #""view""#, "time": "1700000000000"].merging(changes) { $1 }
      return "{" + fields.filter { !$0.value.isEmpty }.sorted { $0.key < $1.key }.map { #""\#($0.key)": \#($0.value)"# }.joined(separator: ", ") + "}"
    }

    private static let interactions: [Bad] = [
      Bad(.notJSON, nil, "view u-1 i-1"),
      Bad(.notJSON, nil, ""),
      Bad(.notFinite, nil, interaction(["time": "NaN"])),
      Bad(.notUTF8, nil, value: [0x7B, 0x22, 0xFF, 0x22, 0x7D]),
      Bad(.notAnObject, nil, "[1, 2, 3]"),
      Bad(.notAnObject, nil, "null"),
      Bad(.tooDeep, nil, String(repeating: #"{"a":"#, count: 2000) + "1" + String(repeating: "}", count: 2000)),
      Bad(.nullValue, nil, key: nil, value: nil),
      Bad(.nullValue, "item", interaction(["item": "null"])),
      Bad(.missingField, "item", interaction(["item": ""])),
      Bad(.missingField, "type", interaction(["type": ""])),
      Bad(.missingField, "time", interaction(["time": ""])),
      Bad(.missingField, "user", key: nil, value: Array(interaction(["user": ""]).utf8)),
      Bad(.wrongType, "user", interaction(["user": "17"])),
      Bad(.wrongType, "item", interaction(["item": #"{"id": "i-1"}"#])),
      Bad(.wrongType, "type", interaction(["type": "1"])),
      Bad(.wrongType, "time", interaction(["time": "true"])),
      Bad(.wrongType, "value", interaction(["value": #""5""#])),
      Bad(.wrongType, "shown", interaction(["shown": #"["i-1", 2]"#])),
      Bad(.emptyID, "user", interaction(["user": #""""#])),
      Bad(.emptyID, "item", interaction(["item": #""""#])),
      Bad(.emptyID, "key", key: [], value: nil),
      Bad(.idTooLong, "user", interaction(["user": "\"\(longID)\""])),
      Bad(.idTooLong, "item", interaction(["item": "\"\(longID)\""])),
      Bad(.idNotUTF8, "key", key: [0xFF, 0xFE], value: nil),
      Bad(.unknownType, "type", interaction(["type": #""stare""#])),
      Bad(.timeInvalid, "time", interaction(["time": #""yesterday""#])),
      Bad(.timeInFuture, "time", interaction(["time": "\(now + 3_600_000)"])),
      Bad(.timeInFuture, "time", interaction(["time": #""9999-01-01T00:00:00Z""#])),
      Bad(.timeBefore1970, "time", interaction(["time": "-1"])),
      Bad(.timeBefore1970, "time", interaction(["time": #""1969-12-31T23:59:59Z""#])),
      Bad(.notFinite, "value", interaction(["value": "1e39"])),
      // The user's newest event is of 2023; a week behind it is allowed.
      Bad(.timeTooLate, "time", interaction(["user": #""u-good""#, "time": "1690000000000"])),
      Bad(.tooLarge, nil, interaction(["context": "{\"text\": \"\(String(repeating: "y", count: 900_000))\"}"])),
    ]

    private static let items: [Bad] = [
      Bad(.notJSON, nil, "{", topic: "items"),
      Bad(.missingField, "item", key: nil, value: Array(#"{"title": "Nobody"}"#.utf8), topic: "items"),
      Bad(.nullValue, nil, key: nil, value: nil, topic: "items"),
      Bad(.wrongType, "title", #"{"item": "i-1", "title": 7}"#, topic: "items"),
      Bad(.wrongType, "features", #"{"item": "i-1", "features": {"image": ["a"]}}"#, topic: "items"),
      Bad(.notFinite, "features", #"{"item": "i-1", "features": {"image": [1, 1e39, 0]}}"#, topic: "items"),
      Bad(.featureDimension, "features", #"{"item": "i-1", "features": {"image": [1, 2]}}"#, topic: "items"),
      Bad(.featureDimension, "features", #"{"item": "i-1", "features": {"text": []}}"#, topic: "items"),
      Bad(.outOfRange, "price", #"{"item": "i-1", "price": -1}"#, topic: "items"),
    ]

    @Test func anOldDumpThatIsSentAgainHoldsNothingUp() async throws {
      let installation = try Installation(bootstrapServers: try await Broker.shared().bootstrapServers)
      let daemon = try await installation.startAndWait()
      func record(_ user: Int, time: Int64) -> Record {
        Record(Events.Interaction(user: "u-\(user)", item: "i-1", type: 0, time: time), type: "view")
      }
      let (now, old) = (1_700_000_000_000 as Int64, 1_600_000_000_000 as Int64)
      try installation.produce((0..<40).map { record($0, time: now) }, to: "interactions")
      try await installation.waitUntilSettled()
      // Among them some that are not too late.
      let dump = (0..<20_000).map { record($0 % 40, time: ($0 % 100 == 0 ? now : old) + 1 + Int64($0)) }
      try installation.produce(dump, to: "interactions")
      try await installation.waitUntilSettled()
      #expect(try installation.deadLetters().count == 19_800)
      #expect(installation.metric("rodpod_ingest_interactions_total") == 240)
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
      #expect(daemon.loggedErrors == [])
    }

    @Test func whatIsNotAcceptedGoesWholeToTheDeadLettersAndTheRestCounts() async throws {
      let installation = try Installation(
        bootstrapServers: try await Broker.shared().bootstrapServers,
        configuration: ["events.max_message_bytes": "800000", "model.modalities": "{image: 3}"])
      // A compacted topic, as the daemon would make it, takes no record without a key.
      let admin = try AdminClient(properties: ["bootstrap.servers": installation.bootstrapServers])
      _ = try admin.ensureTopics(
        [TopicSpecification(installation.topic("items"), partitionCount: 1, replicationFactor: 1)], within: .seconds(30))
      let daemon = try await installation.startAndWait()
      let start: Int64 = 1_700_000_000_000
      func good(_ number: Int) -> Record {
        Record(Events.Interaction(user: "u-good", item: "i-\(number)", type: 0, time: start + Int64(number)), type: "view")
      }
      let all = Self.interactions + Self.items
      var records: [String: [Record]] = [:]
      for (number, bad) in all.enumerated() {
        var record = bad.record
        // The same name twice and a null value are allowed, and must be kept.
        record.headers = [Header("trace", "\(number)"), Header("trace", nil), Header("x", [0, 255])]
        if bad.topic == "interactions" { records["interactions", default: []].append(good(number)) }
        records[bad.topic, default: []].append(record)
      }
      for (topic, records) in records { try installation.produce(records, to: topic) }
      try await installation.waitUntilSettled()

      let letters = try installation.deadLetters()
      #expect(letters.count == all.count)
      for (number, bad) in all.enumerated() {
        let own = letters.filter { $0.headers.first?.value == Array("\(number)".utf8) }
        #expect(own.count == 1, "\(bad.reason) \(number)")
        guard let letter = own.first else { continue }
        #expect(letter.key == bad.record.key)
        #expect(letter.value == bad.record.value, "\(bad.reason) \(number)")
        #expect(letter.headers.prefix(3) == [Header("trace", "\(number)"), Header("trace", nil), Header("x", [0, 255])])
        func header(_ name: String) -> String? {
          letter.headers.dropFirst(3).first { $0.name == name }?.value.map { String(decoding: $0, as: UTF8.self) }
        }
        #expect(header("rodpod.error.class") == bad.reason.rawValue, "\(number): \(header("rodpod.error.message") ?? "")")
        #expect(header("rodpod.error.field") == bad.field, "\(number)")
        #expect(header("rodpod.error.message")?.isEmpty == false)
        #expect(header("rodpod.origin.topic") == installation.topic(bad.topic))
        #expect(header("rodpod.origin.partition") == "0")
        let place = records[bad.topic]?.firstIndex { $0.headers.first?.value == Array("\(number)".utf8) }
        #expect(header("rodpod.origin.offset") == place.map { "\($0)" })
      }
      let metrics = try #require(installation.ask("/metrics"))
      for (reason, bad) in Dictionary(grouping: all, by: \.reason) {
        #expect(metrics.metric("rodpod_ingest_dead_letters_total{reason=\"\(reason.rawValue)\"}") == Double(bad.count), "\(reason)")
      }
      #expect(metrics.metric("rodpod_ingest_interactions_total") == Double(Self.interactions.count))
      #expect(metrics.metric("rodpod_ingest_events_total") == Double(all.count + Self.interactions.count))
      let rows = try #require(try await installation.inspect("user", "u-good")["interactions"] as? [[String: Any]])
      #expect(rows.map { $0["item"] as? String } == (0..<Self.interactions.count).suffix(20).map { "i-\($0)" })
      #expect(installation.ask("/readyz")?.status == 200)
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
    }

    @Test func idsOfUpTo64KiBAreTakenAsTheyAre() async throws {
      let installation = try Installation(bootstrapServers: try await Broker.shared().bootstrapServers)
      let daemon = try await installation.startAndWait()
      let user = String(String(repeating: "ü", count: 32_768))
      let item = String(user.dropLast()) + "/x"
      #expect(user.utf8.count == 65_536 && item.utf8.count == 65_536)
      try installation.produce([Record(Events.Interaction(user: user, item: item, type: 0, time: 1_700_000_000_000), type: "view")], to: "interactions")
      try installation.produce([Record(Events.ItemDescription(item: item, title: "The long one"))], to: "items")
      try await installation.waitUntilSettled()
      let store = try #require(installation.store)
      let title = try store.read { (transaction) throws(StateStoreError) -> String? in
        guard let interaction = try transaction.sequence(of: user)?.interactions.first else { return nil }
        return try transaction.item(interaction.item)?.description?.title
      }
      #expect(title == "The long one")
      #expect(try installation.deadLetters().isEmpty)
      #expect(try installation.published().contains { $0.user == user })
      withExtendedLifetime(daemon) {}
    }

    @Test func anItemNeverDescribedIsLearnedByItsIDUntilItsDescriptionComes() async throws {
      let installation = try Installation(bootstrapServers: try await Broker.shared().bootstrapServers)
      let daemon = try await installation.startAndWait()
      try installation.produce(
        (0..<6).map { Record(Events.Interaction(user: "u-\($0 / 3)", item: "i-\($0 / 2)", type: 0, time: 1_700_000_000_000 + Int64($0)), type: "view") },
        to: "interactions")
      try await installation.waitUntilSettled()
      #expect(installation.metric("rodpod_learner_interactions_total") == 6)
      #expect(try await installation.inspect("item", "i-0")["state"] as? String == "undescribed")
      try await installation.waitUntilRankable(3)
      try installation.produce([Record(Events.Interaction(user: "u-0", item: "i-0", type: 0, time: 1_700_000_000_010), type: "view")], to: "interactions")
      try await installation.waitUntilSettled()
      #expect(try installation.published().last { $0.user == "u-0" }?.list?.items.map(\.item) == ["i-2"])
      try installation.produce([Record(Events.ItemDescription(item: "i-0", title: "Now known", brand: "b"))], to: "items")
      try await installation.waitUntilSettled()
      let item = try await installation.inspect("item", "i-0")
      #expect(item["state"] as? String == "described")
      #expect(item["title"] as? String == "Now known")
      #expect(try installation.deadLetters().isEmpty)
      withExtendedLifetime(daemon) {}
    }

    @Test func duplicatesCountOnceUnlessConfiguredOtherwise() async throws {
      for (deduplicates, expected) in [("true", 2), ("false", 4)] {
        let installation = try Installation(
          bootstrapServers: try await Broker.shared().bootstrapServers, configuration: ["events.deduplicate": deduplicates])
        let daemon = try await installation.startAndWait()
        let first = Record(Events.Interaction(user: "u", item: "i-1", type: 0, time: 1_700_000_000_000), type: "view")
        let second = Record(Events.Interaction(user: "u", item: "i-2", type: 0, time: 1_700_000_000_001), type: "view")
        try installation.produce([first, first, second, first], to: "interactions")
        try await installation.waitUntilSettled()
        #expect((try await installation.inspect("user", "u")["interactions"] as? [Any])?.count == expected)
        #expect(installation.metric("rodpod_ingest_duplicates_total") == Double(4 - expected))
        #expect(installation.metric("rodpod_ingest_interactions_total") == Double(expected))
        #expect(try installation.deadLetters().isEmpty)
        withExtendedLifetime(daemon) {}
      }
    }

    @Test func eventsOutOfOrderArePlacedInOrderWithinTheBound() async throws {
      let installation = try Installation(
        bootstrapServers: try await Broker.shared().bootstrapServers, configuration: ["events.max_late_ms": "1000"])
      let daemon = try await installation.startAndWait()
      let start: Int64 = 1_700_000_000_000
      func event(_ time: Int64) -> Record { Record(Events.Interaction(user: "u", item: "i-\(time)", type: 0, time: start + time), type: "view") }
      let late = event(999)
      try installation.produce([event(1500), event(2000), event(1000), event(1700), late, event(2001)], to: "interactions")
      try await installation.waitUntilSettled()
      let rows = try #require(try await installation.inspect("user", "u")["interactions"] as? [[String: Any]])
      #expect(rows.map { $0["item"] as? String } == ["i-1000", "i-1500", "i-1700", "i-2000", "i-2001"])
      #expect(try installation.deadLetters().map(\.value) == [late.value])
      withExtendedLifetime(daemon) {}
    }

    @Test func aMessageOf5MBIsDeadLetteredWholeAndOneThatIsAllowedIsRead() async throws {
      var generator = SeededGenerator(seed: 5)
      // Text that compression does not make small.
      let text = String(decoding: (0..<5_000_000).map { _ in UInt8.random(in: 0x23...0x5B, using: &generator) }, as: UTF8.self)
      let value = Array(Self.interaction(["user": #""u-large""#, "context": "{\"text\": \"\(text)\"}"]).utf8)
      let small = Record(Events.Interaction(user: "u", item: "i-2", type: 0, time: 1_700_000_000_000), type: "view")
      for (maximum, expected) in [("1048576", 1), ("8000000", 0)] {
        let installation = try Installation(
          bootstrapServers: try await Broker.shared().bootstrapServers, configuration: ["events.max_message_bytes": maximum])
        let admin = try AdminClient(properties: ["bootstrap.servers": installation.bootstrapServers])
        let topic = TopicSpecification(
          installation.topic("interactions"), partitionCount: 1, replicationFactor: 1, configuration: ["max.message.bytes": "6000000"])
        #expect(try admin.ensureTopics([topic], within: .seconds(30)).values.allSatisfy { $0 == .created })
        let daemon = try await installation.startAndWait()
        let producer = try Producer(properties: ["bootstrap.servers": installation.bootstrapServers, "message.max.bytes": "6000000"])
        defer { producer.close(within: .seconds(5)) }
        _ = try producer.produce(topic: topic.name, key: Array("u-large".utf8), value: value, headers: [Header("h", "1")])
        for report in producer.flush(within: .seconds(60)).deliveries { _ = try report.result.get() }
        try installation.produce([small], to: "interactions")
        try await installation.waitUntilSettled()
        let letters = try installation.deadLetters()
        #expect(letters.count == expected)
        #expect(letters.allSatisfy { $0.value == value && $0.key == Array("u-large".utf8) && $0.headers.first == Header("h", "1") })
        #expect(installation.metric("rodpod_ingest_interactions_total") == Double(2 - expected))
        withExtendedLifetime(daemon) {}
      }
    }

    @Test func whileDeadLettersCannotBeWrittenNothingIsConsumedAndNothingIsLost() async throws {
      let installation = try Installation(bootstrapServers: try await Broker.shared().bootstrapServers)
      let admin = try AdminClient(properties: ["bootstrap.servers": installation.bootstrapServers])
      let letters = installation.topic("dead_letters")
      // The broker refuses whatever is larger, as every letter is.
      let tiny = TopicSpecification(letters, partitionCount: 1, replicationFactor: 1, configuration: ["max.message.bytes": "100"])
      #expect(try admin.ensureTopics([tiny], within: .seconds(30)).values.allSatisfy { $0 == .created })
      let daemon = try await installation.startAndWait()
      func good(_ number: Int64) -> Record {
        Record(Events.Interaction(user: "u", item: "i-\(number)", type: 0, time: 1_700_000_000_000 + number), type: "view")
      }
      try installation.produce([good(1)], to: "interactions")
      try await installation.waitUntilConsumed()
      let bad = Record("u", "no JSON at all")
      try installation.produce([good(2), bad, good(3)], to: "interactions")
      try await waitUntil("the daemon is not ready") { installation.ask("/readyz")?.status == 503 }
      let reasons = try #require(installation.ask("/readyz")?.body)
      #expect(reasons.contains("consumption stands still") && reasons.contains(letters), "\(reasons)")
      #expect(daemon.standardError.contains("consumption stands still"))
      #expect(installation.ask("/healthz")?.status == 200)
      try installation.produce([good(4)], to: "interactions")
      // The record at fault is not passed over, whatever else may be in the state by now.
      #expect(try installation.committedRecords() <= 2)

      // A stop and a start change nothing.
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
      #expect(try installation.committedRecords() <= 2)
      let again = try installation.start()
      try await waitUntil("the daemon is not ready again") { installation.ask("/readyz")?.status == 503 }

      #expect(try admin.deleteTopics([letters], within: .seconds(30)).isEmpty)
      try await waitUntil("the topic is gone") { try admin.metadata(within: .seconds(5)).partitionCounts[letters] == nil }
      _ = try admin.ensureTopics([TopicSpecification(letters, partitionCount: 1, replicationFactor: 1)], within: .seconds(30))
      try await installation.waitUntilSettled()
      try await waitUntil("the daemon is ready") { installation.ask("/readyz")?.status == 200 }
      #expect(try installation.deadLetters().map(\.value) == [bad.value])
      let rows = try #require(try await installation.inspect("user", "u")["interactions"] as? [[String: Any]])
      #expect(rows.map { $0["item"] as? String } == ["i-1", "i-2", "i-3", "i-4"])
      again.send(SIGTERM)
      #expect(try await again.exitCode() == 0)
    }
  }
}
