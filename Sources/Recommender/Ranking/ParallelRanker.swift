import Kernels

/// Ranks a batch of users in as many parts at once as there are threads, each by a ``TopKRanker`` of its own. One thread calls it.
public final class ParallelRanker {
  private let workers: WorkerThreads
  private let parts: [Part]

  /// One worker's memory.
  private final class Part: @unchecked Sendable {
    // @unchecked: only its worker touches it, and the caller when no work is under way.
    let ranker = TopKRanker()
    var lists: [[RankedItem]] = []
  }

  /// - Parameter threads: the caller's is the first of them.
  public convenience init(threads: Int) { self.init(workers: WorkerThreads(count: threads)) }

  /// - Parameter workers: of the caller's thread, which has other work for them, too.
  init(workers: WorkerThreads) {
    self.workers = workers
    parts = (0..<workers.count).map { _ in Part() }
  }

  /// Ends the threads. No ranking may be under way.
  public func stop() { workers.stop() }

  /// As ``TopKRanker/rank(_:count:snapshot:lookup:)``.
  public func rank(
    _ requests: [RankingRequest], count: Int, snapshot: ModelSnapshot, lookup: @escaping @Sendable (ItemNumber) -> Int32?
  ) -> [[RankedItem]] {
    workers.run { [parts, workers] index in
      let range = workers.share(index, of: requests.count)
      parts[index].lists = parts[index].ranker.rank(Array(requests[range]), count: count, snapshot: snapshot, lookup: lookup)
    }
    return parts.flatMap(\.lists)
  }
}
