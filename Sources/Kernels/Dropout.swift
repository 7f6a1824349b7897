/// One site's dropout mask, a pure function of (seed, row, column): nothing is stored, the backward pass makes it anew, and a
/// reference policy that is given the same seed sees the same mask.
public struct DropoutMask: Sendable {
  let seed: UInt32
  /// Of 31 random bits: below it a value is zeroed.
  let threshold: Int32
  let factor: Float

  /// - Parameters:
  ///   - rate: the share of values set to zero, in 0 ..< 1; the others are scaled by 1/(1 − rate).
  ///   - seed: another one for each site and step.
  public init(rate: Float, seed: UInt32) {
    precondition(rate >= 0 && rate < 1)
    self.seed = seed
    threshold = Int32(Double(rate) * 2_147_483_648)
    factor = 1 / (1 - rate)
  }

  /// Zeros and scales x in place; applied to a gradient it is its own backward. Row i of x is the mask's row `rows[i]`, or i.
  public func apply(_ x: Matrix, rows: [Int32]? = nil) {
    guard threshold > 0 else { return }
    precondition(rows.map { $0.count == x.rows } ?? true)
    for i in 0..<x.rows {
      let row = x.row(i)
      let start = rows.map { UInt32(bitPattern: $0[i]) } ?? UInt32(truncatingIfNeeded: i)
      // A finaliser over the row alone, then one round for each column.
      var key = (start &* 0x9E37_79B1) ^ seed
      key = (key ^ (key >> 16)) &* 0x7FEB_352D
      key = (key ^ (key >> 15)) &* 0x846C_A68B
      var columns = (SIMD8<UInt32>(0, 1, 2, 3, 4, 5, 6, 7) &* 0x85EB_CA77) &+ (key ^ (key >> 16))
      forEachVector(x.columns) { j, lanes in
        var bits = (columns ^ (columns &>> 15)) &* 0x2C1B_3C6D
        bits = (bits ^ (bits &>> 12)) &* 0x297A_2D39
        columns = columns &+ (8 &* 0x85EB_CA77 as UInt32)
        let random = unsafeBitCast((bits ^ (bits &>> 15)) &>> 1, to: SIMD8<Int32>.self)
        let kept = load(row, j, lanes) * factor
        // The difference is negative below the threshold.
        store(((random &- threshold) &>> 31).choose(Vector.zero, kept), row, j, lanes)
      }
    }
  }
}
