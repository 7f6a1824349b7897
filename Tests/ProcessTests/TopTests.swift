import Foundation
import Testing
import TestBroker
import TestSupport

extension DaemonProcessTests {
  /// `rodpod top` on a terminal.
  @Suite struct TopTests {
    private static let entersTheOtherScreen = "\u{1B}[?1049h\u{1B}[?25l"
    private static let comesBack = "\u{1B}[?25h\u{1B}[?1049l"

    private func lines(of screen: Substring) -> [String] {
      screen.replacing("\u{1B}[K", with: "").replacing("\u{1B}[J", with: "").components(separatedBy: "\n")
    }

    /// Each screen that was drawn whole.
    private func screens(_ drawn: String) -> [[String]] {
      drawn.split(separator: "\u{1B}[H").dropFirst().filter { $0.contains("\u{1B}[J") }.map { lines(of: $0) }
    }

    @Test func itDrawsAnewUntilAKeyOrASignalEndsItAndGivesTheTerminalBack() async throws {
      let installation = try Installation(bootstrapServers: try await Broker.shared().bootstrapServers)
      let daemon = try await installation.startAndWait()
      for end in ["q", "Q", "\u{3}", nil] {
        let terminal = try Terminal(
          ["top", "--interval", "0.1", "--config", installation.configurationFile], rows: 40, columns: 200)
        let before = terminal.mode
        #expect(before.c_lflag & tcflag_t(ECHO) != 0)
        try await waitUntil("it is drawn again and again") { screens(terminal.drawn).count > 2 || !terminal.isRunning }
        #expect(terminal.drawn.hasPrefix(Self.entersTheOtherScreen))
        let screen = try #require(screens(terminal.drawn).last)
        #expect(screen[0].hasPrefix("rodpod 0.1.0 at 127.0.0.1:\(installation.adminPort), ready, up "))
        for part in ["events", "learner", "ranker", "quality", "store", "process"] {
          #expect(screen.contains { $0.hasPrefix(part + " ") }, "\(part) in \(screen)")
        }
        #expect(screen.last == "q ends")
        #expect(terminal.mode.c_lflag & tcflag_t(ECHO | ICANON) == 0, "keys come one by one and are not shown")

        // Another key changes nothing.
        terminal.type("x")
        let count = screens(terminal.drawn).count
        try await waitUntil("it goes on") { screens(terminal.drawn).count > count + 1 || !terminal.isRunning }
        #expect(terminal.isRunning)
        if let end { terminal.type(end) } else { terminal.send(SIGTERM) }
        #expect(try await terminal.exitCode() == 0)
        #expect(terminal.drawn.hasSuffix(Self.comesBack))
        #expect(terminal.mode.c_lflag == before.c_lflag)
      }
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
    }

    @Test func itKeepsToASmallTerminalAndSaysWhenNobodyAnswers() async throws {
      let installation = try Installation(bootstrapServers: try await Broker.shared().bootstrapServers)
      let daemon = try await installation.startAndWait()
      let terminal = try Terminal(["top", "--interval", "0.1", "--config", installation.configurationFile], rows: 5, columns: 30)
      try await waitUntil("it is drawn") { !screens(terminal.drawn).isEmpty || !terminal.isRunning }
      let screen = try #require(screens(terminal.drawn).last)
      #expect(screen.count == 5 && screen.allSatisfy { $0.count <= 30 }, "\(screen)")
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
      try await waitUntil("it says that the daemon is gone") { screens(terminal.drawn).last?[0].hasPrefix("no daemon answers at") == true }
      terminal.type("q")
      #expect(try await terminal.exitCode() == 0)
    }
  }
}
