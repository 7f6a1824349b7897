import CVectorKernels

/// With which instructions the kernels in C run: the same code, compiled for each.
public enum VectorInstructions: CaseIterable, Sendable {
  /// AVX2 and FMA on x86-64, NEON on arm64.
  case floor
  case avx512

  /// Of the machine.
  public static let best: VectorInstructions = vector_best() == VECTOR_AVX512 ? .avx512 : .floor

  var code: vector_instructions { self == .avx512 ? VECTOR_AVX512 : VECTOR_FLOOR }
}
