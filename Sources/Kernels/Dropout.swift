/// One site's dropout mask, a pure function of (seed, row, column): nothing is stored, the backward pass makes it anew, and a
/// reference policy that is given the same seed sees the same mask.
public struct DropoutMask: Sendable {
  let seed: UInt32
  let threshold: UInt32
  let factor: Float

  /// - Parameters:
  ///   - rate: the share of values set to zero, in 0 ..< 1; the others are scaled by 1/(1 − rate).
  ///   - seed: another one for each site and step.
  public init(rate: Float, seed: UInt32) {
    precondition(rate >= 0 && rate < 1)
    self.seed = seed
    threshold = UInt32(Double(rate) * 4_294_967_296)
    factor = 1 / (1 - rate)
  }

  /// Zeros and scales x in place; applied to a gradient it is its own backward. Row i of x is the mask's row `rows[i]`, or i.
  public func apply(_ x: Matrix, rows: [Int32]? = nil) {
    guard threshold > 0 else { return }
    precondition(rows.map { $0.count == x.rows } ?? true)
    for i in 0..<x.rows {
      let row = x.row(i)
      let start = rows.map { UInt32(bitPattern: $0[i]) } ?? UInt32(truncatingIfNeeded: i)
      let key = (start &* 0x9E37_79B1) ^ seed
      forEachVector(x.columns) { j, lanes in
        let columns = SIMD8<UInt32>(0, 1, 2, 3, 4, 5, 6, 7) &+ UInt32(truncatingIfNeeded: j)
        var bits = (columns &* 0x85EB_CA77) ^ key
        bits = (bits ^ (bits &>> 16)) &* 0x7FEB_352D
        bits = (bits ^ (bits &>> 15)) &* 0x846C_A68B
        bits = bits ^ (bits &>> 16)
        let kept = load(row, j, lanes) * factor
        store(kept.replacing(with: Vector.zero, where: bits .< threshold), row, j, lanes)
      }
    }
  }
}
