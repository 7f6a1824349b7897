import ArgumentParser
import Backtest
import DaemonSupport
import Datasets
import Events
import Foundation
import Logging
import Pipeline
import Settings

/// `rodpod import`: plays files of events into their topic.
struct ImportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "import",
    abstract: "Plays files of events, or of items, into their topic.",
    discussion: """
      JSON lines are sent as they are, keyed by the user or the item that they name. The lines of a TSV or CSV table are sent in the default \
      form of an event; its columns are those of 'rodpod backtest'. All may be gzip.

      Each event is checked before it is sent, as by 'rodpod validate'. Exits with 65 at the first that would not be accepted, or leaves \
      these out with --skip-rejected; with 69 when Kafka can't be reached or does not take them.

      Example: rodpod import --config /etc/rodpod/rodpod.yaml --rate 500 clicks.jsonl.gz
      """)

  @Argument(help: "Files of events, sent in this order.") var files: [String]
  @Flag(help: "The files describe items.") var items = false
  @Option(help: ArgumentHelp("Send so many a second at most; without it, as fast as the broker takes them.", valueName: "events"))
  var rate: Double?
  @Option(help: "The type of a table's interactions that have none; without it the first of events.types.") var type: String?
  @Flag(help: "Leave out what would not be accepted, and report it.") var skipRejected = false
  @OptionGroup var options: ConfigurationOptions

  func validate() throws {
    guard !files.isEmpty else { throw ValidationError("name at least one file") }
    if let rate, !(rate > 0) { throw ValidationError("--rate is above 0") }
  }

  func run() throws {
    let settings = try options.load()
    let topic = items ? settings.topics.items : settings.topics.interactions
    var validation = try EventValidation(items ? .items : .interactions, settings: settings)
    _ = bootstrapLogging(format: .text, level: .warning)
    let progress = ProgressWriter()
    let now = Int64(Date().timeIntervalSince1970 * 1000)
    var rejected: [Rejection.Reason: Int] = [:]
    var passedOver = 0
    try exiting {
      let sender = try EventSender(settings: settings, rate: rate)
      defer { sender.close() }
      reading: for (index, file) in files.enumerated() {
        var events = try EventFile(path: file, items: items, defaultType: type ?? settings.events.types.first?.name ?? "")
        while let event = try events.next() {
          let key: String?
          do throws(Rejection) {
            key = try validation.check(event.span.bytes, key: nil, now: now)
          } catch {
            progress.finish()
            complain("\(file):\(events.line): \(error)")
            rejected[error.reason, default: 0] += 1
            if skipRejected { continue }
            break reading
          }
          guard let key else {
            passedOver += 1
            continue
          }
          try sender.send(topic, key: Array(key.utf8), value: event)
          progress.write(
            Backtest.Progress(
              stage: "\(sender.sent) sent, \(sender.acknowledged) acknowledged",
              fraction: (Double(index) + events.fractionRead) / Double(files.count)))
        }
      }
      try sender.finish()
      progress.finish()
      let left = rejected.values.reduce(0, +)
      print("\(sender.acknowledged) events are in the topic '\(topic)', \(left) would not be accepted, \(passedOver) are of other types")
      for (reason, count) in rejected.byCount { print("  \(reason.rawValue): \(count)") }
      if left > 0, !skipRejected { throw ExitCode(Exit.data) }
    }
  }
}

/// The events of a file as they are sent: JSON lines as they stand, the lines of a table as events of the default form.
private struct EventFile: ~Copyable {
  private let path: String
  private let defaultType: String
  private var lines: LineReader?
  private var interactions: InteractionReader?
  private var items: ItemTable?
  private var itemsRead: Int32 = 0
  /// The line of the last event, from 1.
  private(set) var line = 0
  /// The share of the file that has been read.
  private(set) var fractionRead = 0.0

  init(path: String, items: Bool, defaultType: String) throws(DatasetError) {
    self.path = path
    self.defaultType = defaultType
    var peek = try LineReader(path: path)
    let first = try peek.read() ?? []
    if first.first(where: { $0 != UInt8(ascii: " ") && $0 != UInt8(ascii: "\t") }) == UInt8(ascii: "{") {
      lines = try LineReader(path: path)
    } else if items {
      self.items = try ItemTable.read(path)
    } else {
      interactions = try InteractionReader(path: path)
    }
  }

  /// The next event; nil at the end.
  mutating func next() throws(DatasetError) -> [UInt8]? {
    if let items {
      guard itemsRead < items.count else { return nil }
      defer { itemsRead += 1 }
      line = Int(itemsRead) + 2
      fractionRead = Double(itemsRead) / Double(items.count)
      let title = items.titles[Int(itemsRead)]
      return ItemDescription(
        item: items.identifiers[itemsRead], title: title.isEmpty ? nil : title, categories: items.categories(of: itemsRead),
        brand: items.brand(of: itemsRead)
      ).json()
    }
    if let record = try interactions?.next() {
      line = record.line
      fractionRead = interactions?.fractionRead ?? 0
      guard let time = record.time else { throw DatasetError(.line, path: path, line: line, "no time: a stream needs one") }
      return Interaction(user: record.user, item: record.item, type: 0, time: time, value: record.value).json(
        typeName: record.type ?? defaultType)
    }
    let text = try lines?.read()
    line = lines?.line ?? 0
    fractionRead = lines?.fractionRead ?? 0
    return text
  }
}
