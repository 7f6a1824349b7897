import CSimdjson

/// Decodes and validates messages of the interactions topic.
///
/// - A null value (a tombstone), or an event whose type is `forget`, asks to erase the user.
/// - Where the user field is missing, the record's key is the user; where both are there and differ, the field holds.
/// - A field that is null is as if it were missing, and of a repeated key the last one holds.
/// - A CloudEvent in binary mode is read as if it were in structured mode: its data under `/data`, its attributes beside it.
///
/// One decoder belongs to one thread at a time.
public struct InteractionDecoder: ~Copyable, Sendable {
  /// The type that asks to erase a user.
  public static let forgetType = "forget"
  /// Most items in `shown`.
  public static let maximumShown = 4096
  /// Most items of an event that names several.
  public static let maximumItems = 1024

  /// What is read from where, and what is allowed.
  public struct Configuration: Sendable {
    /// JSON pointers of the fields; an empty one is never read.
    public var fields = Fields()
    /// Code of each interaction type.
    public var types: [String: UInt8]
    /// How far ahead of now an event's time may be, in milliseconds.
    public var maximumFuture: Int64 = 300_000
    public var maximumMessageBytes = 1 << 20
    /// An event of another type, or of none, is passed over, not rejected.
    public var ignoresOtherTypes = false

    public init(types: [String: UInt8]) { self.types = types }
  }

  /// JSON pointers (RFC 6901) of an interaction's fields.
  public struct Fields: Sendable {
    public var user = "/user"
    /// A `*` in it stands for each element of an array, as in `/items/*/item_id`: the event is an interaction with each of these items.
    public var item = "/item"
    public var type = "/type"
    /// Empty: the record's timestamp is the event's time.
    public var time = "/time"
    public var value = "/value"
    public var session = "/session"
    public var context = "/context"
    public var shown = "/shown"

    public init() {}
  }

  private enum Field {
    static let user = 0, item = 1, type = 2, time = 3, value = 4, session = 5, context = 6, shown = 7
  }

  private var reader: EventReader
  private let types: [(name: [UInt8], code: UInt8)]
  private let maximumFuture: Int64
  private let timeIsOfRecord: Bool
  private let ignoresOtherTypes: Bool
  /// Where an element of the array at the item's pointer has its item; nil where the pointer is that of one item.
  private let elementPointer: String?

  /// - Throws: ``InvalidPointer`` if a field's pointer is none.
  public init(_ configuration: Configuration) throws(InvalidPointer) {
    let fields = configuration.fields
    var itemPointer = fields.item
    if let star = fields.item.firstRange(of: "/*"), star.upperBound == fields.item.endIndex || fields.item[star.upperBound] == "/" {
      itemPointer = String(fields.item[..<star.lowerBound])
      elementPointer = String(fields.item[star.upperBound...])
    } else {
      elementPointer = nil
    }
    reader = try EventReader(
      fields: [
        ("user", fields.user), ("item", itemPointer), ("type", fields.type), ("time", fields.time), ("value", fields.value),
        ("session", fields.session), ("context", fields.context), ("shown", fields.shown),
      ], maximumMessageBytes: configuration.maximumMessageBytes)
    // In the order of their codes, in which the common ones usually come first.
    types = configuration.types.sorted { ($0.value, $0.key) < ($1.value, $1.key) }.map { (Array($0.key.utf8), $0.value) }
    maximumFuture = configuration.maximumFuture
    timeIsOfRecord = fields.time.isEmpty
    ignoresOtherTypes = configuration.ignoresOtherTypes
  }

  /// Decodes one record.
  /// - Parameters:
  ///   - value: the message, or nil for a tombstone.
  ///   - timestamp: the record's own, in milliseconds since 1970.
  ///   - attributes: those of a CloudEvent in binary mode.
  ///   - now: milliseconds since 1970, from which the future is counted.
  public mutating func decode(
    value: RawSpan?, key: RawSpan?, timestamp: Int64, attributes: CloudEventAttributes? = nil, now: Int64
  ) -> DecodedInteraction {
    do throws(Rejection) {
      guard let value else { return .forget(user: try reader.id(inKey: key)) }
      try reader.parse(value, attributes: attributes)
      return try decode(key: key, timestamp: timestamp, now: now)
    } catch {
      return ignoresOtherTypes && error.field == reader.name(Field.type) ? .ignored : .rejected(error)
    }
  }

  private func decode(key: RawSpan?, timestamp: Int64, now: Int64) throws(Rejection) -> DecodedInteraction {
    guard let type = try type() else { return .forget(user: try reader.id(Field.user, orKey: key)) }
    let latest = now + maximumFuture
    let time =
      timeIsOfRecord
      ? try reader.check(time: timestamp, latest: latest, name: "time", found: "the record's timestamp \(timestamp)")
      : try reader.time(Field.time, latest: latest)
    let user = try reader.id(Field.user, orKey: key)
    guard let elementPointer else { return .interaction(try interaction(user, try reader.id(Field.item), type, time)) }
    let items = try reader.ids(Field.item, at: elementPointer, atMost: Self.maximumItems)
    let first = try interaction(user, items[0], type, time)
    return .interactions(
      items.map { item in
        var interaction = first
        interaction.item = item
        return interaction
      })
  }

  /// With what is read from the optional fields.
  private func interaction(_ user: String, _ item: String, _ type: UInt8, _ time: Int64) throws(Rejection) -> Interaction {
    Interaction(
      user: user,
      item: item,
      type: type,
      time: time,
      value: try reader.optionalFloat(Field.value),
      session: try reader.optionalString(Field.session),
      context: try reader.optionalObject(Field.context),
      shown: try reader.optionalIDs(Field.shown, atMost: Self.maximumShown))
  }

  /// The code of the type, or nil for the one that asks to forget.
  private func type() throws(Rejection) -> UInt8? {
    try reader.require(Field.type, .CSIMDJSON_STRING, "a string")
    let code = reader.extractor.withBytes(of: Field.type) { text in types.first { text.equals($0.name) }?.code }
    if let code { return code }
    if reader.extractor.withBytes(of: Field.type, { $0.equals(Array(Self.forgetType.utf8)) }) { return nil }
    let known = types.map { String(decoding: $0.name, as: UTF8.self) }.joined(separator: ", ")
    throw Rejection(
      .unknownType, field: reader.name(Field.type),
      "\(reader.name(Field.type)) is \(reader.extractor.found(Field.type)), known are \(known)")
  }
}

extension Span<UInt8> {
  fileprivate func equals(_ other: [UInt8]) -> Bool {
    guard count == other.count else { return false }
    for index in indices where self[index] != other[index] { return false }
    return true
  }
}
