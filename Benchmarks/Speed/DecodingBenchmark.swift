import Events

/// `ingest.decode`: JSON to checked interactions, without a broker and without a store.
func decodingBenchmark(_ timer: Timer, _ report: Report) throws {
  let messages = InteractionMessages(count: 200_000, users: 100_000, items: 100_000)
  var decoder = try InteractionDecoder(
    InteractionDecoder.Configuration(
      types: Dictionary(uniqueKeysWithValues: InteractionMessages.types.enumerated().map { ($1, UInt8($0)) })))
  for index in messages.expected.indices {
    let decoded = messages.decode(index, &decoder)
    try check(decoded == .interaction(messages.expected[index]), "message \(index) was decoded as \(decoded)")
  }
  let expected = messages.expected.reduce(Int64(0)) { $0 &+ $1.time }
  let measurement = try measure(timer, messages, decoder, expected: expected)
  report.add("ingest.decode.events_per_second", measurement, unit: "events/s")
  report.add(
    "ingest.decode.megabytes_per_second", measurement.median * Double(messages.byteCount) / Double(messages.expected.count) * 1e-6,
    unit: "MB/s")
}

private func measure(
  _ timer: Timer, _ messages: InteractionMessages, _ decoder: consuming InteractionDecoder, expected: Int64
) throws -> Measurement {
  let owned = DecoderOwner(decoder)
  return try timer(units: messages.expected.count) {
    var sum: Int64 = 0
    for index in messages.expected.indices {
      if case .interaction(let interaction) = messages.decode(index, &owned.decoder) { sum &+= interaction.time }
    }
    try check(sum == expected, "the decoded times do not add up")
  }
}

/// Lets a closure that escapes change the decoder, which has no copies.
private final class DecoderOwner {
  var decoder: InteractionDecoder
  init(_ decoder: consuming InteractionDecoder) { self.decoder = decoder }
}
