import Events
import Foundation
import Recommender
import Settings
import StateStore
import TestSupport
import Testing

@testable import Pipeline

struct IngestTests {
  let folder = TemporaryFolder()

  private func open(_ settings: Settings) throws -> (StateStore, Ingest) {
    let store = try StateStore.open(at: settings.store.path, options: StateStore.Options(settings))
    return (store, try Ingest(store: store, settings: settings))
  }

  /// A stream in which one record can never be placed.
  private func history(seed: UInt64, count: Int) -> [IngestRecord] {
    var random = SeededGenerator(seed: seed)
    var stream = StreamWriter()
    return (0..<count).map { index in
      let user = "user \(random.below(12))"
      switch random.below(40) {
      case 0: return stream.record(.forget(user: user))
      case 1: return stream.record(.retire(item: "item \(random.below(30))"))
      case 2...4:
        let item = Events.ItemDescription(item: "item \(random.below(30))", title: "\(index)", categories: ["c\(random.below(3))"])
        return stream.record(.describe(item))
      default:
        // The same event often comes again, and events come out of order.
        let time = Int64(1_000_000 + index * 100 - random.below(4) * 1_000)
        return stream.interaction(user, "item \(random.below(30))", type: UInt8(random.below(3)), time: time, shown: ["item \(random.below(30))"])
      }
    }
  }

  @Test func aLargeStoreIsGivenFewerRecordsAtATime() throws {
    let (_, ingest) = try open(Settings.small(folder))
    #expect(ingest.mostTogether == .max)
    #expect(Ingest.mostTogether(sequencesSize: 128 << 20) == .max)
    #expect(Ingest.mostTogether(sequencesSize: 128 << 20 + 4096) == 30_000)
  }

  /// Events count once by the offsets that are stored with them, not because duplicates are left out.
  @Test(arguments: 0..<6)
  func eachEventCountsOnceWhateverIsInterrupted(seed: UInt64) throws {
    let records = history(seed: seed, count: 400)
    var settings = Settings.small(folder)
    settings.events.deduplicate = false
    settings.store.path = folder.path + "/whole"
    let (whole, plain) = try open(settings)
    _ = try plain.apply(records, offsets: [PartitionOffset(topic: StreamWriter.topic, partition: 0, next: 400)], now: 5)

    settings.store.path = folder.path + "/pieces"
    var random = SeededGenerator(seed: seed &+ 100)
    var done = false
    var interruptions = 0
    while !done {
      // A process from its start to its death: it reads from the stored offset.
      let (store, ingest) = try open(settings)
      var position = Int(try store.position())
      while position < 400 {
        let end = min(400, position + 1 + random.below(40))
        var batch = Array(records[position..<end])
        let dies = random.below(6)
        if dies == 0 {
          // In the middle of the transaction: what was done before in it is not kept.
          var other = StreamWriter()
          batch.insert(other.interaction("", "item", time: 1), at: batch.count)
          #expect(throws: Ingest.Refused.self) { try ingest.apply(batch, offsets: [PartitionOffset(topic: StreamWriter.topic, partition: 0, next: Int64(end))], now: 5) }
          interruptions += 1
          break
        }
        _ = try ingest.apply(batch, offsets: [PartitionOffset(topic: StreamWriter.topic, partition: 0, next: Int64(end))], now: 5)
        position = end
        if dies == 1 {
          interruptions += 1
          break
        }
      }
      done = position == 400
      if done {
        #expect(try store.digest() == whole.digest())
        #expect(try store.journal() == whole.journal())
        #expect(try store.position() == 400)
      }
    }
    #expect(interruptions > 2)
  }

  /// Ids that are made up, each once: `RODPOD_TORTURE_JUNK` says how many.
  @Test func junkIDsFillNeitherTheModelNorTheStore() throws {
    var settings = Settings.small(folder)
    settings.store.maxItems = 200
    settings.store.maxBytes = 1 << 30
    let scene = try Scene(settings)
    let junk = ProcessInfo.processInfo.environment["RODPOD_TORTURE_JUNK"].flatMap { Int($0) } ?? 20_000
    let real = (0..<40).map { "real \($0)" }
    var outcome = Ingest.Outcome()
    var sent = 0
    while sent < junk {
      var batch: [IngestRecord] = []
      for _ in 0..<min(500, junk - sent) {
        sent += 1
        batch.append(scene.stream.interaction("robot \(sent % 100)", "junk \(sent)", time: Int64(sent) * 1000))
        // Only once the door is closed do the real ones come.
        guard sent > 1000 else { continue }
        batch.append(scene.stream.interaction("user \(sent % 50)", real[sent % 40], time: Int64(sent) * 1000))
      }
      outcome = try scene.apply(batch)
      try scene.learning.followCatalogue()
      try scene.store.write { (transaction) throws(StateStoreError) in
        try transaction.trimJournal(keepingFrom: try transaction.nextJournalSequence())
      }
    }
    #expect(outcome.unadmitted == (junk - 1) % 500 + 1, "of the last batch all that was made up stays out")
    #expect(try real.allSatisfy { try scene.store.catalogueItem($0)?.row != nil })
    #expect(scene.learning.learner.catalogue.rowCount <= 200)
    let info = try scene.store.info()
    #expect(info.items == 100 + 40, "half of the rows by junk, before the door was closed")
    print("IngestTests: \(junk) made-up ids left \(info.items) items and \(info.usedBytes >> 20) MiB")
    #expect(info.usedBytes < 16 << 20)
  }

  @Test func anItemThatNobodyTouchesMakesRoom() throws {
    var settings = Settings.small(folder)
    settings.store.unusedItemDays = 30
    let scene = try Scene(settings)
    let day: Int64 = 86_400_000
    try scene.apply([
      scene.stream.record(.describe(Events.ItemDescription(item: "described", title: "D"))),
      scene.stream.interaction("u", "described", time: day), scene.stream.interaction("u", "a", time: day),
      scene.stream.interaction("u", "b", time: 20 * day), scene.stream.interaction("v", "c", time: 31 * day),
    ])
    #expect(try ["described", "a", "b", "c"].map { try scene.store.catalogueItem($0)?.row != nil } == [true, true, true, true])
    try scene.apply([scene.stream.interaction("v", "d", time: 32 * day)])
    #expect(try ["described", "a", "b", "c"].map { try scene.store.catalogueItem($0)?.row != nil } == [true, false, true, true])
  }

  @Test func aDuplicateCountsOnce() throws {
    let scene = try Scene(.small(folder))
    let first = scene.stream.interaction("u", "a", time: 1_000)
    let outcome = try scene.apply([first, scene.stream.interaction("u", "a", time: 1_000), scene.stream.interaction("u", "a", type: 1, time: 1_000)])
    #expect(outcome.interactions == 2 && outcome.duplicates == 1 && outcome.ranks.count <= 2)
    #expect(try scene.apply([scene.stream.interaction("u", "a", time: 1_000)]).duplicates == 1)
    #expect(try scene.store.journal().count == 2)
    #expect(try scene.store.sequence(of: "u")?.interactions.count == 2)
    #expect(scene.ingest.quality.events(of: try scene.store.number(of: "a")) == 2)
  }

  @Test func aLateEventTakesItsPlaceInOrder() throws {
    let scene = try Scene(.small(folder))
    try scene.apply([
      scene.stream.interaction("u", "a", time: 1_000), scene.stream.interaction("u", "c", time: 3_000), scene.stream.interaction("u", "b", time: 2_000),
    ])
    let numbers = try scene.store.sequence(of: "u")?.interactions.map(\.item)
    #expect(try numbers == ["a", "b", "c"].map { try scene.store.number(of: $0) })
    guard case .interaction(let example)? = try scene.store.journal().last?.entry else { throw Missing() }
    #expect(try example.context.map(\.item) == [scene.store.number(of: "a")], "it is learned from what came before it")
    #expect(scene.ingest.streamTime == 3_000)
  }

  struct Missing: Error {}

  @Test func recordsThatAreTooLateAreRefusedTogetherAndNothingOfTheirBatchIsWritten() throws {
    var settings = Settings.small(folder)
    settings.events.maxLate = .seconds(10)
    let scene = try Scene(settings)
    try scene.apply([scene.stream.interaction("u", "a", time: 100_000)])
    let before = (try scene.store.digest(), try scene.store.journal(), try scene.store.position())
    let batch = [
      scene.stream.interaction("v", "new item", time: 200_000), scene.stream.record(.retire(item: "a")),
      scene.stream.interaction("u", "b", time: 89_999), scene.stream.interaction("u", "c", time: 101_000),
      // Behind the one before, which is of the same batch.
      scene.stream.interaction("u", "b", time: 90_999),
    ]
    let refused = #expect(throws: Ingest.Refused.self) { try scene.apply(batch) }
    #expect(refused?.records.map(\.index) == [2, 4])
    #expect(refused?.records.allSatisfy { $0.rejection.reason == .timeTooLate } == true)
    #expect(try scene.store.digest() == before.0)
    #expect(try scene.store.journal() == before.1)
    #expect(try scene.store.position() == before.2)
    #expect(try scene.store.catalogueItem("new item") == nil)
    #expect(try scene.store.mark(of: "v") == nil)
    #expect(scene.ingest.streamTime == 100_000)
    // Without it the batch is whole, and the numbers are those of a batch that never had it.
    let outcome = try scene.apply([batch[0], batch[1], batch[3]])
    #expect(outcome.interactions == 2 && outcome.retired == 1)
    #expect(try scene.store.number(of: "new item").rawValue == scene.store.number(of: "a").rawValue + 1)
    #expect(try scene.store.catalogueItem("b") == nil)
    #expect(scene.ingest.streamTime == 200_000)
  }

  @Test func theBoundOfLatenessIsAllowed() throws {
    var settings = Settings.small(folder)
    settings.events.maxLate = .seconds(10)
    let scene = try Scene(settings)
    #expect(try scene.apply([scene.stream.interaction("u", "a", time: 100_000), scene.stream.interaction("u", "b", time: 90_000)]).interactions == 2)
  }

  @Test(arguments: ["", String(repeating: "x", count: 70_000)])
  func anIDThatTheStoreCannotHoldIsRefusedByItsRecord(id: String) throws {
    let scene = try Scene(.small(folder))
    for record in [scene.stream.interaction(id, "a", time: 1), scene.stream.interaction("u", id, time: 1), scene.stream.record(.retire(item: id)), scene.stream.interaction("u", "a", time: 1, shown: [id])] {
      let refused = #expect(throws: Ingest.Refused.self) { try scene.apply([scene.stream.interaction("u", "a", time: 1), record]) }
      #expect(refused?.records.map(\.index) == [1])
    }
    #expect(try scene.store.journal().isEmpty)
  }

  @Test func forgettingLeavesAMarkForTheTombstoneAndNothingElse() throws {
    let scene = try Scene(.small(folder))
    for item in ["a", "b", "c"] { try scene.interact("u", item) }
    try scene.interact("v", "a")
    _ = try scene.rankAndAcknowledge()
    #expect(try scene.store.pool(of: "u") != nil)
    let offset = scene.stream.next
    try scene.forget("u")
    #expect(try scene.store.sequence(of: "u") == nil)
    #expect(try scene.store.pool(of: "u") == nil)
    let mark = try #require(try scene.store.mark(of: "u"))
    #expect(mark.asOf.offset == offset && mark.asOf.topic == StreamWriter.topic)
    let journal = try scene.store.journal()
    #expect(journal.last?.entry == .forget(UserFingerprint("u")))
    #expect(mark.sequence == journal.last?.sequence)
    #expect(journal.count == 2, "v's entry and the word that u is gone")
    #expect(try scene.store.sequence(of: "v") != nil)
  }

  @Test func aMarkIsDueAfterTheDebounceOfTheFirstEvent() throws {
    var settings = Settings.small(folder)
    settings.ranker.debounce = .milliseconds(700)
    let scene = try Scene(settings)
    try scene.interact("u", "a")
    let due = scene.clock + 700
    #expect(try scene.store.mark(of: "u")?.dueTime == due)
    try scene.interact("u", "b")
    #expect(try scene.store.mark(of: "u")?.dueTime == due, "a user whose events never pause is ranked all the same")
    #expect(try scene.store.mark(of: "u")?.asOf.offset == 1)
  }

  @Test func anEventIsScoredAgainstThePoolThatTheUserHad() throws {
    let scene = try Scene(.small(folder))
    for item in ["a", "b", "c", "d"] { try scene.interact("v", item) }
    try scene.interact("u", "a")
    let items = try ["d", "c", "b"].map { try scene.store.number(of: $0) }
    try scene.store.write { (transaction) throws(StateStoreError) in
      try transaction.putPool(PoolRecord(modelVersion: 1, revision: 1, items: items, scores: [3, 2, 1], madeTime: 0), of: "u")
    }
    let second = try scene.interact("u", "b")
    #expect(second.ranks.map(\.model) == [2])
    // Of a, b, c, d the user had a; c and d have as many events as b: ties count against it.
    #expect(second.ranks.map(\.popularity) == [2])
    #expect(try scene.interact("u", "new").ranks.map { [$0.model, $0.popularity] } == [[nil, nil]])
    #expect(try scene.interact("u", "a").ranks.isEmpty, "no list could hold what the user already has")
    // Without a pool the popular list was theirs.
    #expect(try scene.interact("w", "b").ranks.map { [$0.model, $0.popularity] } == [[1, 1]])
  }

  @Test func behindARecordOfNobodyThoseThatAreTooLateAreFoundNextTime() throws {
    var settings = Settings.small(folder)
    settings.events.maxLate = .seconds(10)
    let scene = try Scene(settings)
    try scene.apply([scene.stream.interaction("u", "a", time: 100_000)])
    var batch = [
      scene.stream.interaction("u", "a", time: 1), scene.stream.interaction("", "a", time: 2), scene.stream.interaction("u", "a", time: 3),
      scene.stream.interaction("u", "b", time: 100_001),
    ]
    let first = #expect(throws: Ingest.Refused.self) { try scene.apply(batch) }
    #expect(first?.records.map(\.index) == [0, 1])
    #expect(first?.records.last?.rejection.reason == .outOfRange)
    batch.removeFirst(2)
    let second = #expect(throws: Ingest.Refused.self) { try scene.apply(batch) }
    #expect(second?.records.map(\.index) == [0])
    batch.removeFirst()
    #expect(try scene.apply(batch).interactions == 1)
  }

  @Test func descriptionsWithoutAPlaceInTheCatalogueAreRefusedTogether() throws {
    var settings = Settings.small(folder)
    settings.store.maxItems = 2
    let scene = try Scene(settings)
    func described(_ item: String) -> IngestRecord { scene.stream.record(.describe(ItemDescription(item: item, title: item))) }
    let batch = [
      described("a"), described("b"), described("c"), described("d"), scene.stream.record(.retire(item: "a")), described("e"), described("f"),
    ]
    let refused = #expect(throws: Ingest.Refused.self) { try scene.apply(batch) }
    #expect(refused?.records.map(\.index) == [2, 3, 6])
    #expect(try scene.apply([0, 1, 4, 5].map { batch[$0] }).described == 3)
  }

  @Test func anItemThatTheUserHasTwiceLeavesTheListOnce() throws {
    let scene = try Scene(.small(folder))
    for item in ["a", "b", "c"] { try scene.interact("v", item) }
    for _ in 0..<2 { try scene.interact("u", "a") }
    // Without a, b and c have one event each: ties count against it.
    #expect(try scene.interact("u", "b").ranks.map(\.popularity) == [1])
  }

  @Test func onlyTheConfiguredTypesExclude() throws {
    var settings = Settings.small(folder)
    settings.rules.excludeTypes = ["purchase"]
    let scene = try Scene(settings)
    let purchase = UInt8(try #require(settings.events.types.firstIndex { $0.name == "purchase" }))
    try scene.interact("u", "a")
    #expect(try scene.interact("u", "a", type: purchase).ranks.count == 1, "a viewed item may be recommended again")
    #expect(try scene.interact("u", "a").ranks.isEmpty)
  }

  @Test func popularityAndTheStreamsTimeGoOnAfterARestart() throws {
    var settings = Settings.small(folder)
    settings.quality.popularityWindowEvents = 30
    var random = SeededGenerator(seed: 1)
    var counts: [(Int, Int)] = []
    var time: Int64 = 0
    do {
      let scene = try Scene(settings)
      for _ in 0..<80 { try scene.interact("u \(random.below(9))", "item \(random.below(8) * random.below(3))") }
      counts = (0..<15).map { ($0, scene.ingest.quality.popularity.count(of: Int32($0))) }
      time = scene.ingest.streamTime
    }
    let (_, ingest) = try open(settings)
    for (item, count) in counts { #expect(ingest.quality.popularity.count(of: Int32(item)) == count) }
    #expect(ingest.streamTime == time)
    #expect(counts.map(\.1).reduce(0, +) == 30)
  }

  @Test func typesKeepTheirCodesWhenTheVocabularyChanges() throws {
    var settings = Settings.small(folder)
    do {
      let scene = try Scene(settings)
      try scene.interact("u", "a", type: 3)
    }
    settings.events.types = [.init("purchase", weight: 1), .init("new", weight: 1)]
    let scene = try Scene(settings)
    try scene.interact("u", "b", type: 0)
    try scene.interact("u", "c", type: 1)
    let names = try scene.store.read { (view) throws(StateStoreError) in try view.interactionTypes() }
    let kept = try #require(try scene.store.sequence(of: "u")).interactions.map { names[Int($0.type.rawValue)] }
    #expect(kept == ["purchase", "purchase", "new"])
  }
}
