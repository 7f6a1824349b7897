import Crypto
import LMDB

extension ReadTransaction {
  /// The SHA-256 (32 bytes) of sequences, catalogue and offsets: the same for the same history, however its topics were interleaved and
  /// however often it was interrupted. Hence by external ids and type names, without numbers, rows, partitions of users and journal
  /// sequences.
  ///
  /// Each part goes in the order of the keys; every text and list has its length in front, so that no two states give the same bytes.
  public final func digest() throws(StateStoreError) -> [UInt8] {
    try settle()
    var sink = DigestSink()
    try digestSequences(&sink)
    try digestCatalogue(&sink)
    let offsets = try self.offsets()
    sink.begin("offsets", count: offsets.count)
    for offset in offsets {
      sink.add { bytes in
        bytes.appendString(offset.topic)
        bytes.appendSigned(Int64(offset.partition))
        bytes.appendSigned(offset.next)
      }
    }
    return sink.finish()
  }

  private func digestSequences(_ sink: inout DigestSink) throws(StateStoreError) {
    let typeNames = try interactionTypes()
    // Most interactions are with few items.
    var ids: [ItemNumber: String] = [:]
    sink.begin("sequences", count: try count(databases.sequences))
    try forEach(in: databases.sequences) { (key, bytes) throws(StateStoreError) in
      let (user, record) = try SequenceRecord.withUser(bytes, key: key)
      let interactions = try record.interactions.decoded()
      var encoded: [UInt8] = []
      encoded.appendString(user)
      encoded.appendVarint(UInt64(interactions.count))
      for interaction in interactions {
        if ids[interaction.item] == nil {
          if ids.count >= WriterMemory.maximumIDs { ids.removeAll() }
          ids[interaction.item] = try itemID(interaction.item)
        }
        let type = Int(interaction.type.rawValue)
        guard let item = ids[interaction.item], type < typeNames.count else {
          throw StateStoreError.damaged("a sequence names an item or a type that the store does not know")
        }
        encoded.appendString(item)
        encoded.appendString(typeNames[type])
        encoded.appendSigned(interaction.time)
        encoded.appendOptional(interaction.value) { $0.appendLittleEndian($1.bitPattern) }
      }
      sink.add { $0.append(contentsOf: encoded) }
    }
  }

  private func digestCatalogue(_ sink: inout DigestSink) throws(StateStoreError) {
    sink.begin("catalogue", count: try count(databases.itemNumbers))
    try forEach(in: databases.itemNumbers) { (_, bytes) throws(StateStoreError) in
      // The number is the record's end, after the id where there is one.
      var reader = RecordReader(bytes, from: bytes.count - 4)
      guard bytes.count >= 4, let item = try item(ItemNumber(rawValue: try reader.littleEndian(UInt32.self))) else {
        throw StateStoreError.damaged("an item has a number and no record")
      }
      sink.add { bytes in
        bytes.appendString(item.id)
        switch item.state {
        case .undescribed: bytes.append(0)
        case .described(let description):
          bytes.append(1)
          description.encode(to: &bytes)
        case .retired: bytes.append(2)
        }
      }
    }
  }

  private func forEach(
    in database: Database, _ body: ([UInt8], [UInt8]) throws(StateStoreError) -> Void
  ) throws(StateStoreError) {
    var failure: StateStoreError?
    try scan(database) { key, value in
      do throws(StateStoreError) {
        try body(key.copied(), value.copied())
        return true
      } catch {
        failure = error
        return false
      }
    }
    if let failure { throw failure }
  }
}

/// Gathers small pieces, so that the hash gets large ones.
private struct DigestSink {
  private var hasher = SHA256()
  private var pending: [UInt8] = []

  mutating func begin(_ part: String, count: Int) {
    add { bytes in
      bytes.appendString(part)
      bytes.appendVarint(UInt64(count))
    }
  }

  mutating func add(_ write: (inout [UInt8]) -> Void) {
    write(&pending)
    if pending.count >= 1 << 16 {
      hasher.update(data: pending)
      pending.removeAll(keepingCapacity: true)
    }
  }

  mutating func finish() -> [UInt8] {
    hasher.update(data: pending)
    return Array(hasher.finalize())
  }
}
