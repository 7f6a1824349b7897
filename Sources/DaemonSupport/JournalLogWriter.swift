import FoundationEssentials
import Glibc
import Logging

/// Writes to the journal by its native protocol, so that priority, place in the code and every piece of metadata are fields of their own.
/// A record that the journal does not take goes to standard error as text.
///
/// Source: systemd.io/JOURNAL_NATIVE_PROTOCOL.
package struct JournalLogWriter: LogWriter {
  private let socket: DatagramSocket
  private let fallback = TextLogWriter(isColoured: false)

  /// Nil when no socket can be made.
  package init?(socketPath: String = "/run/systemd/journal/socket") {
    guard let socket = try? DatagramSocket(path: socketPath) else { return nil }
    self.socket = socket
  }

  package func write(_ record: LogRecord) {
    let bytes = JournalLogWriter.serialise(record)
    do {
      try socket.send(bytes)
    } catch where error.number == EMSGSIZE || error.number == ENOBUFS {
      do { try socket.sendAsMemoryFile(bytes) } catch { fallback.write(record) }
    } catch {
      fallback.write(record)
    }
  }

  /// The record as fields. The metadata also ends the message, since `journalctl` shows only that.
  package static func serialise(_ record: LogRecord) -> [UInt8] {
    let text = record.metadata.isEmpty ? record.message : record.message + " " + record.metadataText
    var bytes: [UInt8] = []
    append("MESSAGE", text, to: &bytes)
    append("PRIORITY", String(priority(of: record.level)), to: &bytes)
    append("SYSLOG_IDENTIFIER", "rodpod", to: &bytes)
    append("LOGGER", record.label, to: &bytes)
    append("CODE_FILE", record.file, to: &bytes)
    append("CODE_LINE", String(record.line), to: &bytes)
    append("CODE_FUNC", record.function, to: &bytes)
    for (key, value) in record.metadata.sorted(by: { $0.key < $1.key }) {
      guard let name = fieldName(for: key) else { continue }
      append(name, value.description, to: &bytes)
    }
    return bytes
  }

  /// `NAME=value` and a line feed, or, when the value has line feeds, the name, the length as 64 bits little-endian, and the value.
  private static func append(_ name: String, _ value: String, to bytes: inout [UInt8]) {
    bytes += name.utf8
    if value.utf8.contains(UInt8(ascii: "\n")) {
      bytes.append(UInt8(ascii: "\n"))
      withUnsafeBytes(of: UInt64(value.utf8.count).littleEndian) { bytes += $0 }
    } else {
      bytes.append(UInt8(ascii: "="))
    }
    bytes += value.utf8
    bytes.append(UInt8(ascii: "\n"))
  }

  /// A metadata key as a field's name: upper case, digits and underscores, at most 64, marked as ours so that it cannot take the place
  /// of a field above. Nil when nothing of the key is left.
  private static func fieldName(for key: String) -> String? {
    let name = key.utf8.map { byte -> UInt8 in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"): byte - 32
      case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): byte
      default: UInt8(ascii: "_")
      }
    }
    guard name.contains(where: { $0 != UInt8(ascii: "_") }) else { return nil }
    return "RODPOD_" + String(decoding: name.prefix(57), as: UTF8.self)
  }

  /// The syslog severity (RFC 5424, table 2).
  private static func priority(of level: Logger.Level) -> Int {
    switch level {
    case .trace, .debug: 7
    case .info: 6
    case .notice: 5
    case .warning: 4
    case .error: 3
    case .critical: 2
    }
  }
}
