import ArgumentParser
import DaemonSupport

/// The command line: one file for each verb.
@main
struct Rodpod: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "rodpod",
    abstract: "Fresh recommendations from a clickstream: Kafka in, online learning with RoDPO, Kafka out.",
    discussion: "Start with 'rodpod demo', which needs no Kafka, or with 'rodpod run --config /etc/rodpod/rodpod.yaml'.",
    version: BuildInformation.version,
    subcommands: [
      RunCommand.self, CheckConfigCommand.self, DefaultConfigCommand.self, StateCommand.self, InspectCommand.self, DemoCommand.self,
      BacktestCommand.self, TrainCommand.self, ValidateCommand.self, ImportCommand.self, DeadLettersCommand.self,
      TopCommand.self, CheckpointCommand.self, BackupCommand.self, RestoreCommand.self,
    ])

  static func main() async {
    HeapTuning.keepSmall()
    await main(nil)
  }
}
