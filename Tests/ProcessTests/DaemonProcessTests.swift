import Foundation
import Testing

/// Tests of the built daemon as a process, against a real broker. They run one after the other: each has the machine to itself.
@Suite(.serialized, .timeLimit(.minutes(isTorture ? 24 * 60 : 30))) struct DaemonProcessTests {}

/// `make torture` does in thousands what the tests do in tens.
private let isTorture = ProcessInfo.processInfo.environment["RODPOD_TORTURE_KILLS"] != nil
