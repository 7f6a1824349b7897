import Events
import TestSupport

/// 2026-01-31T12:00:00Z
let now: Int64 = 1_769_860_800_000
let types: [String: UInt8] = ["view": 0, "click": 1, "add_to_cart": 2, "purchase": 3, "rating": 4]

func decodeInteraction(
  _ json: some Sequence<UInt8>, key: String? = nil, configure: (inout InteractionDecoder.Configuration) -> Void = { _ in }
) throws -> DecodedInteraction {
  var configuration = InteractionDecoder.Configuration(types: types)
  configure(&configuration)
  var decoder = try InteractionDecoder(configuration)
  return decoder.decode(bytes: Array(json), keyBytes: key.map { Array($0.utf8) })
}

func decodeInteraction(
  _ json: String, key: String? = nil, configure: (inout InteractionDecoder.Configuration) -> Void = { _ in }
) throws -> DecodedInteraction {
  try decodeInteraction(Array(json.utf8), key: key, configure: configure)
}

func decodeItem(
  _ json: String, key: String? = nil, configure: (inout ItemDecoder.Configuration) -> Void = { _ in }
) throws -> DecodedItem {
  var configuration = ItemDecoder.Configuration()
  configure(&configuration)
  var decoder = try ItemDecoder(configuration)
  return decoder.decode(bytes: Array(json.utf8), keyBytes: key.map { Array($0.utf8) })
}

extension InteractionDecoder {
  mutating func decode(bytes: [UInt8]?, keyBytes: [UInt8]? = nil, timestamp: Int64 = 0) -> DecodedInteraction {
    switch (bytes, keyBytes) {
    case (let bytes?, let key?): decode(value: bytes.span.bytes, key: key.span.bytes, timestamp: timestamp, now: now)
    case (let bytes?, nil): decode(value: bytes.span.bytes, key: nil, timestamp: timestamp, now: now)
    case (nil, let key?): decode(value: nil, key: key.span.bytes, timestamp: timestamp, now: now)
    case (nil, nil): decode(value: nil, key: nil, timestamp: timestamp, now: now)
    }
  }
}

extension ItemDecoder {
  mutating func decode(bytes: [UInt8], keyBytes: [UInt8]? = nil) -> DecodedItem {
    guard let keyBytes else { return decode(value: bytes.span.bytes, key: nil) }
    return decode(value: bytes.span.bytes, key: keyBytes.span.bytes)
  }
}

extension DecodedInteraction {
  var rejection: Rejection? { if case .rejected(let rejection) = self { rejection } else { nil } }
  var interaction: Interaction? { if case .interaction(let interaction) = self { interaction } else { nil } }
}

extension DecodedItem {
  var rejection: Rejection? { if case .rejected(let rejection) = self { rejection } else { nil } }
  var description: ItemDescription? { if case .description(let description) = self { description } else { nil } }
}

/// A string that a careless encoder gets wrong.
func randomText(using generator: inout SeededGenerator, nonEmpty: Bool = true) -> String {
  let alphabet: [Unicode.Scalar] = [
    "a", "Z", "0", "\"", "\\", "/", "\n", "\t", "\0", "\u{1F}", "\u{7F}", "é", "\u{2028}", "日", "🛒", "e\u{301}".unicodeScalars.last!,
  ]
  var text = ""
  for _ in 0..<Int.random(in: (nonEmpty ? 1 : 0)...24, using: &generator) {
    text.unicodeScalars.append(alphabet.randomElement(using: &generator)!)
  }
  return text
}
