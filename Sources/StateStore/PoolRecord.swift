/// A user's candidate pool: the top items by some snapshot, from which lists are published and negatives drawn.
public struct PoolRecord: Hashable, Sendable {
  /// What the user's list looked like when it was last published.
  public struct Publication: Hashable, Sendable {
    /// Of the published items, as the ranker makes it: to see whether a new list differs.
    public var digest: UInt64
    public var count: Int
    /// Milliseconds since 1970.
    public var time: Int64

    public init(digest: UInt64, count: Int, time: Int64) {
      self.digest = digest
      self.count = count
      self.time = time
    }
  }

  /// Of the snapshot that made the pool.
  public var modelVersion: UInt64
  /// Of the newest list that went out. It rises strictly with every list.
  public var revision: UInt64
  /// Best first.
  public var items: [ItemNumber]
  /// One an item. Kept to 1/65,535 of the span between the highest and the lowest, which both are kept exactly; order is kept, though
  /// near scores may become equal.
  public var scores: [Float]
  public var published: Publication?
  /// Milliseconds since 1970.
  public var madeTime: Int64

  public init(
    modelVersion: UInt64, revision: UInt64, items: [ItemNumber], scores: [Float], published: Publication? = nil, madeTime: Int64
  ) {
    self.modelVersion = modelVersion
    self.revision = revision
    self.items = items
    self.scores = scores
    self.published = published
    self.madeTime = madeTime
  }
}

/// Record: version, the id where the key is a hash, model version, revision, publication, time made, items, scores.
extension PoolRecord {
  private static let version: UInt8 = 1

  package init(_ bytes: [UInt8], user: String, key: [UInt8]) throws(StateStoreError) {
    var reader = try Self.reader(bytes, user: user, key: key)
    try self.init(fields: &reader)
  }

  /// The record's revision alone.
  static func revision(_ bytes: [UInt8], user: String, key: [UInt8]) throws(StateStoreError) -> UInt64 {
    var reader = try reader(bytes, user: user, key: key)
    _ = try reader.varint()
    return try reader.varint()
  }

  /// Of what comes behind the identity.
  private static func reader(_ bytes: [UInt8], user: String, key: [UInt8]) throws(StateStoreError) -> RecordReader {
    var reader = RecordReader(bytes)
    try reader.version(version)
    try ExternalIDCoder.checkIdentity(user, key: key, from: &reader)
    return reader
  }

  private init(fields reader: inout RecordReader) throws(StateStoreError) {
    modelVersion = try reader.varint()
    revision = try reader.varint()
    published = try reader.optional { (reader) throws(StateStoreError) in
      Publication(
        digest: try reader.littleEndian(UInt64.self), count: try reader.varint(as: Int.self), time: try reader.signed())
    }
    madeTime = try reader.signed()
    let count = try reader.count(elementSize: 1)
    items = []
    items.reserveCapacity(count)
    for _ in 0..<count { items.append(ItemNumber(rawValue: try reader.varint(as: UInt32.self))) }
    scores = try ScoreCoding.decode(count: count, from: &reader)
    try reader.end()
  }

  package func encode(user: String, key: [UInt8], to record: inout [UInt8]) {
    record.append(Self.version)
    ExternalIDCoder.appendIdentity(user, key: key, to: &record)
    record.appendVarint(modelVersion)
    record.appendVarint(revision)
    record.appendOptional(published) {
      $0.appendLittleEndian($1.digest)
      $0.appendVarint(UInt64($1.count))
      $0.appendSigned($1.time)
    }
    record.appendSigned(madeTime)
    record.appendVarint(UInt64(items.count))
    for item in items { record.appendVarint(UInt64(item.rawValue)) }
    ScoreCoding.encode(scores, to: &record)
  }
}

/// Scores as 16 bits each between the lowest and the highest: half of a pool's size would be scores otherwise. Not finite ones are kept
/// whole.
private enum ScoreCoding {
  private static let steps: Float = 65_535

  static func encode(_ scores: [Float], to record: inout [UInt8]) {
    guard let low = scores.min(), let high = scores.max() else { return }
    let span = high - low
    guard scores.allSatisfy(\.isFinite), span.isFinite else {
      record.append(0)
      for score in scores { record.appendLittleEndian(score.bitPattern) }
      return
    }
    record.append(1)
    record.appendLittleEndian(low.bitPattern)
    record.appendLittleEndian(high.bitPattern)
    for score in scores { record.appendLittleEndian(span > 0 ? UInt16(((score - low) / span * steps).rounded()) : 0) }
  }

  static func decode(count: Int, from reader: inout RecordReader) throws(StateStoreError) -> [Float] {
    guard count > 0 else { return [] }
    var scores: [Float] = []
    scores.reserveCapacity(count)
    if try reader.flag() {
      let low = Float(bitPattern: try reader.littleEndian(UInt32.self))
      let high = Float(bitPattern: try reader.littleEndian(UInt32.self))
      for _ in 0..<count {
        let step = try reader.littleEndian(UInt16.self)
        scores.append(step == .max ? high : low + (high - low) * (Float(step) / steps))
      }
    } else {
      for _ in 0..<count { scores.append(Float(bitPattern: try reader.littleEndian(UInt32.self))) }
    }
    return scores
  }
}
