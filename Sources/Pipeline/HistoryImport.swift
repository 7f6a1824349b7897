public import Events
import Kernels
public import Logging
public import Recommender
public import Settings
import StateStore

/// Puts a shop's history into a new store as though it had come by Kafka, and keeps the model that is trained on it: a daemon that is
/// started on the store ranks the history's users at once and goes on learning from the stream.
///
/// What came from a history has no place in the stream: no offset is stored, so the daemon begins where `kafka.start_at` says.
///
/// In this order: ``take(items:)``, ``take(interactions:)``, training of ``learner``, ``finish()``. Before that no store is in its place.
public final class HistoryImport {
  /// An item that is only known from interactions has no description.
  public struct Item: Sendable {
    public var id: String
    public var description: Events.ItemDescription?

    public init(id: String, description: Events.ItemDescription? = nil) {
      self.id = id
      self.description = description
    }
  }

  private let unfinished: UnfinishedStore
  private let ingest: Ingest
  private let learning: Learning
  private let topic: String

  /// Begins a store for the folder `store.path`.
  ///
  /// - Throws: ``PipelineError`` with `storage` when the folder holds something, or another process fills it.
  public init(settings: Settings, logger: Logger) throws(PipelineError) {
    topic = settings.topics.interactions
    do {
      try selfTest()
      unfinished = try UnfinishedStore(folder: settings.store.path, options: StateStore.Options(settings))
      ingest = try Ingest(store: unfinished.store, settings: settings)
      learning = try Learning(store: unfinished.store, settings: settings, logger: logger)
    } catch {
      throw PipelineError(error)
    }
  }

  var store: StateStore { unfinished.store }

  /// What is trained: it knows the items that were taken in, by the store's numbers.
  public var learner: OnlineLearner { learning.learner }

  /// The learner's number of a user.
  public static func learnerNumber(ofUser id: String) -> UInt64 { UserFingerprint(id).number }

  /// Takes items into the catalogue, in one transaction.
  ///
  /// - Returns: their numbers, in the same order.
  /// - Throws: ``PipelineError``.
  public func take(items: [Item]) throws(PipelineError) -> [Recommender.ItemNumber] {
    do {
      let numbers = try store.write { (transaction) throws(StateStoreError) in
        var numbers: [Recommender.ItemNumber] = []
        for item in items {
          // An item that lost its row could not be learned.
          if try transaction.rowsInUse() >= store.options.maximumItems, try transaction.itemNumber(of: item.id) == nil {
            throw StateStoreError(.invalidValue, "the history has more than \(store.options.maximumItems) items: raise store.max_items")
          }
          let number =
            if let description = item.description {
              try transaction.describeItem(item.id, StoredItemDescription(description))
            } else {
              try transaction.registerItem(item.id)
            }
          numbers.append(number.rawValue)
        }
        return numbers
      }
      try learning.followCatalogue()
      return numbers
    } catch {
      throw PipelineError(error)
    }
  }

  /// Takes interactions into sequences and journal, in one transaction, and marks their users to be ranked.
  ///
  /// - Parameter interactions: in the order of time; below 0 a time says that only the order is known.
  /// - Throws: ``PipelineError``, with `storage` also for one that the store can't hold; nothing of the call is stored then.
  public func take(interactions: [Events.Interaction]) throws(PipelineError) {
    do {
      let records = interactions.map { IngestRecord(event: .interaction($0), topic: topic, partition: -1, offset: -1) }
      _ = try ingest.apply(records, offsets: [], now: millisecondsSince1970())
      try learning.trimJournal(before: nextJournalSequence())
    } catch {
      guard let refused = (error as? Ingest.Refused)?.records.first else { throw PipelineError(error) }
      let (user, item) = (interactions[refused.index].user.prefix(80), interactions[refused.index].item.prefix(80))
      throw PipelineError(.storage, "the interaction of user \"\(user)\" with item \"\(item)\": \(refused.rejection.message)")
    }
  }

  /// Writes the learner's checkpoint as the daemon does, and puts the store in its place. All interactions that were taken in count as
  /// learned.
  ///
  /// - Returns: the checkpoint's path.
  /// - Throws: ``PipelineError``, with `failed` for a model that has numbers which are not finite.
  public func finish() throws(PipelineError) -> String {
    do {
      guard learner.snapshot.isFinite else { throw PipelineError(.failed, "the model has numbers that are not finite") }
      learner.cursor = try nextJournalSequence()
      try learning.checkpoint()
      try unfinished.finish()
    } catch {
      throw PipelineError(error)
    }
    return unfinished.folder + "/checkpoints/" + (learning.newestEntry?.name ?? "")
  }

  /// Removes what was written.
  public func discard() { unfinished.discard() }

  private func nextJournalSequence() throws(StateStoreError) -> UInt64 {
    try store.read { (transaction) throws(StateStoreError) in try transaction.nextJournalSequence() }
  }
}
