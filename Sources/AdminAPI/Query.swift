import HTTPTypes

/// The parameters behind a path's question mark, each of a known name.
struct Query {
  private var values: [String: [String]] = [:]

  /// - Parameters:
  ///   - text: still percent-encoded; a plus sign stays one.
  ///   - names: those that the resource has. Another one is refused, so that a misspelt filter does not go unnoticed.
  init(_ text: String?, names: Set<String>) throws(Problem) {
    for part in (text ?? "").utf8.split(separator: UInt8(ascii: "&")) {
      let pair = part.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
      guard let name = pair.first.flatMap({ percentDecoded($0) }), let value = percentDecoded(pair.count > 1 ? pair[1] : Substring().utf8)
      else { throw Problem(.badRequest, "The query is not valid percent-encoded UTF-8.") }
      guard names.contains(name) else {
        throw Problem(.badRequest, "The query has an unknown parameter; there are \(names.sorted().joined(separator: ", ")).")
      }
      values[name, default: []].append(value)
    }
  }

  /// Every value of a parameter that may stand several times.
  func all(_ name: String) -> [String] { values[name] ?? [] }

  /// The value of a parameter that may stand once.
  func one(_ name: String) throws(Problem) -> String? {
    guard all(name).count < 2 else { throw Problem(.badRequest, "'\(name)' stands more than once.") }
    return all(name).first
  }

  func flag(_ name: String) throws(Problem) -> Bool {
    switch try one(name) {
    case nil, "false": return false
    case "true": return true
    default: throw Problem(.badRequest, "'\(name)' is true or false.")
    }
  }

  func limit() throws(Problem) -> Int {
    guard let text = try one("limit") else { return ListOptions.defaultLimit }
    guard let limit = Int(text), (1...ListOptions.maximumLimit).contains(limit) else { throw Problem.limit }
    return limit
  }
}
