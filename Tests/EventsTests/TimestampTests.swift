import Events
import TestSupport
import Testing

@Suite struct TimestampTests {
  private func parse(_ text: String) -> Int64? { Timestamp.milliseconds(rfc3339: Array(text.utf8).span) }

  @Test(arguments: [
    ("1970-01-01T00:00:00Z", 0), ("1969-12-31T23:59:59Z", -1000), ("2000-02-29T12:34:56Z", 951_827_696_000),
    ("2026-01-31T12:00:00.1Z", 1_769_860_800_100), ("2026-01-31T12:00:00.123456789Z", 1_769_860_800_123),
    ("2026-01-31t12:00:00z", 1_769_860_800_000), ("2026-01-31 12:00:00+00:00", 1_769_860_800_000),
    ("2026-01-31T13:30:00+01:30", 1_769_860_800_000), ("2026-01-31T00:00:00-12:00", 1_769_860_800_000),
    ("2016-12-31T23:59:60Z", 1_483_228_800_000), ("2017-01-01T00:59:60+01:00", 1_483_228_800_000),
    ("0001-01-01T00:00:00Z", -62_135_596_800_000), ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
  ])
  func reads(text: String, expected: Int64) { #expect(parse(text) == expected) }

  @Test(arguments: [
    "", "2026", "2026-01-31", "2026-01-31T12:00:00", "2026-01-31T12:00Z", "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z",
    "2026-04-31T00:00:00Z", "2025-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2026-01-00T00:00:00Z", "2026-01-31T24:00:00Z",
    "2026-01-31T12:60:00Z", "2026-01-31T12:00:61Z", "2026-01-31T12:00:60Z", "2026-01-31T12:00:00.Z", "2026-01-31T12:00:00.5",
    "2026-01-31T12:00:00+1:00", "2026-01-31T12:00:00+0100", "2026-01-31T12:00:00+24:00", "2026-01-31T12:00:00+00:60",
    "2026-01-31T12:00:00Z ", " 2026-01-31T12:00:00Z", "2026-01-31T12:00:00ZZ", "+026-01-31T12:00:00Z", "2026-1-31T12:00:00ZZ",
    "2026/01/31T12:00:00Z", "２０２６-01-31T12:00:00Z",
  ])
  func refuses(text: String) { #expect(parse(text) == nil) }

  @Test func everyTimeReadsBackAsItWasWritten() {
    var generator = SeededGenerator(seed: 4)
    for _ in 0..<20_000 {
      let time = Int64.random(in: -62_167_219_200_000...253_402_300_799_999, using: &generator)
      #expect(parse(Timestamp.rfc3339(time)) == time)
    }
    #expect(Timestamp.rfc3339(0) == "1970-01-01T00:00:00.000Z")
    #expect(Timestamp.rfc3339(.max) == "9999-12-31T23:59:59.999Z")
    #expect(Timestamp.rfc3339(.min) == "0000-01-01T00:00:00.000Z")
  }

  @Test func secondsMillisecondsAndMicrosecondsAreToldApartBySize() {
    #expect(Timestamp.milliseconds(unix: Int64(99_999_999_999)) == 99_999_999_999_000)
    #expect(Timestamp.milliseconds(unix: Int64(100_000_000_000)) == 100_000_000_000)
    #expect(Timestamp.milliseconds(unix: Int64(99_999_999_999_999)) == 99_999_999_999_999)
    #expect(Timestamp.milliseconds(unix: Int64(1_700_000_000_123_999)) == 1_700_000_000_123)
    #expect(Timestamp.milliseconds(unix: 1_700_000_000_123_999.0) == 1_700_000_000_123)
    #expect(Timestamp.milliseconds(unix: -1.5) == -1500)
    #expect(Timestamp.milliseconds(unix: Double.infinity) == .max)
    #expect(Timestamp.milliseconds(unix: -1e300) == .min)
  }
}
