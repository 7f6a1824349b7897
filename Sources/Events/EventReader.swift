import CSimdjson

/// Reads checked values out of a message by field.
struct EventReader: ~Copyable, Sendable {
  /// Longest external id, in bytes.
  static let maximumIDLength = 1 << 16

  var extractor: FieldExtractor
  /// What each field is called in a rejection: its plain name, or its pointer where that was configured otherwise.
  private let names: [String]
  private let maximumMessageBytes: Int

  init(fields: [(name: String, pointer: String)], maximumMessageBytes: Int) throws(InvalidPointer) {
    extractor = try FieldExtractor(pointers: fields.map(\.pointer))
    names = fields.map { $0.pointer == "/" + $0.name || $0.pointer.isEmpty ? $0.name : $0.pointer }
    self.maximumMessageBytes = maximumMessageBytes
  }

  /// - Parameter attributes: those of a CloudEvent in binary mode, whose data is the message.
  mutating func parse(_ message: RawSpan, attributes: CloudEventAttributes?) throws(Rejection) {
    try extractor.parse(message, maximumBytes: maximumMessageBytes)
    guard let attributes else { return }
    // The data was seen to be one JSON object, so that it can stand in another.
    try extractor.parse(attributes.structured(data: message).span.bytes, maximumBytes: .max)
  }

  /// The id in a record's key.
  func id(inKey key: RawSpan?) throws(Rejection) -> String {
    guard let key else { throw Rejection(.nullValue, "the record has neither a value nor a key") }
    try checkID(length: key.byteCount, name: "key")
    // Validates while it copies.
    guard let id = key.withUnsafeBytes({ String(validating: $0, as: UTF8.self) }) else {
      throw Rejection(.idNotUTF8, field: "key", "the key is not UTF-8")
    }
    return id
  }

  /// A required id, which the record's key gives when the field is missing.
  func id(_ field: Int, orKey key: RawSpan?) throws(Rejection) -> String {
    if extractor.kind(field) == .CSIMDJSON_MISSING, let key { return try id(inKey: key) }
    return try id(field)
  }

  func id(_ field: Int) throws(Rejection) -> String {
    try require(field, .CSIMDJSON_STRING, "a string")
    try checkID(length: extractor.length(field), name: names[field])
    return extractor.string(field)
  }

  /// The ids that a pointer finds in each element of a required array.
  func ids(_ field: Int, at pointer: String, atMost limit: Int) throws(Rejection) -> [String] {
    try require(field, .CSIMDJSON_ARRAY, "an array")
    let ids = try extractor.strings(field, at: pointer, called: names[field], atMost: limit)
    for id in ids { try checkID(length: id.utf8.count, name: names[field]) }
    if ids.isEmpty { throw Rejection(.missingField, field: names[field], "\(names[field]) is empty, an item is needed") }
    return ids
  }

  func require(_ field: Int, _ kind: csimdjson_kind, _ needed: String) throws(Rejection) {
    if extractor.kind(field) != kind { throw mismatch(field, needed) }
  }

  /// Whether an optional field is there; null is as if it were not.
  func has(_ field: Int, _ kind: csimdjson_kind, _ needed: String) throws(Rejection) -> Bool {
    switch extractor.kind(field) {
    case .CSIMDJSON_MISSING, .CSIMDJSON_NULL: return false
    case kind: return true
    default: throw mismatch(field, needed)
    }
  }

  func optionalString(_ field: Int) throws(Rejection) -> String? {
    try has(field, .CSIMDJSON_STRING, "a string") ? extractor.string(field) : nil
  }

  func optionalNumber(_ field: Int) throws(Rejection) -> Double? {
    if extractor.kind(field) == .CSIMDJSON_DOUBLE { return extractor.number(field) }
    return try has(field, .CSIMDJSON_INTEGER, "a number") ? extractor.number(field) : nil
  }

  /// A number that a 32-bit float can hold, as the store and the learner keep it.
  func optionalFloat(_ field: Int) throws(Rejection) -> Double? {
    guard let number = try optionalNumber(field) else { return nil }
    guard Float(number).isFinite else {
      throw Rejection(
        .notFinite, field: names[field], "\(names[field]) is \(extractor.found(field)), which is beyond the range of a 32-bit float")
    }
    return number
  }

  func optionalObject(_ field: Int) throws(Rejection) -> String? {
    try has(field, .CSIMDJSON_OBJECT, "an object") ? extractor.compact(field) : nil
  }

  func optionalBoolean(_ field: Int) throws(Rejection) -> Bool? {
    try has(field, .CSIMDJSON_BOOL, "true or false") ? extractor.boolean(field) : nil
  }

  /// An optional array of strings. A single string is an array of one.
  func optionalStrings(_ field: Int, atMost limit: Int) throws(Rejection) -> [String] {
    if extractor.kind(field) == .CSIMDJSON_STRING { return [extractor.string(field)] }
    guard try has(field, .CSIMDJSON_ARRAY, "an array of strings") else { return [] }
    return try extractor.strings(field, called: names[field], atMost: limit)
  }

  /// An optional array of ids.
  func optionalIDs(_ field: Int, atMost limit: Int) throws(Rejection) -> [String] {
    guard try has(field, .CSIMDJSON_ARRAY, "an array of strings") else { return [] }
    let ids = try extractor.strings(field, called: names[field], atMost: limit)
    for id in ids { try checkID(length: id.utf8.count, name: names[field]) }
    return ids
  }

  func optionalVectors(_ field: Int, atMost limit: Int) throws(Rejection) -> [ItemDescription.Feature] {
    guard try has(field, .CSIMDJSON_OBJECT, "an object of number arrays") else { return [] }
    return try extractor.vectors(field, called: names[field], atMost: limit)
  }

  /// A time within `latest`, in milliseconds since 1970.
  func time(_ field: Int, latest: Int64) throws(Rejection) -> Int64 {
    let time: Int64
    switch extractor.kind(field) {
    case .CSIMDJSON_INTEGER: time = Timestamp.milliseconds(unix: extractor.integer(field))
    case .CSIMDJSON_DOUBLE: time = Timestamp.milliseconds(unix: extractor.number(field))
    case .CSIMDJSON_STRING:
      guard let parsed = extractor.withBytes(of: field, Timestamp.milliseconds(rfc3339:)) else {
        throw Rejection(
          .timeInvalid, field: names[field],
          "\(names[field]) is \(extractor.found(field)), which is not a date-time of RFC 3339 such as 2026-01-31T12:00:00Z")
      }
      time = parsed
    default: throw mismatch(field, "a date-time of RFC 3339, or Unix seconds or milliseconds")
    }
    return try check(time: time, latest: latest, name: names[field], found: extractor.found(field))
  }

  func check(time: Int64, latest: Int64, name: String, found: @autoclosure () -> String) throws(Rejection) -> Int64 {
    guard time >= 0 else { throw Rejection(.timeBefore1970, field: name, "\(name) is \(found()), which is before 1970") }
    guard time <= latest else {
      throw Rejection(.timeInFuture, field: name, "\(name) is \(found()), the latest allowed is \(Timestamp.rfc3339(latest))")
    }
    return time
  }

  func name(_ field: Int) -> String { names[field] }

  private func mismatch(_ field: Int, _ needed: String) -> Rejection {
    let name = names[field]
    switch extractor.kind(field) {
    case .CSIMDJSON_MISSING: return Rejection(.missingField, field: name, "\(name) is missing, \(needed) is needed")
    case .CSIMDJSON_NULL: return Rejection(.nullValue, field: name, "\(name) is null, \(needed) is needed")
    default: return Rejection(.wrongType, field: name, "\(name) is \(extractor.found(field)), \(needed) is needed")
    }
  }

  private func checkID(length: Int, name: String) throws(Rejection) {
    if length == 0 { throw Rejection(.emptyID, field: name, "\(name) is empty") }
    if length > Self.maximumIDLength {
      throw Rejection(.idTooLong, field: name, "\(name) has \(length) bytes, \(Self.maximumIDLength) are allowed")
    }
  }
}
