import ArgumentParser
import Foundation
import StateStore

struct StateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "state",
    abstract: "Looks at the store as a whole.",
    discussion: "Example: rodpod state digest --store /var/lib/rodpod",
    subcommands: [Digest.self])

  struct Digest: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Prints one SHA-256 over sequences, catalogue and offsets.",
      discussion: "The same for the same history, however it was interrupted. Example: rodpod state digest --store /var/lib/rodpod")

    @OptionGroup var options: StoreOptions

    func run() throws {
      let store = try options.open()
      let digest = try options.reading { () throws(StateStoreError) in try store.read { (transaction) throws(StateStoreError) in try transaction.digest() } }
      print(hex(digest))
    }
  }
}

/// What every verb takes that looks into a store.
struct StoreOptions: ParsableArguments {
  @Option(help: ArgumentHelp("The folder of the store; it may be in use.", valueName: "folder"))
  var store: String

  func open() throws -> StateStore {
    try reading { () throws(StateStoreError) in try StateStore.open(at: store, options: StateStore.Options(isReadOnly: true)) }
  }

  /// Turns the store's errors into a message and exit code 74.
  func reading<Result>(_ body: () throws(StateStoreError) -> Result) throws -> Result {
    do {
      return try body()
    } catch {
      complain("\(error)")
      throw ExitCode(Exit.inputOutput)
    }
  }
}
