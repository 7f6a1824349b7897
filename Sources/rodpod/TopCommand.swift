import ArgumentParser
import DaemonSupport
import Foundation
import Settings

/// `rodpod top`: what a running daemon does, in a terminal.
struct TopCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "top",
    abstract: "Shows live what a running daemon does, by its metrics. Ends on q or Ctrl-C.",
    discussion: """
      The daemon is found at admin.listen, of the configuration or as --address says. Rates are between two looks; in the first view they \
      are since the daemon's start. Without a terminal one view is printed, as with --once. Exits with 69 when the daemon does not answer.

      Example: rodpod top --config /etc/rodpod/rodpod.yaml
      """)

  @Option(help: ArgumentHelp("The daemon's admin address.", valueName: "host:port")) var address: String?
  @Option(help: ArgumentHelp("The file with the daemon's token.", valueName: "file")) var tokenFile: String?
  @Option(help: ArgumentHelp("Look so often.", valueName: "seconds")) var interval = 2.0
  @Flag(help: "Print one view and end.") var once = false
  @OptionGroup var options: ConfigurationOptions

  func validate() throws {
    guard 0.1...3600 ~= interval else { throw ValidationError("--interval is from 0.1 to 3600 seconds") }
  }

  func run() async throws {
    var options = options
    if let address { options.overrides.append("admin.listen=\(address)") }
    if let tokenFile { options.overrides.append("admin.token_file=\(tokenFile)") }
    let admin = try options.load().admin
    let daemon: MonitoredDaemon
    do {
      daemon = try MonitoredDaemon(admin)
    } catch {
      complain("\(error)")
      throw ExitCode(Exit.inputOutput)
    }
    let isTerminal = isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1
    guard !once, isTerminal else {
      do {
        print(TopView(now: try await daemon.look(), before: nil, title: daemon.name).lines.joined(separator: "\n"))
      } catch {
        complain("\(error)")
        throw ExitCode(Exit.unavailable)
      }
      return
    }
    try await watch(daemon)
  }

  private enum Event: Sendable {
    case view(Result<DaemonFigures, MonitoredDaemon.NoAnswer>)
    case key(UInt8)
    case signal
  }

  /// Draws until a key or a signal ends it.
  private func watch(_ daemon: MonitoredDaemon) async throws {
    let (events, happened) = AsyncStream.makeStream(of: Event.self)
    let screen = TerminalScreen()
    defer { screen.restore() }
    let signals = ProcessSignal.stream()
    let listening = Task { for await _ in signals { happened.yield(.signal) } }
    let looking = Task {
      while !Task.isCancelled {
        do throws(MonitoredDaemon.NoAnswer) {
          happened.yield(.view(.success(try await daemon.look())))
        } catch {
          happened.yield(.view(.failure(error)))
        }
        try? await Task.sleep(for: .seconds(interval))
      }
    }
    // It blocks in read(2), and ends with the process.
    _ = try DedicatedThread(name: "keys") {
      var key: UInt8 = 0
      while read(STDIN_FILENO, &key, 1) == 1 { happened.yield(.key(key)) }
    }
    defer {
      listening.cancel()
      looking.cancel()
    }
    var last: DaemonFigures?
    for await event in events {
      switch event {
      case .signal, .key(UInt8(ascii: "q")), .key(UInt8(ascii: "Q")), .key(TerminalScreen.interrupt): return
      case .key: break
      case .view(.success(let figures)):
        screen.draw(TopView(now: figures, before: last, title: daemon.name).lines + ["", "q ends"])
        last = figures
      case .view(.failure(let error)): screen.draw(["\(error)", "", "q ends"])
      }
    }
  }
}

/// A terminal's alternate screen, with keys that come one by one.
private final class TerminalScreen {
  /// What Ctrl-C sends when it is no signal.
  static let interrupt: UInt8 = 3
  private var before = termios()

  init() {
    tcgetattr(STDIN_FILENO, &before)
    var raw = before
    // Ctrl-C comes as a key, so that the screen is given back.
    raw.c_lflag &= ~tcflag_t(ICANON | ECHO | ISIG)
    tcsetattr(STDIN_FILENO, TCSANOW, &raw)
    write("\u{1B}[?1049h\u{1B}[?25l")
  }

  func draw(_ lines: [String]) {
    var size = winsize()
    let isKnown = ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0
    let shown = isKnown ? lines.prefix(Int(size.ws_row)).map { String($0.prefix(Int(size.ws_col))) } : lines
    // Each line is cleared to its end, and all below: nothing flickers.
    write("\u{1B}[H" + shown.map { $0 + "\u{1B}[K" }.joined(separator: "\r\n") + "\u{1B}[J")
  }

  func restore() {
    write("\u{1B}[?25h\u{1B}[?1049l")
    tcsetattr(STDIN_FILENO, TCSANOW, &before)
  }

  private func write(_ text: String) { FileHandle.standardOutput.write(Data(text.utf8)) }
}

/// The view: one line for each part of the daemon.
struct TopView {
  private let now: DaemonFigures
  private let before: DaemonFigures?
  private let title: String

  /// - Parameter before: an earlier look at the same run; nil for rates since the start.
  init(now: DaemonFigures, before: DaemonFigures?, title: String) {
    self.now = now
    // A daemon that was started again counts from 0.
    self.before = before.flatMap { $0["process_start_time_seconds"] == now["process_start_time_seconds"] ? $0 : nil }
    self.title = title
  }

  var lines: [String] {
    let uptime = now["process_start_time_seconds"].map { Date.now.timeIntervalSince1970 - $0 }
    let state = now.reasons.isEmpty ? "ready" : "not ready: " + now.reasons.joined(separator: "; ")
    var lines = ["rodpod \(now.version) at \(title), \(state)" + (uptime.map { ", up \(duration($0))" } ?? ""), ""]
    func line(_ name: String, _ parts: [String?]) {
      lines.append(name.padding(toLength: 12, withPad: " ", startingAt: 0) + parts.compactMap(\.self).joined(separator: "   "))
    }
    line(
      "events",
      [
        rate("rodpod_ingest_events_total"), now["rodpod_ingest_events_total"].map { "\(count($0)) in all" },
        now["rodpod_ingest_lag_events"].map { "lag \(count($0))" }, "dead letters \(deadLetters)",
      ])
    line(
      "learner",
      [
        rate("rodpod_learner_steps_total", "steps/s"), figure("rodpod_learner_cross_entropy", "cross-entropy", digits: 3),
        figure("rodpod_learner_preference_loss", "preference", digits: 3), figure("rodpod_learner_backlog_interactions", "backlog"),
        figure("rodpod_learner_rollbacks_total", "rollbacks"), figure("rodpod_model_version", "model"),
      ])
    let load = now.series("rodpod_learner_expert_load")
    if !load.isEmpty { line("experts", load.map { "\($0.labels["expert"] ?? "?") \(percent($0.value))" }) }
    line(
      "ranker",
      [
        rate("rodpod_ranker_lists_published_total", "lists/s"), figure("rodpod_ranker_stale_users", "users waiting"),
        figure("rodpod_ranker_deliveries_failed_total", "not delivered"), median("rodpod_ranker_batch_seconds").map { "batch \($0)" },
        median("rodpod_ingest_commit_seconds").map { "commit \($0)" },
      ])
    for (name, recommender) in [("quality", "rodpod"), ("popularity", "recent_popularity")] {
      line(name, quality(of: recommender) + [name == "quality" ? figure("rodpod_quality_window_events", "over") : nil])
    }
    line("store", [now["rodpod_store_used_bytes"].map { "\(bytes($0)) used" }, now["rodpod_store_map_bytes"].map { "\(bytes($0)) mapped" }])
    line(
      "process",
      [
        perSecond("process_cpu_seconds_total").map { "CPU \(percent($0))" }, now["process_resident_memory_bytes"].map { "memory \(bytes($0))" },
        figure("process_threads", "threads"), figure("process_open_fds", "open files"),
      ])
    return lines
  }

  private var deadLetters: String {
    let reasons = now.series("rodpod_ingest_dead_letters_total").filter { $0.value > 0 }.sorted { $0.value > $1.value }
    let total = reasons.map(\.value).reduce(0, +)
    guard total > 0 else { return "0" }
    return "\(count(total)) (" + reasons.map { "\($0.labels["reason"] ?? "?") \(count($0.value))" }.joined(separator: ", ") + ")"
  }

  private func quality(of recommender: String) -> [String?] {
    [("quality_hit_rate", "HR"), ("quality_ndcg", "NDCG"), ("quality_mrr", "MRR")].map { name, title in
      now.series("rodpod_" + name).first { $0.labels["recommender"] == recommender && $0.labels["slice"] == "all" }.map { series in
        "\(title)@\(series.labels["k"] ?? "") \(String(format: "%.4f", series.value))"
      }
    }
  }

  /// Of a counter, since the look before or since the start.
  private func perSecond(_ name: String) -> Double? {
    guard let value = now[name] else { return nil }
    guard let before, let earlier = before[name] else {
      return now["process_start_time_seconds"].map { value / max(1, Date.now.timeIntervalSince1970 - $0) }
    }
    return (value - earlier) / ((now.instant - before.instant) / .seconds(1))
  }

  private func rate(_ name: String, _ unit: String = "events/s") -> String? {
    perSecond(name).map { "\(String(format: "%.1f", $0)) \(unit)" }
  }

  private func figure(_ name: String, _ title: String, digits: Int = 0) -> String? {
    now[name].map { "\(title) " + (digits == 0 ? count($0) : String(format: "%.\(digits)f", $0)) }
  }

  /// The bucket that the median is in, of what was recorded since the look before.
  private func median(_ name: String) -> String? {
    let buckets = now.series(name + "_bucket").map { series -> (bound: Double, count: Double) in
      // "+Inf" is a number to Swift, too.
      let bound = series.labels["le"].flatMap(Double.init) ?? .infinity
      return (bound, series.value - (before?.value(name + "_bucket", series.labels) ?? 0))
    }.sorted { $0.bound < $1.bound }
    guard let total = buckets.last?.count, total > 0, let half = buckets.first(where: { $0.count * 2 >= total }) else { return nil }
    return half.bound.isFinite ? "≤ \(milliseconds(half.bound))" : "beyond \(milliseconds(buckets.dropLast().last?.bound ?? 0))"
  }

  private func milliseconds(_ seconds: Double) -> String { "\(String(format: "%.3g", seconds * 1000)) ms" }
  private func count(_ value: Double) -> String { value.formatted(.number.precision(.fractionLength(0)).locale(Locale(identifier: "en_US"))) }
  private func percent(_ value: Double) -> String { "\(String(format: "%.0f", value * 100)) %" }
  private func bytes(_ value: Double) -> String { "\(String(format: "%.1f", value / 1_048_576)) MiB" }

  private func duration(_ seconds: Double) -> String {
    let minutes = Int(seconds) / 60
    return switch minutes {
    case 0: "\(Int(seconds)) s"
    case ..<60: "\(minutes) min"
    case ..<1440: "\(minutes / 60) h \(minutes % 60) min"
    default: "\(minutes / 1440) d \(minutes / 60 % 24) h"
    }
  }
}
