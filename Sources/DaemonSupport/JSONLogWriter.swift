import FoundationEssentials
import Glibc
import Logging

/// One JSON object a line on standard error: `time`, `level`, `logger`, `message`, `source`, and the metadata under `metadata`.
package struct JSONLogWriter: LogWriter {
  package init() {}

  package func write(_ record: LogRecord) {
    writeAll(Array((line(for: record) + "\n").utf8), to: STDERR_FILENO)
  }

  /// The object without a line's end.
  package func line(for record: LogRecord) -> String {
    var object: [(String, String)] = [
      ("time", literal(record.time.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true)))),
      ("level", literal(record.level.rawValue)),
      ("logger", literal(record.label)),
      ("message", literal(record.message)),
      ("source", literal("\(record.file):\(record.line)")),
    ]
    if !record.metadata.isEmpty { object.append(("metadata", encode(.dictionary(record.metadata)))) }
    return braces(object)
  }

  private func encode(_ value: Logger.MetadataValue) -> String {
    switch value {
    case .string(let text): literal(text)
    case .stringConvertible(let value): literal(value.description)
    case .array(let values): "[" + values.map(encode).joined(separator: ",") + "]"
    case .dictionary(let values): braces(values.sorted { $0.key < $1.key }.map { ($0.key, encode($0.value)) })
    }
  }

  private func braces(_ members: [(String, String)]) -> String {
    "{" + members.map { literal($0.0) + ":" + $0.1 }.joined(separator: ",") + "}"
  }

  /// A JSON string (RFC 8259, section 7).
  private func literal(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\t": result += "\\t"
      case "\r": result += "\\r"
      case _ where scalar.value < 0x20 || scalar.value == 0x7F:
        let hex = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}
