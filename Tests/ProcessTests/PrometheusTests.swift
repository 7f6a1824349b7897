import Events
import Foundation
import Kafka
import Testing
import TestBroker
import TestSupport

extension DaemonProcessTests {
  /// The metrics of the running daemon as Prometheus sees them.
  @Suite(.enabled(if: ForeignProgram.isThere(ForeignProgram.promtool), "Debian's package prometheus is not there: make test-dependencies unpacks it"))
  struct PrometheusTests {
    /// A daemon all of whose metrics have a value.
    private func startWithFigures() async throws -> (Installation, ChildProcess) {
      let installation = try Installation(
        bootstrapServers: try await Broker.shared().bootstrapServers, configuration: ["model.experts": "2"])
      let daemon = try await installation.startAndWait()
      try installation.produce((0..<20).map { Record(Events.ItemDescription(item: "i-\($0)")) }, to: "items")
      try await installation.waitUntilRankable(20)
      for round in 0..<2 {
        let views = (0..<20).map { number in
          Record(
            Events.Interaction(
              user: "u-\(number % 4)", item: "i-\((number * 7 + round) % 20)", type: 0, time: 1_700_000_000_000 + Int64(round * 100 + number)),
            type: "view")
        }
        try installation.produce(views + [Record("u", "no JSON")], to: "interactions")
        try await installation.waitUntilSettled()
      }
      try await waitUntil("coverage, pool hits and the group's members are known") {
        ["ranker_catalogue_coverage_ratio", "quality_pool_hit_ratio", "kafka_group_members"].allSatisfy {
          installation.metric("rodpod_\($0)") != nil
        }
      }
      return (installation, daemon)
    }

    @Test func everyMetricIsDocumentedAndEachFindsFavourWithPromtool() async throws {
      let (installation, daemon) = try await startWithFigures()
      let text = try #require(installation.ask("/metrics")).body
      let file = installation.folder.appending(path: "metrics")
      try text.write(to: file, atomically: true, encoding: .utf8)
      let complaints = installation.folder.appending(path: "complaints")
      let check = try ForeignProcess(ForeignProgram.promtool, ["check", "metrics"], input: file, output: complaints, errors: complaints)
      let code = try await check.exitCode()
      let said = try String(contentsOf: complaints, encoding: .utf8)
      #expect(code == 0, "\(said)")

      let families = Set(text.matches(of: #/(?m)^# TYPE (rodpod_[a-z0-9_]+) /#).map { String($0.1) })
      let described = Set(text.matches(of: #/(?m)^# HELP (rodpod_[a-z0-9_]+) [A-Z]/#).map { String($0.1) })
      #expect(families.subtracting(described) == [])
      let table = try String(contentsOf: ForeignProgram.root.appending(path: "docs/metrics.md"), encoding: .utf8)
      #expect(Set(table.matches(of: #/(?m)^\| `(rodpod_[a-z0-9_]+)` /#).map { String($0.1) }) == families)
      withExtendedLifetime(daemon) {}
    }

    @Test func aPrometheusScrapesIt() async throws {
      let (installation, daemon) = try await startWithFigures()
      let port = try freePort()
      let configuration = installation.folder.appending(path: "prometheus.yml")
      try """
        global: {scrape_interval: 1s}
        scrape_configs:
          - job_name: rodpod
            static_configs: [{targets: ["127.0.0.1:\(installation.adminPort)"]}]
        """.write(to: configuration, atomically: true, encoding: .utf8)
      let log = installation.folder.appending(path: "prometheus.log")
      let prometheus = try ForeignProcess(
        ForeignProgram.prometheus,
        [
          "--config.file=\(configuration.path)", "--storage.tsdb.path=\(installation.folder.appending(path: "tsdb").path)",
          "--web.listen-address=127.0.0.1:\(port)",
        ], output: installation.folder.appending(path: "prometheus.out"), errors: log)
      /// The value of a query's only series; nil while Prometheus is not ready.
      func query(_ expression: String) -> Double? {
        let data = try? askAdmin("/api/v1/query?query=\(expression)", port: port)?.json()["data"] as? [String: Any]
        let value = (data?["result"] as? [[String: Any]])?.first?["value"] as? [Any]
        return (value?.last as? String).flatMap { Double($0) }
      }
      do {
        try await waitUntil("it is scraped", within: .seconds(60)) {
          query("up") == 1 && query("rodpod_ingest_events_total") == 62 || !prometheus.isRunning
        }
        #expect(query("rodpod_ingest_dead_letters_total") == 2)
        #expect(query("rodpod_recommendation_latency_seconds_count") ?? 0 > 0)
      } catch {
        let said = try String(contentsOf: log, encoding: .utf8)
        throw ConditionNotMet(description: "\(error); it says: \(said.suffix(2000))")
      }
      withExtendedLifetime(daemon) {}
    }
  }
}
