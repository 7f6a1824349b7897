import ArgumentParser
import StateStore

/// `rodpod backup`: a consistent copy of the store, also while the daemon runs.
struct BackupCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "backup",
    abstract: "Copies the store with its checkpoints to an empty folder, also while the daemon runs.",
    discussion: "The copy is a store itself. Example: rodpod backup /backup/rodpod-monday --store /var/lib/rodpod")

  @Argument(help: "The folder of the copy: empty, or not there yet.") var folder: String
  @OptionGroup var options: StoreOptions

  func run() throws { try copy(options, to: folder) }
}

/// `rodpod restore`: a backup becomes the store again.
struct RestoreCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "restore",
    abstract: "Makes a store of a backup. The daemon goes on from the offsets that it holds.",
    discussion: "A store that is there is never overwritten: move it away first. Example: rodpod restore /backup/monday --store /var/lib/rodpod")

  @Argument(help: "The folder of the backup.") var backup: String
  @Option(help: ArgumentHelp("The folder of the new store: empty, or not there yet.", valueName: "folder")) var store: String

  func run() throws {
    var options = StoreOptions()
    options.store = backup
    try copy(options, to: store)
  }
}

private func copy(_ options: StoreOptions, to folder: String) throws {
  let store = try options.open()
  let checkpoints = try options.reading { () throws(StateStoreError) in try store.backUp(toFolder: folder) }
  print("\(options.store) is copied to \(folder), with \(checkpoints.isEmpty ? "no checkpoint" : checkpoints.joined(separator: ", "))")
}
