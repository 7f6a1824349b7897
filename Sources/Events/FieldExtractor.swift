import CSimdjson

/// The fields of one JSON document, found by JSON pointers (RFC 6901). The only file of this module that touches C.
///
/// `@unchecked Sendable`: it owns its parser, has no copies, and whoever parses has it exclusively.
struct FieldExtractor: ~Copyable, @unchecked Sendable {
  private let parser: OpaquePointer
  private let values: UnsafeMutablePointer<csimdjson_value>
  private let pointers: [String]

  /// - Parameter pointers: one for each field; an empty one is never found.
  init(pointers: [String]) throws(InvalidPointer) {
    var bad = 0
    var bytes: [UInt8] = []
    var ends: [Int] = []
    for pointer in pointers {
      bytes.append(contentsOf: pointer.utf8)
      ends.append(bytes.count)
    }
    let parser = bytes.withUnsafeBytes { bytes in
      let base = bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
      let slices = zip([0] + ends, ends).map { start, end in csimdjson_slice(start: base.map { $0 + start }, length: end - start) }
      return slices.withUnsafeBufferPointer { slices in
        slices.baseAddress.flatMap { csimdjson_create($0, slices.count, &bad) }
      }
    }
    guard let parser else { throw InvalidPointer(pointer: pointers.isEmpty ? "" : pointers[bad]) }
    self.parser = parser
    self.pointers = pointers
    values = .allocate(capacity: pointers.count)
    values.initialize(repeating: csimdjson_value(), count: pointers.count)
  }

  deinit {
    csimdjson_destroy(parser)
    values.deallocate()
  }

  /// Parses one message; what the accessors give is of this message until the next one.
  mutating func parse(_ message: RawSpan, maximumBytes: Int) throws(Rejection) {
    guard message.byteCount <= maximumBytes else {
      throw Rejection(.tooLarge, "the message has \(message.byteCount) bytes, \(maximumBytes) are allowed")
    }
    let message = message.starts(with: byteOrderMark) ? message.extracting(droppingFirst: byteOrderMark.count) : message
    let status = message.withUnsafeBytes { bytes in
      bytes.baseAddress.map { csimdjson_extract(parser, $0, bytes.count, values) } ?? .CSIMDJSON_EMPTY
    }
    switch status {
    case .CSIMDJSON_OK: return
    case .CSIMDJSON_EMPTY: throw Rejection(.notJSON, "the message is empty, a JSON object is needed")
    case .CSIMDJSON_NOT_UTF8: throw Rejection(.notUTF8, "the message is not UTF-8")
    case .CSIMDJSON_TOO_DEEP: throw Rejection(.tooDeep, "the message is nested deeper than 1024 levels")
    case .CSIMDJSON_NOT_AN_OBJECT: throw Rejection(.notAnObject, "the message is JSON, but not an object")
    case .CSIMDJSON_NO_MEMORY: throw Rejection(.tooLarge, "no memory for a message of \(message.byteCount) bytes")
    case .CSIMDJSON_NOT_JSON, .CSIMDJSON_NUMBER:
      let bytes = message.withUnsafeBytes { Array($0) }
      throw refusedNumber(in: bytes)
        ?? Rejection(.notJSON, "the message is not JSON: \(String(cString: csimdjson_message(parser)))")
    }
  }

  func kind(_ field: Int) -> csimdjson_kind { values[field].kind }
  func boolean(_ field: Int) -> Bool { values[field].boolean }
  func integer(_ field: Int) -> Int64 { values[field].integer }
  func number(_ field: Int) -> Double { values[field].number }
  func length(_ field: Int) -> Int { values[field].string.length }
  func string(_ field: Int) -> String { String(values[field].string) }

  /// The bytes of a string value.
  func withBytes<Result>(of field: Int, _ body: (Span<UInt8>) -> Result) -> Result {
    body(values[field].string.buffer.span)
  }

  /// The strings of an array value.
  func strings(_ field: Int, called name: String, atMost limit: Int) throws(Rejection) -> [String] {
    var start: UnsafePointer<csimdjson_slice>?
    var count = 0
    guard csimdjson_strings(parser, field, &start, &count) else {
      throw Rejection(.wrongType, field: name, "\(name)[\(count)] is not a string, all of \(name) must be strings")
    }
    guard count <= limit else { throw Rejection(.tooLarge, field: name, "\(name) holds \(count) strings, \(limit) are allowed") }
    return UnsafeBufferPointer(start: start, count: count).map { String($0) }
  }

  /// The strings that a pointer finds in each element of an array value.
  func strings(_ field: Int, at pointer: String, called name: String, atMost limit: Int) throws(Rejection) -> [String] {
    var start: UnsafePointer<csimdjson_slice>?
    var count = 0
    var pointer = pointer
    let areStrings = pointer.withUTF8 { bytes in
      bytes.withMemoryRebound(to: CChar.self) { bytes in
        csimdjson_member_strings(parser, field, csimdjson_slice(start: bytes.baseAddress, length: bytes.count), &start, &count)
      }
    }
    guard areStrings else {
      throw Rejection(.wrongType, field: name, "\(name)[\(count)]\(pointer) is not a string, all of \(name) must have one")
    }
    guard count <= limit else { throw Rejection(.tooLarge, field: name, "\(name) holds \(count) elements, \(limit) are allowed") }
    return UnsafeBufferPointer(start: start, count: count).map { String($0) }
  }

  /// The named number arrays of an object value, sorted by name; of a repeated name the last one holds, and null is as if it were absent.
  func vectors(_ field: Int, called name: String, atMost limit: Int) throws(Rejection) -> [ItemDescription.Feature] {
    var start: UnsafePointer<csimdjson_vector>?
    var count = 0
    csimdjson_vectors(parser, field, &start, &count)
    guard count <= limit else { throw Rejection(.tooLarge, field: name, "\(name) holds \(count) vectors, \(limit) are allowed") }
    var features: [String: [Float]] = [:]
    for vector in UnsafeBufferPointer(start: start, count: count) {
      let path = "\(name)/\(quoted(vector.name, limit: 80))"
      switch vector.status {
      case .CSIMDJSON_VECTOR_OK:
        features[String(vector.name)] = Array(UnsafeBufferPointer(start: vector.values, count: vector.count))
      case .CSIMDJSON_VECTOR_NULL:
        features[String(vector.name)] = nil
      case .CSIMDJSON_VECTOR_NOT_AN_ARRAY:
        throw Rejection(.wrongType, field: name, "\(path) is not an array, an array of numbers is needed")
      case .CSIMDJSON_VECTOR_NOT_A_NUMBER:
        throw Rejection(.wrongType, field: name, "\(path)[\(vector.bad)] is not a number")
      case .CSIMDJSON_VECTOR_NOT_FINITE:
        throw Rejection(.notFinite, field: name, "\(path)[\(vector.bad)] is beyond the range of a 32-bit float")
      }
    }
    return features.map { ItemDescription.Feature(name: $0.key, values: $0.value) }.sorted { $0.name < $1.name }
  }

  /// An object value as compact JSON text.
  func compact(_ field: Int) -> String { String(csimdjson_compact(parser, field)) }

  /// What was found in a field, for a message: bounded, and without control characters.
  func found(_ field: Int) -> String {
    switch values[field].kind {
    case .CSIMDJSON_MISSING: "nothing"
    case .CSIMDJSON_NULL: "null"
    case .CSIMDJSON_BOOL: values[field].boolean ? "true" : "false"
    case .CSIMDJSON_INTEGER: "the number \(values[field].integer)"
    case .CSIMDJSON_DOUBLE: "the number \(values[field].number)"
    case .CSIMDJSON_STRING: "the string \"\(quoted(values[field].string, limit: 40))\""
    case .CSIMDJSON_ARRAY: "an array"
    case .CSIMDJSON_OBJECT: "an object"
    }
  }

  private func quoted(_ slice: csimdjson_slice, limit: Int) -> String {
    // A cut through a character leaves a replacement character, which is fit for a message.
    let start = String(decoding: slice.buffer.prefix(limit), as: UTF8.self)
    let printable = String(
      String.UnicodeScalarView(start.unicodeScalars.map { $0.properties.generalCategory == .control ? "\u{FFFD}" : $0 }))
    return slice.length > limit ? printable + "…" : printable
  }
}

/// A string that is not a JSON pointer (RFC 6901).
public struct InvalidPointer: Error, Sendable, Equatable, CustomStringConvertible {
  public var pointer: String

  public var description: String {
    "\"\(pointer)\" is not a JSON pointer: it starts with /, and ~ is written ~0, / in a name ~1"
  }
}

/// U+FEFF in UTF-8, which RFC 8259 lets a reader skip.
private let byteOrderMark: [UInt8] = [0xEF, 0xBB, 0xBF]

extension RawSpan {
  fileprivate func starts(with prefix: [UInt8]) -> Bool {
    withUnsafeBytes { $0.starts(with: prefix) }
  }
}

extension csimdjson_slice {
  fileprivate var buffer: UnsafeBufferPointer<UInt8> {
    UnsafeBufferPointer(start: start.map { UnsafeRawPointer($0).assumingMemoryBound(to: UInt8.self) }, count: length)
  }
}

extension String {
  fileprivate init(_ slice: csimdjson_slice) { self.init(decoding: slice.buffer, as: UTF8.self) }
}
