import Events
import Foundation
import Testing
import TestSupport

/// The published JSON Schemas against what the code writes and accepts.
@Suite struct SchemaTests {
  private static let folder = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath()
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("config/schemas")

  private func schema(_ name: String) throws -> JSON {
    try JSONDecoder().decode(JSON.self, from: try Data(contentsOf: Self.folder.appendingPathComponent("\(name).schema.json")))
  }

  private func json(_ bytes: [UInt8]) throws -> JSON { try JSONDecoder().decode(JSON.self, from: Data(bytes)) }

  /// What a schema can see; ids in bytes, vocabularies and the clock are beyond it.
  private static let structural: Set<Rejection.Reason> = [.notAnObject, .missingField, .wrongType, .emptyID, .nullValue]

  @Test func refuseWhatTheDecodersRefuseForItsStructure() throws {
    let interaction = try schema("interaction")
    let item = try schema("item")
    var checked = 0
    for (text, reason, field) in InteractionDecoderTests.bad
    where Self.structural.contains(reason) && !(reason == .missingField && field == "user") {
      #expect(try !interaction.errors(in: json(Array(text.utf8))).isEmpty, "\(text)")
      checked += 1
    }
    for (text, reason, field) in ItemDecoderTests.bad
    where Self.structural.contains(reason) && !(reason == .missingField && field == "item") {
      #expect(try !item.errors(in: json(Array(text.utf8))).isEmpty, "\(text)")
      checked += 1
    }
    #expect(checked > 30)
  }

  @Test(arguments: [
    #"{"user":"u","item":"i","type":"view","time":1700000000}"#,
    #"{"item":"i","type":"view","time":"2023-11-14T22:13:20Z","other":[]}"#,
    #"{"user":"u","item":"i","type":"view","time":1.5,"value":null,"session":null,"context":null,"shown":null}"#,
    #"{"user":"u","type":"forget"}"#,
  ])
  func acceptAnInteractionThatTheDecoderAccepts(text: String) throws {
    #expect(try schema("interaction").errors(in: json(Array(text.utf8))) == [])
    #expect(try decodeInteraction(text, key: "k").rejection == nil)
  }

  @Test(arguments: [
    "{}", #"{"item":"i","categories":"c","features":{"text":null}}"#,
    #"{"item":"i","title":null,"categories":null,"brand":null,"price":null,"available":null,"features":null}"#,
  ])
  func acceptAnItemThatTheDecoderAccepts(text: String) throws {
    #expect(try schema("item").errors(in: json(Array(text.utf8))) == [])
    #expect(try decodeItem(text, key: "k").rejection == nil)
  }

  @Test func acceptWhatTheEncodersWrite() throws {
    let interaction = Interaction(
      user: "u", item: "i", type: 0, time: now, value: 1, session: "s", context: "{}", shown: ["a"])
    #expect(try schema("interaction").errors(in: json(interaction.json(typeName: "view"))) == [])
    #expect(try schema("interaction").errors(in: json(Interaction(user: "u", item: "i", type: 0, time: 5).json(typeName: "view"))) == [])
    #expect(try schema("interaction").errors(in: json(Interaction.forgetJSON(user: "u"))) == [])

    let item = ItemDescription(
      item: "i", title: "t", categories: ["c"], brand: "b", price: 1, available: false, features: [.init(name: "f", values: [1e-30])])
    #expect(try schema("item").errors(in: json(item.json())) == [])
    #expect(try schema("item").errors(in: json(ItemDescription(item: "i").json())) == [])

    for asOf in [nil, Recommendation.Position(topic: "t", partition: 0, offset: 0, time: 0)] {
      let list = Recommendation(user: "u", items: [.init(item: "i", score: -1.5)], revision: 1, model: 0, asOf: asOf, generatedAt: now)
      #expect(try schema("recommendation").errors(in: json(try list.json())) == [])
    }

    for reason in Rejection.Reason.allCases {
      let letter = DeadLetter(
        key: nil, value: nil, headers: [], topic: "t", partition: 0, offset: 0, timestamp: 0, rejection: Rejection(reason, field: "user", "message"))
      let headers = Dictionary(
        uniqueKeysWithValues: letter.headers.map { ($0.name, JSON.string(String(decoding: $0.value ?? [], as: UTF8.self))) })
      #expect(try schema("dead_letter_headers").errors(in: .object(headers)) == [])
    }
  }

  @Test func nameEveryReason() throws {
    let names = try #require(try schema("dead_letter_headers")["properties"]?["rodpod.error.class"]?["enum"]?.elements)
    #expect(names == Rejection.Reason.allCases.map { .string($0.rawValue) })
  }
}
