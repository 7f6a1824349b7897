/// One line of an interaction file.
public struct InteractionRecord: Sendable, Equatable {
  public var user: String
  public var item: String
  /// Milliseconds since 1970.
  public var time: Int64?
  /// Where the interaction stands among those of its user.
  public var position: Int?
  public var type: String?
  /// A rating, a price or a quantity.
  public var value: Double?
  /// The line on which the record starts, from 1.
  public var line: Int

  public init(
    user: String, item: String, time: Int64? = nil, position: Int? = nil, type: String? = nil, value: Double? = nil, line: Int
  ) {
    self.user = user
    self.item = item
    self.time = time
    self.position = position
    self.type = type
    self.value = value
    self.line = line
  }
}

/// The interactions of one file, in the file's order, without holding the file in memory.
///
/// Tab-separated, comma-separated (RFC 4180) or JSON lines, plain or gzip. The header or the keys name the columns: `user` or `session`
/// (also `userId`, `visitorid`), `item` (also `itemId`, `movieId`), and, where there are any, `time` or `timestamp`, `position`,
/// `type` (also `event`), `value` or `rating`. Letter case and underscores do not matter; other columns are ignored.
public struct InteractionReader: ~Copyable {
  enum Column: Int {
    case user, item, time, position, type, value
  }

  static let columns = [
    RecordReader.Column("user", "userId", "visitorId", "session", "sessionId", required: true),
    RecordReader.Column("item", "itemId", "movieId", required: true),
    RecordReader.Column("time", "timestamp"),
    RecordReader.Column("position"),
    RecordReader.Column("type", "event"),
    RecordReader.Column("value", "rating"),
  ]

  private var records: RecordReader

  /// - Throws: if the file cannot be opened, or its header lacks a user or an item.
  public init(path: String) throws(DatasetError) {
    records = try RecordReader(try ByteSource(path: path), columns: Self.columns)
  }

  /// The share of the file that has been read.
  public var fractionRead: Double { records.fractionRead }

  /// - Returns: the next interaction; nil at the end of the file.
  /// - Throws: the error of the line that breaks the format; reading cannot go on after it.
  public mutating func next() throws(DatasetError) -> InteractionRecord? {
    guard try records.advance(), let user = records.string(Column.user.rawValue), let item = records.string(Column.item.rawValue) else {
      return nil
    }
    return InteractionRecord(
      user: user, item: item, time: try records.time(Column.time.rawValue), position: try records.integer(Column.position.rawValue),
      type: records.string(Column.type.rawValue), value: try records.number(Column.value.rawValue), line: records.line)
  }
}
