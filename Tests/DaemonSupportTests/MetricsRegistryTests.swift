import CoreMetrics
import DaemonSupport
import Foundation
import Testing

struct MetricsRegistryTests {
  private let registry = MetricsRegistry()

  /// The rendered lines that hold the text.
  private func lines(_ text: String) -> [String] {
    registry.render().split(separator: "\n").map(String.init).filter { $0.contains(text) }
  }

  /// The samples, which are all lines but comments, that begin so.
  private func samples(_ prefix: String) -> [String] {
    lines(prefix).filter { $0.hasPrefix(prefix) }
  }

  @Test func aCounterIsAFamilyWithHelpTypeAndTotal() {
    registry.describe("ingest_events", help: "Events consumed.\nAll \\ topics.")
    registry.makeCounter(label: "ingest_events", dimensions: [("topic", "items")]).increment(by: 2)
    registry.makeCounter(label: "ingest_events", dimensions: [("topic", "interactions")]).increment(by: 40)
    registry.makeCounter(label: "ingest_events", dimensions: [("topic", "items")]).increment(by: 1)
    #expect(
      lines("ingest_events") == [
        #"# HELP rodpod_ingest_events_total Events consumed.\nAll \\ topics."#,
        "# TYPE rodpod_ingest_events_total counter",
        #"rodpod_ingest_events_total{topic="interactions"} 40"#,
        #"rodpod_ingest_events_total{topic="items"} 3"#,
      ])
  }

  @Test func labelsAreSortedAndEscapedAndNamesMadeValid() {
    registry.makeCounter(label: "dead.letters-total", dimensions: [("z", "a\"b\\c\nd"), ("class", "é")]).increment(by: 1)
    #expect(lines("dead") == ["# TYPE rodpod_dead_letters_total counter", #"rodpod_dead_letters_total{class="é",z="a\"b\\c\nd"} 1"#])
  }

  @Test func theOrderOfDimensionsDoesNotMakeAnotherSeries() {
    registry.makeCounter(label: "x", dimensions: [("a", "1"), ("b", "2")]).increment(by: 1)
    registry.makeCounter(label: "x", dimensions: [("b", "2"), ("a", "1")]).increment(by: 1)
    #expect(samples("rodpod_x_total{") == [#"rodpod_x_total{a="1",b="2"} 2"#])
  }

  @Test func aGaugeTakesEveryNumberOfTheFormat() {
    let gauge = registry.makeRecorder(label: "loss", dimensions: [], aggregate: false)
    for (value, text) in [(0.5, "0.5"), (-3, "-3"), (1e21, "1e+21"), (.nan, "NaN"), (.infinity, "+Inf"), (-.infinity, "-Inf")] {
      gauge.record(value)
      #expect(samples("rodpod_loss ") == ["rodpod_loss \(text)"])
    }
    let meter = registry.makeMeter(label: "connections", dimensions: [])
    meter.increment(by: 3)
    meter.decrement(by: 1)
    #expect(lines("rodpod_connections") == ["# TYPE rodpod_connections gauge", "rodpod_connections 2"])
  }

  @Test func aTimerIsACumulativeHistogramInSeconds() {
    registry.describe("rank_batch", help: "Time to rank a batch.", buckets: [0.01, 0.1, 1])
    let timer = registry.makeTimer(label: "rank_batch", dimensions: [("kind", "stale")])
    for milliseconds in [5, 10, 11, 500, 5000] { timer.recordNanoseconds(Int64(milliseconds) * 1_000_000) }
    #expect(
      lines("rank_batch") == [
        "# HELP rodpod_rank_batch_seconds Time to rank a batch.",
        "# TYPE rodpod_rank_batch_seconds histogram",
        #"rodpod_rank_batch_seconds_bucket{kind="stale",le="0.01"} 2"#,
        #"rodpod_rank_batch_seconds_bucket{kind="stale",le="0.1"} 3"#,
        #"rodpod_rank_batch_seconds_bucket{kind="stale",le="1"} 4"#,
        #"rodpod_rank_batch_seconds_bucket{kind="stale",le="+Inf"} 5"#,
        #"rodpod_rank_batch_seconds_sum{kind="stale"} 5.526"#,
        #"rodpod_rank_batch_seconds_count{kind="stale"} 5"#,
      ])
  }

  @Test func withoutLabelsAHistogramsBucketsHaveOnlyTheirBound() {
    registry.makeRecorder(label: "batch_events", dimensions: [], aggregate: true).record(Int64(5))
    #expect(lines("rodpod_batch_events_bucket").first == #"rodpod_batch_events_bucket{le="1"} 0"#)
    #expect(lines("rodpod_batch_events_bucket").last == #"rodpod_batch_events_bucket{le="+Inf"} 1"#)
    #expect(lines("rodpod_batch_events_bucket").count == MetricsRegistry.valueBuckets.count + 1)
  }

  @Test func aSecondKindUnderOneNameWorksButIsNotShown() {
    registry.makeCounter(label: "clash", dimensions: []).increment(by: 1)
    registry.makeMeter(label: "clash_total", dimensions: []).set(Int64(9))
    registry.makeFloatingPointCounter(label: "clash", dimensions: []).increment(by: 9)
    #expect(lines("clash") == ["# TYPE rodpod_clash_total counter", "rodpod_clash_total 1"])
  }

  @Test func countingFromSeveralThreadsLosesNothing() async {
    let counter = registry.makeCounter(label: "hits", dimensions: [])
    let seconds = registry.makeFloatingPointCounter(label: "busy_seconds", dimensions: [])
    let timer = registry.makeTimer(label: "step", dimensions: [])
    await withTaskGroup { group in
      for _ in 0..<4 {
        group.addTask {
          for _ in 0..<5000 {
            counter.increment(by: 1)
            seconds.increment(by: 0.5)
            timer.recordNanoseconds(1)
          }
        }
      }
    }
    #expect(samples("rodpod_hits_total ") == ["rodpod_hits_total 20000"])
    #expect(samples("rodpod_busy_seconds_total ") == ["rodpod_busy_seconds_total 10000"])
    #expect(samples("rodpod_step_seconds_count ") == ["rodpod_step_seconds_count 20000"])
  }

  @Test func theProcessIsDescribedByTheUsualNames() throws {
    func value(_ name: String) throws -> Double {
      try #require(samples(name + " ").last.flatMap { Double($0.split(separator: " ").last ?? "") })
    }
    #expect(try value("process_resident_memory_bytes") > 1_000_000)
    #expect(try value("process_cpu_seconds_total") >= 0)
    #expect(try value("process_open_fds") >= 3)
    #expect(try value("process_threads") >= 1)
    let started = try value("process_start_time_seconds")
    #expect(started <= Date.now.timeIntervalSince1970 + 1)
    #expect(started > Date.now.timeIntervalSince1970 - 86_400)
    #expect(lines("build_info").last == "rodpod_build_info{version=\"\(BuildInformation.version)\"} 1")
  }

  @Test func everyLineIsWellFormedAndEveryFamilyStandsTogether() throws {
    registry.describe("a_bytes", help: "A.")
    registry.makeMeter(label: "a_bytes", dimensions: [("k", "v{}=,\"")]).set(1.5)
    registry.makeTimer(label: "b", dimensions: []).recordNanoseconds(1)
    registry.makeCounter(label: "c", dimensions: []).increment(by: 1)
    let text = registry.render()
    #expect(text.hasSuffix("\n"))
    let comment = /# (HELP [a-zA-Z_][a-zA-Z0-9_]* .*|TYPE [a-zA-Z_][a-zA-Z0-9_]* (counter|gauge|histogram))/
    let label = #"[a-zA-Z_][a-zA-Z0-9_]*="([^"\\]|\\["\\n])*""#
    let sample = try Regex("([a-zA-Z_][a-zA-Z0-9_]*)(\\{\(label)(,\(label))*\\})? (NaN|[+-]Inf|[-+.0-9e]+)")
    var family = ""
    var finished: Set<String> = []
    for line in text.dropLast().split(separator: "\n", omittingEmptySubsequences: false) {
      if line.hasPrefix("#") {
        #expect(line.wholeMatch(of: comment) != nil, "\(line)")
        let name = String(line.split(separator: " ")[2])
        if name != family {
          finished.insert(family)
          #expect(!finished.contains(name), "\(name) comes twice")
          family = name
        }
      } else {
        let name = try #require(line.wholeMatch(of: sample)?.output[1].substring, "\(line)")
        #expect([family, family + "_bucket", family + "_sum", family + "_count"].contains(String(name)), "\(line)")
      }
    }
  }
}
