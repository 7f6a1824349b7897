/// xoshiro256** (Blackman and Vigna, 2018): small, fast, and its whole state can be saved, so that a restart continues exactly.
public struct Xoshiro256: RandomNumberGenerator, Sendable, Equatable {
  private var s: SIMD4<UInt64>

  public init(seed: UInt64) {
    var x = seed
    s = .zero
    for word in 0..<4 {
      x &+= 0x9E37_79B9_7F4A_7C15
      var z = x
      z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
      z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
      s[word] = z ^ (z >> 31)
    }
  }

  /// - Parameter state: four words as ``state`` gave them; nil when they are not a state.
  public init?(state: [UInt64]) {
    guard state.count == 4, state.contains(where: { $0 != 0 }) else { return nil }
    s = SIMD4(state[0], state[1], state[2], state[3])
  }

  /// The four words of the state.
  public var state: [UInt64] { [s.x, s.y, s.z, s.w] }

  public mutating func next() -> UInt64 {
    func rotate(_ x: UInt64, _ k: UInt64) -> UInt64 { (x << k) | (x >> (64 - k)) }
    let result = rotate(s.y &* 5, 7) &* 9
    let t = s.y << 17
    s.z ^= s.x
    s.w ^= s.y
    s.y ^= s.z
    s.x ^= s.w
    s.z ^= t
    s.w = rotate(s.w, 45)
    return result
  }

  /// Uniform in 0 ..< bound.
  mutating func next(below bound: Int) -> Int { Int(next(upperBound: UInt64(bound))) }

  /// Uniform in [0, 1), with 53 bits.
  mutating func nextUnit() -> Double { Double(next() >> 11) * 0x1p-53 }

  /// Standard normal, as the sum of twelve uniforms less six: enough for initial values and router noise, and no logarithms.
  mutating func nextNormal() -> Float {
    var sum = 0.0
    for _ in 0..<12 { sum += nextUnit() }
    return Float(sum - 6)
  }
}
