/// A uniform sample of everything learned so far (Vitter's algorithm R): the long-term memory that keeps a sliding window from forgetting.
struct Reservoir: Sendable, Equatable {
  let capacity: Int
  private(set) var examples: [TrainingExample] = []
  /// How many were offered.
  private(set) var seen: UInt64 = 0

  init(capacity: Int, examples: [TrainingExample] = [], seen: UInt64 = 0) {
    self.capacity = capacity
    self.examples = Array(examples.prefix(capacity))
    self.seen = seen
    self.examples.reserveCapacity(capacity)
  }

  mutating func offer(_ example: TrainingExample, using random: inout Xoshiro256) {
    guard capacity > 0 else { return }
    seen += 1
    var kept = example
    // A pool is of its moment; a replayed example gets a fresh one.
    kept.pool = []
    if examples.count < capacity {
      examples.append(kept)
    } else {
      let slot = random.next(upperBound: seen)
      if slot < UInt64(capacity) { examples[Int(slot)] = kept }
    }
  }

  /// A draw with replacement.
  func draw(_ count: Int, using random: inout Xoshiro256) -> [TrainingExample] {
    guard !examples.isEmpty else { return [] }
    return (0..<count).map { _ in examples[random.next(below: examples.count)] }
  }

  mutating func forget(user: UInt64) { examples.removeAll { $0.user == user } }
}
