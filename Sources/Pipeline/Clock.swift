#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Milliseconds since 1970 by the system's clock.
func millisecondsSince1970() -> Int64 {
  var time = timespec()
  clock_gettime(CLOCK_REALTIME, &time)
  return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
}
