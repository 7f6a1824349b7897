/// Something that reads bytes which it did not write.
struct FuzzTarget: Sendable {
  /// True inputs, from which the fuzzer goes on.
  var seeds: @Sendable () -> [[UInt8]]
  var feed: @Sendable ([UInt8]) -> Void
}

let fuzzTargets: [String: FuzzTarget] = [
  "interactions": interactionTarget, "items": itemTarget, "settings": settingsTarget, "records": recordTarget, "checkpoint": checkpointTarget,
  "http": httpTarget,
]

/// A broken promise is a finding.
func promise(_ condition: Bool, _ what: @autoclosure () -> String) {
  if !condition { fatalError(what()) }
}
