import Events
import Foundation
import Kafka
import Testing
import TestBroker
import TestSupport

extension DaemonProcessTests {
  /// The status page of the running daemon in a real browser.
  @Suite(.enabled(if: ForeignProgram.isThere(ForeignProgram.browser), "Debian's package chromium is not installed: make test-dependencies does that"))
  struct StatusPageTests {
    /// A browser's page after some seconds of its own clock, which stands still while an answer is awaited.
    ///
    /// Now and then, on a busy machine, Chromium's own clock never moves again: then another one is asked.
    private func load(_ address: String, in folder: URL) async throws -> (page: String, log: String) {
      for attempt in 1...3 {
        let page = folder.appending(path: "page-\(attempt).html")
        let log = folder.appending(path: "browser-\(attempt).log")
        let browser = try ForeignProcess(
          ForeignProgram.browser,
          [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
            "--user-data-dir=\(folder.appending(path: "browser-\(attempt)").path)", "--enable-logging=stderr", "--virtual-time-budget=8000",
            "--dump-dom", address,
          ], output: page, errors: log)
        guard let code = try? await browser.exitCode(within: .seconds(45)) else { continue }
        let said = try String(contentsOf: log, encoding: .utf8)
        #expect(code == 0, "\(said.suffix(2000))")
        return (try String(contentsOf: page, encoding: .utf8), said)
      }
      throw CocoaError(.fileReadUnknown, userInfo: [NSLocalizedDescriptionKey: "no browser ended by itself"])
    }

    /// What stands in the element of this id, tags left out.
    private func text(_ id: String, in page: String) throws -> String {
      let start = try #require(page.range(of: "id=\"\(id)\""), "no element \(id)")
      let content = page[start.upperBound...].drop { $0 != ">" }.dropFirst()
      let ends = page[..<start.lowerBound].hasSuffix("<tbody ") ? ["</tbody>"] : ["</p>", "</div></div>", "</span>"]
      let end = ends.compactMap { content.range(of: $0)?.lowerBound }.min()
      return String(content[..<(end ?? content.endIndex)].replacing(/<[^>]*>/, with: " "))
    }

    private func startWithFigures() async throws -> (Installation, ChildProcess) {
      let installation = try Installation(bootstrapServers: try await Broker.shared().bootstrapServers)
      let daemon = try await installation.startAndWait()
      try installation.produce(
        (0..<20).map { Record(Events.ItemDescription(item: "i-\($0)", title: "Item <b>\($0)</b> & more")) }, to: "items")
      try await installation.waitUntilRankable(20)
      let views = (0..<40).map { number in
        Record(
          Events.Interaction(user: "u \(number % 4)&", item: "i-\(number * 7 % 20)", type: 0, time: 1_700_000_000_000 + Int64(number)),
          type: "view")
      }
      try installation.produce(views + [Record("u", "<script>no JSON")], to: "interactions")
      try await installation.waitUntilSettled()
      // A second list, which the first one's item leaves.
      try installation.produce(
        [Record(Events.Interaction(user: "u 1&", item: "i-0", type: 0, time: 1_700_000_000_100), type: "view")], to: "interactions")
      try await installation.waitUntilSettled()
      try await waitUntil("a checkpoint and two points of quality are shown") {
        guard let status = try installation.ask("/status.json")?.json(), let now = status["now"] as? [String: Any] else { return false }
        let points = (status["history"] as? [[String: Any]] ?? []).filter { $0["model"] != nil }
        return points.count > 1 && (now["model_events"] as? [Any])?.isEmpty == false && now["latency"] != nil
      }
      return (installation, daemon)
    }

    @Test func itShowsLiveFiguresAndLooksAUserUpWithoutAnError() async throws {
      let (installation, daemon) = try await startWithFigures()
      let (page, log) = try await load("http://127.0.0.1:\(installation.adminPort)/#user=u+1%26", in: installation.folder)
      #expect(log.split(separator: "\n").filter { $0.contains("CONSOLE") } == [])

      #expect(try text("state", in: page).trimmingCharacters(in: .whitespaces) == "ready")
      for label in [
        "Events per second", "Lag", "Event to list, p99", "Lists published", "Learning steps", "Loss", "NDCG@10", "HR@10", "Pool hit rate",
        "Catalogue coverage",
      ] {
        #expect(page.contains(">\(label)<"), "\(label)")
      }
      #expect(page.contains("62 in all"))
      // Lines are drawn: rodpod's and the baseline's.
      #expect(page.contains(#"<path class="model" d="M"#))
      #expect(page.contains(#"<path class="other" d="M"#))
      #expect(try text("letters", in: page).contains("not_json"))
      let samples = try text("sample-rows", in: page)
      #expect(samples.contains("&lt;script&gt;no JSON"))
      #expect(samples.contains("\(installation.topic("interactions"))[0]@40"))
      #expect(try text("events", in: page).contains("checkpoint"))

      #expect(try text("answer", in: page).contains("11 interactions kept; the published list"))
      let sequence = try text("sequence", in: page)
      #expect(sequence.contains("Item &lt;b&gt;7&lt;/b&gt; &amp; more") && sequence.contains("view") && sequence.contains("2023-11-1"))
      let list = try text("list", in: page)
      #expect(list.contains("Item &lt;b&gt;"))
      #expect(list.contains(/near .*\(-?[01]\.\d\d\)/), "the nearest items with their similarities")
      #expect(list.contains(/-?\d+\.\d\d by the sequence, -?\d+\.\d\d by neighbours, -?\d+\.\d\d by itself; vector \d+ % ID, \d+ % content/))
      let changes = try text("changes", in: page)
      #expect(changes.contains(/left +Item .* \(\d+\)/) && changes.contains("ago"), "\(changes)")
      withExtendedLifetime(daemon) {}
    }

    @Test func itAsksForTheTokenWhereThereIsOne() async throws {
      let installation = try Installation(bootstrapServers: try await Broker.shared().bootstrapServers)
      let token = installation.folder.appending(path: "token")
      try "secret".write(to: token, atomically: true, encoding: .utf8)
      installation.configuration["admin.token_file"] = token.path
      let daemon = try installation.start()
      try await waitUntil("the daemon is ready") { daemon.standardError.contains("rodpod is ready") && installation.ask("/healthz") != nil }
      let (page, _) = try await load("http://127.0.0.1:\(installation.adminPort)/", in: installation.folder)
      #expect(try text("state", in: page).contains("a token is needed"))
      #expect(page.contains("<form id=\"login\">"))
      withExtendedLifetime(daemon) {}
    }
  }
}
