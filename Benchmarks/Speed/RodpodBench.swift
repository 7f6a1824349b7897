import ArgumentParser
import Kernels

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

@main
struct RodpodBench: ParsableCommand {
  enum Group: String, CaseIterable, ExpressibleByArgument {
    case train, rank, ingest, e2e, store, threads, curves, products

    /// Unless it is asked for by its name it is not measured.
    var isExtra: Bool { self == .curves || self == .products }
  }

  static let configuration = CommandConfiguration(
    commandName: "rodpod-bench", abstract: "Measures how fast rodpod is, and what the machine could do.",
    discussion: """
      From the environment: BENCH_JSON is a file for the figures, BEAUTY the folder of the Beauty data set, and BENCH_CLOCK=cpu takes time \
      by the thread's own CPU time, for a machine that has other work.
      """)

  @Argument(help: "What to measure; without, everything but curves and products.")
  var groups: [Group] = []

  func run() throws {
    let environment = ProcessInfo.processInfo.environment
    guard let clock = Timer.Clock(rawValue: environment["BENCH_CLOCK"] ?? "wall") else {
      throw ValidationError("BENCH_CLOCK is wall or cpu")
    }
    let timer = Timer(clock: clock)
    let report = Report()
    try selfTest()
    let machine = try Machine(timer, report)
    for group in Group.allCases where groups.isEmpty ? !group.isExtra : groups.contains(group) {
      switch group {
      case .train: try trainingBenchmarks(timer, report, beauty: environment["BEAUTY"])
      case .rank: try rankingBenchmarks(timer, report, machine)
      case .ingest:
        try decodingBenchmark(timer, report)
        try ingestBenchmark(report)
      case .e2e: try endToEndBenchmark(report)
      case .store: try storeBenchmark(report)
      case .threads: try threadBenchmarks(report)
      case .curves: try curveBenchmarks(timer, report)
      case .products: try productBenchmarks(timer, report)
      }
    }
    if let file = environment["BENCH_JSON"] { try report.json.write(toFile: file, atomically: true, encoding: .utf8) }
  }
}
