import Foundation
import Kafka
import TestBroker
import TestSupport

/// `e2e`: the daemon as it is shipped, learning on, beside a broker on the same machine: from an event's sending to the moment when a consumer
/// has read a list that reflects it, and how fast a backlog is worked off.
func endToEndBenchmark(_ report: Report) throws {
  let broker = try waitFor { try await Broker.start() }
  defer { try? broker.stop() }
  let (users, items) = (10_000, 100_000)
  let daemon = try DaemonRun(broker)
  try daemon.createTopics()
  try daemon.fill(users: users, events: 50, items: items)
  report.add("start.seconds", try daemon.start() / .seconds(1), unit: "s")
  var traffic = try Traffic(broker, daemon, users: users, items: items)
  defer { traffic.close() }
  _ = try traffic.run(eventsPerSecond: 2_000, seconds: 5)
  let latencies = try traffic.run(eventsPerSecond: 2_000, seconds: 20).sorted()
  report.add("e2e.latency_ms", latencies[latencies.count / 2] * 1e3, unit: "ms (p50)")
  report.add("e2e.latency_ms.p99", latencies[latencies.count * 99 / 100] * 1e3, unit: "ms")
  report.add("rss_bytes", try daemon.anonymousBytes(), unit: "bytes")
  let drained = try traffic.drain(events: 200_000)
  report.add("e2e.sustained_events_per_second", drained.eventsPerSecond, unit: "events/s")
  report.add("e2e.sustained.learned_fraction", drained.learned, unit: "of the events")
}

/// What a shop does: it sends events, and reads the lists.
private struct Traffic {
  private let producer: Producer
  private let lists: Consumer
  private let daemon: DaemonRun
  private let users: Int
  private let items: Int
  private let bootstrapServers: String
  /// By token: whose event it was, and when it was sent.
  private var sent: [(user: Int, time: ContinuousClock.Instant)] = []
  /// Of each user: events that lie in a partition and are in no list yet.
  private var waiting: [[(offset: Int64, time: ContinuousClock.Instant)]]
  /// Of each user: up to which offset the last list goes.
  private var reflected: [Int64]
  private var latencies: [Double] = []

  init(_ broker: Broker, _ daemon: DaemonRun, users: Int, items: Int) throws {
    self.daemon = daemon
    self.users = users
    self.items = items
    bootstrapServers = broker.bootstrapServers
    waiting = Array(repeating: [], count: users)
    reflected = Array(repeating: -1, count: users)
    producer = try Producer(properties: ["bootstrap.servers": bootstrapServers, "linger.ms": "1"])
    lists = try Consumer(properties: [
      "bootstrap.servers": bootstrapServers, "group.id": uniqueName("bench"), "fetch.wait.max.ms": "1", "fetch.min.bytes": "65536",
      "receive.message.max.bytes": "1000000000",
    ])
    let topic = "\(daemon.name)-recommendations"
    let admin = try AdminClient(properties: ["bootstrap.servers": bootstrapServers])
    let partitions = try admin.metadata(within: .seconds(10)).partitionCounts[topic] ?? 1
    try lists.assign(Dictionary(uniqueKeysWithValues: (0..<Int32(partitions)).map { (TopicPartition(topic, $0), .beginning) }))
  }

  func close() {
    producer.close(within: .seconds(5))
    lists.close(within: .seconds(5))
  }

  private mutating func send() throws {
    let user = Int.random(in: 0..<users)
    let uniform = Double.random(in: 0..<1)
    let event = "{\"user\":\"u-\(user)\",\"item\":\"sku-\(Int(Double(items) * uniform * uniform * uniform))\",\"type\":\"view\",\"time\":\(Int64(Date().timeIntervalSince1970 * 1000))}"
    while try producer.produce(
      topic: "\(daemon.name)-interactions", key: Array("u-\(user)".utf8), value: Array(event.utf8), token: UInt64(sent.count)) == .queueFull
    {
      try take(producer.poll(timeout: .milliseconds(10)))
    }
    sent.append((user, .now))
  }

  private mutating func take(_ result: ProducerPollResult) throws {
    for report in result.deliveries {
      let (delivery, event) = (try report.result.get(), sent[Int(report.token)])
      if delivery.offset > reflected[event.user] {
        waiting[event.user].append((delivery.offset, event.time))
      } else {
        latencies.append((.now - event.time) / .seconds(1))
      }
    }
  }

  private mutating func readLists(timeout: Duration) {
    var read: [(user: Int, offset: Int64)] = []
    _ = lists.poll(maximumCount: 1_000, timeout: timeout) { message in
      let list = message.copy()
      guard let user = list.key.flatMap({ Int(String(decoding: $0.dropFirst(2), as: UTF8.self)) }),
        let offset = list.value.flatMap(Self.offset)
      else { return }
      read.append((user, offset))
    }
    let now = ContinuousClock.now
    for (user, offset) in read where offset > reflected[user] {
      reflected[user] = offset
      waiting[user].removeAll { event in
        if event.offset <= offset { latencies.append((now - event.time) / .seconds(1)) }
        return event.offset <= offset
      }
    }
  }

  /// The number behind `"offset":`; a user's events are all in one partition.
  private static func offset(in json: [UInt8]) -> Int64? {
    let name = Array("\"offset\":".utf8)
    guard let start = json.indices.reversed().first(where: { json[$0...].starts(with: name) }) else { return nil }
    return Int64(String(decoding: json[(start + name.count)...].prefix { (48...57).contains($0) }, as: UTF8.self))
  }

  /// Sends at a steady rate and reads on until the events are in lists.
  ///
  /// - Returns: of each event that changed a list the seconds from its sending to the reading of a list that reflects it.
  mutating func run(eventsPerSecond: Int, seconds: Int) throws -> [Double] {
    latencies.removeAll()
    let start = ContinuousClock.now
    var count = 0
    while count < eventsPerSecond * seconds {
      let due = min(eventsPerSecond * seconds, Int((.now - start) / .seconds(1) * Double(eventsPerSecond)))
      while count < due {
        try send()
        count += 1
      }
      try take(producer.poll(timeout: .zero))
      readLists(timeout: .milliseconds(1))
    }
    // A list that an event did not change is not sent again: those events are waited for no longer.
    var (last, known) = (ContinuousClock.now, latencies.count)
    while latencies.count < count, ContinuousClock.now - last < .seconds(3) {
      try take(producer.poll(timeout: .zero))
      readLists(timeout: .milliseconds(5))
      if latencies.count > known { (last, known) = (.now, latencies.count) }
    }
    for user in waiting.indices { waiting[user].removeAll() }
    try check(latencies.count > count / 2, "\(latencies.count) of \(count) events are in a list; the daemon says: \(daemon.said)")
    return latencies
  }

  /// Sends so many events at once, and waits until the daemon has taken them in.
  ///
  /// - Returns: events taken in a second, from the first tenth to the last, and the share of them that was learned from meanwhile.
  mutating func drain(events: Int) throws -> (eventsPerSecond: Double, learned: Double) {
    let before = try daemon.figures()
    for _ in 0..<events { try send() }
    var first: (taken: Double, time: ContinuousClock.Instant)?
    let deadline = ContinuousClock.now + .seconds(120)
    while true {
      try check(ContinuousClock.now < deadline, "the backlog is not worked off after two minutes")
      try take(producer.poll(timeout: .zero))
      readLists(timeout: .milliseconds(20))
      let now = try daemon.figures()
      let taken = now.events - before.events
      if first == nil, taken >= Double(events) / 10 { first = (taken, .now) }
      guard taken >= Double(events), let first else { continue }
      return (
        (taken - first.taken) / ((.now - first.time) / .seconds(1)),
        (now.learned - before.learned) / taken
      )
    }
  }
}
