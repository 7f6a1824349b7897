import Datasets
import Foundation
import Recommender

#if canImport(Glibc)
  import Glibc
#endif

/// What a backtest found. `encoded` is the machine's form, `description` the reader's.
public struct BacktestReport: Encodable, Sendable {
  /// Mean metrics by name, as fractions.
  typealias Metrics = [String: Double]

  struct Slice: Encodable, Sendable {
    var count: Int
    var results: [String: Metrics]
  }

  struct Period: Encodable, Sendable {
    var period: Int
    var cases: Int
    var results: [String: Metrics]
  }

  /// Held-out users of one period, right after it and at the end.
  struct Forgetting: Encodable, Sendable {
    var period: Int
    var cases: Int
    var then: Metrics
    var finally: Metrics
  }

  /// The model against another recommender, or another run, on the same cases.
  struct Comparison: Encodable, Sendable {
    var against: String
    var metric: String
    var difference: Double
    var relativeDifference: Double?
    var interval: [Double]
    var pValue: Double

    enum CodingKeys: String, CodingKey {
      case against, metric, difference, interval
      case relativeDifference = "relative_difference"
      case pValue = "p_value"
    }
  }

  /// Sums over the seeds.
  struct Training: Encodable, Sendable {
    var examples = 0
    var wallSeconds = 0.0
    var examplesPerSecond: Double { wallSeconds > 0 ? Double(examples) / wallSeconds : 0 }
    var rankingSeconds = 0.0
    var epochs: [Int] = []
    var retrainingExamples = 0
    var skippedSteps = 0

    enum CodingKeys: String, CodingKey {
      case examples, epochs
      case wallSeconds = "wall_seconds"
      case examplesPerSecond = "examples_per_second"
      case rankingSeconds = "ranking_seconds"
      case retrainingExamples = "retraining_examples"
      case skippedSteps = "skipped_steps"
    }

    func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(examples, forKey: .examples)
      try container.encode(wallSeconds, forKey: .wallSeconds)
      try container.encode(examplesPerSecond, forKey: .examplesPerSecond)
      try container.encode(rankingSeconds, forKey: .rankingSeconds)
      try container.encode(epochs, forKey: .epochs)
      if retrainingExamples > 0 { try container.encode(retrainingExamples, forKey: .retrainingExamples) }
      try container.encode(skippedSteps, forKey: .skippedSteps)
    }
  }

  static let model = "rodpod"
  private static let shown: [RankingMetric] = [.hitRate(5), .ndcg(5), .mrr(5), .hitRate(10), .ndcg(10), .hitRate(20), .ndcg(20), .mrr(20)]

  let `protocol`: String
  let seed: UInt64
  let seeds: [UInt64]
  let users: Int
  let items: Int
  let events: Int
  private(set) var cases = 0
  private(set) var results: [String: Metrics] = [:]
  /// Of the model over the seeds; only with several.
  private(set) var standardDeviation: Metrics?
  private(set) var slices: [String: Slice] = [:]
  private(set) var periods: [Period]?
  private(set) var forgetting: [Forgetting]?
  private(set) var comparisons: [Comparison] = []
  private(set) var training = Training()
  private(set) var peakRSSBytes = 0

  private var baselines: [Scoreboard] = []
  private var runs: [Scoreboard] = []

  enum CodingKeys: String, CodingKey {
    case `protocol`, seed, seeds, users, items, events, cases, results, slices, periods, forgetting, comparisons, training
    case standardDeviation = "standard_deviation"
    case peakRSSBytes = "peak_rss_bytes"
  }

  init(plan: Backtest.Plan, seeds: [UInt64], data: BacktestData) {
    self.protocol = plan.name
    seed = seeds[0]
    self.seeds = seeds
    users = data.history.userCount
    items = data.itemCount
    events = data.history.count
  }

  mutating func add(baselines scoreboards: [Scoreboard]) { baselines = scoreboards }

  mutating func add(seed: UInt64, _ scoreboard: Scoreboard, training figures: LearnerRun.Training) {
    runs.append(scoreboard)
    training.examples += figures.examples
    training.wallSeconds += figures.duration / .seconds(1)
    training.rankingSeconds += figures.ranking / .seconds(1)
    training.epochs.append(figures.epochs)
    training.retrainingExamples += figures.retrainingExamples
    training.skippedSteps += figures.skippedSteps
  }

  mutating func finish() {
    cases = runs.first?.all.count ?? 0
    for (name, boards) in named { results[name] = Self.mean(boards.map { board in { board.mean($0) } }) }
    if runs.count > 1 {
      standardDeviation = Dictionary(
        uniqueKeysWithValues: Self.shown.map { metric in (metric.name, SeedSummary(runs.map { $0.mean(metric) }).standardDeviation) })
    }
    for slice in Scoreboard.Slice.allCases {
      guard let count = runs.first?.slices[slice]?.count else { continue }
      slices[slice.rawValue] = Slice(count: count, results: Self.means(named) { $0.slices[slice] })
    }
    if let parts = runs.first?.parts, parts.keys.contains(where: { $0 > 0 }) {
      periods = parts.sorted { $0.key < $1.key }.map { part, metrics in
        Period(period: part, cases: metrics.count, results: Self.means(named) { $0.parts[part] })
      }
    }
    if let heldOut = runs.first?.heldOut, heldOut.values.contains(where: { $0.then.count > 0 }) {
      forgetting = heldOut.filter { $0.value.then.count > 0 }.sorted { $0.key < $1.key }.map { part, pair in
        Forgetting(
          period: part, cases: pair.then.count, then: Self.mean(runs.compactMap { $0.heldOut[part]?.then }.map { m in { m.mean($0) } }),
          finally: Self.mean(runs.compactMap { $0.heldOut[part]?.finally }.map { m in { m.mean($0) } }))
      }
    }
    for (name, board) in zip(BaselineRun.names, baselines) { compare(with: name, [board]) }
    peakRSSBytes = peakMemory()
  }

  /// The paired test against the ranks of another run.
  ///
  /// - Throws: ``BacktestError`` when the cases are not the same.
  public mutating func compare(with other: RankFile) throws(BacktestError) {
    guard let targets = runs.first?.targets, other.targets == targets.map({ Int32($0) }) else {
      throw BacktestError(.data, "\(other.name) holds other cases than this run")
    }
    for metric in [RankingMetric.ndcg(5), .ndcg(10)] { comparisons.append(comparison(other.name, metric, other.means(metric))) }
  }

  /// The rank of each case for each seed.
  public func ranks(named name: String) -> RankFile {
    RankFile(name: name, targets: runs.first?.targets.map { Int32($0) } ?? [], ranks: runs.map(\.all.ranks))
  }

  private mutating func compare(with name: String, _ boards: [Scoreboard]) {
    let ranks = RankFile(name: name, targets: [], ranks: boards.map(\.all.ranks))
    for metric in [RankingMetric.ndcg(5), .ndcg(10)] { comparisons.append(comparison(name, metric, ranks.means(metric))) }
  }

  private func comparison(_ name: String, _ metric: RankingMetric, _ values: [Double]) -> Comparison {
    var random = Xoshiro256(seed: 1)
    let own = RankFile(name: Self.model, targets: [], ranks: runs.map(\.all.ranks)).means(metric)
    // Enough to tell a p-value of a thousandth.
    let test = PairedTest(own, values, permutations: 2_000, using: &random)
    return Comparison(
      against: name, metric: metric.name, difference: test.meanDifference, relativeDifference: test.relativeDifference,
      interval: [test.interval.lowerBound, test.interval.upperBound], pValue: test.pValue)
  }

  private var named: [(name: String, boards: [Scoreboard])] {
    [(Self.model, runs)] + zip(BaselineRun.names, baselines).map { ($0, [$1]) }
  }

  private static func mean(_ systems: [(RankingMetric) -> Double]) -> Metrics {
    Dictionary(
      uniqueKeysWithValues: shown.map { metric in (metric.name, systems.reduce(0) { $0 + $1(metric) } / Double(max(1, systems.count))) })
  }

  private static func means(
    _ named: [(name: String, boards: [Scoreboard])], _ part: (Scoreboard) -> RankingMetrics?
  ) -> [String: Metrics] {
    Dictionary(
      uniqueKeysWithValues: named.map { name, boards in (name, mean(boards.compactMap(part).map { metrics in { metrics.mean($0) } })) })
  }

  /// One JSON object, keys sorted.
  public func encoded() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(self), as: UTF8.self)
  }
}

extension BacktestReport: CustomStringConvertible {
  /// A table for reading.
  public var description: String {
    let size = "\(users) users, \(items) items, \(events) events, \(cases) cases"
    var lines = ["\(`protocol`): \(size), seeds \(seeds.map(String.init).joined(separator: " "))", ""]
    func row(_ name: String, _ cells: [String]) { lines.append(padded(name, 20) + cells.map { leftPadded($0, 9) }.joined()) }
    func table(_ title: String, _ results: [String: Metrics]) {
      row(title, Self.shown.map(\.name))
      for (name, _) in named {
        if let metrics = results[name] { row(name, Self.shown.map { fixed(metrics[$0.name] ?? 0, 4) }) }
      }
    }
    table(periods == nil ? "" : "mean of the periods", results)
    if let standardDeviation { row("  ± over seeds", Self.shown.map { fixed(standardDeviation[$0.name] ?? 0, 4) }) }
    for slice in Scoreboard.Slice.allCases {
      guard let group = slices[slice.rawValue] else { continue }
      lines.append("")
      table("\(slice.rawValue): \(group.count)", group.results)
    }
    if let periods {
      lines.append("")
      row("period", ["cases", "HR@20", "MRR@20", "NDCG@10"])
      for period in periods {
        let metrics = period.results[Self.model] ?? [:]
        row(String(period.period), [String(period.cases)] + ["HR@20", "MRR@20", "NDCG@10"].map { fixed(metrics[$0] ?? 0, 4) })
      }
    }
    if let forgetting {
      lines.append("")
      row("held-out users", ["cases", "HR@20", "at end", "NDCG@10", "at end"])
      for part in forgetting {
        row(
          "period \(part.period)",
          [String(part.cases)] + ["HR@20", "NDCG@10"].flatMap { [fixed(part.then[$0] ?? 0, 4), fixed(part.finally[$0] ?? 0, 4)] })
      }
    }
    if !comparisons.isEmpty { lines.append("") }
    for test in comparisons {
      let relative = test.relativeDifference.map { " (\(signed($0 * 100, 2)) %)" } ?? ""
      let interval = "95 % \(signed(test.interval[0], 5)) … \(signed(test.interval[1], 5))"
      lines.append(
        "\(test.metric) against \(test.against): \(signed(test.difference, 5))\(relative), \(interval), p \(fixed(test.pValue, 4))")
    }
    lines.append("")
    let passes = training.epochs.map(String.init).joined(separator: " ")
    lines.append(
      "training: \(training.examples) examples in \(fixed(training.wallSeconds, 1)) s (\(fixed(training.examplesPerSecond, 0))/s), "
        + "best passes \(passes), ranking \(fixed(training.rankingSeconds, 1)) s, peak memory \(peakRSSBytes >> 20) MiB")
    if training.skippedSteps > 0 { lines.append("steps left out because a number was not finite: \(training.skippedSteps)") }
    if training.retrainingExamples > 0 {
      let ratio = Double(training.retrainingExamples) / Double(max(1, training.examples))
      lines.append(
        "training anew on everything before each period, with as many passes as the first: "
          + "\(training.retrainingExamples) examples, \(fixed(ratio, 1)) times as many")
    }
    return lines.joined(separator: "\n")
  }
}

/// With so many decimals, in any locale.
func fixed(_ value: Double, _ decimals: Int) -> String { String(format: "%.\(decimals)f", value) }

private func signed(_ value: Double, _ decimals: Int) -> String { (value < 0 ? "" : "+") + fixed(value, decimals) }

private func padded(_ text: String, _ width: Int) -> String { text + String(repeating: " ", count: max(1, width - text.count)) }

private func leftPadded(_ text: String, _ width: Int) -> String { String(repeating: " ", count: max(1, width - text.count)) + text }

/// The most memory that the process ever had resident, in bytes.
private func peakMemory() -> Int {
  var usage = rusage()
  #if canImport(Glibc)
    return getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 ? usage.ru_maxrss * 1024 : 0
  #else
    return getrusage(RUSAGE_SELF, &usage) == 0 ? usage.ru_maxrss : 0
  #endif
}
