@testable import Recommender

/// `threads`: what a second thread adds to training and ranking, by turns; by the wall clock, so the machine needs two cores of its own.
func threadBenchmarks(_ report: Report) throws {
  let timer = Timer(clock: .wall)
  let data = TrainingData.full(sequences: 1024, length: 50, itemCount: 12_000)
  let training = [1, 2].map { TrainingRun(data, batchSize: 128, negatives: 4, crossEntropyWeight: 1, threads: $0) }
  let ranking = try [1, 2].map { try RankingRun(itemCount: 100_000, threads: $0) }
  try ratio("train.two_threads", timer.interleaved(training.map { run in Timer.Work(units: 128) { try run.step() } }), report)
  try ratio(
    "rank.two_threads",
    timer.interleaved(ranking.map { run in Timer.Work(units: Double(run.requests.count)) { try run.rank(run.requests[...]) } }), report)
}

private func ratio(_ name: String, _ results: [Measurement], _ report: Report) {
  report.add(name, results[1].median / results[0].median, unit: "of one")
}

/// `curves`: how the cost grows with the catalogue, the length of the sequences and the users; one core.
func curveBenchmarks(_ timer: Timer, _ report: Report) throws {
  for items in [10_000, 30_000, 100_000, 300_000, 1_000_000] {
    let run = try RankingRun(itemCount: items)
    report.add(
      "curve.rank.items.\(items)", try timer(units: run.requests.count) { try run.rank(run.requests[...]) }, unit: "users/s")
  }
  for length in [10, 20, 50, 100, 200] {
    let run = try RankingRun(itemCount: 100_000, contextLength: length)
    report.add(
      "curve.rank.length.\(length)", try timer(units: run.requests.count) { try run.rank(run.requests[...]) }, unit: "users/s")
  }
  for length in [10, 20, 50, 100, 200] {
    let data = TrainingData.full(sequences: 512, length: length, itemCount: 12_000)
    let run = TrainingRun(data, batchSize: 64, negatives: 4, crossEntropyWeight: 0, maximumLength: length)
    report.add("curve.train.length.\(length)", try timer(units: 64) { try run.step() }, unit: "sequences/s")
  }
  for items in [10_000, 100_000, 1_000_000] {
    let data = TrainingData.full(sequences: 512, length: 50, itemCount: items)
    let run = TrainingRun(data, batchSize: 64, negatives: 4, crossEntropyWeight: 1)
    report.add("curve.train.items.\(items)", try timer(units: 64) { try run.step() }, unit: "sequences/s")
  }
  let store = try StoreRun()
  for users in [10_000, 20_000, 50_000, 100_000, 200_000] {
    let new = users - store.userCount
    let elapsed = try ContinuousClock().measure { try store.appendUsers(new) }
    report.add("curve.store.users.\(users)", Double(new * store.eventsPerUser) / (elapsed / .seconds(1)), unit: "events/s")
  }
}
