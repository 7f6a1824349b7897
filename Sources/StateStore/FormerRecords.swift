import LMDB

/// Records as stores of schema 1 and 2 have them, for the step to schema 3: numbers by the byte, and scores in 16 bits.
private enum FormerRecords {
  /// Of sequences, pools and the journal.
  static let version: UInt8 = 1

  static func interactions(_ reader: inout RecordReader) throws(StateStoreError) -> [Interaction] {
    let count = try reader.count(elementSize: 3)
    var interactions: [Interaction] = []
    interactions.reserveCapacity(count)
    var time: Int64 = 0
    if count > 0 {
      time = try reader.signed()
      _ = try reader.varint()
    }
    for index in 0..<count {
      let item = ItemNumber(rawValue: try reader.varint(as: UInt32.self))
      let type = InteractionTypeCode(rawValue: try reader.byte())
      let code = try reader.varint()
      let (gap, overflow) = (code >> 2).multipliedReportingOverflow(by: code & 2 == 0 ? 1 : 1_000)
      guard !overflow, gap <= UInt64(PackedInteractions.maximumTime) * 2 else { throw RecordReader.damaged }
      if index > 0 { time += Int64(gap) }
      guard time.magnitude <= UInt64(PackedInteractions.maximumTime) else { throw RecordReader.damaged }
      let value = code & 1 == 0 ? nil : Float(bitPattern: try reader.littleEndian(UInt32.self))
      interactions.append(Interaction(item: item, type: type, time: time, value: value))
    }
    try reader.end()
    return interactions
  }

  static func pool(_ reader: inout RecordReader) throws(StateStoreError) -> PoolRecord {
    let modelVersion = try reader.varint()
    let revision = try reader.varint()
    let published = try reader.optional { (reader) throws(StateStoreError) in
      PoolRecord.Publication(
        digest: try reader.littleEndian(UInt64.self), count: try reader.varint(as: Int.self), time: try reader.signed())
    }
    let madeTime = try reader.signed()
    let count = try reader.count(elementSize: 1)
    var items: [ItemNumber] = []
    for _ in 0..<count { items.append(ItemNumber(rawValue: try reader.varint(as: UInt32.self))) }
    var scores: [Float] = []
    if count > 0, try reader.flag() {
      let low = Float(bitPattern: try reader.littleEndian(UInt32.self))
      let high = Float(bitPattern: try reader.littleEndian(UInt32.self))
      for _ in 0..<count { scores.append(low + (high - low) * (Float(try reader.littleEndian(UInt16.self)) / 65_535)) }
    } else {
      for _ in 0..<count { scores.append(Float(bitPattern: try reader.littleEndian(UInt32.self))) }
    }
    try reader.end()
    return PoolRecord(modelVersion: modelVersion, revision: revision, items: items, scores: scores, published: published, madeTime: madeTime)
  }

  /// Up to where an entry of the journal is now as it was, and the interactions behind it; nil for a forgotten user.
  static func journal(_ bytes: [UInt8]) throws(StateStoreError) -> (unchanged: ArraySlice<UInt8>, context: [Interaction])? {
    var reader = RecordReader(bytes, from: 1)
    guard try reader.byte() == 0 else { return nil }
    _ = try reader.string()
    for _ in 0..<3 { _ = try reader.varint() }
    _ = try reader.byte()
    _ = try reader.signed()
    _ = try reader.optional { (reader) throws(StateStoreError) in try reader.littleEndian(UInt32.self) }
    for _ in 0..<(try reader.count(elementSize: 1)) { _ = try reader.varint() }
    return (bytes[1..<reader.position], try interactions(&reader))
  }
}

extension WriteTransaction {
  /// The step from schema 2.
  func packRecords() throws(StateStoreError) {
    var highestRevision: UInt64 = 0
    try rewrite(databases.sequences) { (key, bytes) throws(StateStoreError) in
      var reader = RecordReader(bytes, from: 1)
      let user = try ExternalIDCoder.readIdentity(key: key, from: &reader)
      let partition = Int32(bitPattern: try reader.varint(as: UInt32.self))
      let last = try reader.varint()
      let interactions = PackedInteractions(try FormerRecords.interactions(&reader))
      var record: [UInt8] = []
      SequenceRecord(partition: partition, lastJournalSequence: last, interactions: interactions).encode(user: user, key: key, to: &record)
      return record
    }
    try rewrite(databases.pools) { (key, bytes) throws(StateStoreError) in
      var reader = RecordReader(bytes, from: 1)
      let user = try ExternalIDCoder.readIdentity(key: key, from: &reader)
      let pool = try FormerRecords.pool(&reader)
      highestRevision = max(highestRevision, pool.revision)
      var record: [UInt8] = []
      pool.encode(user: user, key: key, to: &record)
      return record
    }
    try rewrite(databases.journal) { (_, bytes) throws(StateStoreError) in
      var record = [JournalCoding.version]
      if let entry = try FormerRecords.journal(bytes) {
        record.append(contentsOf: entry.unchanged)
        PackedInteractions(entry.context).encode(to: &record)
      } else {
        record.append(contentsOf: bytes.dropFirst())
      }
      return record
    }
    // How many publishers had begun and not ended: each may have sent a list whose revision is not in the store.
    let publishers = Array("publishers".utf8)
    guard let bytes = try value(databases.meta, publishers) else { return }
    let floor = highestRevision + (bytes.span.bigEndian(UInt64.self) ?? 0)
    try setRevisionReserve(RevisionReserve(floor: floor, ceiling: floor))
    try delete(databases.meta, publishers)
  }

  /// Puts another record in the place of each former one.
  private func rewrite(
    _ database: Database, _ record: ([UInt8], [UInt8]) throws(StateStoreError) -> [UInt8]
  ) throws(StateStoreError) {
    var from: [UInt8] = []
    while true {
      let page = try collect(database, from: from, limit: 1_000) { key, bytes in (key: key, bytes: bytes) }
      guard let last = page.last else { return }
      for (key, bytes) in page where bytes.first == FormerRecords.version { try put(database, key, try record(key, bytes)) }
      // The lowest key above the last.
      from = last.key + [0]
    }
  }
}
