/// The number for which a parser refused a message that is otherwise JSON-like: `NaN` and `Infinity`, which many writers emit though JSON
/// has no such numbers, a float beyond the range of a double, or an integer beyond 64 bits. Nil if the message is at fault otherwise.
func refusedNumber(in message: [UInt8]) -> Rejection? {
  guard message.first(where: { !isSpace($0) }) == UInt8(ascii: "{") else { return nil }
  var index = 0
  while index < message.count {
    let byte = message[index]
    if byte == UInt8(ascii: "\"") {
      index = endOfString(in: message, from: index)
    } else if isTokenByte(byte) {
      let start = index
      while index < message.count, isTokenByte(message[index]) { index += 1 }
      if let rejection = judge(message[start..<index]) { return rejection }
    } else {
      index += 1
    }
  }
  return nil
}

private func judge(_ token: ArraySlice<UInt8>) -> Rejection? {
  let text = String(decoding: token, as: UTF8.self)
  switch text {
  case "NaN", "-NaN", "Infinity", "+Infinity", "-Infinity":
    return Rejection(.notFinite, "the message holds \(text), which is not a number in JSON")
  default:
    break
  }
  guard let first = token.first, first == UInt8(ascii: "-") || isDigit(first), let number = Double(text) else { return nil }
  if !number.isFinite { return Rejection(.notFinite, "the message holds \(text.shortened(to: 40)), which is beyond the range of a double") }
  guard token.dropFirst().allSatisfy(isDigit), Int64(text) == nil, UInt64(text) == nil else { return nil }
  return Rejection(.outOfRange, "the message holds the integer \(text.shortened(to: 40)), which does not fit in 64 bits")
}

private func endOfString(in message: [UInt8], from quote: Int) -> Int {
  var index = quote + 1
  while index < message.count, message[index] != UInt8(ascii: "\"") {
    index += message[index] == UInt8(ascii: "\\") ? 2 : 1
  }
  return index + 1
}

private func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 }

func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }

private func isTokenByte(_ byte: UInt8) -> Bool {
  isDigit(byte) || byte | 0x20 >= UInt8(ascii: "a") && byte | 0x20 <= UInt8(ascii: "z") || byte == UInt8(ascii: "-")
    || byte == UInt8(ascii: "+") || byte == UInt8(ascii: ".")
}
