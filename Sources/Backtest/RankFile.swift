import Foundation
import Recommender

/// The rank of each case of a run, one column for each seed: what a paired test of two runs needs.
///
/// A text file: a header, then for each case the target's place in the history and its ranks from 0, `-` for a miss, separated by tabs.
public struct RankFile: Sendable, Equatable {
  /// What it is called in a comparison.
  public let name: String
  /// The targets' places in the history, in the order of the cases.
  let targets: [Int32]
  /// By seed and case; a miss is `Int32.max`.
  let ranks: [[Int32]]

  init(name: String, targets: [Int32], ranks: [[Int32]]) {
    self.name = name
    self.targets = targets
    self.ranks = ranks
  }

  /// - Throws: ``BacktestError`` when the file cannot be read or a line is malformed.
  public init(path: String) throws(BacktestError) {
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { throw BacktestError(.data, "\(path): cannot be read") }
    var targets: [Int32] = []
    var ranks: [[Int32]] = []
    for (number, line) in text.split(separator: "\n").enumerated() {
      let fields = line.split(separator: "\t")
      if number == 0 {
        guard fields.first == "target", fields.count > 1 else { throw BacktestError(.data, "\(path): is not a file of ranks") }
        ranks = Array(repeating: [], count: fields.count - 1)
        continue
      }
      guard fields.count == ranks.count + 1, let target = Int32(fields[0]) else {
        throw BacktestError(.data, "\(path):\(number + 1): malformed")
      }
      targets.append(target)
      for (seed, field) in fields.dropFirst().enumerated() {
        guard let rank = field == "-" ? Int32.max : Int32(field) else { throw BacktestError(.data, "\(path):\(number + 1): malformed") }
        ranks[seed].append(rank)
      }
    }
    self.init(name: path, targets: targets, ranks: ranks)
  }

  /// The file's text.
  public var encoded: String {
    var lines = [(["target"] + ranks.indices.map { "seed_\($0)" }).joined(separator: "\t")]
    for (index, target) in targets.enumerated() {
      lines.append(([String(target)] + ranks.map { $0[index] == .max ? "-" : String($0[index]) }).joined(separator: "\t"))
    }
    return lines.joined(separator: "\n") + "\n"
  }

  /// Each case's metric, as the mean over the seeds.
  func means(_ metric: RankingMetric) -> [Double] {
    guard let first = ranks.first else { return [] }
    return first.indices.map { index in ranks.reduce(0) { $0 + metric.value(rank: Int($1[index])) } / Double(ranks.count) }
  }
}
