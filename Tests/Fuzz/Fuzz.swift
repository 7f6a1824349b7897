import Foundation

/// What libFuzzer calls. `RODPOD_FUZZ_TARGET` names what is fed; `RODPOD_FUZZ_SEEDS` a folder that gets true inputs to begin with.
/// A crash, a hang, a leak or a broken promise (`fatalError`) is a finding.

private let target: FuzzTarget = {
  let name = ProcessInfo.processInfo.environment["RODPOD_FUZZ_TARGET"] ?? ""
  guard let target = fuzzTargets[name] else {
    fatalError("RODPOD_FUZZ_TARGET is one of \(fuzzTargets.keys.sorted().joined(separator: ", "))")
  }
  return target
}()

@_cdecl("LLVMFuzzerInitialize") public func initialize(_ count: UnsafeMutablePointer<CInt>?, _ arguments: UnsafeMutableRawPointer?) -> CInt {
  guard let folder = ProcessInfo.processInfo.environment["RODPOD_FUZZ_SEEDS"] else { return 0 }
  for (number, seed) in target.seeds().enumerated() {
    do {
      try Data(seed).write(to: URL(filePath: folder).appending(path: "seed-\(number)"))
    } catch {
      fatalError("a seed can't be written: \(error)")
    }
  }
  return 0
}

@_cdecl("LLVMFuzzerTestOneInput") public func testOneInput(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
  target.feed(Array(UnsafeBufferPointer(start: data, count: size)))
  return 0
}
