import Events

let interactionTarget = FuzzTarget(
  seeds: {
    [
      #"{"user": "u-1", "item": "i-1", "type": "view", "time": 1700000000000}"#,
      #"{"user":"ü","item":"i","type":"purchase","time":"2026-05-01T10:00:00.5+02:00","value":3.5,"session":"s","context":{"a":[1,{}]},"shown":["x","y"]}"#,
      #"{"user": "u-1", "type": "forget"}"#, #"{"item":"i","type":"view","time":1.7e12,"value":null}"#,
    ].map { Array($0.utf8) }
  },
  feed: feedInteraction)

let itemTarget = FuzzTarget(
  seeds: {
    [
      #"{"item":"i-1","title":"Kettle","categories":["kitchen","a/b"],"brand":"Acme","price":39.9,"available":true,"features":{"text":[0.1,-2e-3,4]}}"#,
      #"{"item":"i-2","features":{"text":[1,2,3],"image":[]},"price":0}"#,
    ].map { Array($0.utf8) }
  },
  feed: feedItem)

private let now: Int64 = 1_769_860_800_000
private let types: [String: UInt8] = ["view": 0, "click": 1, "purchase": 2]

@Sendable private func feedInteraction(_ bytes: [UInt8]) {
  guard var decoder = try? InteractionDecoder(InteractionDecoder.Configuration(types: types)) else { fatalError("no decoder") }
  let key: [UInt8] = bytes.count % 3 == 0 ? Array(bytes.prefix(5)) : Array("u-key".utf8)
  guard case .interaction(let interaction) = decoder.decode(value: bytes.span.bytes, key: key.span.bytes, timestamp: now, now: now) else { return }
  for id in [interaction.user, interaction.item] + interaction.shown { promise((1...65_536).contains(id.utf8.count), "an id of \(id.utf8.count) bytes") }
  promise((0...now + 300_000).contains(interaction.time), "the time \(interaction.time)")
  promise(interaction.value?.isFinite ?? true, "a value that is not finite")
  let name = types.first { $0.value == interaction.type }?.key ?? ""
  let written = interaction.json(typeName: name)
  guard case .interaction(let again) = decoder.decode(value: written.span.bytes, key: key.span.bytes, timestamp: now, now: now) else {
    fatalError("what was accepted is refused when it is written again")
  }
  promise(again.user == interaction.user && again.item == interaction.item && again.time == interaction.time && again.shown == interaction.shown,
    "what was accepted is another event when it is written again")
}

@Sendable private func feedItem(_ bytes: [UInt8]) {
  guard var decoder = try? ItemDecoder(ItemDecoder.Configuration()) else { fatalError("no decoder") }
  guard case .description(let item) = decoder.decode(value: bytes.span.bytes, key: Array("i-key".utf8).span.bytes) else { return }
  promise((1...65_536).contains(item.item.utf8.count), "an id of \(item.item.utf8.count) bytes")
  promise(item.features.allSatisfy { $0.values.allSatisfy(\.isFinite) }, "a feature that is not finite")
  promise(item.price.map { $0.isFinite && $0 >= 0 } ?? true, "the price \(item.price ?? 0)")
  guard case .description(let again) = decoder.decode(value: item.json().span.bytes, key: nil) else {
    fatalError("what was accepted is refused when it is written again")
  }
  promise(again.item == item.item && again.features == item.features && again.title == item.title, "another item when it is written again")
}
