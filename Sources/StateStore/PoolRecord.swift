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
  /// One an item, falling. Kept to 1/511 of the span between the highest and the lowest, which both are kept exactly; order is kept, though
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

/// Record: version, the id where the key is a hash, model version, revision, time made, publication, count, scale of the scores, width of the items, then as
/// bits items and scores.
extension PoolRecord {
  private static let version: UInt8 = 2

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
    self = try Self.withoutItems(&reader)
    if let (count, width, first, scale) = try Self.itemBits(&reader) {
      var bits = first
      items.reserveCapacity(count)
      for _ in 0..<count { items.append(ItemNumber(rawValue: UInt32(truncatingIfNeeded: try bits.read(width)))) }
      scores = try scale.read(count, from: &bits)
      guard (bits.position + 7) / 8 == reader.bytes.count else { throw RecordReader.damaged }
      _ = reader.rest()
    }
    try reader.end()
  }

  /// Where the item stands among the record's; nil when it is not one of them.
  static func rank(of item: ItemNumber, in bytes: [UInt8], user: String, key: [UInt8]) throws(StateStoreError) -> Int? {
    var reader = try reader(bytes, user: user, key: key)
    _ = try withoutItems(&reader)
    guard let (count, width, first, _) = try itemBits(&reader) else { return nil }
    var bits = first
    for rank in 0..<count {
      if try bits.read(width) == item.rawValue { return rank }
    }
    return nil
  }

  private static func withoutItems(_ reader: inout RecordReader) throws(StateStoreError) -> PoolRecord {
    var pool = PoolRecord(
      modelVersion: try reader.varint(), revision: try reader.varint(), items: [], scores: [], madeTime: try reader.signed())
    let madeTime = pool.madeTime
    pool.published = try reader.optional { (reader) throws(StateStoreError) in
      Publication(
        digest: try reader.littleEndian(UInt64.self), count: try reader.varint(as: Int.self), time: madeTime &- (try reader.signed()))
    }
    return pool
  }

  /// How many items there are, each of so many bits, and where they begin; the scores come behind them. Nil when there are none.
  private static func itemBits(
    _ reader: inout RecordReader
  ) throws(StateStoreError) -> (count: Int, width: Int, bits: BitReader, scale: ScoreScale)? {
    let count = try reader.varint(as: Int.self)
    guard count > 0 else { return nil }
    let scale = try ScoreScale(count: count, from: &reader)
    let width = Int(try reader.byte())
    // So that a damaged count cannot ask for more memory than the record has.
    guard width <= 32, count <= reader.remaining * 8 else { throw RecordReader.damaged }
    return (count, width, BitReader(reader.bytes, from: reader.position * 8), scale)
  }

  package func encode(user: String, key: [UInt8], to record: inout [UInt8]) {
    record.append(Self.version)
    ExternalIDCoder.appendIdentity(user, key: key, to: &record)
    record.appendVarint(modelVersion)
    record.appendVarint(revision)
    record.appendSigned(madeTime)
    record.appendOptional(published) {
      $0.appendLittleEndian($1.digest)
      $0.appendVarint(UInt64($1.count))
      $0.appendSigned(madeTime &- $1.time)
    }
    record.appendVarint(UInt64(items.count))
    guard !items.isEmpty else { return }
    let scale = ScoreScale(scores)
    scale.encode(to: &record)
    let itemWidth = items.reduce(0) { max($0, $1.rawValue.significantBits) }
    record.append(UInt8(itemWidth))
    var bits = BitWriter()
    for item in items { bits.append(UInt64(item.rawValue), width: itemWidth) }
    scale.write(scores, to: &bits)
    record.append(contentsOf: bits.bytes)
  }
}

/// How scores are kept. Falling ones, as they should be, are steps down from the highest to the lowest, each as a Rice code (a unary quotient and some low
/// bits); others whole.
private enum ScoreScale {
  case falling(low: Float, high: Float, lowBits: Int)
  case whole

  private static let steps = 511

  init(_ scores: [Float]) {
    guard let high = scores.first, let low = scores.last, scores.allSatisfy(\.isFinite), (high - low).isFinite,
      zip(scores, scores.dropFirst()).allSatisfy({ $0 >= $1 })
    else {
      self = .whole
      return
    }
    self = .falling(low: low, high: high, lowBits: Self.lowBits(scores.count))
  }

  /// Of a step of the mean size.
  private static func lowBits(_ count: Int) -> Int { max(0, (steps / max(1, count - 1)).significantBits - 1) }

  func encode(to record: inout [UInt8]) {
    guard case .falling(let low, let high, _) = self else {
      record.append(0)
      return
    }
    record.append(1)
    record.appendLittleEndian(low.bitPattern)
    record.appendLittleEndian(high.bitPattern)
  }

  init(count: Int, from reader: inout RecordReader) throws(StateStoreError) {
    guard try reader.flag() else {
      self = .whole
      return
    }
    let low = Float(bitPattern: try reader.littleEndian(UInt32.self))
    self = .falling(low: low, high: Float(bitPattern: try reader.littleEndian(UInt32.self)), lowBits: Self.lowBits(count))
  }

  func write(_ scores: [Float], to bits: inout BitWriter) {
    guard case .falling(let low, let high, let lowBits) = self else {
      for score in scores { bits.append(UInt64(score.bitPattern), width: 32) }
      return
    }
    var last = Self.steps
    for score in scores {
      let place = high > low ? min(last, Int(((score - low) / (high - low) * Float(Self.steps)).rounded())) : last
      bits.appendUnary((last - place) >> lowBits)
      bits.append(UInt64(last - place) & (1 << UInt64(lowBits) - 1), width: lowBits)
      last = place
    }
  }

  func read(_ count: Int, from bits: inout BitReader) throws(StateStoreError) -> [Float] {
    var scores: [Float] = []
    scores.reserveCapacity(count)
    guard case .falling(let low, let high, let lowBits) = self else {
      for _ in 0..<count { scores.append(Float(bitPattern: UInt32(truncatingIfNeeded: try bits.read(32)))) }
      return scores
    }
    var place = Self.steps
    for _ in 0..<count {
      place -= try bits.readUnary() << lowBits | Int(try bits.read(lowBits))
      guard place >= 0 else { throw RecordReader.damaged }
      scores.append(place == Self.steps ? high : low + (high - low) * (Float(place) / Float(Self.steps)))
    }
    return scores
  }
}
