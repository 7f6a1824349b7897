import Logging
import Recommender
import Settings
import StateStore

/// Feeds the online learner from the journal: its own cursor, strides over new interactions, replay from the window, checkpoints. It knows
/// no Kafka and no threads: the daemon's learner thread and the deterministic replay drive it alike. One thread owns it.
final class Learning {
  struct Progress {
    var report: StrideReport
    /// Interactions that were passed over because they came faster than they can be learned from.
    var sampledOut: Int
    /// Interactions left out because their user has their share already.
    var beyondShare: Int
  }

  let learner: OnlineLearner
  private let store: StateStore
  private let files: CheckpointFiles
  private var settings: Settings
  private let logger: Logger
  private let modalities: [String]
  private let zeroWeightTypes: Set<UInt8>
  private var catalogue = CatalogueView()
  private var share: UserShare
  /// Users erased since the last checkpoint.
  private var forgotten: Set<UInt64> = []
  private var unknownModalities: Set<String> = []
  private var lastGood: CheckpointEntry?
  private(set) var newestEntry: CheckpointEntry?

  /// Goes on from the newest intact checkpoint, or starts anew when there is none.
  ///
  /// - Throws: ``PipelineError`` with `configuration` when the newest checkpoint is of another model; ``StateStoreError``.
  init(store: StateStore, settings: Settings, logger: Logger) throws {
    self.store = store
    self.settings = settings
    self.logger = logger
    files = try CheckpointFiles(folder: store.path + "/checkpoints")
    let (names, entries) = try store.read { (transaction) throws(StateStoreError) in
      (try transaction.interactionTypes(), try transaction.checkpoints())
    }
    let weights = Dictionary(settings.events.types.map { ($0.name, Float($0.weight)) }, uniquingKeysWith: { first, _ in first })
    let typeWeights = names.map { weights[$0] ?? 1 }
    zeroWeightTypes = Set(typeWeights.indices.filter { typeWeights[$0] == 0 }.map { UInt8($0) })
    let configuration = LearnerConfiguration(settings, typeWeights: typeWeights)
    modalities = configuration.model.modalities.map(\.name)
    learner = try Self.restored(configuration, files, entries, logger)
    share = UserShare(Self.maximumShare(settings))
    let intact = files.newestIntact(of: entries).intact?.entry
    newestEntry = intact
    lastGood = intact
    try recallShares()
    try followCatalogue()
    // The version stays: a restart alone makes no new model.
    learner.refreshSnapshot()
  }

  private static func restored(
    _ configuration: LearnerConfiguration, _ files: CheckpointFiles, _ entries: [CheckpointEntry], _ logger: Logger
  ) throws -> OnlineLearner {
    let (intact, damaged) = files.newestIntact(of: entries)
    for (entry, error) in damaged {
      logger.error("a checkpoint is damaged and left out", metadata: ["checkpoint": "\(entry.name)", "error": "\(error)"])
    }
    guard let (entry, bytes) = intact else {
      if !entries.isEmpty { logger.error("no checkpoint is intact: the model starts anew, from the journal's window") }
      return OnlineLearner(configuration)
    }
    do {
      let stored = try OnlineLearner.modelConfiguration(ofCheckpoint: bytes)
      guard stored == configuration.model else {
        throw PipelineError(
          .configuration,
          "the checkpoint \(entry.name) is of a model of another shape (\(stored)) than is configured (\(configuration.model)): "
            + "configure that shape, or move the folder 'checkpoints' of the store away to start a new model")
      }
      let learner = try OnlineLearner(configuration, checkpoint: bytes)
      logger.info(
        "the model goes on from a checkpoint",
        metadata: ["checkpoint": "\(entry.name)", "cursor": "\(learner.cursor)", "version": "\(learner.snapshot.version)"])
      return learner
    } catch let error as Safetensors.FormatError {
      throw PipelineError(.storage, "the checkpoint \(entry.name) can't be read: \(error)")
    }
  }

  /// After a start, the users' shares go on from what the journal still holds.
  private func recallShares() throws(StateStoreError) {
    let window = UInt64(UserShare.window)
    try store.forEachJournalRecord(from: learner.cursor > window ? learner.cursor - window : 1, upTo: learner.cursor) { record in
      if case .interaction(let example) = record.entry { _ = share.admit(example.user, example.target.item.rawValue) }
    }
  }

  /// In the deterministic mode what is learned depends on the journal alone, not on where a run began: nobody is bounded.
  private static func maximumShare(_ settings: Settings) -> Double {
    settings.learner.deterministic ? 1 : settings.learner.maxUserShare
  }

  /// Takes over what may change while the learner runs.
  func reconfigure(_ settings: Settings) {
    self.settings = settings
    learner.reconfigure(
      learningRate: Float(settings.learner.learningRate), beta: Float(settings.objective.beta),
      crossEntropyWeight: Float(settings.objective.crossEntropyWeight), preferenceWeight: Float(settings.objective.preferenceWeight))
  }

  /// Takes the catalogue's changes in.
  ///
  /// - Returns: whether there were any.
  @discardableResult
  func followCatalogue() throws(StateStoreError) -> Bool {
    let learner = learner
    return try store.read { (transaction) throws(StateStoreError) in
      try catalogue.follow(transaction) { item in
        guard let row = item.row else {
          learner.catalogue.retire(item: item.number.rawValue)
          return
        }
        let features = item.description?.features ?? [:]
        for name in features.keys where !modalities.contains(name) && unknownModalities.insert(name).inserted {
          logger.warning(
            "items have features that the model does not use: name them in model.modalities",
            metadata: ["modality": "\(name)", "dimension": "\(features[name]?.count ?? 0)"])
        }
        learner.catalogue.describe(
          item: item.number.rawValue, row: Int32(bitPattern: row), content: modalities.map { features[$0] }, attributes: item.attributeNames)
      }
    } > 0
  }

  /// Interactions that wait to be learned from.
  func backlog() throws(StateStoreError) -> UInt64 {
    let next = try store.read { (transaction) throws(StateStoreError) in try transaction.nextJournalSequence() }
    return next - min(next, max(learner.cursor, 1))
  }

  /// Learns one stride when enough waits.
  ///
  /// - Parameter partial: learn from fewer than a stride too.
  /// - Returns: nil when there was not enough.
  func step(partial: Bool) throws -> Progress? {
    let stride = settings.learner.stride
    let waiting = try backlog()
    guard waiting >= UInt64(stride) || (partial && waiting > 0) else { return nil }
    try followCatalogue()
    // Beyond the allowed lag a stride's worth is drawn from several strides.
    let excess = settings.learner.deterministic ? 0 : (Int(waiting) - 1) / max(1, settings.learner.maxLagInteractions)
    let span = stride * (1 + excess)
    let start = max(learner.cursor, 1)
    let records = try store.read { (transaction) throws(StateStoreError) in try transaction.readJournal(from: start, limit: span) }
    guard let last = records.last else {
      learner.cursor = start + waiting
      return nil
    }
    let kept = records.count > stride ? sample(records, stride) : records
    var new: [Recommender.TrainingExample] = []
    var beyondShare = 0
    for record in kept {
      switch record.entry {
      case .interaction(let example):
        guard !zeroWeightTypes.contains(example.target.type.rawValue) else { continue }
        guard share.admit(example.user, example.target.item.rawValue) else {
          beyondShare += 1
          continue
        }
        new.append(try self.example(example))
      case .forget: break
      }
    }
    // A forget is never passed over, however much is sampled out.
    forget(records)
    let window = windowStart(before: start)..<start
    let recent = try replay(learner.drawRecent(count: Int((Double(new.count) * learner.configuration.recentRatio).rounded()), from: window))
    let report = learner.stride(new: new, recent: recent)
    learner.cursor = last.sequence + 1
    if report.skippedSteps > 0 {
      logger.error("steps with numbers that are not finite were left out", metadata: ["steps": "\(report.skippedSteps)"])
    }
    return Progress(report: report, sampledOut: records.count - kept.count, beyondShare: beyondShare)
  }

  private func forget(_ records: [JournalRecord]) {
    for record in records {
      guard case .forget(let fingerprint) = record.entry else { continue }
      learner.forget(user: fingerprint.number)
      forgotten.insert(fingerprint.number)
    }
  }

  private func sample(_ records: [JournalRecord], _ count: Int) -> [JournalRecord] {
    (0..<count).map { records[records.count * $0 / count] }
  }

  private func windowStart(before sequence: UInt64) -> UInt64 {
    let window = UInt64(settings.learner.windowInteractions)
    return sequence > window ? sequence - window : 1
  }

  private func replay(_ sequences: [UInt64]) throws(StateStoreError) -> [Recommender.TrainingExample] {
    let entries = try store.read { (transaction) throws(StateStoreError) in
      var entries: [StoredExample] = []
      for sequence in sequences {
        // Erased users and trimmed entries are simply no longer there.
        if case .interaction(let example)? = try transaction.journalEntry(at: sequence) { entries.append(example) }
      }
      return entries
    }
    var examples: [Recommender.TrainingExample] = []
    // The window holds all that came, so that a user has to be held to their share again.
    var drawn = UserShare(Self.maximumShare(settings), window: max(1, entries.count))
    for entry in entries where !zeroWeightTypes.contains(entry.target.type.rawValue) {
      let example = try example(entry)
      if drawn.admit(entry.user, entry.target.item.rawValue) { examples.append(example) }
    }
    return examples
  }

  /// The example as the model sees it, with the user's stored pool unless that is too old.
  private func example(_ stored: StoredExample) throws(StateStoreError) -> Recommender.TrainingExample {
    let pool = try store.read { (transaction) throws(StateStoreError) in try transaction.pool(of: stored.user) }
    let oldest = learner.snapshot.version - min(learner.snapshot.version, UInt64(settings.pool.maxAgeVersions))
    let isFresh = pool.map { $0.modelVersion >= oldest } ?? false
    return Recommender.TrainingExample(
      user: UserFingerprint(stored.user).number, events: (stored.context + [stored.target]).map(ItemEvent.init), targetCount: 1,
      pool: isFresh ? (pool?.items ?? []).map(\.rawValue) : [], shown: stored.shown.map(\.rawValue))
  }

  /// Writes a checkpoint of this moment, registers it, drops the oldest, and trims what the journal no longer needs.
  func checkpoint() throws {
    // Before the cursor passes them: after a crash they are met again.
    try eraseForgotten()
    try writeCheckpoint()
    try trimJournal()
  }

  /// The checkpoints that are kept lose the examples of users who were erased since they were written.
  private func eraseForgotten() throws {
    guard !forgotten.isEmpty else { return }
    let entries = try store.read { (transaction) throws(StateStoreError) in try transaction.checkpoints() }
    for entry in entries {
      guard let bytes = try? files.read(entry), let rest = try OnlineLearner.checkpoint(bytes, without: forgotten) else { continue }
      let name = Self.name(entry.modelVersion, suffix: "-\(learner.cursor)")
      let digest = try files.write(name) { (writer) throws(StateStoreError) in try writer.append(rest.span.bytes) }
      let replacement = CheckpointEntry(name: name, sha256: digest, modelVersion: entry.modelVersion, cursor: entry.cursor)
      try store.write(.reclaiming) { (transaction) throws(StateStoreError) in try transaction.putCheckpoint(replacement) }
      if newestEntry?.modelVersion == entry.modelVersion { newestEntry = replacement }
      if lastGood?.modelVersion == entry.modelVersion { lastGood = replacement }
    }
    let kept = try store.read { (transaction) throws(StateStoreError) in try transaction.checkpoints().map(\.name) }
    try prune(keeping: kept)
    forgotten.removeAll()
  }

  private static func name(_ version: UInt64, suffix: String = "") -> String {
    let digits = String(version)
    return "checkpoint-" + String(repeating: "0", count: max(0, 20 - digits.count)) + digits + suffix + ".safetensors"
  }

  private func writeCheckpoint() throws {
    let version = learner.snapshot.version
    if newestEntry?.modelVersion == version { return }
    let bytes = try learner.checkpoint()
    let name = Self.name(version)
    let digest = try files.write(name) { (writer) throws(StateStoreError) in try writer.append(bytes.span.bytes) }
    let entry = CheckpointEntry(name: name, sha256: digest, modelVersion: version, cursor: learner.cursor)
    let keep = settings.learner.checkpointKeep
    let pinned = lastGood?.modelVersion
    // A store that is full gets room only by this and the trimming that it allows.
    let kept = try store.write(.reclaiming) { (transaction) throws(StateStoreError) in
      try transaction.putCheckpoint(entry)
      let all = try transaction.checkpoints().sorted { $0.modelVersion > $1.modelVersion }
      for old in all.dropFirst(keep) where old.modelVersion != pinned { try transaction.removeCheckpoint(modelVersion: old.modelVersion) }
      return try transaction.checkpoints().map(\.name)
    }
    newestEntry = entry
    if lastGood == nil { lastGood = entry }
    try prune(keeping: kept)
  }

  /// Removes the files that the store names no more, once no power cut makes it name them again.
  private func prune(keeping names: [String]) throws(StateStoreError) {
    try store.sync()
    try files.prune(keeping: Set(names))
  }

  /// The journal holds the window before the oldest cursor that may be resumed from. The checkpoint that is kept for going back does not
  /// count: else a full store, where nothing new comes that could be called good, would never get room.
  private func trimJournal() throws(StateStoreError) {
    let entries = try store.read { (transaction) throws(StateStoreError) in try transaction.checkpoints() }
    let resumable = entries.sorted { $0.modelVersion > $1.modelVersion }.prefix(settings.learner.checkpointKeep)
    guard let oldest = resumable.map(\.cursor).min() else { return }
    try trimJournal(before: oldest)
  }

  /// The journal holds the window before a cursor.
  func trimJournal(before cursor: UInt64) throws(StateStoreError) {
    let chunk = 20_000
    let keep = windowStart(before: cursor)
    while try store.write(.reclaiming, { (transaction) throws(StateStoreError) in try transaction.trimJournal(keepingFrom: keep, limit: chunk) })
      == chunk {}
  }

  /// The newest checkpoint becomes the one to go back to.
  func markGood() { lastGood = newestEntry ?? lastGood }

  /// Goes back to the last good checkpoint's model; the cursor stays.
  ///
  /// - Returns: the checkpoint's name; nil when there is none to go back to.
  func rollBack() throws -> String? {
    guard let lastGood else { return nil }
    try learner.rollBack(to: files.read(lastGood))
    // Its reservoir may hold users who were erased since.
    try store.forEachJournalRecord(from: lastGood.cursor, upTo: learner.cursor) { forget([$0]) }
    try followCatalogue()
    learner.renewSnapshot()
    return lastGood.name
  }
}

extension ItemEvent {
  init(_ interaction: StoredInteraction) {
    self.init(item: interaction.item.rawValue, type: interaction.type.rawValue, time: interaction.knownTime)
  }
}

extension UserFingerprint {
  /// The first eight bytes: tells users apart in training examples.
  var number: UInt64 { bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) } }
}
