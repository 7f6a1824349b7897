import ArgumentParser
import Foundation
import Pipeline
import Settings

/// Exit codes, as in sysexits.h.
enum Exit {
  static let usage: Int32 = 64
  static let data: Int32 = 65
  static let unavailable: Int32 = 69
  static let `internal`: Int32 = 70
  static let inputOutput: Int32 = 74
  static let configuration: Int32 = 78

  static func code(for error: PipelineError) -> Int32 {
    switch error.code {
    case .unavailable: unavailable
    case .configuration: configuration
    case .storage: inputOutput
    case .failed: `internal`
    }
  }
}

/// Writes an error where errors belong.
func complain(_ text: String) { FileHandle.standardError.write(Data("rodpod: \(text)\n".utf8)) }

/// What every verb that reads the configuration takes.
struct ConfigurationOptions: ParsableArguments {
  @Option(name: [.short, .long], help: ArgumentHelp("The configuration file (YAML). Without it, every key has its default.", valueName: "file"))
  var config: String?

  @Option(name: .customLong("set"), help: ArgumentHelp("Overrides one key, such as learner.stride=128. May be repeated.", valueName: "key=value"))
  var overrides: [String] = []

  /// The settings from file, environment and flags.
  ///
  /// Prints every error and exits with 78 when there are any.
  func load() throws -> Settings {
    do {
      let loaded = try Settings.load(path: config, environment: ProcessInfo.processInfo.environment, overrides: overrides)
      for warning in loaded.warnings { complain("warning: \(warning)") }
      return loaded.settings
    } catch {
      complain("the configuration has errors:\n\(error)")
      throw ExitCode(Exit.configuration)
    }
  }
}
