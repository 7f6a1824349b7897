// The only file of this module that hands pointers to C.
import Glibc

/// A C call that failed.
public struct SystemError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The call's name.
  public var call: String
  /// Its `errno`, or the number that it returned.
  public var number: Int32

  public var description: String { "\(call): \(String(cString: strerror(number)))" }
}

/// State under a mutex with a condition on which threads wait, timed by the monotonic clock (`pthread_mutex`, `pthread_cond`).
///
/// Blocks its thread: for dedicated threads, not for Swift's cooperative pool.
///
/// `@unchecked Sendable`: `state` is touched only while the mutex is held, and the two pthread objects live at fixed addresses from
/// `init` to `deinit`.
final class Monitor<State>: @unchecked Sendable {
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var state: State

  init(_ state: sending State) {
    self.state = state
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(condition, &attributes)
    pthread_condattr_destroy(&attributes)
  }

  deinit {
    pthread_cond_destroy(condition)
    pthread_mutex_destroy(mutex)
    condition.deallocate()
    mutex.deallocate()
  }

  /// Reads the state.
  func read<Result>(_ body: (State) -> Result) -> Result {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return body(state)
  }

  /// Changes the state and wakes every waiting thread.
  func change<Result>(_ body: (inout State) -> Result) -> Result {
    pthread_mutex_lock(mutex)
    defer {
      pthread_cond_broadcast(condition)
      pthread_mutex_unlock(mutex)
    }
    return body(&state)
  }

  /// Waits until `isReady`, at most `timeout` (nil: for ever), then changes the state and wakes every waiting thread.
  /// - Returns: nil when the time ran out first; `body` was not called then.
  func change<Result>(when isReady: (State) -> Bool, timeout: Duration?, _ body: (inout State) -> Result) -> Result? {
    var deadline = timespec()
    if let timeout {
      clock_gettime(CLOCK_MONOTONIC, &deadline)
      let (seconds, attoseconds) = max(timeout, .zero).components
      // A year is for ever here, and keeps the sum in range.
      deadline.tv_sec += Int(min(seconds, 31_536_000))
      deadline.tv_nsec += Int(attoseconds / 1_000_000_000)
      if deadline.tv_nsec >= 1_000_000_000 {
        deadline.tv_sec += 1
        deadline.tv_nsec -= 1_000_000_000
      }
    }
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    while !isReady(state) {
      if timeout == nil {
        pthread_cond_wait(condition, mutex)
      } else if pthread_cond_timedwait(condition, mutex, &deadline) == ETIMEDOUT {
        guard isReady(state) else { return nil }
      }
    }
    defer { pthread_cond_broadcast(condition) }
    return body(&state)
  }
}

/// The time on the clock that never goes back (CLOCK_MONOTONIC), which systemd uses too.
func monotonicNow() -> Duration { now(CLOCK_MONOTONIC) }

/// The time since the machine was started, suspensions included.
func timeSinceBoot() -> Duration { now(CLOCK_BOOTTIME) }

/// The processor time that the calling thread has had.
public func threadProcessorTime() -> Duration { now(CLOCK_THREAD_CPUTIME_ID) }

private func now(_ clock: clockid_t) -> Duration {
  var time = timespec()
  clock_gettime(clock, &time)
  return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
}

#if os(Linux)
  /// `SCHED_IDLE` of <linux/sched.h>, which Glibc's module hides.
  private let schedIdle: Int32 = 5
#endif

/// Gives the calling thread, and those that it makes, a priority. On Linux niceness and policy are a thread's; elsewhere they are the process's,
/// and nothing is changed.
///
/// - Returns: whether it has it now: limits may forbid it.
@discardableResult
func takePriority(_ priority: ThreadPriority) -> Bool {
  #if os(Linux)
    var parameters = sched_param()
    switch priority {
    case .normal: return true
    case .low:
      // Of the thread, though the manual speaks of a process (sched_setscheduler(2)).
      return setpriority(__priority_which_t(UInt32(PRIO_PROCESS.rawValue)), 0, 10) == 0 && sched_setscheduler(0, SCHED_OTHER, &parameters) == 0
    case .idle: return sched_setscheduler(0, schedIdle, &parameters) == 0
    }
  #else
    return false
  #endif
}

/// Starts a detached thread that runs `body`, under a name of which the kernel keeps 15 bytes.
func startThread(name: String, stackBytes: Int, _ body: @escaping @Sendable () -> Void) throws(SystemError) {
  final class Start {
    let name: String
    let body: @Sendable () -> Void
    init(name: String, body: @escaping @Sendable () -> Void) {
      self.name = name
      self.body = body
    }
  }
  var attributes = pthread_attr_t()
  pthread_attr_init(&attributes)
  defer { pthread_attr_destroy(&attributes) }
  pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
  let sized = pthread_attr_setstacksize(&attributes, stackBytes)
  guard sized == 0 else { throw SystemError(call: "pthread_attr_setstacksize", number: sized) }

  let start = Unmanaged.passRetained(Start(name: name, body: body))
  var thread = pthread_t()
  let created = pthread_create(
    &thread, &attributes,
    { argument in
      guard let argument else { return nil }
      let start = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
      nameCurrentThread(start.name)
      start.body()
      return nil
    }, start.toOpaque())
  guard created == 0 else {
    start.release()
    throw SystemError(call: "pthread_create", number: created)
  }
}

/// Names the calling thread. Glibc's module hides pthread_setname_np; the kernel takes the same name here (proc(5)).
private func nameCurrentThread(_ name: String) {
  let file = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
  guard file >= 0 else { return }
  writeAll(Array(name.utf8.prefix(15)), to: file)
  close(file)
}

/// Writes all bytes to a file descriptor; gives up quietly when it cannot, as a logger must.
func writeAll(_ bytes: [UInt8], to descriptor: Int32) {
  bytes.withUnsafeBytes { buffer in
    var rest = buffer[...]
    while !rest.isEmpty {
      let written = write(descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
      if written < 0 && errno == EINTR { continue }
      guard written > 0 else { return }
      rest = rest.dropFirst(written)
    }
  }
}

/// The device and inode of an open file, as `$JOURNAL_STREAM` writes them.
func deviceAndInode(of descriptor: Int32) -> String? {
  var status = stat()
  guard fstat(descriptor, &status) == 0 else { return nil }
  return "\(status.st_dev):\(status.st_ino)"
}

/// A Unix datagram socket that sends to one address.
///
/// It holds nothing that changes, and `sendto` may be called from any thread.
final class DatagramSocket: Sendable {
  private let descriptor: Int32
  private let path: String

  /// - Parameter path: a file system path, or `@name` for Linux's abstract namespace.
  init(path: String) throws(SystemError) {
    guard path.utf8.count < DatagramSocket.pathCapacity else { throw SystemError(call: "sockaddr_un", number: ENAMETOOLONG) }
    self.path = path
    descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw SystemError(call: "socket", number: errno) }
  }

  deinit { close(descriptor) }

  /// Sends one datagram.
  func send(_ bytes: [UInt8]) throws(SystemError) {
    let sent = withAddress { address, length in
      retryingInterrupts { sendto(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL), address, length) }
    }
    guard sent >= 0 else { throw SystemError(call: "sendto", number: errno) }
  }

  /// Sends an empty datagram that carries the bytes in a sealed memory file, as journald takes what is too large for a datagram.
  func sendAsMemoryFile(_ bytes: [UInt8]) throws(SystemError) {
    // Glibc's module hides memfd_create, so it is looked up. Flags: MFD_CLOEXEC and MFD_ALLOW_SEALING (linux/memfd.h).
    typealias MemoryFileCreate = @convention(c) (UnsafePointer<CChar>, UInt32) -> Int32
    guard let symbol = dlsym(nil, "memfd_create") else { throw SystemError(call: "memfd_create", number: ENOSYS) }
    let file = unsafeBitCast(symbol, to: MemoryFileCreate.self)("message", 1 | 2)
    guard file >= 0 else { throw SystemError(call: "memfd_create", number: errno) }
    defer { close(file) }
    writeAll(bytes, to: file)
    // F_ADD_SEALS with F_SEAL_SEAL, SHRINK, GROW and WRITE (linux/fcntl.h): journald trusts only a file that can no longer change.
    guard fcntl(file, 1033, 0xF) == 0 else { throw SystemError(call: "fcntl", number: errno) }

    // One struct cmsghdr (length, level, type), then the descriptor: the CMSG_ macros are not visible from Swift.
    let headerBytes = MemoryLayout<cmsghdr>.size
    let sent = withUnsafeTemporaryAllocation(byteCount: headerBytes + 8, alignment: MemoryLayout<cmsghdr>.alignment) { control in
      control.initializeMemory(as: UInt8.self, repeating: 0)
      control.storeBytes(of: headerBytes + MemoryLayout<Int32>.size, as: Int.self)
      control.storeBytes(of: SOL_SOCKET, toByteOffset: 8, as: Int32.self)
      control.storeBytes(of: Int32(SCM_RIGHTS), toByteOffset: 12, as: Int32.self)
      control.storeBytes(of: file, toByteOffset: headerBytes, as: Int32.self)
      return withAddress { address, length in
        var message = msghdr()
        message.msg_name = UnsafeMutableRawPointer(mutating: address)
        message.msg_namelen = length
        message.msg_control = control.baseAddress
        message.msg_controllen = control.count
        return retryingInterrupts { sendmsg(descriptor, &message, Int32(MSG_NOSIGNAL)) }
      }
    }
    guard sent >= 0 else { throw SystemError(call: "sendmsg", number: errno) }
  }

  private static let pathCapacity = MemoryLayout.size(ofValue: sockaddr_un().sun_path)

  private func retryingInterrupts(_ call: () -> Int) -> Int {
    while true {
      let result = call()
      if result >= 0 || errno != EINTR { return result }
    }
  }

  private func withAddress<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    var length = MemoryLayout<sa_family_t>.size + path.utf8.count
    if path.hasPrefix("@") {
      // The abstract namespace: a leading zero byte, and no terminator counted.
      address.sun_path.0 = 0
    } else {
      length += 1
    }
    return withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(length)) }
    }
  }
}

/// Ends the process without the libraries' clean-up at exit: threads that did not end in time may still be in them.
public func exitAtOnce(_ code: Int32) -> Never {
  fflush(nil)
  _exit(code)
}
