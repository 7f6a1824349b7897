import Kernels
@testable import Recommender

/// `rank`: the exact top 100 of the whole catalogue after 50 interactions, unavailable items and a user's own left out; one core.
func rankingBenchmarks(_ timer: Timer, _ report: Report, _ machine: Machine) throws {
  let small = try RankingRun(itemCount: 100_000)
  report.add("rank.recall.100k", try small.recall(users: 8), unit: "of the top")
  report.add(
    "rank.batch.users_per_second.100k", try timer(units: small.requests.count) { try small.rank(small.requests[...]) }, unit: "users/s")
  report.add(
    "rank.encode.users_per_second", try timer(units: small.requests.count) { try small.encode() }, unit: "users/s")
  let latencies = try timer.latencies(count: 2000) { index in
    let user = index % small.requests.count
    try small.rank(small.requests[user...user])
  }
  report.add("rank.single.latency_us.100k", latencies[latencies.count / 2] * 1e6, unit: "µs (p50)")
  report.add("rank.single.latency_us.100k.p99", latencies[latencies.count * 99 / 100] * 1e6, unit: "µs")
  report.add(
    "rank.single.latency_us.100k.bandwidth_fraction",
    Double(small.vectorBytes) / latencies[latencies.count / 2] / machine.bytesPerSecond, unit: "of reading")
  // As the daemon's default has it; PyTorch's peer knows no such part.
  let counted = try RankingRun(itemCount: 100_000, neighbours: 64)
  report.add(
    "rank.batch.users_per_second.100k.with_neighbourhood",
    try timer(units: counted.requests.count) { try counted.rank(counted.requests[...]) }, unit: "users/s")
  let described = DescribedItems(itemCount: 100_000, dimension: 384)
  report.add(
    "rank.relate.items_per_second.100k", try timer(units: described.relatedTogether) { try described.relate() }, unit: "items/s")

  let large = try RankingRun(itemCount: 1_000_000)
  report.add("rank.recall.1m", try large.recall(users: 2), unit: "of the top")
  let batches = try timer(units: large.requests.count) { try large.rank(large.requests[...]) }
  report.add("rank.batch.users_per_second.1m", batches, unit: "users/s")
  // The item vectors pass by once for each batch.
  report.add(
    "rank.batch.users_per_second.1m.bandwidth_fraction",
    batches.median / Double(large.requests.count) * Double(large.vectorBytes) / machine.bytesPerSecond, unit: "of reading")
  report.add(
    "rank.batch.users_per_second.1m.sgemm_fraction", batches.median * Double(large.vectorBytes) / 2 / machine.operationsPerSecond,
    unit: "of sgemm")
}
