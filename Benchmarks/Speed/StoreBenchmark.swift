import StateStore

/// `store`: how much of the disk a million users take, each with 50 interactions and a pool, beside the catalogue and the journal's window.
///
/// What users take grows with their number, page by page, and the rest stays: so some are written, then as many again, and the line through
/// both is followed to a million. Writing them all gave the same within one per cent, for 40 GB of writes.
func storeBenchmark(_ report: Report) throws {
  let run = try StoreRun()
  let users = 50_000
  let million = 1_000_000.0
  var elapsed = Duration.zero
  var usedBytes: [(withoutPools: Int, all: Int)] = []
  for _ in 0..<2 {
    elapsed += try ContinuousClock().measure { try run.appendUsers(users) }
    let withoutPools = try run.store.info()
    try run.putPools(users)
    let all = try run.store.info()
    usedBytes.append((withoutPools.usedBytes - withoutPools.freeBytes, all.usedBytes - all.freeBytes))
  }
  try run.checkContents()
  let (first, second) = (usedBytes[0], usedBytes[1])
  let each = Double(second.all - first.all) / Double(users)
  let pools = Double(first.all - first.withoutPools + second.all - second.withoutPools) / Double(2 * users)
  let shared = Double(second.all) - each * Double(2 * users)
  report.add("store.append.events_per_second", Double(run.userCount * run.eventsPerUser) / (elapsed / .seconds(1)), unit: "events/s")
  report.add("store.bytes_per_user", each + shared / million, unit: "bytes")
  report.add("store.bytes_per_user.of_pool", pools, unit: "bytes")
  report.add("store.bytes_shared", shared, unit: "bytes")
}
