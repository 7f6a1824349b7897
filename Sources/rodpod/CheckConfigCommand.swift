import ArgumentParser
import Settings

struct CheckConfigCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check-config",
    abstract: "Checks the configuration and prints every error at once.",
    discussion: "Exits with 78 when there are errors. Example: rodpod check-config --config /etc/rodpod/rodpod.yaml")

  @OptionGroup var options: ConfigurationOptions
  @Flag(help: "Also print every key with the value in force; secrets are left out.")
  var show = false

  func run() throws {
    let settings = try options.load()
    print(show ? settings.description : "the configuration is valid")
  }
}

struct DefaultConfigCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "default-config",
    abstract: "Prints a configuration with every key, its unit, range and default.",
    discussion: "Example: rodpod default-config > rodpod.yaml")

  func run() { print(SettingsSchema.template, terminator: "") }
}
