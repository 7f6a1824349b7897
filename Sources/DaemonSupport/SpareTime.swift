/// What others leave over, but a tenth of a core at least while there is work: the thread counts as idle (`SCHED_IDLE`), so that the kernel takes its
/// core as free when another thread wakes up, and has a low priority instead while it has got less than its tenth.
///
/// One thread owns it. Where limits do not let it come back from being idle, its priority is low throughout.
public struct SpareTime {
  /// Whether this process's threads may come back from being idle (`RLIMIT_NICE` of 10, or the capability).
  private let isAllowed: Bool
  private var isIdle = false
  private var start = ContinuousClock.now
  private var processorTime = threadProcessorTime()
  /// How much of its tenth the thread has not got yet.
  private var owed = Duration.zero
  /// More than this makes the thread's priority low.
  private static let tolerated = Duration.milliseconds(20)
  /// What it did not get long ago is forgotten.
  private static let greatestOwed = Duration.seconds(5)

  /// Gives the calling thread its priority.
  public init() {
    isAllowed = Self.mayComeBack()
    takePriority(.low)
    if isAllowed { isIdle = takePriority(.idle) }
  }

  /// Tried by a thread that then ends, since one that may not come back stays idle.
  private static func mayComeBack() -> Bool {
    let came = Monitor(false)
    let thread = try? DedicatedThread(name: "priority") {
      takePriority(.low)
      came.change { $0 = takePriority(.idle) && takePriority(.low) }
    }
    // Where no core is left, an idle thread may take for ever.
    _ = try? thread?.join(timeout: .seconds(2))
    return came.read(\.self)
  }

  /// Work begins.
  public mutating func begin() { (start, processorTime) = (.now, threadProcessorTime()) }

  /// Work ends that began with ``begin()``.
  ///
  /// - Returns: whether the thread's priority is another now, which threads that it made before do not have.
  public mutating func end() -> Bool {
    account(took: .now - start, got: threadProcessorTime() - processorTime)
    let wanted = isAllowed && (isIdle ? owed <= Self.tolerated : owed == .zero)
    guard wanted != isIdle else { return false }
    guard takePriority(wanted ? .idle : .low) else { return false }
    isIdle = wanted
    return true
  }

  private mutating func account(took: Duration, got: Duration) {
    owed = min(max(.zero, owed + took / 10 - got), Self.greatestOwed)
  }
}
