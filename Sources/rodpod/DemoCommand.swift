import AdminAPI
import ArgumentParser
import CoreMetrics
import DaemonSupport
import Datasets
import Events
import Foundation
import Kafka
import Logging
import Pipeline
import Settings
import Synchronization

struct DemoCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "demo",
    abstract: "Shows rodpod at work on a real data set, without Kafka: an in-process mock cluster plays the broker.",
    discussion: """
      Plays MovieLens ratings in time order, as fast as the model learns from them, and ends by itself within two minutes. Meanwhile a status
      page can be looked at in a browser.
      Example: rodpod demo --data Tests/Fixtures/movielens-small
      """)

  @Option(help: ArgumentHelp("The folder with ratings.csv.gz and movies.csv.gz.", valueName: "folder"))
  var data = "Tests/Fixtures/movielens-small"
  @Option(help: ArgumentHelp("Stop playing after so many seconds.", valueName: "seconds"))
  var seconds = 95

  /// Events on their way at a time. A rater's burst of years ago comes at once here: more would be scored against a list from before it.
  private static let inFlight = 8

  func run() async throws {
    let stream: DemoStream
    do {
      stream = try DemoStream(folder: data)
    } catch {
      complain("\(error)")
      throw ExitCode(Exit.inputOutput)
    }
    let level = bootstrapLogging(format: .text, level: .error)
    level.current = .error
    let registry = MetricsRegistry()
    PipelineMetrics.describe(in: registry)
    MetricsSystem.bootstrap(registry)
    let folder = FileManager.default.temporaryDirectory.appending(path: "rodpod-demo-\(ProcessInfo.processInfo.processIdentifier)")
    defer { try? FileManager.default.removeItem(at: folder) }
    // It blocks, so it has a thread of its own.
    try await DedicatedThread(name: "demo") { try play(stream, folder: folder, registry) }.finish()
  }

  /// Serves the status page, on a port that is free, until cancelled.
  /// - Returns: the server's task, and the page's address once it listens.
  private func serveStatusPage(of daemon: Daemon, _ registry: MetricsRegistry) throws -> (server: Task<Void, any Error>, address: String?) {
    let adapter = AdminAdapter(daemon: daemon, registry: registry)
    let ports = BoundedQueue<Int>(capacity: 1)
    // It ends with the demonstration, in the middle of whatever it does; nobody needs to read of that.
    let quiet = Logger(label: "status page") { _ in SwiftLogNoOpLogHandler() }
    let server = try AdminServer(
      configuration: AdminConfiguration(port: 0), status: adapter, lookups: adapter, logger: quiet,
      onListening: { _ = ports.push($0, timeout: .zero) })
    let task = Task { try await server.run() }
    guard case .element(let port) = ports.pop(timeout: .seconds(5)) else { return (task, nil) }
    return (task, "http://127.0.0.1:\(port)/")
  }

  private func play(_ stream: DemoStream, folder: URL, _ registry: MetricsRegistry) throws {
    let cluster = try MockCluster()
    var settings = Settings()
    settings.kafka.bootstrapServers = cluster.bootstrapServers
    settings.kafka.groupInstanceID = ""
    settings.store.path = folder.path
    settings.store.mapSizeBytes = 256 << 20
    settings.learner.maxLagInteractions = 1_000_000
    let topics = settings.topics
    for topic in [topics.interactions, topics.items, topics.recommendations, topics.deadLetters] {
      try cluster.createTopic(topic, partitionCount: topics.partitions)
    }
    let failure = Mutex<PipelineError?>(nil)
    let daemon = try Daemon(settings: settings, logger: Logger(label: "rodpod")) { error in failure.withLock { $0 = error } }
    let lists = try PublishedLists(settings)
    let player = try DemoPlayer(stream, settings)
    let display = DemoDisplay(stream: stream, isTerminal: isatty(STDOUT_FILENO) == 1)
    let page = try serveStatusPage(of: daemon, registry)
    defer { page.server.cancel() }
    display.begin(page: page.address)

    try player.playItems()
    let start = ContinuousClock.now
    let deadline = start + .seconds(seconds)
    var isDone = false
    while ContinuousClock.now < deadline, failure.withLock({ $0 == nil }) {
      let totals = daemon.metrics.current
      // Years pass in a minute. A stream that ran ahead would score its events against lists from before the burst that they belong to,
      // and would be learned from in retrospect; so few events are on their way at a time, and learning sets the pace.
      let isIdle = try !player.play(upTo: Int(totals.interactions) + Self.inFlight, learned: Int(totals.learnedInteractions) + 1024)
      lists.poll()
      display.show(totals, player, lists, elapsed: ContinuousClock.now - start)
      if player.isFinished, totals.interactions >= player.played, totals.learnedInteractions + 255 >= player.played, totals.staleUsers == 0 {
        isDone = true
        break
      }
      if isIdle { lists.wait(.milliseconds(10)) }
    }
    lists.poll()
    let totals = daemon.metrics.current
    display.end(totals, player, lists, elapsed: ContinuousClock.now - start, isComplete: isDone)
    lists.close()
    player.close()
    _ = daemon.stop()
    withExtendedLifetime(cluster) {}
    if let error = failure.withLock({ $0 }) {
      complain(error.message)
      throw ExitCode(Exit.internal)
    }
  }
}

/// MovieLens: ratings as interactions, films as items.
struct DemoStream: Sendable {
  let history: InteractionHistory
  let films: ItemTable
  let order: [Int32]

  init(folder: String) throws(DatasetError) {
    history = try InteractionHistory.read([folder + "/ratings.csv.gz"])
    films = try ItemTable.read(folder + "/movies.csv.gz")
    order = history.chronologicalOrder()
  }

  func title(_ item: String) -> String {
    films.identifiers.index(of: item).map { films.titles[Int($0)] } ?? item
  }
}

/// Sends the stream to Kafka in time order.
final class DemoPlayer {
  private let stream: DemoStream
  private let settings: Settings
  private let producer: Producer
  private(set) var played = 0
  /// The user and the item of the newest event.
  private(set) var newest: (user: String, item: String, time: Int64)?

  init(_ stream: DemoStream, _ settings: Settings) throws {
    self.stream = stream
    self.settings = settings
    producer = try Producer(properties: ["bootstrap.servers": settings.kafka.bootstrapServers, "linger.ms": "5"])
  }

  var total: Int { stream.order.count }
  var isFinished: Bool { played == total }

  func playItems() throws {
    for film in 0..<Int32(stream.films.count) {
      let description = ItemDescription(
        item: stream.films.identifiers[film], title: stream.films.titles[Int(film)],
        categories: stream.films.attributes(of: film).map { stream.films.attributeIdentifiers[$0] })
      try send(settings.topics.items, key: description.item, description.json())
    }
    _ = producer.flush(within: .seconds(10))
  }

  /// Sends the next events, up to the smaller of the two counts.
  ///
  /// - Returns: whether anything was sent.
  func play(upTo consumed: Int, learned: Int) throws -> Bool {
    let end = min(min(consumed, learned), total)
    guard end > played else {
      _ = producer.poll(timeout: .zero)
      return false
    }
    for index in played..<end {
      let event = Int(stream.order[index])
      let interaction = Interaction(
        user: stream.history.userIdentifiers[stream.history.users[event]], item: stream.history.itemIdentifiers[stream.history.items[event]],
        type: 0, time: stream.history.times[event])
      try send(settings.topics.interactions, key: interaction.user, interaction.json(typeName: "rating"))
      newest = (interaction.user, interaction.item, interaction.time)
    }
    played = end
    _ = producer.poll(timeout: .zero)
    return true
  }

  private func send(_ topic: String, key: String, _ value: [UInt8]) throws {
    while case .queueFull = try producer.produce(topic: topic, key: Array(key.utf8), value: value) {
      _ = producer.poll(timeout: .milliseconds(20))
    }
  }

  func close() { producer.close(within: .seconds(1)) }
}

/// Reads what rodpod publishes, as anything downstream would.
final class PublishedLists {
  private let consumer: Consumer
  private(set) var newest: [String: Recommendation] = [:]
  private(set) var count = 0

  init(_ settings: Settings) throws {
    consumer = try Consumer(properties: [
      "bootstrap.servers": settings.kafka.bootstrapServers, "group.id": "rodpod-demo-reader", "fetch.wait.max.ms": "10",
    ])
    let partitions = (0..<Int32(settings.topics.partitions)).map { TopicPartition(settings.topics.recommendations, $0) }
    try consumer.assign(Dictionary(uniqueKeysWithValues: partitions.map { ($0, .beginning) }))
  }

  func poll() { wait(.zero) }

  func wait(_ timeout: Duration) {
    _ = consumer.poll(maximumCount: 2_000, timeout: timeout) { message in
      let copy = message.copy()
      guard let value = copy.value, let list = try? Recommendation(json: value) else { return }
      newest[list.user] = list
      count += 1
    }
  }

  func close() { consumer.close(within: .seconds(1)) }
}

/// What a person sees: a screen that is drawn anew on a terminal, plain lines elsewhere.
final class DemoDisplay {
  private let stream: DemoStream
  private let isTerminal: Bool
  private var page = ""
  private var last = ContinuousClock.now - .seconds(10)
  private var shownUser = ""

  init(stream: DemoStream, isTerminal: Bool) {
    self.stream = stream
    self.isTerminal = isTerminal
  }

  /// - Parameter page: where the status page is.
  func begin(page: String?) {
    self.page = page ?? ""
    print("rodpod plays \(stream.history.count) ratings of \(stream.history.itemCount) films by \(stream.history.userCount) users, in time order.")
    print("Each rating is scored against what its user had been recommended, then learned from.")
    print(page.map { "Status page: \($0)\n" } ?? "")
    // Into a file or a pipe at once, too.
    fflush(nil)
  }

  func show(_ totals: PipelineMetrics.Totals, _ player: DemoPlayer, _ lists: PublishedLists, elapsed: Duration) {
    guard ContinuousClock.now - last >= (isTerminal ? .milliseconds(300) : .seconds(3)) else { return }
    last = .now
    let quality = totals.quality
    let seconds = Double(elapsed.wholeMilliseconds) / 1000
    guard isTerminal else {
      print(
        "\(format(seconds, "%5.1f")) s  events \(totals.interactions)  steps \(totals.learningSteps)  loss \(format(totals.crossEntropy, "%.3f"))  "
          + "HR@10 \(format(quality.model.hitRate, "%.4f")) (popularity \(format(quality.popularity.hitRate, "%.4f")))  "
          + "NDCG@10 \(format(quality.model.ndcg, "%.4f")) (popularity \(format(quality.popularity.ndcg, "%.4f")))  lists \(lists.count)")
      if let (user, list) = userOfTheMoment(player, lists) {
        print("         user \(user): \(list.items.prefix(3).map { stream.title($0.item) }.joined(separator: " | "))")
      }
      fflush(nil)
      return
    }
    var lines = [
      "\u{1B}[1mrodpod\u{1B}[0m  \(format(seconds, "%.1f")) s   \(date(player.newest?.time))   \(page)",
      bar(Double(player.played) / Double(max(1, player.total))),
      "",
      "  events taken in   \(totals.interactions)   (\(Int(Double(totals.interactions) / max(0.1, seconds)))/s, dead letters \(totals.deadLetters.values.reduce(0, +)))",
      "  learning steps    \(totals.learningSteps)   model \(totals.modelVersion)",
      "  loss              CE \(format(totals.crossEntropy, "%.3f"))   RoDPO \(format(totals.preference, "%.3f"))",
      "  lists published   \(lists.count)",
      "",
      "  last \(quality.events) ratings        rodpod    recent popularity",
      "  HR@10                \(format(quality.model.hitRate, "%8.4f"))    \(format(quality.popularity.hitRate, "%8.4f"))",
      "  NDCG@10              \(format(quality.model.ndcg, "%8.4f"))    \(format(quality.popularity.ndcg, "%8.4f"))",
      "",
    ]
    if let (user, list) = userOfTheMoment(player, lists) {
      lines.append("  user \u{1B}[1m\(user)\u{1B}[0m, list \(list.revision), by model \(list.model)")
      for item in list.items.prefix(8) { lines.append("    \(format(Double(item.score), "%6.2f"))  \(stream.title(item.item))") }
    }
    FileHandle.standardOutput.write(Data(("\u{1B}[H\u{1B}[2J" + lines.joined(separator: "\n") + "\n").utf8))
  }

  func end(_ totals: PipelineMetrics.Totals, _ player: DemoPlayer, _ lists: PublishedLists, elapsed: Duration, isComplete: Bool) {
    let quality = totals.quality
    print(
      """

      \(isComplete ? "All" : "Time is up after") \(totals.interactions) of \(player.total) ratings taken in, \(totals.learnedInteractions) learned from in \
      \(totals.learningSteps) steps, \(lists.count) lists published to \(lists.newest.count) keys, in \(format(Double(elapsed.wholeMilliseconds) / 1000, "%.1f")) s.

      Live quality on the last \(quality.events) ratings, each scored before it was learned from (the whole catalogue ranked):
                            HR@10    NDCG@10        MRR@10
        rodpod             \(format(quality.model.hitRate, "%.4f"))     \(format(quality.model.ndcg, "%.4f"))        \(format(quality.model.mrr, "%.4f"))
        recent popularity  \(format(quality.popularity.hitRate, "%.4f"))     \(format(quality.popularity.ndcg, "%.4f"))        \(format(quality.popularity.mrr, "%.4f"))
      """)
    if let (user, list) = userOfTheMoment(player, lists) {
      print("\nThe newest list of user \(user) (revision \(list.revision), model \(list.model)):")
      for item in list.items.prefix(10) { print("  \(format(Double(item.score), "%6.2f"))  \(stream.title(item.item))") }
    }
  }

  /// The user of the newest event, once a list of theirs is out.
  private func userOfTheMoment(_ player: DemoPlayer, _ lists: PublishedLists) -> (String, Recommendation)? {
    if let user = player.newest?.user, lists.newest[user] != nil { shownUser = user }
    return lists.newest[shownUser].map { (shownUser, $0) }
  }

  private func bar(_ share: Double) -> String {
    let width = 50
    let full = Int(share * Double(width))
    return "  [" + String(repeating: "#", count: full) + String(repeating: " ", count: width - full) + "] \(Int(share * 100)) %"
  }

  private func date(_ time: Int64?) -> String { time.map { String(Timestamp.rfc3339($0).prefix(10)) } ?? "" }

  private func format(_ value: Double?, _ format: String) -> String { value.map { String(format: format, $0) } ?? "-" }
}
