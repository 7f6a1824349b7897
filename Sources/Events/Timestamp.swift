/// Reading and writing of points in time as milliseconds since 1970 (UTC, without leap seconds).
public enum Timestamp {
  /// A number below this is in seconds, from here on in milliseconds: as seconds it is the year 5138, as milliseconds March 1973.
  public static let millisecondsFrom = 100_000_000_000.0
  /// From here on a number is in microseconds: as milliseconds it is the year 5138, as microseconds March 1973.
  public static let microsecondsFrom = 100_000_000_000_000.0

  /// A Unix time, in seconds, milliseconds or microseconds by its size (see `millisecondsFrom`). Beyond what fits the result saturates.
  public static func milliseconds(unix number: Double) -> Int64 {
    let milliseconds =
      switch abs(number) {
      case ..<millisecondsFrom: (number * 1000).rounded()
      case ..<microsecondsFrom: number.rounded()
      default: (number / 1000).rounded(.down)
      }
    return Int64(exactly: milliseconds) ?? (milliseconds < 0 ? .min : .max)
  }

  /// A Unix time, in seconds, milliseconds or microseconds by its size (see `millisecondsFrom`).
  public static func milliseconds(unix number: Int64) -> Int64 {
    switch number.magnitude {
    case ..<UInt64(millisecondsFrom): number * 1000
    case ..<UInt64(microsecondsFrom): number
    default: number / 1000
    }
  }

  /// A date-time of RFC 3339, or nil if it is none. Fractions finer than a millisecond are cut off; the offset is required;
  /// a leap second (23:59:60 UTC) is the first second of the next day; a space may stand for the `T`.
  public static func milliseconds(rfc3339 text: Span<UInt8>) -> Int64? {
    guard text.count >= 20 else { return nil }
    func number(_ start: Int, _ length: Int) -> Int? {
      guard start + length <= text.count else { return nil }
      var value = 0
      for index in start..<(start + length) {
        guard isDigit(text[index]) else { return nil }
        value = value * 10 + Int(text[index] - UInt8(ascii: "0"))
      }
      return value
    }
    guard let year = number(0, 4), let month = number(5, 2), let day = number(8, 2),
      let hour = number(11, 2), let minute = number(14, 2), let second = number(17, 2),
      text[4] == UInt8(ascii: "-"), text[7] == UInt8(ascii: "-"), text[13] == UInt8(ascii: ":"), text[16] == UInt8(ascii: ":"),
      text[10] | 0x20 == UInt8(ascii: "t") || text[10] == UInt8(ascii: " "),
      1...12 ~= month, day >= 1, day <= daysIn(month: month, year: year), hour <= 23, minute <= 59, second <= 60
    else { return nil }

    var index = 19
    var fraction = 0
    if text[index] == UInt8(ascii: ".") {
      index += 1
      let start = index
      var unit = 100
      while index < text.count, isDigit(text[index]) {
        fraction += Int(text[index] - UInt8(ascii: "0")) * unit
        unit /= 10
        index += 1
      }
      guard index > start, index < text.count else { return nil }
    }

    var offset = 0
    switch text[index] {
    case UInt8(ascii: "Z"), UInt8(ascii: "z"):
      guard index + 1 == text.count else { return nil }
    case UInt8(ascii: "+"), UInt8(ascii: "-"):
      guard index + 6 == text.count, text[index + 3] == UInt8(ascii: ":"), let hours = number(index + 1, 2),
        let minutes = number(index + 4, 2), hours <= 23, minutes <= 59
      else { return nil }
      offset = (hours * 60 + minutes) * (text[index] == UInt8(ascii: "-") ? -1 : 1)
    default:
      return nil
    }

    let minutes = (daysSince1970(year: year, month: month, day: day) * 24 + hour) * 60 + minute - offset
    if second == 60, (minutes % 1440 + 1440) % 1440 != 1439 { return nil }
    return Int64((minutes * 60 + second) * 1000 + fraction)
  }

  /// RFC 3339 in UTC with milliseconds: `2026-11-24T13:29:00.000Z`. Years outside 0000–9999 are brought to the nearest inside.
  public static func rfc3339(_ milliseconds: Int64) -> String {
    let time = min(max(milliseconds, -62_167_219_200_000), 253_402_300_799_999)
    let days = (time >= 0 ? time : time - 86_399_999) / 86_400_000
    let rest = time - days * 86_400_000
    let (year, month, day) = civil(daysSince1970: Int(days))
    func digits(_ value: Int, _ count: Int) -> String {
      let text = String(value)
      return String(repeating: "0", count: count - text.utf8.count) + text
    }
    let seconds = Int(rest / 1000)
    return "\(digits(year, 4))-\(digits(month, 2))-\(digits(day, 2))T\(digits(seconds / 3600, 2)):\(digits(seconds / 60 % 60, 2)):"
      + "\(digits(seconds % 60, 2)).\(digits(Int(rest % 1000), 3))Z"
  }

  private static func daysIn(month: Int, year: Int) -> Int {
    switch month {
    case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
    case 4, 6, 9, 11: 30
    default: 31
    }
  }

  // The proleptic Gregorian calendar in eras of 400 years that begin in March, so that the leap day is a year's last:
  // H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
  private static func daysSince1970(year: Int, month: Int, day: Int) -> Int {
    let year = month <= 2 ? year - 1 : year
    let era = (year >= 0 ? year : year - 399) / 400
    let yearOfEra = year - era * 400
    let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
    return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
  }

  private static func civil(daysSince1970 days: Int) -> (year: Int, month: Int, day: Int) {
    let days = days + 719_468
    let era = (days >= 0 ? days : days - 146_096) / 146_097
    let dayOfEra = days - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let monthFromMarch = (5 * dayOfYear + 2) / 153
    let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
    return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * monthFromMarch + 2) / 5 + 1)
  }
}
