/// Eight floats: one AVX register on x86-64-v3, two NEON registers on arm64.
typealias Vector = SIMD8<Float>
typealias Floats = UnsafeMutablePointer<Float>

/// Calls `body(index, lanes)` for each whole vector, then once for what is left; after inlining, `lanes` is the constant 8 in the loop.
@inline(__always)
func forEachVector(_ count: Int, _ body: (_ index: Int, _ lanes: Int) -> Void) {
  var index = 0
  while index &+ 8 <= count {
    body(index, 8)
    index &+= 8
  }
  if index < count { body(index, count &- index) }
}

@inline(__always)
func load(_ source: Floats, _ index: Int, _ lanes: Int = 8) -> Vector {
  if lanes == 8 { return UnsafeRawPointer(source + index).loadUnaligned(as: Vector.self) }
  var result = Vector.zero
  for lane in 0..<lanes { result[lane] = source[index &+ lane] }
  return result
}

@inline(__always)
func store(_ value: Vector, _ target: Floats, _ index: Int, _ lanes: Int = 8) {
  if lanes == 8 {
    UnsafeMutableRawPointer(target + index).storeBytes(of: value, as: Vector.self)
  } else {
    for lane in 0..<lanes { target[index &+ lane] = value[lane] }
  }
}

extension SIMD8<Float> {
  @inline(__always) init(all value: Float) { self.init(repeating: value) }

  /// self + a·b, fused.
  @inline(__always)
  func adding(_ a: Vector, times b: Vector) -> Vector { addingProduct(a, b) }

  // The standard library's lane-wise comparisons and `pointwiseMax` go lane by lane through memory here; the sign of a difference, spread
  // over the lane, is a mask in two instructions.

  /// All bits set in the lanes where self < other; a NaN gives an arbitrary mask.
  @inline(__always)
  func isLess(than other: Vector) -> SIMD8<Int32> { unsafeBitCast(self - other, to: SIMD8<Int32>.self) &>> 31 }

  @inline(__always)
  var total: Float {
    let four = lowHalf + highHalf
    let two = four.lowHalf + four.highHalf
    return two.x + two.y
  }
}

extension SIMD8<Int32> {
  /// `a` in the lanes whose bits are all set, `b` in those whose bits are all clear.
  @inline(__always)
  func choose(_ a: Vector, _ b: Vector) -> Vector {
    unsafeBitCast((unsafeBitCast(a, to: Self.self) & self) | (unsafeBitCast(b, to: Self.self) & ~self), to: Vector.self)
  }
}

/// Adding 1.5·2²³ rounds to the nearest integer and leaves it in the low bits, for |x| < 2²².
private let roundingShift = Vector(all: 12_582_912)

/// x rounded to the nearest integer, of two the even one; |x| < 2²².
@inline(__always)
func nearestInteger(_ x: Vector) -> (value: Vector, integer: SIMD8<Int32>) {
  let shifted = x + roundingShift
  return (shifted - roundingShift, unsafeBitCast(shifted, to: SIMD8<Int32>.self) &- unsafeBitCast(roundingShift, to: SIMD8<Int32>.self))
}

/// The same numbers; |x| < 2²².
@inline(__always)
func convertedToFloat(_ x: SIMD8<Int32>) -> Vector {
  unsafeBitCast(x &+ unsafeBitCast(roundingShift, to: SIMD8<Int32>.self), to: Vector.self) - roundingShift
}

/// log(1 + x) for x ≥ 0, with an absolute error under 2e-7; the polynomial of Cephes' `logf`.
@inline(__always)
public func logarithmOfOnePlus(_ x: SIMD8<Float>) -> SIMD8<Float> {
  let y = x + 1
  // y = 2ⁿ·m, m in √½ … √2.
  let bits = unsafeBitCast(y, to: SIMD8<Int32>.self)
  let n = (bits &- 0x3F35_04F3) &>> 23
  let m = unsafeBitCast(bits &- (n &<< 23), to: Vector.self)
  let exponent = convertedToFloat(n)
  let r = m - 1
  let square = r * r
  var p = Vector(all: 7.037_683_6e-2)
  p = Vector(all: -1.151_461_03e-1).adding(p, times: r)
  p = Vector(all: 1.167_699_87e-1).adding(p, times: r)
  p = Vector(all: -1.242_014_08e-1).adding(p, times: r)
  p = Vector(all: 1.424_932_28e-1).adding(p, times: r)
  p = Vector(all: -1.666_805_77e-1).adding(p, times: r)
  p = Vector(all: 2.000_071_48e-1).adding(p, times: r)
  p = Vector(all: -2.499_999_37e-1).adding(p, times: r)
  p = Vector(all: 3.333_333_12e-1).adding(p, times: r)
  p = p * r * square
  p = p.adding(exponent, times: Vector(all: -2.121_944_4e-4))
  p = p.adding(square, times: Vector(all: -0.5))
  return (r + p).adding(exponent, times: Vector(all: 0.693_359_375))
}

@inline(__always)
func dot(_ a: Floats, _ b: Floats, _ count: Int) -> Float {
  var first = Vector.zero
  var second = Vector.zero
  var index = 0
  while index &+ 16 <= count {
    first = first.adding(load(a, index), times: load(b, index))
    second = second.adding(load(a, index &+ 8), times: load(b, index &+ 8))
    index &+= 16
  }
  forEachVector(count &- index) { i, lanes in
    first = first.adding(load(a, index &+ i, lanes), times: load(b, index &+ i, lanes))
  }
  return (first + second).total
}

/// y += factor·x.
@inline(__always)
func accumulate(_ y: Floats, _ factor: Float, _ x: Floats, _ count: Int) {
  let all = Vector(all: factor)
  forEachVector(count) { i, lanes in
    store(load(y, i, lanes).adding(all, times: load(x, i, lanes)), y, i, lanes)
  }
}
