import StateStore

let recordTarget = FuzzTarget(seeds: recordSeeds, feed: feedRecord)

private let recordKeys: [(id: String, key: [UInt8])] = [
  ("ada", Array("ada".utf8)), (String(repeating: "x", count: 600), [0xFF] + [UInt8](repeating: 1, count: 32)),
]

/// The first byte says which record it is, and of which key.
@Sendable private func feedRecord(_ bytes: [UInt8]) {
  guard let kind = bytes.first else { return }
  let record = Array(bytes.dropFirst())
  let (id, key) = recordKeys[Int(kind >> 4) % 2]
  do {
    switch kind & 0xF {
    case 0: _ = try SequenceRecord(record, user: id, key: key).decoded(user: id)
    case 1: _ = try SequenceRecord.withUser(record, key: key).record.decoded(user: id)
    case 2: _ = try PoolRecord(record, user: id, key: key)
    case 3: _ = try StaleMark(record, user: id, key: key)
    case 4: _ = try JournalCoding.decode(record)
    case 5: _ = try JournalCoding.link(record)
    case 6: _ = try CatalogueItem(record, number: ItemNumber(rawValue: 1))
    case 7: _ = try CheckpointEntry(record)
    default: _ = try AdmissionCount(record)
    }
  } catch {}
}

@Sendable private func recordSeeds() -> [[UInt8]] {
  var seeds: [[UInt8]] = []
  func add(_ kind: UInt8, _ encode: (inout [UInt8]) -> Void) {
    var bytes = [kind]
    encode(&bytes)
    seeds.append(bytes)
  }
  let interactions = [1_000, 2_500, 90_000_000].map {
    Interaction(item: ItemNumber(rawValue: UInt32($0)), type: InteractionTypeCode(rawValue: 3), time: Int64($0), value: 1.25)
  }
  for (number, (id, key)) in recordKeys.enumerated() {
    let flag = UInt8(number << 4)
    for kind in [0, 1] as [UInt8] {
      add(flag | kind) {
        SequenceRecord(partition: 3, lastJournalSequence: 900, interactions: PackedInteractions(interactions)).encode(user: id, key: key, to: &$0)
      }
    }
    add(flag | 2) {
      PoolRecord(
        modelVersion: 9, revision: 8, items: interactions.map(\.item), scores: [3, 2, 1], published: .init(digest: 5, count: 3, time: 2), madeTime: 1
      ).encode(user: id, key: key, to: &$0)
    }
    add(flag | 3) {
      StaleMark(sequence: 7, asOf: AsOf(topic: "interactions", partition: 2, offset: 1 << 40, time: -5), dueTime: 12)
        .encode(user: id, key: key, to: &$0)
    }
  }
  for kind in [4, 5] as [UInt8] {
    add(kind) {
      JournalCoding.encode(
        UserInteraction(user: "ada", partition: 0, interaction: interactions[1], shown: [ItemNumber(rawValue: 4)]),
        context: PackedInteractions(interactions), distanceToPrevious: 12, to: &$0)
    }
    add(kind) { JournalCoding.encode(forget: UserFingerprint("ada"), to: &$0) }
  }
  add(6) {
    CatalogueItem(
      id: "a", number: ItemNumber(rawValue: 1), row: 4, rowSince: 2, change: 3,
      state: .described(ItemDescription(title: "Sofa", categories: ["a"], brand: "Acme", price: 1, features: ["text": [1, 2]]))
    ).encode(to: &$0)
  }
  add(7) { CheckpointEntry(name: "model", sha256: [UInt8](repeating: 1, count: 32), modelVersion: 3, cursor: 4).encode(to: &$0) }
  add(8) { $0 += AdmissionCount(hash: 11).encoded }
  return seeds
}
