import DaemonSupport
import Foundation
import Logging
import Synchronization
import Testing
import TestSupport

/// Keeps what is written.
private final class RecordingWriter: LogWriter {
  private let kept = Mutex<[LogRecord]>([])
  var records: [LogRecord] { kept.withLock { $0 } }
  func write(_ record: LogRecord) { kept.withLock { $0.append(record) } }
}

private func record(
  _ message: String, level: Logger.Level = .info, metadata: Logger.Metadata = [:]
) -> LogRecord {
  LogRecord(
    time: Date(timeIntervalSince1970: 1_700_000_000.25), level: level, label: "learner", message: message, metadata: metadata,
    file: "Learner/Step.swift", function: "step()", line: 7)
}

struct DaemonLogHandlerTests {
  @Test func theSharedLevelChangesLoggersThatExistAlready() {
    let writer = RecordingWriter()
    let level = LogLevel(.info)
    let logger = Logger(label: "test") { DaemonLogHandler(label: $0, level: level, writer: writer) }
    logger.debug("hidden")
    level.current = .debug
    logger.debug("shown")
    level.current = .error
    logger.warning("hidden again")
    #expect(writer.records.map(\.message) == ["shown"])
  }

  @Test func aLevelSetOnALoggerIsItsOwn() {
    let writer = RecordingWriter()
    let level = LogLevel(.info)
    let shared = Logger(label: "shared") { DaemonLogHandler(label: $0, level: level, writer: writer) }
    var own = shared
    own.logLevel = .trace
    own.trace("own")
    shared.trace("shared")
    #expect(writer.records.map(\.message) == ["own"])
  }

  @Test func theEventsMetadataWinsOverTheProvidersAndThatOverTheLoggers() {
    let writer = RecordingWriter()
    let provider = Logger.MetadataProvider { ["b": "provider", "c": "provider"] }
    var logger = Logger(label: "test") { label in
      var handler = DaemonLogHandler(label: label, level: LogLevel(.info), writer: writer)
      handler.metadataProvider = provider
      return handler
    }
    logger[metadataKey: "a"] = "logger"
    logger[metadataKey: "b"] = "logger"
    logger.info("merged", metadata: ["c": "event"])
    #expect(writer.records.first?.metadata == ["a": "logger", "b": "provider", "c": "event"])
  }

  @Test func theJournalIsChosenOnlyWhenStandardErrorIsTheJournal() throws {
    var status = stat()
    #expect(fstat(2, &status) == 0)
    let stream = "\(status.st_dev):\(status.st_ino)"
    #expect(makeLogWriter(format: .automatic, environment: ["JOURNAL_STREAM": stream]) is JournalLogWriter)
    #expect(makeLogWriter(format: .automatic, environment: ["JOURNAL_STREAM": "1:2"]) is TextLogWriter)
    #expect(makeLogWriter(format: .automatic, environment: [:]) is TextLogWriter)
    #expect(makeLogWriter(format: .json, environment: ["JOURNAL_STREAM": stream]) is JSONLogWriter)
  }
}

struct TextLogWriterTests {
  @Test func aLineIsTimeLevelMessageMetadataAndLabel() {
    let line = TextLogWriter(isColoured: false).line(for: record("one step", metadata: ["loss": "0.5", "a": "two words", "b": ""]))
    #expect(line == "2023-11-14T22:13:20.250Z INFO     one step a=\"two words\" b=\"\" loss=0.5 (learner)")
  }

  @Test func noValueCanForgeALineOrDriveATerminal() {
    let line = TextLogWriter(isColoured: false).line(for: record("a\nb\u{1B}[2J", metadata: ["user\n": "x\r\ny\u{9B}1m\u{2028}"]))
    #expect(!line.unicodeScalars.contains { $0.value < 0x20 || (0x7F...0x9F).contains($0.value) || $0.value == 0x2028 })
    #expect(line.contains(#"a\nb\u{1B}[2J"#))
  }

  @Test func colourIsUsedOnlyWhenAsked() {
    #expect(TextLogWriter(isColoured: true).line(for: record("x", level: .error)).contains("\u{1B}[31mERROR\u{1B}[0m"))
    #expect(!TextLogWriter(isColoured: false).line(for: record("x", level: .error)).contains("\u{1B}"))
  }
}

struct JSONLogWriterTests {
  @Test func aLineIsOneObjectThatAnyParserReads() throws {
    let nasty = "quote \" back \\ tab \t line \n nul \u{0} é 🛒"
    let line = JSONLogWriter().line(for: record(nasty, metadata: ["list": ["a", "b"], "nested": ["k": "\(nasty)"]]))
    #expect(!line.contains("\n"))
    let object = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
    #expect(object["time"] as? String == "2023-11-14T22:13:20.250Z")
    #expect(object["level"] as? String == "info")
    #expect(object["logger"] as? String == "learner")
    #expect(object["message"] as? String == nasty)
    #expect(object["source"] as? String == "Learner/Step.swift:7")
    let metadata = try #require(object["metadata"] as? [String: Any])
    #expect(metadata["list"] as? [String] == ["a", "b"])
    #expect(metadata["nested"] as? [String: String] == ["k": nasty])
  }
}

struct JournalLogWriterTests {
  @Test func fieldsAreWrittenInTheNativeProtocol() {
    let bytes = JournalLogWriter.serialise(record("step", level: .warning, metadata: ["kafka.topic": "items"]))
    #expect(
      String(decoding: bytes, as: UTF8.self) == """
        MESSAGE=step kafka.topic=items
        PRIORITY=4
        SYSLOG_IDENTIFIER=rodpod
        LOGGER=learner
        CODE_FILE=Learner/Step.swift
        CODE_LINE=7
        CODE_FUNC=step()
        RODPOD_KAFKA_TOPIC=items

        """)
  }

  @Test func aValueWithLineFeedsIsWrittenWithItsLength() {
    let bytes = JournalLogWriter.serialise(record("a\nPRIORITY=0"))
    let expected = Array("MESSAGE\n".utf8) + [12, 0, 0, 0, 0, 0, 0, 0] + Array("a\nPRIORITY=0\nPRIORITY=6\n".utf8)
    #expect(bytes.starts(with: expected))
  }

  @Test func severitiesAreThoseOfSyslog() {
    let severities = Logger.Level.allCases.map { level in
      String(decoding: JournalLogWriter.serialise(record("", level: level)), as: UTF8.self)
        .split(separator: "\n").first { $0.hasPrefix("PRIORITY=") }.map(String.init) ?? ""
    }
    #expect(severities == [7, 7, 6, 5, 4, 3, 2].map { "PRIORITY=\($0)" })
  }

  @Test func aRecordIsOneDatagram() throws {
    let journal = DatagramReceiver(path: temporarySocketPath())
    let writer = try #require(JournalLogWriter(socketPath: journal.path))
    writer.write(record("hello"))
    #expect(journal.receive() == JournalLogWriter.serialise(record("hello")))
  }

  @Test func aRecordTooLargeForADatagramArrivesAsASealedFile() throws {
    let journal = DatagramReceiver(path: temporarySocketPath())
    let writer = try #require(JournalLogWriter(socketPath: journal.path))
    let large = record(String(repeating: "x", count: 1 << 20))
    writer.write(large)
    #expect(journal.receive() == JournalLogWriter.serialise(large))
  }
}
