/// Numbers and times from bytes, without a detour through strings where it matters for speed.
enum FieldParser {
  /// Decimal digits with an optional sign.
  static func integer(_ bytes: [UInt8], _ range: Range<Int>) -> Int? {
    var position = range.lowerBound
    var isNegative = false
    if position < range.upperBound, bytes[position] == UInt8(ascii: "-") || bytes[position] == UInt8(ascii: "+") {
      isNegative = bytes[position] == UInt8(ascii: "-")
      position += 1
    }
    guard position < range.upperBound, range.upperBound - position <= 18 else { return nil }
    var value = 0
    while position < range.upperBound {
      let digit = bytes[position] &- UInt8(ascii: "0")
      guard digit < 10 else { return nil }
      value = value &* 10 &+ Int(digit)
      position += 1
    }
    return isNegative ? -value : value
  }

  /// A finite decimal number.
  static func number(_ bytes: [UInt8], _ range: Range<Int>) -> Double? {
    if let integer = integer(bytes, range) { return Double(integer) }
    // Swift also reads "nan", "inf" and hexadecimal.
    guard bytes[range].allSatisfy({ $0 < UInt8(ascii: "A") || $0 | 0x20 == UInt8(ascii: "e") }),
      let value = Double(String(decoding: bytes[range], as: UTF8.self)), value.isFinite
    else { return nil }
    return value
  }

  /// Milliseconds since 1970 from RFC 3339, or from a Unix time in seconds, milliseconds or microseconds, told apart by its size:
  /// seconds reach the year 5138, milliseconds start in 1973.
  static func time(_ bytes: [UInt8], _ range: Range<Int>) -> Int64? {
    if let integer = integer(bytes, range) {
      switch abs(integer) {
      case ..<100_000_000_000: return Int64(integer) * 1000
      case ..<100_000_000_000_000: return Int64(integer)
      default: return Int64(integer) / 1000
      }
    }
    if range.count >= 10, bytes[range.lowerBound + 4] == UInt8(ascii: "-") { return timestamp(bytes, range) }
    guard let number = number(bytes, range), abs(number) < 100_000_000_000_000 else { return nil }
    return Int64((abs(number) < 100_000_000_000 ? number * 1000 : number).rounded())
  }

  /// RFC 3339, where a date alone means its midnight and a missing offset means UTC.
  private static func timestamp(_ bytes: [UInt8], _ range: Range<Int>) -> Int64? {
    func digits(_ offset: Int, _ count: Int) -> Int? {
      let start = range.lowerBound + offset
      guard start + count <= range.upperBound, bytes[start] &- UInt8(ascii: "0") < 10 else { return nil }
      return integer(bytes, start..<start + count)
    }
    func has(_ character: Character, at offset: Int) -> Bool {
      offset < range.count && bytes[range.lowerBound + offset] == character.asciiValue
    }
    guard let year = digits(0, 4), has("-", at: 4), let month = digits(5, 2), has("-", at: 7), let day = digits(8, 2),
      1...12 ~= month, 1...daysInMonth(month, year: year) ~= day
    else { return nil }
    let days = daysSince1970(year: year, month: month, day: day)
    if range.count == 10 { return Int64(days) * 86_400_000 }

    guard has("T", at: 10) || has("t", at: 10) || has(" ", at: 10), let hour = digits(11, 2), has(":", at: 13), let minute = digits(14, 2),
      has(":", at: 16), let second = digits(17, 2), hour < 24, minute < 60, second <= 60
    else { return nil }
    var milliseconds = ((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000
    var offset = 19
    if has(".", at: offset) {
      offset += 1
      var scale = 100
      let start = offset
      while let digit = digits(offset, 1) {
        milliseconds += digit * scale
        scale /= 10
        offset += 1
      }
      guard offset > start else { return nil }
    }
    if offset == range.count { return Int64(milliseconds) }
    if has("Z", at: offset) || has("z", at: offset) { return offset + 1 == range.count ? Int64(milliseconds) : nil }
    guard has("+", at: offset) || has("-", at: offset), offset + 6 == range.count, let hours = digits(offset + 1, 2),
      has(":", at: offset + 3), let minutes = digits(offset + 4, 2), hours < 24, minutes < 60
    else { return nil }
    let shift = (hours * 60 + minutes) * 60_000
    return Int64(has("+", at: offset) ? milliseconds - shift : milliseconds + shift)
  }

  private static func daysInMonth(_ month: Int, year: Int) -> Int {
    switch month {
    case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
    case 4, 6, 9, 11: 30
    default: 31
    }
  }

  /// Proleptic Gregorian calendar, with years that start in March so that the leap day comes last.
  private static func daysSince1970(year: Int, month: Int, day: Int) -> Int {
    let shifted = month > 2 ? year : year - 1
    let era = (shifted >= 0 ? shifted : shifted - 399) / 400
    let yearOfEra = shifted - era * 400
    let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
    return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
  }
}
