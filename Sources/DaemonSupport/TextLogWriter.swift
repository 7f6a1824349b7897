import FoundationEssentials
import Glibc
import Logging

/// Readable lines on standard error: time in UTC, level, message, metadata, label.
package struct TextLogWriter: LogWriter {
  private let isColoured: Bool

  package init(isColoured: Bool) {
    self.isColoured = isColoured
  }

  package func write(_ record: LogRecord) {
    writeAll(Array((line(for: record) + "\n").utf8), to: STDERR_FILENO)
  }

  /// The line without its end.
  package func line(for record: LogRecord) -> String {
    let time = record.time.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
    let level = record.level.rawValue.uppercased()
    let padding = String(repeating: " ", count: max(0, 8 - level.count))
    var line = dimmed(time) + " " + coloured(level, for: record.level) + padding + " " + escapingControls(record.message)
    if !record.metadata.isEmpty { line += " " + dimmed(record.metadataText) }
    return line + " " + dimmed("(\(record.label))")
  }

  private func dimmed(_ text: String) -> String {
    isColoured ? "\u{1B}[2m\(text)\u{1B}[0m" : text
  }

  private func coloured(_ text: String, for level: Logger.Level) -> String {
    guard isColoured else { return text }
    let code =
      switch level {
      case .trace, .debug: "2"
      case .info: "32"
      case .notice: "36"
      case .warning: "33"
      case .error: "31"
      case .critical: "1;31"
      }
    return "\u{1B}[\(code)m\(text)\u{1B}[0m"
  }
}
