import Foundation
import Testing

/// Tests of the built daemon as a process, against a real broker. They run one after the other: each has the machine to itself.
@Suite(.serialized, .timeLimit(.minutes(isTorture ? 24 * 60 : 30))) struct DaemonProcessTests {}

/// `make torture` does in thousands what the tests do in tens.
private let isTorture = ProcessInfo.processInfo.environment["RODPOD_TORTURE_KILLS"] != nil

/// Where random faults begin: the tests repeat theirs, `make torture` finds new ones, and RODPOD_TORTURE_SEED names one to run again.
func tortureSeed(of fault: String) -> UInt64 {
  let given = ProcessInfo.processInfo.environment["RODPOD_TORTURE_SEED"].flatMap { UInt64($0) }
  let seed = given ?? (isTorture ? .random(in: 0...UInt64.max) : 20_260_329)
  print("the seed of \(fault) is \(seed) (RODPOD_TORTURE_SEED)")
  return seed
}
