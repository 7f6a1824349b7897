#if canImport(Glibc)
  import Glibc
#endif

/// Tunes the C library's heap for a daemon of few threads beside other programs.
public enum HeapTuning {
  /// Large blocks go back to the system when they are freed, and memory does not scatter over an arena for each thread. Call it first.
  public static func keepSmall() {
    #if canImport(Glibc)
      // Glibc's module hides mallopt, so it is looked up; M_TRIM_THRESHOLD, M_MMAP_THRESHOLD and M_ARENA_MAX are of malloc.h.
      typealias Option = @convention(c) (Int32, Int32) -> Int32
      guard let symbol = dlsym(nil, "mallopt") else { return }
      let setOption = unsafeBitCast(symbol, to: Option.self)
      for (name, value) in [(-1, 8 << 20), (-3, 1 << 20), (-8, 2)] as [(Int32, Int32)] { _ = setOption(name, value) }
    #endif
  }
}
