/// Reads one JSON text (RFC 8259) from bytes, handing out scalars as plain text.
struct JSONScanner {
  struct Failure: Error {
    let message: String
    let position: Int
  }

  private static let maximumDepth = 64

  private var position: Int
  private let end: Int

  init(_ range: Range<Int>) {
    position = range.lowerBound
    end = range.upperBound
  }

  private func failure(_ message: String) -> Failure { Failure(message: message, position: position) }

  /// The next byte that is not white space, not taken; nil at the end.
  private mutating func peek(in bytes: [UInt8]) -> UInt8? {
    while position < end {
      switch bytes[position] {
      case .space, .tab, .newline, .carriageReturn: position += 1
      case let byte: return byte
      }
    }
    return nil
  }

  mutating func expect(_ byte: UInt8, in bytes: [UInt8]) throws(Failure) {
    guard peek(in: bytes) == byte else { throw failure("expected \(Character(UnicodeScalar(byte)))") }
    position += 1
  }

  mutating func expectEnd(in bytes: [UInt8]) throws(Failure) {
    if peek(in: bytes) != nil { throw failure("text after the end") }
  }

  /// Whether the object or list ends here; otherwise takes the comma before its next member.
  mutating func closes(with byte: UInt8, isFirst: Bool, in bytes: [UInt8]) throws(Failure) -> Bool {
    if peek(in: bytes) == byte {
      position += 1
      return true
    }
    if !isFirst { try expect(.comma, in: bytes) }
    return false
  }

  /// Appends any value's text: a string unescaped, a number or a word as written, nothing for `null`, a list's scalars joined by bars.
  /// An object appends nothing.
  mutating func value(in bytes: [UInt8], into output: inout [UInt8], depth: Int = 0) throws(Failure) {
    guard depth < Self.maximumDepth else { throw failure("nested too deeply") }
    switch peek(in: bytes) {
    case .quote:
      try string(in: bytes, into: &output)
    case .openBracket:
      position += 1
      var isFirst = true
      while try !closes(with: .closeBracket, isFirst: isFirst, in: bytes) {
        if !isFirst { output.append(.bar) }
        isFirst = false
        try value(in: bytes, into: &output, depth: depth + 1)
      }
    case .openBrace:
      position += 1
      let start = output.count
      var isFirst = true
      while try !closes(with: .closeBrace, isFirst: isFirst, in: bytes) {
        isFirst = false
        try string(in: bytes, into: &output)
        try expect(.colon, in: bytes)
        try value(in: bytes, into: &output, depth: depth + 1)
      }
      output.removeLast(output.count - start)
    default:
      try word(in: bytes, into: &output)
    }
  }

  /// A number, `true`, `false` or `null`.
  private mutating func word(in bytes: [UInt8], into output: inout [UInt8]) throws(Failure) {
    let start = position
    loop: while position < end {
      switch bytes[position] {
      case .comma, .closeBrace, .closeBracket, .space, .tab, .newline, .carriageReturn: break loop
      default: position += 1
      }
    }
    let text = bytes[start..<position]
    if text.elementsEqual("null".utf8) { return }
    guard text.elementsEqual("true".utf8) || text.elementsEqual("false".utf8) || FieldParser.number(bytes, start..<position) != nil else {
      position = start
      throw failure("expected a value")
    }
    output.append(contentsOf: text)
  }

  mutating func string(in bytes: [UInt8], into output: inout [UInt8]) throws(Failure) {
    try expect(.quote, in: bytes)
    while position < end {
      let byte = bytes[position]
      position += 1
      switch byte {
      case .quote: return
      case .backslash: try escape(in: bytes, into: &output)
      case 0..<0x20: throw failure("a control character in a string")
      default: output.append(byte)
      }
    }
    throw failure("a string is not closed")
  }

  private mutating func escape(in bytes: [UInt8], into output: inout [UInt8]) throws(Failure) {
    guard position < end else { throw failure("a string is not closed") }
    let byte = bytes[position]
    position += 1
    switch byte {
    case .quote, .backslash, UInt8(ascii: "/"): output.append(byte)
    case UInt8(ascii: "n"): output.append(.newline)
    case UInt8(ascii: "t"): output.append(.tab)
    case UInt8(ascii: "r"): output.append(.carriageReturn)
    case UInt8(ascii: "b"): output.append(8)
    case UInt8(ascii: "f"): output.append(12)
    case UInt8(ascii: "u"):
      var code = try hexadecimal(in: bytes)
      if 0xD800..<0xDC00 ~= code {
        guard position + 1 < end, bytes[position] == .backslash, bytes[position + 1] == UInt8(ascii: "u") else {
          throw failure("half a surrogate pair")
        }
        position += 2
        let low = try hexadecimal(in: bytes)
        guard 0xDC00..<0xE000 ~= low else { throw failure("half a surrogate pair") }
        code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
      }
      guard let scalar = UnicodeScalar(code) else { throw failure("half a surrogate pair") }
      output.append(contentsOf: UTF8.encode(scalar)?.map { $0 } ?? [])
    default: throw failure("an unknown escape")
    }
  }

  private mutating func hexadecimal(in bytes: [UInt8]) throws(Failure) -> UInt32 {
    guard position + 4 <= end else { throw failure("a string is not closed") }
    var code: UInt32 = 0
    for _ in 0..<4 {
      guard let digit = Character(UnicodeScalar(bytes[position])).hexDigitValue else { throw failure("not a hexadecimal digit") }
      code = code << 4 | UInt32(digit)
      position += 1
    }
    return code
  }
}
