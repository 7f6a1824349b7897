import FoundationEssentials
import Glibc
public import Logging
import Synchronization

/// Where and in what form log lines go.
public enum LogFormat: String, Sendable, CaseIterable {
  /// ``journald`` when standard error is the journal, else ``text``.
  case automatic = "auto"
  /// The journal's native protocol, with every piece of metadata as a field.
  case journald
  /// Readable lines on standard error, in colour on a terminal.
  case text
  /// One JSON object a line on standard error.
  case json
}

/// The level that can be changed while the daemon runs. It holds for every logger whose level was not set by hand.
public final class LogLevel: Sendable {
  private let index: Atomic<Int>

  public init(_ level: Logger.Level) {
    index = Atomic(LogLevel.index(of: level))
  }

  public var current: Logger.Level {
    get { Logger.Level.allCases[index.load(ordering: .relaxed)] }
    set { index.store(LogLevel.index(of: newValue), ordering: .relaxed) }
  }

  private static func index(of level: Logger.Level) -> Int {
    Logger.Level.allCases.firstIndex(of: level) ?? 0
  }
}

/// Sends everything that is logged through swift-log to standard error or the journal. Call it once, before the first logger is made.
/// - Returns: the level, to be changed when the configuration is read again.
public func bootstrapLogging(format: LogFormat = .automatic, level: Logger.Level = .info) -> LogLevel {
  let shared = LogLevel(level)
  let writer = makeLogWriter(format: format, environment: ProcessInfo.processInfo.environment)
  LoggingSystem.bootstrap { DaemonLogHandler(label: $0, level: shared, writer: writer) }
  return shared
}

/// Chooses the writer for a format.
package func makeLogWriter(format: LogFormat, environment: [String: String]) -> any LogWriter {
  switch format {
  case .automatic:
    let isJournal = environment["JOURNAL_STREAM"].map { $0 == deviceAndInode(of: STDERR_FILENO) } ?? false
    return makeLogWriter(format: isJournal ? .journald : .text, environment: environment)
  case .journald:
    return JournalLogWriter() ?? makeLogWriter(format: .text, environment: environment)
  case .text:
    // no-color.org: any value but the empty one.
    let wantsColour = environment["NO_COLOR", default: ""].isEmpty && environment["TERM"] != "dumb"
    return TextLogWriter(isColoured: wantsColour && isatty(STDERR_FILENO) == 1)
  case .json:
    return JSONLogWriter()
  }
}

/// What is written about one event.
package struct LogRecord: Sendable {
  package var time: Date
  package var level: Logger.Level
  package var label: String
  package var message: String
  /// The event's, the logger's and the provider's metadata, merged.
  package var metadata: Logger.Metadata
  package var file: String
  package var function: String
  package var line: UInt

  package init(
    time: Date, level: Logger.Level, label: String, message: String, metadata: Logger.Metadata = [:], file: String = "",
    function: String = "", line: UInt = 0
  ) {
    self.time = time
    self.level = level
    self.label = label
    self.message = message
    self.metadata = metadata
    self.file = file
    self.function = function
    self.line = line
  }

  /// The metadata as `key=value` in the keys' order, for a reader's eye; control characters are escaped.
  var metadataText: String {
    metadata.sorted { $0.key < $1.key }.map { "\(escapingControls($0.key))=\(quoted($0.value.description))" }.joined(separator: " ")
  }

  private func quoted(_ value: String) -> String {
    let escaped = escapingControls(value)
    guard escaped.isEmpty || escaped.contains(where: { $0 == " " || $0 == "\"" || $0 == "=" }) else { return escaped }
    return "\"" + escaped.replacing("\"", with: "\\\"") + "\""
  }
}

/// A form of output.
package protocol LogWriter: Sendable {
  func write(_ record: LogRecord)
}

/// The swift-log handler: merges metadata and leaves the form to its writer.
package struct DaemonLogHandler: LogHandler {
  package var metadata: Logger.Metadata = [:]
  package var metadataProvider: Logger.MetadataProvider?
  private let label: String
  private let level: LogLevel
  private let writer: any LogWriter
  /// A level set on this logger alone; swift-log wants it to win over the shared one.
  private var ownLevel: Logger.Level?

  package init(label: String, level: LogLevel, writer: any LogWriter) {
    self.label = label
    self.level = level
    self.writer = writer
  }

  package var logLevel: Logger.Level {
    get { ownLevel ?? level.current }
    set { ownLevel = newValue }
  }

  package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  package func log(event: LogEvent) {
    var merged = metadata
    if let provided = metadataProvider?.get() { merged.merge(provided) { _, new in new } }
    if let own = event.metadata { merged.merge(own) { _, new in new } }
    if let error = event.error { merged["error"] = "\(error)" }
    writer.write(
      LogRecord(
        time: .now, level: event.level, label: label, message: event.message.description, metadata: merged, file: event.file,
        function: event.function, line: event.line))
  }
}

/// The text with control characters (C0, DEL, C1 and the line separators) escaped, so that no value can forge a line or drive a terminal.
func escapingControls(_ text: String) -> String {
  func isControl(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0...0x1F, 0x7F...0x9F, 0x2028, 0x2029: true
    default: false
    }
  }
  guard text.unicodeScalars.contains(where: isControl) else { return text }
  var escaped = ""
  for scalar in text.unicodeScalars {
    if isControl(scalar) {
      escaped += scalar.escaped(asASCII: true)
    } else {
      escaped.unicodeScalars.append(scalar)
    }
  }
  return escaped
}
