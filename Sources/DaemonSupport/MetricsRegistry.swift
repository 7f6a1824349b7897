public import CoreMetrics
import Synchronization

/// Keeps the daemon's metrics and renders them as Prometheus text, version 0.0.4. Give it to `MetricsSystem.bootstrap`.
///
/// A swift-metrics label `ingest_events` becomes `rodpod_ingest_events_total` for a counter, `rodpod_ingest_events` for a gauge, meter or
/// recorder, and the histogram `rodpod_ingest_events_seconds` for a timer. A label carries its unit (`store_used_bytes`); characters that
/// Prometheus does not allow become underscores. Counting is one atomic addition, setting a gauge one atomic store.
///
/// Two kinds of metric under one name cannot both be exported: the one made first is, the other works but is not shown.
public final class MetricsRegistry: MetricsFactory {
  /// Upper bounds of a timer's buckets in seconds, unless ``describe(_:help:buckets:)`` gives others: 100 µs to 10 s.
  public static let secondsBuckets: [Double] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
  ]
  /// Upper bounds of the buckets of an aggregating recorder, unless described otherwise: powers of four from 1 to about a million.
  public static let valueBuckets: [Double] = [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1_048_576]

  private enum Kind: String {
    case counter, gauge, histogram
  }

  private struct Family {
    let kind: Kind
    var series: [Labels: any RenderedMetric] = [:]
  }

  private struct Description {
    var help: String
    var buckets: [Double]?
  }

  private struct State {
    /// By exported name.
    var families: [String: Family] = [:]
    /// By swift-metrics label.
    var descriptions: [String: Description] = [:]
    /// Help by exported name, for the families that were described.
    var helps: [String: String] = [:]
  }

  private let state = Mutex(State())

  public init() {}

  /// Gives a metric its help text and, for a timer or an aggregating recorder, its buckets. Call it before the metric is made.
  /// - Parameters:
  ///   - label: the swift-metrics label.
  ///   - help: one sentence for an operator.
  ///   - buckets: upper bounds in rising order, for a timer in seconds; the last one, +Inf, is added.
  public func describe(_ label: String, help: String, buckets: [Double]? = nil) {
    state.withLock { $0.descriptions[label] = Description(help: help, buckets: buckets) }
  }

  public func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
    metric(label, suffix: "_total", kind: .counter, dimensions) { _ in IntegerCounter() }
  }

  public func makeFloatingPointCounter(label: String, dimensions: [(String, String)]) -> any FloatingPointCounterHandler {
    metric(label, suffix: "_total", kind: .counter, dimensions) { _ in FloatingPointCounter() }
  }

  public func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
    metric(label, suffix: "", kind: .gauge, dimensions) { _ in Gauge() }
  }

  public func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler {
    if aggregate {
      metric(label, suffix: "", kind: .histogram, dimensions) { Histogram(buckets: $0 ?? MetricsRegistry.valueBuckets) }
    } else {
      metric(label, suffix: "", kind: .gauge, dimensions) { _ in Gauge() }
    }
  }

  public func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
    metric(label, suffix: "_seconds", kind: .histogram, dimensions) { Histogram(buckets: $0 ?? MetricsRegistry.secondsBuckets) }
  }

  // A Prometheus series lives as long as its process; one that vanished would read as a counter's reset.
  public func destroyCounter(_ handler: any CounterHandler) {}
  public func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) {}
  public func destroyMeter(_ handler: any MeterHandler) {}
  public func destroyRecorder(_ handler: any RecorderHandler) {}
  public func destroyTimer(_ handler: any TimerHandler) {}

  /// All metrics, and those of the process, in Prometheus text format 0.0.4: families by name, series by labels.
  public func render() -> String {
    var output = ""
    let (families, helps) = state.withLock { ($0.families, $0.helps) }
    for (name, family) in families.sorted(by: { $0.key < $1.key }) {
      if let help = helps[name] { output += "# HELP \(name) \(escapingHelp(help))\n" }
      output += "# TYPE \(name) \(family.kind.rawValue)\n"
      for (labels, metric) in family.series.sorted(by: { $0.key.text < $1.key.text }) {
        metric.render(name: name, labels: labels, into: &output)
      }
    }
    return output + ProcessMetrics.render()
  }

  /// The metric of this name and these labels, made if there is none yet.
  private func metric<Metric: RenderedMetric>(
    _ label: String, suffix: String, kind: Kind, _ dimensions: [(String, String)], make: ([Double]?) -> Metric
  ) -> Metric {
    let name = exportedName(label, suffix: suffix)
    let labels = Labels(dimensions)
    return state.withLock { state in
      if let existing = state.families[name]?.series[labels] {
        return existing as? Metric ?? make(nil)
      }
      let description = state.descriptions[label]
      let metric = make(description?.buckets)
      if let family = state.families[name], family.kind != kind { return metric }
      state.families[name, default: Family(kind: kind)].series[labels] = metric
      if let help = description?.help { state.helps[name] = help }
      return metric
    }
  }

  private func exportedName(_ label: String, suffix: String) -> String {
    let name = prometheusName(label)
    return "rodpod_" + name + (name.hasSuffix(suffix) ? "" : suffix)
  }
}

/// A series' labels in the order of their names.
struct Labels: Hashable {
  /// `a="1",b="2"`, escaped.
  let text: String

  init(_ dimensions: [(String, String)]) {
    text =
      dimensions.map { (prometheusName($0.0), $0.1) }.sorted { $0.0 < $1.0 }
      .map { "\($0.0)=\"\(escapingLabelValue($0.1))\"" }.joined(separator: ",")
  }

  /// The labels in braces with one more at the end, or nothing when there are none.
  func braces(adding last: String? = nil) -> String {
    let all = [text, last ?? ""].filter { !$0.isEmpty }.joined(separator: ",")
    return all.isEmpty ? "" : "{\(all)}"
  }
}

/// A metric that can write its lines.
protocol RenderedMetric: AnyObject, Sendable {
  func render(name: String, labels: Labels, into output: inout String)
}

/// The text with every character that a metric or label name may not hold replaced by an underscore.
func prometheusName(_ text: String) -> String {
  func isDigit(_ character: Character) -> Bool { ("0"..."9").contains(character) }
  let name = String(text.map { $0.isASCII && ($0.isLetter || isDigit($0)) ? $0 : "_" })
  guard let first = name.first, !isDigit(first) else { return "_" + name }
  return name
}

/// A number as Go's `ParseFloat` reads it.
func prometheusNumber(_ value: Double) -> String {
  if value.isNaN { return "NaN" }
  if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
  if value == value.rounded(), abs(value) < 1e15 { return String(Int64(value)) }
  return value.description
}

private func escapingHelp(_ text: String) -> String {
  text.replacing("\\", with: "\\\\").replacing("\n", with: "\\n")
}

private func escapingLabelValue(_ text: String) -> String {
  text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
}
