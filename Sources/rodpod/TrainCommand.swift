import ArgumentParser
import Backtest
import DaemonSupport
import Datasets
import Foundation
import Logging
import Pipeline
import Settings

/// `rodpod train`: a first model from a shop's history, before going live.
struct TrainCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train",
    abstract: "Train a first model on a history, into a new store that the daemon goes on with.",
    discussion: """
      The files are those of 'rodpod backtest'. The store gets the items, the users with their sequences, and a checkpoint of the model; \
      'rodpod run' with that store.path ranks these users at once and learns on from Kafka.

      No offset is stored: the daemon starts where kafka.start_at says. What is in the history should not be read from the topic again, so \
      set it to latest where the topic holds the same events, or leave them out of the history.

      Example: rodpod train --interactions clicks.csv.gz --items items.csv --store /var/lib/rodpod --config /etc/rodpod/rodpod.yaml
      """)

  @OptionGroup var data: HistoryOptions
  @Option(help: ArgumentHelp("The folder of the new store.", valueName: "folder")) var store: String
  @OptionGroup var options: ConfigurationOptions
  @Option(help: "The type of interactions that have none; without it the first of events.types.") var type: String?
  @Option(help: "The most passes over the history.") var epochs = 200
  @Option(help: "Stop after so many passes without a gain.") var patience = 5
  @Flag(help: "Print one JSON object.") var json = false

  func validate() throws {
    guard epochs > 0, patience > 0 else { throw ValidationError("--epochs and --patience are at least 1") }
  }

  func run() throws {
    var settings = try options.load()
    settings.store.path = store
    _ = bootstrapLogging(format: .text, level: .warning)
    try exiting { try train(settings) }
  }

  private func train(_ settings: Settings) throws {
    let progress = ProgressWriter()
    let data = try data.read(progress)
    for name in settings.model.modalities.keys.sorted() where data.modalities[name] == nil {
      complain("warning: model.modalities names \(name), of which no features are given: the model does not learn to use it yet")
    }
    let model = FirstModel(settings: settings, defaultType: type, maximumEpochs: epochs, patience: patience)
    let report = try model.train(
      data, now: Int64(Date().timeIntervalSince1970 * 1000), logger: Logger(label: "rodpod"), progress: progress.write)
    progress.finish()
    print(json ? try report.encoded() : "\(report)\nnow: rodpod run with store.path: \(store) and this configuration")
  }
}
