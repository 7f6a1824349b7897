@testable import StateStore
import TestSupport
import Testing

/// Records as they may come from a damaged page: reading must give a value or throw, and never trap.
struct RecordCodingTests {
  private static let longID = String(repeating: "x", count: 600)

  private static let interactions = [
    Interaction(1, time: 1_000), Interaction(70_000, type: 3, time: 2_500, value: 1.25), Interaction(.max, time: 90_000_000),
  ]

  /// Each kind of record: a true one and its reader, with a short key and with a hash.
  private static let records: [(name: String, bytes: [UInt8], read: @Sendable ([UInt8]) throws -> Void)] = {
    var records: [(name: String, bytes: [UInt8], read: @Sendable ([UInt8]) throws -> Void)] = []
    for (id, key) in [("ada", Array("ada".utf8)), (longID, [0xFF] + [UInt8](repeating: 1, count: 32))] {
      var sequence: [UInt8] = []
      SequenceRecord(partition: 3, lastJournalSequence: 900, interactions: PackedInteractions(interactions))
        .encode(user: id, key: key, to: &sequence)
      records.append(("sequence", sequence, { _ = try SequenceRecord($0, user: id, key: key).decoded(user: id) }))
      records.append(("sequence without user", sequence, { _ = try SequenceRecord.withUser($0, key: key).record.decoded(user: id) }))
      var pool: [UInt8] = []
      let items = (0..<9).map { ItemNumber(rawValue: $0 * 1_000) }
      PoolRecord(
        modelVersion: 9, revision: 8, items: items, scores: items.map { Float($0.rawValue) },
        published: .init(digest: 5, count: 3, time: 2), madeTime: 1
      ).encode(user: id, key: key, to: &pool)
      records.append(("pool", pool, { _ = try PoolRecord($0, user: id, key: key) }))
      var mark: [UInt8] = []
      StaleMark(sequence: 7, asOf: AsOf(topic: "interactions", partition: 2, offset: 1 << 40, time: -5), dueTime: 12)
        .encode(user: id, key: key, to: &mark)
      records.append(("stale mark", mark, { _ = try StaleMark($0, user: id, key: key) }))
    }
    var entry: [UInt8] = []
    JournalCoding.encode(
      UserInteraction(user: "ada", partition: 0, interaction: interactions[1], shown: [ItemNumber(rawValue: 4)]),
      context: PackedInteractions(interactions), distanceToPrevious: 12, to: &entry)
    records.append(("journal entry", entry, { _ = try JournalCoding.decode($0) }))
    records.append(("journal link", entry, { _ = try JournalCoding.link($0) }))
    var forget: [UInt8] = []
    JournalCoding.encode(forget: UserFingerprint("ada"), to: &forget)
    records.append(("forget entry", forget, { _ = try JournalCoding.decode($0) }))
    var item: [UInt8] = []
    let description = ItemDescription(
      title: "Sofa", categories: ["a", "b"], brand: "Acme", price: 1, features: ["text": [1, 2, 3], "image": []])
    CatalogueItem(id: "a", number: ItemNumber(rawValue: 1), row: 4, rowSince: 2, change: 3, state: .described(description))
      .encode(to: &item)
    records.append(("item", item, { _ = try CatalogueItem($0, number: ItemNumber(rawValue: 1)) }))
    var checkpoint: [UInt8] = []
    CheckpointEntry(name: "model", sha256: [UInt8](repeating: 1, count: 32), modelVersion: 3, cursor: 4).encode(to: &checkpoint)
    records.append(("checkpoint", checkpoint, { _ = try CheckpointEntry($0) }))
    return records
  }()

  @Test func anItemAsSchema1HadItIsRead() throws {
    let record: [UInt8] = [1, 1, UInt8(ascii: "a"), 1, 4, 2, 3, 0]
    let item = CatalogueItem(id: "a", number: ItemNumber(rawValue: 1), row: 4, rowSince: 2, change: 3, state: .undescribed)
    #expect(try CatalogueItem(record, number: ItemNumber(rawValue: 1)) == item)
  }

  @Test func trueRecordsAreRead() throws {
    for record in Self.records { try record.read(record.bytes) }
  }

  @Test func everyTruncationIsAnError() {
    for record in Self.records where record.name != "journal link" {
      for length in 0..<record.bytes.count {
        #expect(throws: StateStoreError.self, "\(record.name) cut to \(length)") { try record.read(Array(record.bytes[..<length])) }
      }
    }
  }

  @Test func anUnknownVersionIsAnError() {
    for record in Self.records {
      #expect(throws: StateStoreError.self, "\(record.name)") { try record.read([record.bytes[0] + 1] + record.bytes.dropFirst()) }
    }
  }

  @Test func damagedBytesNeverTrap() {
    var generator = SeededGenerator(seed: 3)
    var thrown = 0
    for record in Self.records {
      for _ in 0..<5_000 {
        var bytes = record.bytes
        for _ in 0...generator.below(6) {
          // Bytes that make long varints are the dangerous ones.
          bytes[generator.below(bytes.count)] = [0xFF, 0x80, 0x7F, 0, UInt8(generator.below(256))].randomElement(using: &generator)!
        }
        if generator.below(3) == 0 { bytes.removeLast(generator.below(bytes.count)) }
        if generator.below(3) == 0 {
          bytes += (0..<generator.below(12)).map { _ in generator.below(2) == 0 ? 0xFF : UInt8(generator.below(256)) }
        }
        do { try record.read(bytes) } catch { thrown += 1 }
      }
    }
    #expect(thrown > 10_000)
  }

  @Test func randomBytesNeverTrap() {
    var generator = SeededGenerator(seed: 8)
    for record in Self.records {
      for _ in 0..<5_000 {
        let bytes = record.bytes.prefix(1 + generator.below(3)) + (0..<generator.below(60)).map { _ in UInt8(generator.below(256)) }
        do { try record.read(Array(bytes)) } catch { #expect(error is StateStoreError) }
      }
    }
  }

  @Test func packedInteractionsAreShortenedAndLengthenedLikeAList() throws {
    var generator = SeededGenerator(seed: 5)
    for _ in 0..<300 {
      var packed = PackedInteractions()
      var list: [Interaction] = []
      var time = Int64(generator.below(1_000)) - 500
      for _ in 0..<generator.below(30) {
        // Gaps of nothing, of whole seconds, and of any length.
        time += [0, Int64(generator.below(9)) * 1_000, Int64(generator.below(1_000_000))].randomElement(using: &generator)!
        let interaction = Interaction(
          UInt32(generator.below(1 << 22)), type: UInt8(generator.below(256)), time: time, value: generator.below(2) == 0 ? nil : 0.5)
        try packed.append(interaction)
        list.append(interaction)
        if generator.below(4) == 0 {
          let limit = generator.below(8)
          try packed.keepLast(limit)
          list = list.suffix(limit)
        }
        #expect(try packed.decoded() == list)
      }
    }
  }

  /// A usual sequence takes little more than what its items and gaps tell; one with a long gap now and then does not pay for it with every entry.
  @Test func sequencesArePackedTightly() throws {
    var generator = SeededGenerator(seed: 9)
    for longEvery in [0, 10] {
      var packed = PackedInteractions()
      var time: Int64 = 1_777_593_600_000
      for index in 0..<200 {
        time += longEvery > 0 && index % longEvery == 0 ? 86_400_000 + Int64(generator.below(1000)) : Int64(generator.below(60_000))
        try packed.append(Interaction(UInt32(generator.below(100_000)), type: UInt8(index % 5), time: time))
        try packed.keepLast(50)
      }
      var record: [UInt8] = []
      packed.encode(to: &record)
      // 17 bits and 2.3 for the names, 16 for the gap; 34 for a long one.
      #expect(record.count < (longEvery > 0 ? 255 : 240), "\(record.count) bytes")
      #expect(try packed.decoded().count == 50)
    }
  }

  @Test func numbersOfAnyWidthComeBackFromBits() throws {
    var generator = SeededGenerator(seed: 10)
    for _ in 0..<200 {
      let numbers = (0..<generator.below(40)).map { _ in
        let width = generator.below(57)
        return (value: UInt64(generator.below(.max)) & (1 << UInt64(width) - 1), width: width, unary: generator.below(3) == 0 ? generator.below(130) : 3)
      }
      var writer = BitWriter()
      for number in numbers {
        writer.append(number.value, width: number.width)
        writer.appendUnary(number.unary)
        // As one that goes on with what was stored.
        writer = BitWriter(writer.bytes, unusedBits: writer.unusedBits)
      }
      var reader = BitReader(writer.bytes)
      for number in numbers {
        #expect(try reader.read(number.width) == number.value)
        #expect(try reader.readUnary() == number.unary)
      }
      #expect(reader.position == writer.bytes.count * 8 - writer.unusedBits)
      #expect(throws: StateStoreError.self) { try reader.read(8) }
    }
  }
}
