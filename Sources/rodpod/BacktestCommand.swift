import ArgumentParser
import Backtest
import Datasets
import Foundation
import Pipeline
import Recommender
import Settings

/// `rodpod backtest`: what the daemon would have recommended, on a history of one's own.
struct BacktestCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "backtest",
    abstract: "Replay a history and score the learner beside simple baselines.",
    discussion: """
      leave-one-out  train to convergence, stop by each user's last but one item, report on the last
      prequential    after a warm-up: recommend, score, learn, event by event or day by day
      periods        several files in order: learn up to one, then test the next

      Every metric ranks the whole catalogue without the items that the user has seen, and counts ties against the target. The model is \
      told the time of the interaction that it has to predict, as a shop knows when a page is asked for.

      Example: rodpod backtest prequential --block day --interactions clicks.csv.gz --items items.csv
      """)

  enum Plan: String, ExpressibleByArgument, CaseIterable {
    case leaveOneOut = "leave-one-out"
    case prequential, periods
  }

  @Argument(help: "leave-one-out, prequential or periods.") var plan: Plan
  @OptionGroup var data: HistoryOptions
  @OptionGroup var options: ConfigurationOptions
  @Option(help: "Where negatives are drawn: stochastic, hard, uniform or none.") var negatives: String?
  @Option(help: "Experts over the items' features; 0 is one dense layer.") var experts: Int?
  @Option(help: "Random seed; several give mean and standard deviation.") var seed: [UInt64] = []
  @Flag(help: "Seen items may be recommended again.") var allowRepeats = false
  @Option(help: "prequential: the share of the history to learn first.") var warmup = 0.5
  @Option(help: "prequential: event or day.") var block = Prequential.Block.event
  @Option(help: "periods: the share of users that are never learned from, to see what is forgotten.") var heldOut = 0.0
  @Option(help: "The most passes over a history.") var epochs = 200
  @Option(help: "Stop after so many passes without a gain.") var patience = 5
  @Flag(help: "leave-one-out: report on the validation items; choose settings by these.") var onValidation = false
  @Flag(inversion: .prefixedNo, help: "Score the baselines too.") var baselines = true
  @Option(help: "Write each case's rank to this file.") var ranks: String?
  @Option(help: "Test against the ranks that another run has written.") var against: [String] = []
  @Flag(help: "Print one JSON object.") var json = false

  func validate() throws {
    guard 0..<1 ~= warmup, 0..<1 ~= heldOut else { throw ValidationError("--warmup and --held-out are shares from 0 to below 1") }
    guard epochs > 0, patience > 0 else { throw ValidationError("--epochs and --patience are at least 1") }
  }

  func run() throws {
    var options = options
    if let negatives { options.overrides.append("objective.negatives=\(negatives)") }
    if let experts { options.overrides.append("model.experts=\(experts)") }
    let settings = try options.load()
    try exiting { try run(settings) }
  }

  private func run(_ settings: Settings) throws {
    let progress = ProgressWriter()
    let data = try data.read(progress)
    let weights = Dictionary(settings.events.types.map { ($0.name, $0.weight) }) { first, _ in first }
    let learner = LearnerConfiguration(settings, typeWeights: data.typeWeights(weights), modalities: data.modalities)
    let backtest = Backtest(
      plan: protocolPlan, learner: learner, stride: settings.learner.stride, window: settings.learner.windowInteractions,
      popularityWindow: settings.quality.popularityWindowEvents, guestWindow: settings.ranker.guestWindowEvents, allowsRepeats: allowRepeats,
      maximumEpochs: epochs, patience: patience, seeds: seed, skipsBaselines: !baselines, onValidation: onValidation)
    let others = try against.map { try RankFile(path: $0) }
    var report = try backtest.run(data, progress: progress.write)
    progress.finish()
    for other in others { try report.compare(with: other) }
    if let ranks { try report.ranks(named: ranks).encoded.write(toFile: ranks, atomically: true, encoding: String.Encoding.utf8) }
    print(json ? try report.encoded() : report.description)
  }

  private var protocolPlan: Backtest.Plan {
    switch plan {
    case .leaveOneOut: .leaveOneOut
    case .prequential: .prequential(warmup: warmup, block: block)
    case .periods: .periods(heldOut: heldOut)
    }
  }
}

extension Exit {
  static func code(for error: BacktestError) -> Int32 {
    switch error.code {
    case .usage: usage
    case .data: inputOutput
    case .configuration: configuration
    case .kernels: `internal`
    }
  }
}

extension Prequential.Block: ExpressibleByArgument {}

/// Turns the errors of a replay or a training into a message and an exit code.
func exiting(_ body: () throws -> Void) throws {
  do {
    try body()
  } catch let error as DatasetError {
    complain(error.description)
    throw ExitCode(Exit.inputOutput)
  } catch let error as BacktestError {
    complain(error.description)
    throw ExitCode(Exit.code(for: error))
  } catch let error as PipelineError {
    complain(error.message)
    throw ExitCode(Exit.code(for: error))
  }
}

/// The files of a shop's history.
struct HistoryOptions: ParsableArguments {
  @Option(
    parsing: .upToNextOption,
    help: "Interactions: TSV, CSV or JSON lines, plain or gzip; columns user or session, item, time, position, type.")
  var interactions: [String]
  @Option(help: "Item table: item, title, brand, categories, attributes.") var items: String?
  @Option(help: ArgumentHelp("Feature vectors: a .npy matrix whose rows follow the item table.", valueName: "NAME=FILE"))
  var features: [String] = []

  func validate() throws {
    for feature in features where !feature.dropFirst().contains("=") {
      throw ValidationError("--features takes NAME=FILE, not '\(feature)'")
    }
  }

  func read(_ progress: ProgressWriter) throws -> BacktestData {
    let named = features.map { feature -> (name: String, path: String) in
      let parts = feature.split(separator: "=", maxSplits: 1)
      return (String(parts[0]), String(parts[1]))
    }
    return try BacktestData.read(interactions: interactions, items: items, features: named) { count in
      progress.write(Backtest.Progress(stage: "reading, \(count) interactions", fraction: 0))
    }
  }
}

/// Progress on standard error: a bar that is drawn over on a terminal, else a line every few seconds.
final class ProgressWriter {
  private let isTerminal = isatty(STDERR_FILENO) == 1
  private var hasDrawn = false
  private var next = ContinuousClock.now

  func write(_ progress: Backtest.Progress) {
    guard ContinuousClock.now >= next else { return }
    next = .now + (isTerminal ? .milliseconds(100) : .seconds(5))
    if isTerminal {
      let width = 24
      let done = Int((min(1, max(0, progress.fraction)) * Double(width)).rounded(.down))
      let bar = String(repeating: "█", count: done) + String(repeating: "░", count: width - done)
      print("\r\u{1B}[K\(bar) \(progress.stage)")
      hasDrawn = true
    } else {
      print(progress.stage + "\n")
    }
  }

  /// Leaves the terminal's line clear for the result.
  func finish() {
    if hasDrawn { print("\r\u{1B}[K") }
  }

  private func print(_ text: String) { FileHandle.standardError.write(Data(text.utf8)) }
}
