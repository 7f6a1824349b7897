import Foundation
import Testing
import TestBroker
import TestSupport

extension DaemonProcessTests {
  /// The files in `config/` that are made for operators, against the program.
  @Suite struct OperatorFilesTests {
    private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    private func text(_ path: String) throws -> String { try String(contentsOf: Self.root.appending(path: path), encoding: .utf8) }

    /// Events as the vendors' documentation shows them, shortened. The one that is at fault comes last.
    private static let streams: [(mapping: String, events: [String])] = [
      (
        "segment",
        [
          #"""
          {"messageId":"m-1","type":"track","event":"Product Viewed","userId":"u-17","anonymousId":"a-1","timestamp":"2023-11-14T11:59:59.505Z",
           "context":{"page":{"path":"/games","title":"Games"},"library":{"name":"analytics.js"}},
           "properties":{"product_id":"507f1f77bcf86cd799439011","sku":"G-32","category":"Games","name":"Monopoly","brand":"Hasbro","price":18.99,
           "quantity":1,"currency":"usd","position":3}}
          """#,
          #"{"type":"track","event":"Product Added","userId":"u-17","timestamp":"2023-11-14T12:00:00Z","properties":{"product_id":"p-2","price":3}}"#,
          #"{"type":"identify","userId":"u-17","traits":{"email":"someone"},"timestamp":"2023-11-14T12:00:00Z"}"#,
          #"{"type":"track","event":"Product Viewed","userId":"u-17","timestamp":"2023-11-14T12:00:00Z","properties":{"sku":"G-32"}}"#,
        ]
      ),
      (
        "ga4",
        [
          #"""
          {"event_date":"20231114","event_timestamp":1700000000505123,"event_name":"purchase","user_pseudo_id":"1234567890.0987654321",
           "event_params":[{"key":"page_location","value":{"string_value":"https://shop.example/cart"}}],
           "ecommerce":{"transaction_id":"T-1","purchase_revenue":42.5},
           "items":[{"item_id":"SKU_1","item_name":"Tee","price":21.25,"quantity":1},{"item_id":"SKU_2","item_name":"Cap","price":21.25}]}
          """#,
          #"{"event_timestamp":1700000000505123,"event_name":"session_start","user_pseudo_id":"1.2","items":[]}"#,
          #"{"event_timestamp":1700000000505123,"event_name":"view_item","user_pseudo_id":"1.2","items":[]}"#,
        ]
      ),
      (
        "cloudevents",
        [
          #"""
          {"specversion":"1.0","type":"com.example.shop.view","source":"/shop","id":"A-1","time":"2023-11-14T12:00:00Z","subject":"sku-4711",
           "datacontenttype":"application/json","data":{"user":"u-17","value":39.9,"session":"s-1"}}
          """#,
          #"{"specversion":"1.0","type":"com.example.shop.login","source":"/shop","id":"A-2","data":{"user":"u-17"}}"#,
          #"{"specversion":"1.0","type":"com.example.shop.view","source":"/shop","id":"A-3","time":"2023-11-14T12:00:00Z","data":{"user":"u-17"}}"#,
        ]
      ),
    ]

    @Test(arguments: streams) func aMappingTakesTheStreamItIsFor(mapping: String, events: [String]) async throws {
      let installation = try Installation(bootstrapServers: "127.0.0.1:9")
      let file = installation.folder.appending(path: "events.jsonl")
      let lines = events.map { $0.replacing("\n", with: " ") }
      try Data(lines.joined(separator: "\n").utf8).write(to: file)
      let outcome = try await installation.rodpod(
        "validate", "--config", Self.root.appending(path: "config/mappings/\(mapping).yaml").path, file.path)
      #expect(outcome.code == 65 && outcome.errors.isEmpty, "\(outcome.errors)")
      let told = outcome.output.split(separator: "\n")
      #expect(told.first?.hasPrefix("\(file.path):\(lines.count): missing_field:") == true, "\(outcome.output)")
      #expect(told.dropFirst().first == "\(lines.count - 1) would be accepted, 1 would go to the dead letters", "\(outcome.output)")
    }

    private func metricNames(_ text: String) -> Set<String> {
      Set(text.matches(of: #/\b(?:rodpod|process)_[a-z_]+/#).map { String($0.output).replacing(#/_bucket$/#, with: "") })
        .subtracting(["rodpod_build_info"])
    }

    @Test func theDashboardAndTheAlertsNameMetricsThatThereAre() async throws {
      let wanted = metricNames(try text("config/grafana/rodpod.json") + text("config/prometheus/rodpod.rules.yaml"))
      #expect(wanted.count > 25)
      // Some figures are of experts.
      let installation = try Installation(
        bootstrapServers: try await Broker.shared().bootstrapServers, configuration: ["model.experts": "2"])
      let daemon = try await installation.startAndWait()
      let items = (0..<40).map { Record("i-\($0)", #"{"item":"i-\#($0)","categories":["c-\#($0 % 3)"]}"#) }
      try installation.produce(items, to: "items")
      let events = (0..<600).map { Record("u-\($0 % 20)", #"{"user":"u-\#($0 % 20)","item":"i-\#($0 % 40)","type":"view","time":\#(1_700_000_000 + $0)}"#) }
      try installation.produce(events + [Record("u", "no JSON")], to: "interactions")
      try await installation.waitUntilSettled()
      func missing() -> Set<String> {
        let present = installation.ask("/metrics")?.body.matches(of: #/# TYPE (\w+) /#).map { String($0.output.1) } ?? []
        return wanted.subtracting(present)
      }
      try await waitUntil("all metrics that are named are there, but for \(missing().sorted())", within: .seconds(30)) { missing().isEmpty }
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
    }

    @Test func everyAlertHasItsEntryInTheRunbook() throws {
      let rules = try text("config/prometheus/rodpod.rules.yaml")
      let runbook = try text("docs/runbook.md")
      let alerts = rules.matches(of: #/- alert: (\w+)/#).map { String($0.output.1) }
      #expect(alerts.count > 10)
      #expect(runbook.matches(of: #/(?m)^## (\w+)$/#).map { String($0.output.1) } == alerts)
      #expect(rules.matches(of: #/runbook: runbook.md#(\w+)/#).map { String($0.output.1) } == alerts.map { $0.lowercased() })
    }
  }
}
