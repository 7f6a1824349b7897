import CoreMetrics
import Synchronization

/// A count of whole things.
final class IntegerCounter: CounterHandler, RenderedMetric {
  private let value = Atomic<Int64>(0)

  func increment(by amount: Int64) {
    value.wrappingAdd(amount, ordering: .relaxed)
  }

  func reset() {
    value.store(0, ordering: .relaxed)
  }

  func render(name: String, labels: Labels, into output: inout String) {
    output += "\(name)\(labels.braces()) \(value.load(ordering: .relaxed))\n"
  }
}

/// A count with fractions; what is not finite or negative is left out.
final class FloatingPointCounter: FloatingPointCounterHandler, RenderedMetric {
  private let value = AtomicDouble()

  func increment(by amount: Double) {
    guard amount.isFinite, amount > 0 else { return }
    value.update { $0 + amount }
  }

  func reset() {
    value.store(0)
  }

  func render(name: String, labels: Labels, into output: inout String) {
    output += "\(name)\(labels.braces()) \(prometheusNumber(value.load()))\n"
  }
}

/// A value that goes up and down.
final class Gauge: RecorderHandler, MeterHandler, RenderedMetric {
  private let value = AtomicDouble()

  func record(_ value: Int64) { self.value.store(Double(value)) }
  func record(_ value: Double) { self.value.store(value) }
  func set(_ value: Int64) { self.value.store(Double(value)) }
  func set(_ value: Double) { self.value.store(value) }
  func increment(by amount: Double) { value.update { $0 + amount } }
  func decrement(by amount: Double) { value.update { $0 - amount } }

  func render(name: String, labels: Labels, into output: inout String) {
    output += "\(name)\(labels.braces()) \(prometheusNumber(value.load()))\n"
  }
}

/// How values are spread over fixed buckets.
final class Histogram: TimerHandler, RecorderHandler, RenderedMetric {
  private struct State {
    /// Values in each bucket alone, not cumulative; the last one is +Inf.
    var counts: [UInt64]
    var sum: Double = 0
  }

  /// Upper bounds, inclusive, rising; +Inf is implied.
  private let bounds: [Double]
  private let state: Mutex<State>

  init(buckets: [Double]) {
    bounds = buckets.filter(\.isFinite).sorted()
    state = Mutex(State(counts: Array(repeating: 0, count: bounds.count + 1)))
  }

  func recordNanoseconds(_ duration: Int64) { record(Double(duration) / 1e9) }
  func record(_ value: Int64) { record(Double(value)) }

  func record(_ value: Double) {
    // A value that is no number has no bucket.
    guard !value.isNaN else { return }
    let index = bounds.firstIndex { value <= $0 } ?? bounds.count
    state.withLock {
      $0.counts[index] += 1
      $0.sum += value
    }
  }

  func render(name: String, labels: Labels, into output: inout String) {
    let (counts, sum) = state.withLock { ($0.counts, $0.sum) }
    var cumulative: UInt64 = 0
    for (bound, count) in zip(bounds + [.infinity], counts) {
      cumulative += count
      output += "\(name)_bucket\(labels.braces(adding: "le=\"\(prometheusNumber(bound))\"")) \(cumulative)\n"
    }
    output += "\(name)_sum\(labels.braces()) \(prometheusNumber(sum))\n"
    output += "\(name)_count\(labels.braces()) \(cumulative)\n"
  }
}

/// A `Double` that several threads may change.
private final class AtomicDouble: Sendable {
  private let bits = Atomic<UInt64>(Double.zero.bitPattern)

  func load() -> Double { Double(bitPattern: bits.load(ordering: .relaxed)) }

  func store(_ value: Double) { bits.store(value.bitPattern, ordering: .relaxed) }

  func update(_ change: (Double) -> Double) {
    var old = bits.load(ordering: .relaxed)
    while true {
      let new = change(Double(bitPattern: old)).bitPattern
      let (exchanged, seen) = bits.weakCompareExchange(expected: old, desired: new, ordering: .relaxed)
      if exchanged { return }
      old = seen
    }
  }
}
