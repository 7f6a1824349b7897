/// JSON as a value, and the part of JSON Schema 2020-12 that the published schemas use.
public indirect enum JSON: Codable, Equatable, Sendable {
  case null
  case boolean(Bool)
  case number(Double)
  case string(String)
  case array([JSON])
  case object([String: JSON])

  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let value = try? container.decode(Bool.self) {
      self = .boolean(value)
    } else if let value = try? container.decode(Double.self) {
      self = .number(value)
    } else if let value = try? container.decode(String.self) {
      self = .string(value)
    } else if let value = try? container.decode([JSON].self) {
      self = .array(value)
    } else {
      self = .object(try container.decode([String: JSON].self))
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .null: try container.encodeNil()
    case .boolean(let value): try container.encode(value)
    case .number(let value): try container.encode(value)
    case .string(let value): try container.encode(value)
    case .array(let value): try container.encode(value)
    case .object(let value): try container.encode(value)
    }
  }

  public subscript(_ key: String) -> JSON? { members?[key] }
  public var members: [String: JSON]? { if case .object(let members) = self { members } else { nil } }
  public var elements: [JSON]? { if case .array(let elements) = self { elements } else { nil } }
  public var text: String? { if case .string(let text) = self { text } else { nil } }
  public var double: Double? { if case .number(let number) = self { number } else { nil } }

  /// What a reference of this document such as `#/components/schemas/User` means.
  public func target(of reference: JSON) -> JSON? {
    guard let path = reference.text, path.hasPrefix("#/") else { return nil }
    return path.dropFirst(2).split(separator: "/").reduce(Optional(self)) { value, name in value?[String(name)] }
  }

  private func isOf(type: String) -> Bool {
    switch (type, self) {
    case ("null", .null), ("boolean", .boolean), ("number", .number), ("string", .string), ("array", .array), ("object", .object): true
    case ("integer", .number(let number)): number == number.rounded()
    default: false
    }
  }

  /// What this schema has against a value.
  /// - Parameter root: the document that references are sought in; nil where the schema has none.
  public func errors(in value: JSON, at path: String = "", root: JSON? = nil) -> [String] {
    guard let keywords = members else { return self == .boolean(false) ? ["\(path): nothing is allowed"] : [] }
    var errors: [String] = []
    func check(_ holds: Bool?, _ keyword: String) { if holds == false { errors.append("\(path): \(keyword)") } }
    for (keyword, argument) in keywords {
      switch keyword {
      case "$schema", "title", "description", "examples", "format", "default", "else": break
      case "$ref": errors += root?.target(of: argument)?.errors(in: value, at: path, root: root) ?? ["\(path): a reference to nothing"]
      case "type": check((argument.elements ?? [argument]).contains { value.isOf(type: $0.text ?? "") }, keyword)
      case "enum": check(argument.elements?.contains(value), keyword)
      case "const": check(argument == value, keyword)
      case "required":
        check(value.members.map { members in argument.elements?.allSatisfy { members[$0.text ?? ""] != nil } ?? false }, keyword)
      case "properties":
        for (name, schema) in argument.members ?? [:] {
          if let member = value[name] { errors += schema.errors(in: member, at: "\(path)/\(name)", root: root) }
        }
      case "additionalProperties":
        for (name, member) in value.members ?? [:] where self["properties"]?[name] == nil {
          errors += argument.errors(in: member, at: "\(path)/\(name)", root: root)
        }
      case "items": errors += (value.elements ?? []).flatMap { argument.errors(in: $0, at: "\(path)[]", root: root) }
      case "anyOf": check(argument.elements?.contains { $0.errors(in: value, root: root).isEmpty }, keyword)
      case "if": if !argument.errors(in: value, root: root).isEmpty { errors += self["else"]?.errors(in: value, at: path, root: root) ?? [] }
      case "maximum": check(value.double.map { $0 <= argument.double ?? .nan }, keyword)
      case "minimum": check(value.double.map { $0 >= argument.double ?? .nan }, keyword)
      case "minLength": check(value.text.map { Double($0.unicodeScalars.count) >= argument.double ?? .nan }, keyword)
      case "maxLength": check(value.text.map { Double($0.unicodeScalars.count) <= argument.double ?? .nan }, keyword)
      case "minItems": check(value.elements.map { Double($0.count) >= argument.double ?? .nan }, keyword)
      case "maxItems": check(value.elements.map { Double($0.count) <= argument.double ?? .nan }, keyword)
      case "maxProperties": check(value.members.map { Double($0.count) <= argument.double ?? .nan }, keyword)
      default: errors.append("the validator of this test does not know \(keyword)")
      }
    }
    return errors
  }
}
