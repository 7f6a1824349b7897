#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A fixed set of threads that run the shards of one piece of work together; the caller's thread is the first of them.
///
/// Long computation stays off Swift's cooperative pool, and each thread's products stay single-threaded. Which shard holds what is
/// the caller's choice, so the result does not depend on scheduling.
public final class WorkerThreads: @unchecked Sendable {
  // @unchecked: `work`, `round` and `pending` are guarded by `mutex`.
  public let count: Int
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var threads: [pthread_t] = []
  private var work: (@Sendable (Int) -> Void)?
  private var round = 0
  private var pending = 0
  private var stopping = false

  /// - Parameter count: how many shards run at once, the caller's included; at least 1.
  public init(count: Int) {
    self.count = max(1, count)
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(changed, nil)
  }

  /// Ends the threads; the next `run` starts others. No `run` may be under way.
  public func stop() {
    pthread_mutex_lock(mutex)
    stopping = true
    pthread_cond_broadcast(changed)
    pthread_mutex_unlock(mutex)
    for thread in threads { pthread_join(thread, nil) }
    threads = []
    stopping = false
    round = 0
  }

  deinit {
    pthread_mutex_destroy(mutex)
    pthread_cond_destroy(changed)
    mutex.deallocate()
    changed.deallocate()
  }

  /// The shard's share when so many things are shared out evenly, in order.
  public func share(_ shard: Int, of things: Int) -> Range<Int> { things * shard / count..<things * (shard + 1) / count }

  /// Calls `body(0)` … `body(count − 1)`, one on each thread, and returns when all have returned. The first call starts the threads, with the
  /// caller's priority.
  public func run(_ body: @escaping @Sendable (_ shard: Int) -> Void) {
    guard count > 1 else { return body(0) }
    if threads.isEmpty { for index in 1..<count { start(index) } }
    pthread_mutex_lock(mutex)
    work = body
    pending = threads.count
    round += 1
    pthread_cond_broadcast(changed)
    pthread_mutex_unlock(mutex)
    body(0)
    pthread_mutex_lock(mutex)
    while pending > 0 { pthread_cond_wait(changed, mutex) }
    work = nil
    pthread_mutex_unlock(mutex)
  }

  private final class Start {
    let owner: WorkerThreads
    let index: Int
    init(owner: WorkerThreads, index: Int) {
      self.owner = owner
      self.index = index
    }
  }

  private func start(_ index: Int) {
    let argument = Unmanaged.passRetained(Start(owner: self, index: index)).toOpaque()
    #if canImport(Glibc)
      var thread = pthread_t()
    #else
      var thread: pthread_t?
    #endif
    let status = pthread_create(&thread, nil, { raw in
      #if canImport(Glibc)
        guard let raw else { return nil }
      #endif
      let start = Unmanaged<Start>.fromOpaque(raw).takeRetainedValue()
      start.owner.serve(start.index)
      return nil
    }, argument)
    guard status == 0 else { fatalError("no thread could be made for computing: error \(status)") }
    #if canImport(Glibc)
      threads.append(thread)
    #else
      if let thread { threads.append(thread) }
    #endif
  }

  private func serve(_ index: Int) {
    useSingleThreadedProducts()
    var seen = 0
    pthread_mutex_lock(mutex)
    while true {
      while round == seen && !stopping { pthread_cond_wait(changed, mutex) }
      if stopping { break }
      seen = round
      let body = work
      pthread_mutex_unlock(mutex)
      body?(index)
      pthread_mutex_lock(mutex)
      pending -= 1
      if pending == 0 { pthread_cond_broadcast(changed) }
    }
    pthread_mutex_unlock(mutex)
  }
}
