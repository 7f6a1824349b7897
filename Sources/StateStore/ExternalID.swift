import Crypto

/// How an external id of a user or an item becomes an LMDB key.
///
/// A short id is its own key. A longer one is a tag and a hash, and the record then begins with the id itself, so that two ids with one
/// hash are told apart. The tag byte never occurs in UTF-8, so no id is ever another one's hash.
package struct ExternalIDCoder: Sendable {
  /// 64 KiB, the longest id that is accepted.
  static let maximumLength = 65_536
  /// LMDB's keys have at most 511 bytes; 8 of them stand before a user's key in the index of due times.
  static let maximumDirectLength = 503
  static let tag: UInt8 = 0xFF

  /// 32 bytes for an id.
  let hash: @Sendable ([UInt8]) -> [UInt8]

  package init(hash: @escaping @Sendable ([UInt8]) -> [UInt8]) {
    self.hash = hash
  }

  package static let sha256 = ExternalIDCoder { Array(SHA256.hash(data: $0)) }

  func key(_ id: String) throws(StateStoreError) -> [UInt8] {
    var key: [UInt8] = []
    try write(keyOf: id, to: &key)
    return key
  }

  /// Puts the id's key in place of what is in the array.
  func write(keyOf id: String, to key: inout [UInt8]) throws(StateStoreError) {
    try Self.check(id)
    key.removeAll(keepingCapacity: true)
    if Self.isDirectKey(id) {
      key.append(contentsOf: id.utf8)
    } else {
      key.append(Self.tag)
      key.append(contentsOf: hash(Array(id.utf8)))
    }
  }

  /// Whether the id is its own key.
  static func isDirectKey(_ id: String) -> Bool { (1...maximumDirectLength).contains(id.utf8.count) }

  static func check(_ id: String) throws(StateStoreError) {
    let length = id.utf8.count
    guard length > 0 else { throw StateStoreError(.invalidID, "an id is empty") }
    guard length <= maximumLength else { throw StateStoreError(.invalidID, "an id has \(length) bytes; the most is \(maximumLength)") }
  }

  /// Begins the record of `id` under `key`.
  static func appendIdentity(_ id: String, key: [UInt8], to record: inout [UInt8]) {
    if key.first == tag { record.appendString(id) }
  }

  /// Reads what `appendIdentity` wrote, and gives the id that the record is about.
  static func readIdentity(key: [UInt8], from reader: inout RecordReader) throws(StateStoreError) -> String {
    if key.first == tag { return try reader.string() }
    guard let id = String(validating: key, as: UTF8.self) else { throw RecordReader.damaged }
    return id
  }

  /// Throws `.collision` when the record under `id`'s key belongs to another id.
  static func checkIdentity(_ id: String, key: [UInt8], from reader: inout RecordReader) throws(StateStoreError) {
    guard key.first == tag else { return }
    guard ExactID(try reader.string()) == ExactID(id) else {
      throw StateStoreError(.collision, "two ids of \(id.utf8.count) bytes or so have the same hash")
    }
  }
}

/// An external id compared by its UTF-8 bytes: `String`'s own equality takes different spellings of one character as equal.
struct ExactID: Hashable {
  let string: String

  init(_ string: String) {
    self.string = string
  }

  static func == (left: Self, right: Self) -> Bool {
    let (left, right) = (left.string.utf8Span.span, right.string.utf8Span.span)
    guard left.count == right.count else { return false }
    for index in left.indices where left[index] != right[index] { return false }
    return true
  }

  func hash(into hasher: inout Hasher) {
    hasher.combine(string)
  }
}

/// A user's SHA-256: names a forgotten user without keeping the id.
public struct UserFingerprint: Hashable, Sendable {
  /// 32 bytes.
  public let bytes: [UInt8]

  public init(_ user: String) {
    self.bytes = Array(SHA256.hash(data: Array(user.utf8)))
  }

  init(bytes: ArraySlice<UInt8>) {
    self.bytes = Array(bytes)
  }
}
