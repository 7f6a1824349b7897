import Datasets
import Recommender

/// The simple recommenders, taken through a protocol together.
struct BaselineRun: ReplayedRun {
  static let names = ["popularity", "recent_popularity", "markov", "item_knn"]

  private let data: BacktestData
  private let allowsRepeats: Bool
  private let progress: (Backtest.Progress) -> Void
  private var baselines: [any Baseline]
  private var itemEvents: [Int32]
  private var scored = 0
  /// In the order of ``names``.
  private(set) var scoreboards: [Scoreboard]

  init(data: BacktestData, popularityWindow: Int, allowsRepeats: Bool, progress: @escaping (Backtest.Progress) -> Void) {
    self.data = data
    self.allowsRepeats = allowsRepeats
    self.progress = progress
    baselines = [Popularity(), RecentPopularity(window: popularityWindow), MarkovChain(), ItemKNN()]
    itemEvents = Array(repeating: 0, count: data.itemCount)
    scoreboards = Array(repeating: Scoreboard(), count: baselines.count)
  }

  mutating func learn(history events: [Int], validation: [RankingCase]?) { learn(stream: events) }

  mutating func learn(stream events: some Collection<Int>) {
    let history = data.history
    for event in events {
      let context = history.items[history.offsets[Int(history.users[event])]..<event]
      for index in baselines.indices { baselines[index].observe(history.items[event], after: context) }
      itemEvents[Int(history.items[event])] += 1
    }
  }

  mutating func flush() {}

  mutating func see(_ events: [Int]) { learn(stream: events) }

  mutating func score(_ cases: some Collection<RankingCase>, part: Int) {
    for event in cases {
      let context = event.items(data.history.items)
      let target = data.history.items[event.target]
      for index in baselines.indices {
        let rank = baselines[index].rank(of: target, after: context, excluding: allowsRepeats ? [] : context)
        scoreboards[index].record(event, rank: rank, part: part, itemEvents: itemEvents[Int(target)], times: data.history.times)
      }
      scored += 1
      if scored % 4096 == 0 {
        let fraction = Double(event.target) / Double(max(1, data.history.count))
        progress(Backtest.Progress(stage: "baselines, \(scored) cases", fraction: fraction))
      }
    }
  }

  /// What baselines forget is nobody's question.
  mutating func scoreHeldOut(_ cases: some Collection<RankingCase>, part: Int, isFinal: Bool) {}
}
