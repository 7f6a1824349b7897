#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The rates of some repeats of the same work.
struct Measurement {
  /// Units of work a second, one for each repeat.
  fileprivate var rates: [Double] = []
  fileprivate var elapsed = 0.0
  fileprivate var onCore = 0.0

  var median: Double { rates.isEmpty ? 0 : rates.sorted()[rates.count / 2] }
  var best: Double { rates.max() ?? 0 }

  /// The median of how many times as fast this was as other work by turns with it, repeat by repeat.
  func ratio(to other: Measurement) -> Double {
    let ratios = zip(rates, other.rates).map { $0 / $1 }.sorted()
    return ratios.isEmpty ? 0 : ratios[ratios.count / 2]
  }

  /// CPU time over elapsed time: below 1 when the thread had to share its core.
  var coreShare: Double { elapsed > 0 ? onCore / elapsed : 0 }
}

/// Repeats work on the calling thread, warm, and times it.
struct Timer {
  enum Clock: String {
    case wall
    /// The thread's own CPU time, for a machine that has other work to do.
    case cpu
  }

  /// One piece of work that is called again and again.
  struct Work {
    /// What one call does, in the unit of the rate.
    var units: Double
    var body: () throws -> Void
  }

  let clock: Clock
  /// An odd number, so that the median is one of them.
  var repeats = 7
  /// How long a repeat lasts, about.
  var seconds = 0.5

  func callAsFunction(units: Int, _ body: @escaping () throws -> Void) throws -> Measurement {
    try interleaved([Work(units: Double(units), body: body)])[0]
  }

  /// Several pieces of work by turns, so that what disturbs the machine disturbs all alike.
  func interleaved(_ works: [Work]) throws -> [Measurement] {
    let calls = try works.map { work in
      try work.body()
      let start = now
      try work.body()
      try work.body()
      return max(1, Int(seconds * 2 / max(now - start, 1e-9)))
    }
    var result = works.map { _ in Measurement() }
    for _ in 0..<repeats {
      for (index, work) in works.enumerated() {
        let (wall, cpu) = (read(.wall), read(.cpu))
        for _ in 0..<calls[index] { try work.body() }
        let (elapsed, onCore) = (read(.wall) - wall, read(.cpu) - cpu)
        result[index].rates.append(work.units * Double(calls[index]) / (clock == .wall ? elapsed : onCore))
        result[index].elapsed += elapsed
        result[index].onCore += onCore
      }
    }
    return result
  }

  /// The seconds that each of many calls takes, in rising order.
  func latencies(count: Int, _ body: (Int) throws -> Void) rethrows -> [Double] {
    for index in 0..<max(3, count / 20) { try body(index) }
    var result: [Double] = []
    for index in 0..<count {
      let start = now
      try body(index)
      result.append(now - start)
    }
    return result.sorted()
  }

  /// Seconds by the chosen clock, from no particular start.
  private var now: Double { read(clock) }

  private func read(_ clock: Clock) -> Double {
    var time = timespec()
    clock_gettime(clock == .wall ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }
}
