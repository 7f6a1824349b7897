import Datasets
import Recommender

/// The daemon's learner, taken through a protocol.
struct LearnerRun: ReplayedRun {
  /// What training took.
  struct Training: Sendable {
    /// Targets that were learned from, replayed ones too.
    var examples = 0
    /// Passes over the first history until its best.
    var epochs = 0
    /// Mean NDCG@10 of that pass on the interactions that told when to stop; nil when there were none.
    var validationNDCG: Double?
    /// The same if the model were trained anew on everything before each period.
    var retrainingExamples = 0
    var duration = Duration.zero
    var ranking = Duration.zero
    var skippedSteps = 0
  }

  private let backtest: Backtest
  private let data: BacktestData
  private let seed: UInt64
  private let progress: (Backtest.Progress) -> Void
  private let learner: OnlineLearner
  private let ranker = TopKRanker()
  /// What users without history, or of whose history nothing is known, are given.
  private var guests: RecentPopularity
  private var itemEvents: [Int32]
  /// All events learned from in their order: the window slides over its end.
  private var journal: [Int] = []
  /// Came in, but not yet enough for a stride.
  private var pending: [Int] = []
  private(set) var scoreboard = Scoreboard()
  private(set) var training = Training()
  private let clock = ContinuousClock()
  private let calibrationPasses = 32

  init(
    backtest: Backtest, learner: OnlineLearner, data: BacktestData, seed: UInt64, progress: @escaping (Backtest.Progress) -> Void
  ) {
    self.backtest = backtest
    self.data = data
    self.seed = seed
    self.progress = progress
    self.learner = learner
    guests = RecentPopularity(window: backtest.guestWindow)
    itemEvents = Array(repeating: 0, count: data.itemCount)
    for item in 0..<Int32(data.items?.count ?? 0) { data.describe(item, in: learner.catalogue) }
    // Leave-one-out hides events, not items: all of the catalogue compete.
    if backtest.plan == .leaveOneOut { for item in 0..<Int32(data.itemCount) { data.describe(item, in: learner.catalogue) } }
    learner.renewSnapshot()
  }

  func stop() { learner.stop() }

  mutating func learn(history events: [Int], validation: [RankingCase]?) {
    for event in events { takeIn(event) }
    var ends: [Int32: Int] = [:]
    for event in events { ends[data.history.users[event]] = event + 1 }
    var ranges = ends.map { data.history.offsets[Int($0)]..<$1 }.sorted { $0.lowerBound < $1.lowerBound }
    let chosen = validation ?? holdOut(of: &ranges)
    let examples = ranges.filter { $0.count > 1 }.map { range in
      TrainingExample(user: data.user(of: range.lowerBound), events: range.map(data.event), targetCount: range.count - 1)
    }
    let start = clock.now
    let targets = Set(chosen.map(\.target))
    // One by one: each holds its context again, too much for all of them at a time.
    for event in events where isPredictable(event) && !targets.contains(event) { learner.remember([example(event)]) }
    train(examples, validation: chosen)
    // The learner goes live: it is learned as well.
    if validation == nil { learnStride(chosen.map(\.target)) }
    training.duration += clock.now - start
  }

  /// Takes the last event of every tenth user off, to tell by when to stop.
  private func holdOut(of ranges: inout [Range<Int>]) -> [RankingCase] {
    var cases: [RankingCase] = []
    for index in ranges.indices where ranges[index].count > 2 && index % 10 == 0 {
      let range = ranges[index]
      guard isPredictable(range.upperBound - 1) else { continue }
      ranges[index] = range.lowerBound..<range.upperBound - 1
      cases.append(RankingCase(target: range.upperBound - 1, past: ranges[index]))
    }
    return cases
  }

  /// Passes until the validation cases have not gained for a while; the best pass's parameters are kept.
  private mutating func train(_ examples: [TrainingExample], validation: [RankingCase]) {
    let targets = examples.reduce(0) { $0 + $1.targetCount }
    guard targets > 0 else { return }
    let chosen = validation.map { example($0.target) }
    var best: (score: Double, epoch: Int, checkpoint: [UInt8]?) = (-1, 0, nil)
    for epoch in 1...backtest.maximumEpochs {
      let report = learner.epoch(examples)
      training.examples += targets
      training.skippedSteps += report.skippedSteps
      // What tells when to stop was not learned or counted.
      learner.calibrate(chosen, passes: calibrationPasses)
      var metrics = RankingMetrics()
      for rank in ranks(validation) { metrics.record(rank: rank) }
      let score = metrics.mean(.ndcg(10))
      if score > best.score { best = (score, epoch, try? learner.checkpoint()) }
      progress(
        Backtest.Progress(
          stage: "seed \(seed), pass \(epoch): loss \(fixed(report.crossEntropy, 4)), preference \(fixed(report.preference, 4)), "
            + "validation NDCG@10 \(fixed(score, 5))",
          fraction: Double(epoch) / Double(backtest.maximumEpochs)))
      if epoch - best.epoch >= backtest.patience { break }
    }
    training.epochs = best.epoch
    training.validationNDCG = validation.isEmpty ? nil : best.score
    // A checkpoint that the learner itself has just made fits it.
    if let checkpoint = best.checkpoint { try? learner.rollBack(to: checkpoint) }
  }

  mutating func learn(stream events: some Collection<Int>) {
    for event in events {
      takeIn(event)
      pending.append(event)
      if pending.count == backtest.stride { flush() }
    }
  }

  mutating func flush() {
    guard !pending.isEmpty else { return }
    let start = clock.now
    learnStride(pending)
    pending.removeAll(keepingCapacity: true)
    training.duration += clock.now - start
  }

  mutating func see(_ events: [Int]) {
    for event in events { count(event) }
    learner.remember(events.filter(isPredictable).map(example))
    learner.renewSnapshot()
  }

  mutating func score(_ cases: some Collection<RankingCase>, part: Int) {
    let history = data.history
    if part > 0 { training.retrainingExamples += journal.count * max(1, training.epochs) }
    let start = clock.now
    for (event, rank) in zip(cases, ranks(Array(cases))) {
      scoreboard.record(event, rank: rank, part: part, itemEvents: itemEvents[Int(history.items[event.target])], times: history.times)
    }
    training.ranking += clock.now - start
    if backtest.plan != .leaveOneOut {
      progress(
        Backtest.Progress(
          stage: "seed \(seed)\(part > 0 ? ", period \(part)" : ""): "
            + "NDCG@10 \(fixed(scoreboard.mean(.ndcg(10)), 5)) over \(scoreboard.all.count) cases",
          fraction: Double(journal.count) / Double(max(1, history.count))))
    }
  }

  mutating func scoreHeldOut(_ cases: some Collection<RankingCase>, part: Int, isFinal: Bool) {
    for rank in ranks(Array(cases)) { scoreboard.recordHeldOut(rank: rank, part: part, isFinal: isFinal) }
  }

  // What came in, and what is learned of it.

  private mutating func takeIn(_ event: Int) {
    data.describe(data.history.items[event], in: learner.catalogue)
    journal.append(event)
    count(event)
  }

  private mutating func count(_ event: Int) {
    guests.observe(data.history.items[event])
    itemEvents[Int(data.history.items[event])] += 1
  }

  private mutating func learnStride(_ events: [Int]) {
    let new = events.filter(isPredictable).map(example)
    let window = UInt64(max(0, journal.count - backtest.window))..<UInt64(journal.count)
    let drawn = learner.drawRecent(count: Int((Double(new.count) * learner.configuration.recentRatio).rounded()), from: window)
    let recent = drawn.map { journal[Int($0)] }.filter(isPredictable).map(example)
    let report = learner.stride(new: new, recent: recent)
    training.examples += report.targets
    training.skippedSteps += report.skippedSteps
  }

  /// Whether something stands before it, and its type is learned from.
  private func isPredictable(_ event: Int) -> Bool {
    let weights = learner.configuration.typeWeights
    let type = Int(data.event(event).type)
    return event > data.history.offsets[Int(data.history.users[event])] && (!weights.indices.contains(type) || weights[type] > 0)
  }

  private func example(_ event: Int) -> TrainingExample {
    let user = data.history.users[event]
    let first = max(data.history.offsets[Int(user)], event - learner.configuration.model.maximumSequenceLength)
    return TrainingExample(user: data.user(of: event), events: (first...event).map(data.event))
  }

  // Ranking.

  private mutating func ranks(_ cases: [RankingCase]) -> [Int?] {
    var result: [Int?] = []
    result.reserveCapacity(cases.count)
    let catalogue = learner.catalogue
    let length = learner.configuration.model.maximumSequenceLength
    var start = 0
    while start < cases.count {
      let batch = cases[start..<min(start + 256, cases.count)]
      start += batch.count
      var targets: [Int32] = []
      let requests = batch.map { event -> RankingRequest in
        targets.append(catalogue.row(of: data.number(of: data.history.items[event.target])) ?? -1)
        let seen = backtest.allowsRepeats ? [] : event.items(data.history.items).compactMap { catalogue.row(of: data.number(of: $0)) }
        let context = event.past.suffix(length) + event.recent.suffix(length)
        let now = data.history.times.isEmpty ? nil : data.history.times[event.target]
        return RankingRequest(events: context.suffix(length).map(data.event), now: now, excluded: seen)
      }
      let places = ranker.ranks(of: targets, requests, snapshot: learner.snapshot, lookup: catalogue.row(of:))
      for (index, event) in batch.enumerated() {
        // An item that came after the snapshot could not be in a list yet.
        let isRankable = 0..<Int32(learner.snapshot.rowCount) ~= targets[index] && !requests[index].excluded.contains(targets[index])
        result.append(isRankable ? places[index] ?? guestRank(event) : nil)
      }
    }
    return result
  }

  private mutating func guestRank(_ event: RankingCase) -> Int? {
    let excluded = backtest.allowsRepeats ? [] : event.items(data.history.items)
    return guests.rank(of: data.history.items[event.target], after: [], excluding: excluded)
  }
}
