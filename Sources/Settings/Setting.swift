/// A value as it came from the file, the environment or a flag, before it has a type.
enum Input: Sendable {
  case null
  /// `plain`: without quotes, so that it may be a number or a truth value.
  case scalar(String, plain: Bool)
  case list([Input])
  case map([(key: String, value: Input)])

  /// What it is, for a message; bounded.
  var found: String {
    switch self {
    case .null: "nothing"
    case .scalar(let text, plain: _): "\"\(text.count > 60 ? text.prefix(60) + "…" : text[...])\""
    case .list: "a list"
    case .map: "a map"
    }
  }
}

/// Why an ``Input`` is not fit for a setting.
struct Mismatch: Error {
  var code: SettingsError.Code
  var found: String
}

/// The one declaration of a setting. Decoding, validation, the environment's name, the documented file and what may be reloaded
/// all come from it; its default is the property's own.
public struct Setting: Sendable {
  /// Path in the file: `section.name`.
  public let key: String
  /// What it does, in one sentence.
  public let summary: String
  /// Type, range and unit in words.
  public let allowed: String
  /// Whether a reload may change it; else a restart is needed.
  public let isReloadable: Bool
  /// Sets the property.
  let assign: @Sendable (Input, inout Settings) throws(Mismatch) -> Void
  /// Sets one entry, if the setting is a map.
  let assignEntry: (@Sendable (String, Input, inout Settings) throws(Mismatch) -> Void)?
  /// The property's value as YAML on one line. Secrets are redacted.
  public let text: @Sendable (Settings) -> String
  let isEqual: @Sendable (Settings, Settings) -> Bool
  /// Copies the property from the first settings to the second.
  let copy: @Sendable (Settings, inout Settings) -> Void

  /// The variable that overrides it: `RODPOD_SECTION_NAME`.
  public var environmentName: String {
    "RODPOD_" + String(key.map { $0 == "." ? "_" : Character($0.uppercased()) })
  }

  init<Value: Equatable & Sendable>(
    _ key: String, _ path: any WritableKeyPath<Settings, Value> & Sendable, allowed: String, live: Bool, _ summary: String,
    decode: @escaping @Sendable (Input) throws(Mismatch) -> Value,
    assignEntry: (@Sendable (String, Input, inout Settings) throws(Mismatch) -> Void)? = nil,
    text: @escaping @Sendable (Settings) -> String
  ) {
    self.key = key
    self.summary = summary
    self.allowed = allowed
    isReloadable = live
    assign = { input, settings throws(Mismatch) in settings[keyPath: path] = try decode(input) }
    self.assignEntry = assignEntry
    self.text = text
    isEqual = { $0[keyPath: path] == $1[keyPath: path] }
    copy = { $1[keyPath: path] = $0[keyPath: path] }
  }

  static func integer(
    _ key: String, _ path: any WritableKeyPath<Settings, Int> & Sendable, _ range: ClosedRange<Int>, live: Bool = false, _ summary: String
  ) -> Setting {
    Setting(
      key, path, allowed: "an integer from \(range.lowerBound) to \(range.upperBound)\(unit(of: key))", live: live, summary,
      decode: { input throws(Mismatch) in try decodeInteger(input, range) }, text: { String($0[keyPath: path]) })
  }

  static func duration(
    _ key: String, _ path: any WritableKeyPath<Settings, Duration> & Sendable, _ range: ClosedRange<Int>, live: Bool = false,
    _ summary: String
  ) -> Setting {
    Setting(
      key, path, allowed: "an integer from \(range.lowerBound) to \(range.upperBound)\(unit(of: key))", live: live, summary,
      decode: { input throws(Mismatch) in .milliseconds(try decodeInteger(input, range)) },
      text: { String($0[keyPath: path].wholeMilliseconds) })
  }

  static func number(
    _ key: String, _ path: any WritableKeyPath<Settings, Double> & Sendable, _ range: ClosedRange<Double>, live: Bool = false,
    _ summary: String
  ) -> Setting {
    Setting(
      key, path, allowed: "a number from \(plain(range.lowerBound)) to \(plain(range.upperBound))", live: live, summary,
      decode: { input throws(Mismatch) in try decodeNumber(input, range) }, text: { plain($0[keyPath: path]) })
  }

  static func boolean(
    _ key: String, _ path: any WritableKeyPath<Settings, Bool> & Sendable, live: Bool = false, _ summary: String
  ) -> Setting {
    Setting(
      key, path, allowed: "true or false", live: live, summary,
      decode: { input throws(Mismatch) in
        switch input {
        case .scalar("true", plain: true): true
        case .scalar("false", plain: true): false
        default: throw Mismatch(code: .wrongType, found: input.found)
        }
      }, text: { String($0[keyPath: path]) })
  }

  static func choice<Value: RawRepresentable<String> & CaseIterable & Equatable & Sendable>(
    _ key: String, _ path: any WritableKeyPath<Settings, Value> & Sendable, live: Bool = false, _ summary: String
  ) -> Setting {
    Setting(
      key, path, allowed: "one of " + Value.allCases.map(\.rawValue).joined(separator: ", "), live: live, summary,
      decode: { input throws(Mismatch) in
        let text = try decodeText(input)
        guard let value = Value(rawValue: text) else { throw Mismatch(code: .outOfRange, found: input.found) }
        return value
      }, text: { $0[keyPath: path].rawValue })
  }

  static func text(
    _ key: String, _ path: any WritableKeyPath<Settings, String> & Sendable, allowed: String = "text, not empty", live: Bool = false,
    _ summary: String, isValid: @escaping @Sendable (String) -> Bool = { !$0.isEmpty }
  ) -> Setting {
    Setting(
      key, path, allowed: allowed, live: live, summary,
      decode: { input throws(Mismatch) in
        let text = try decodeText(input)
        guard isValid(text) else { throw Mismatch(code: .outOfRange, found: input.found) }
        return text
      }, text: { quoted($0[keyPath: path]) })
  }

  private static func unit(of key: String) -> String {
    if key.hasSuffix("_ms") { return ", in milliseconds" }
    if key.hasSuffix("_bytes") { return ", in bytes" }
    return ""
  }
}

func decodeText(_ input: Input) throws(Mismatch) -> String {
  guard case .scalar(let text, plain: _) = input else { throw Mismatch(code: .wrongType, found: input.found) }
  return text
}

/// Decimal digits, which `_` may group.
func decodeInteger(_ input: Input, _ range: ClosedRange<Int>) throws(Mismatch) -> Int {
  guard case .scalar(let text, plain: true) = input, let first = text.first(where: { $0 != "-" }), first.isASCII, first.isNumber,
    let value = Double(text.filter { $0 != "_" })
  else { throw Mismatch(code: .wrongType, found: input.found) }
  guard let integer = Int(text.filter { $0 != "_" }) else {
    // A fraction or an exponent is another type; digits alone are only too many.
    let isInteger = text.allSatisfy { $0.isNumber || $0 == "-" || $0 == "_" } && value.isFinite
    throw Mismatch(code: isInteger ? .outOfRange : .wrongType, found: input.found)
  }
  guard range.contains(integer) else { throw Mismatch(code: .outOfRange, found: input.found) }
  return integer
}

func decodeNumber(_ input: Input, _ range: ClosedRange<Double>) throws(Mismatch) -> Double {
  guard case .scalar(let text, plain: true) = input, text.allSatisfy({ "0123456789+-.eE_".contains($0) }),
    let value = Double(text.filter { $0 != "_" })
  else { throw Mismatch(code: .wrongType, found: input.found) }
  guard range.contains(value) else { throw Mismatch(code: .outOfRange, found: input.found) }
  return value
}

/// A number without a needless fraction.
func plain(_ value: Double) -> String {
  let text = value.description
  return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
}

/// A YAML scalar on one line, in quotes only where it needs them.
func quoted(_ text: String) -> String {
  let isPlain =
    text.first.map { $0.isLetter || $0 == "/" || $0 == "_" } == true
    && text.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "_-./".contains($0)) || $0 == ":" } && !text.hasSuffix(":")
    && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(text.lowercased())
  guard !isPlain else { return text }
  var escaped = ""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\"", "\\": escaped += "\\\(scalar)"
    case _ where scalar.value < 0x20 || scalar.value == 0x7F:
      let digits = String(scalar.value, radix: 16)
      escaped += "\\x" + String(repeating: "0", count: 2 - digits.count) + digits
    default: escaped.unicodeScalars.append(scalar)
    }
  }
  return "\"\(escaped)\""
}

extension Duration {
  /// Whole milliseconds, cut off towards zero.
  public var wholeMilliseconds: Int64 {
    let (seconds, attoseconds) = components
    return seconds * 1000 + attoseconds / 1_000_000_000_000_000
  }
}
