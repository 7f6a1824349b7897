import DaemonSupport
import Settings
import StateStore

/// Ranks on request, on a thread of its own: ranking must not sit on Swift's cooperative pool, nor wait behind the ranker's batches.
///
/// What it holds of the catalogue is made with the first request, so that it costs nothing where nobody asks.
final class RequestService: Sendable {
  private let requests = BoundedQueue<@Sendable (Result<Ranking, PipelineError>) -> Void>(capacity: 64)
  private let store: StateStore
  private let settings: LiveSettings

  init(store: StateStore, settings: LiveSettings) {
    self.store = store
    self.settings = settings
  }

  /// Answers requests until closed; those that wait then are answered still.
  func run() {
    var ranking: Ranking?
    while case .element(let answer) = requests.pop() {
      let settings = settings.current
      do {
        let current = try ranking ?? Ranking(store: store, settings: settings)
        current.settings = settings
        ranking = current
        answer(.success(current))
      } catch {
        answer(.failure(PipelineError(error)))
      }
    }
  }

  func close() { requests.close() }

  /// Runs the body on the service's thread.
  ///
  /// - Throws: ``PipelineError``, with `unavailable` when too many requests wait already or the daemon is stopping.
  func perform<Value: Sendable>(_ body: @escaping @Sendable (Ranking) throws -> Value) async throws(PipelineError) -> Value {
    let result = await withCheckedContinuation { (continuation: CheckedContinuation<Result<Value, PipelineError>, Never>) in
      let pushed = requests.push(
        { ranking in
          continuation.resume(returning: ranking.flatMap { ranking in Result { try body(ranking) }.mapError { PipelineError($0) } })
        }, timeout: .zero)
      if pushed != .pushed {
        continuation.resume(returning: .failure(PipelineError(.unavailable, "too many requests wait, or the daemon is stopping")))
      }
    }
    return try result.get()
  }
}
