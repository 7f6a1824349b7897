import Datasets
import Recommender

/// The last event of each user is the test, the one before it the validation; nothing of both is learned by the model, while the
/// baselines, which have nothing to choose, also see the validation items before the test.
struct LeaveOneOutReplay {
  let data: BacktestData
  let onValidation: Bool

  func run(_ run: inout some ReplayedRun) throws(BacktestError) {
    let history = data.history
    let split = LeaveOneOut(offsets: history.offsets)
    func cases(_ target: (Int) -> Int?) -> [RankingCase] {
      (0..<split.userCount).compactMap { user in target(user).map { RankingCase(target: $0, past: history.offsets[user]..<$0) } }
    }
    let validation = cases(split.validation)
    guard !validation.isEmpty else { throw BacktestError(.data, "no user has three events, which leave-one-out needs") }
    run.learn(
      history: history.chronologicalOrder().map { Int($0) }.filter { split.training(Int(history.users[$0])).contains($0) },
      validation: validation)
    if onValidation { return run.score(validation, part: 0) }
    run.see(validation.map(\.target))
    run.score(cases(split.test), part: 0)
  }
}

/// Test, then train, block by block.
struct PrequentialReplay {
  let data: BacktestData
  let warmup: Double
  let block: Prequential.Block

  func run(_ run: inout some ReplayedRun) throws(BacktestError) {
    let history = data.history
    let order = history.chronologicalOrder().map { Int($0) }
    guard block == .event || !history.times.isEmpty else {
      throw BacktestError(.data, "blocks of a day need times, which the interactions do not have")
    }
    // The order keeps each user's own; an event that stands behind a later one counts as of that one's time.
    var times: [Int64] = []
    if !history.times.isEmpty {
      for event in order { times.append(max(times.last ?? .min, history.times[event])) }
    }
    let split = Prequential(times: times, count: order.count, warmupFraction: warmup, block: block)
    if !split.warmup.isEmpty { run.learn(history: Array(order[split.warmup]), validation: nil) }
    for block in split.blocks {
      let events = order[block]
      // The block is predicted from what came before it: what else its users do in it is not known either.
      var known: [Int32: Int] = [:]
      for event in events { known[history.users[event]] = min(event, known[history.users[event]] ?? event) }
      let cases = events.map { event in
        let user = history.users[event]
        return RankingCase(target: event, past: history.offsets[Int(user)]..<(known[user] ?? event))
      }
      run.score(cases, part: 0)
      run.learn(stream: events)
    }
    run.flush()
  }
}

/// Each file is a period, and what came before it has been learned; the first one is the history from before going live.
struct PeriodsReplay {
  let data: BacktestData
  /// The share of users that are never learned from.
  let heldOut: Double

  func run(_ run: inout some ReplayedRun) throws(BacktestError) {
    let history = data.history
    let order = history.chronologicalOrder().map { Int($0) }
    let periodOf = history.periods()
    let periods = Periods(users: history.users, items: history.items, periods: periodOf)
    guard periods.count > 1 else { throw BacktestError(.data, "periods need at least two files of interactions") }
    var events = [[Int]](repeating: [], count: periods.count)
    for event in order where !isHeldOut(history.users[event]) { events[Int(periodOf[event])].append(event) }

    var heldOutCases: [[RankingCase]] = [[]]
    run.learn(history: events[0], validation: nil)
    for period in 1..<periods.count {
      let cases = cases(periods.tests(period), period: period, periodOf)
      run.score(cases, part: period)
      run.learn(stream: events[period])
      run.flush()
      heldOutCases.append(cases.filter { isHeldOut(history.users[$0.target]) })
      run.scoreHeldOut(heldOutCases[period], part: period, isFinal: false)
    }
    for period in heldOutCases.indices { run.scoreHeldOut(heldOutCases[period], part: period, isFinal: true) }
  }

  private func cases(_ tests: Periods.Tests, period: Int, _ periodOf: [Int32]) -> [RankingCase] {
    var result: [RankingCase] = []
    result.reserveCapacity(tests.caseCount)
    for (start, end) in zip(tests.offsets, tests.offsets.dropFirst()) {
      let first = data.history.offsets[Int(data.history.users[tests.events[start]])]
      var past = first..<first
      while periodOf[past.upperBound] < period { past = first..<past.upperBound + 1 }
      for index in start + 1..<end {
        result.append(RankingCase(target: tests.events[index], past: past, recent: tests.events[start..<index]))
      }
    }
    return result
  }

  /// The same users in every run.
  private func isHeldOut(_ user: Int32) -> Bool {
    var random = Xoshiro256(seed: UInt64(user))
    return Double(random.next() >> 11) * 0x1p-53 < heldOut
  }
}
