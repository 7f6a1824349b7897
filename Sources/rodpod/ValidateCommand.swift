import ArgumentParser
import Datasets
import Events
import Foundation
import Pipeline
import Settings

/// `rodpod validate`: what the daemon would say to a file of events, before they are sent.
struct ValidateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "validate",
    abstract: "Checks a file of events, one JSON object a line, and reports line by line what would go to the dead letters.",
    discussion: """
      Fields and types are those of the configuration. Exits with 65 when a line would not be accepted.
      Example: rodpod validate --config rodpod.yaml events.jsonl.gz
      """)

  @Argument(help: "Files of JSON lines, plain or gzip.") var files: [String]
  @Flag(help: "The lines describe items.") var items = false
  @Option(help: "Report so many lines at most; all are counted.") var limit = 100
  @OptionGroup var options: ConfigurationOptions

  func validate() throws {
    guard !files.isEmpty else { throw ValidationError("name at least one file") }
    guard limit >= 0 else { throw ValidationError("--limit is not negative") }
  }

  func run() throws {
    var validation = try EventValidation(items ? .items : .interactions, settings: try options.load())
    let now = Int64(Date().timeIntervalSince1970 * 1000)
    var accepted = 0
    var rejected: [Rejection.Reason: Int] = [:]
    do throws(DatasetError) {
      for file in files {
        var reader = try LineReader(path: file)
        while let line = try reader.read() {
          do throws(Rejection) {
            try validation.check(line.span.bytes, key: nil, now: now)
            accepted += 1
          } catch {
            if rejected.values.reduce(0, +) < limit { print("\(file):\(reader.line): \(error)") }
            rejected[error.reason, default: 0] += 1
          }
        }
      }
    } catch {
      complain(error.description)
      throw ExitCode(Exit.inputOutput)
    }
    let count = rejected.values.reduce(0, +)
    print("\(accepted) would be accepted, \(count) would go to the dead letters")
    for (reason, count) in rejected.byCount { print("  \(reason.rawValue): \(count)") }
    if count > 0 { throw ExitCode(Exit.data) }
  }
}

extension [Rejection.Reason: Int] {
  /// The most frequent first.
  var byCount: [(key: Rejection.Reason, value: Int)] {
    sorted { ($1.value, $0.key.rawValue) < ($0.value, $1.key.rawValue) }
  }
}
