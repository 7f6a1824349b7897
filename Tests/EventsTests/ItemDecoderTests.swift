import Events
import TestSupport
import Testing

@Suite struct ItemDecoderTests {
  @Test func readsEveryField() throws {
    let decoded = try decodeItem(
      """
      {"item":"i","title":"T","categories":["a","b"],"brand":"B","price":19.5,"available":false,"features":{"text":[0.5,-1],"image":[3]}}
      """)
    #expect(
      decoded
        == .description(
          ItemDescription(
            item: "i", title: "T", categories: ["a", "b"], brand: "B", price: 19.5, available: false,
            features: [.init(name: "image", values: [3]), .init(name: "text", values: [0.5, -1])])))
  }

  @Test func anIDIsEnoughAndTheKeyGivesItWhereTheFieldIsMissing() throws {
    #expect(try decodeItem(#"{"item":"i"}"#) == .description(ItemDescription(item: "i")))
    #expect(try decodeItem("{}", key: "k") == .description(ItemDescription(item: "k")))
    #expect(try decodeItem(#"{"item":"i"}"#, key: "k") == .description(ItemDescription(item: "i")))
  }

  @Test func nullIsAsIfItWereMissing() throws {
    let json = #"{"item":"i","title":null,"categories":null,"brand":null,"price":null,"available":null,"features":null}"#
    #expect(try decodeItem(json) == .description(ItemDescription(item: "i")))
    #expect(try decodeItem(#"{"item":"i","features":{"text":null}}"#) == .description(ItemDescription(item: "i")))
  }

  @Test func aSingleCategoryMayBeAString() throws {
    #expect(try decodeItem(#"{"item":"i","categories":"shoes"}"#).description?.categories == ["shoes"])
  }

  @Test func aTombstoneRetires() throws {
    var decoder = try ItemDecoder(.init())
    let key = Array("i".utf8)
    #expect(decoder.decode(value: nil, key: key.span.bytes) == .retire(item: "i"))
    #expect(decoder.decode(value: nil, key: nil).rejection?.reason == .nullValue)
  }

  static let bad: [(String, Rejection.Reason, String?)] = [
    ("{", .notJSON, nil),
    ("[1]", .notAnObject, nil),
    ("{}", .missingField, "item"),
    (#"{"item":1}"#, .wrongType, "item"),
    (#"{"item":null}"#, .nullValue, "item"),
    (#"{"item":""}"#, .emptyID, "item"),
    (#"{"item":"i","title":1}"#, .wrongType, "title"),
    (#"{"item":"i","categories":[1]}"#, .wrongType, "categories"),
    (#"{"item":"i","categories":{}}"#, .wrongType, "categories"),
    (#"{"item":"i","brand":[]}"#, .wrongType, "brand"),
    (#"{"item":"i","price":"9.99"}"#, .wrongType, "price"),
    (#"{"item":"i","price":-0.01}"#, .outOfRange, "price"),
    (#"{"item":"i","price":1e999}"#, .notFinite, nil),
    (#"{"item":"i","available":"yes"}"#, .wrongType, "available"),
    (#"{"item":"i","available":1}"#, .wrongType, "available"),
    (#"{"item":"i","features":[1,2]}"#, .wrongType, "features"),
    (#"{"item":"i","features":{"text":1}}"#, .wrongType, "features"),
    (#"{"item":"i","features":{"text":[1,"2"]}}"#, .wrongType, "features"),
    (#"{"item":"i","features":{"text":[1,null]}}"#, .wrongType, "features"),
    (#"{"item":"i","features":{"text":[1,true]}}"#, .wrongType, "features"),
    (#"{"item":"i","features":{"text":[1e39]}}"#, .notFinite, "features"),
    (#"{"item":"i","features":{"text":[1,NaN]}}"#, .notFinite, nil),
    (#"{"item":"i","features":{"text":[1,-Infinity]}}"#, .notFinite, nil),
    (#"{"item":"i","features":{"text":[]}}"#, .featureDimension, "features"),
  ]

  @Test(arguments: bad)
  func rejects(json: String, reason: Rejection.Reason, field: String?) throws {
    let rejection = try #require(try decodeItem(json).rejection)
    #expect(rejection.reason == reason, "\(rejection)")
    #expect(rejection.field == field, "\(rejection)")
  }

  @Test func theFirstDescriptionFixesAFeaturesDimension() throws {
    var decoder = try ItemDecoder(.init())
    func decode(_ json: String) -> DecodedItem { decoder.decode(bytes: Array(json.utf8)) }
    // A rejected description fixes nothing.
    #expect(decode(#"{"item":"a","price":-1,"features":{"text":[1]}}"#).rejection != nil)
    #expect(decode(#"{"item":"a","features":{"text":[1,2,3]}}"#).description != nil)
    let rejection = try #require(decode(#"{"item":"b","features":{"text":[1,2]}}"#).rejection)
    #expect(rejection.reason == .featureDimension)
    #expect(rejection.message == "features/text has 2 numbers, 3 are needed")
    #expect(decode(#"{"item":"c","features":{"image":[1,2]}}"#).description != nil)
    #expect(decoder.dimensions == ["text": 3, "image": 2])
  }

  @Test func aConfiguredDimensionHolds() throws {
    #expect(try decodeItem(#"{"item":"a","features":{"text":[1]}}"#) { $0.dimensions = ["text": 2] }.rejection?.reason == .featureDimension)
    #expect(try decodeItem(#"{"item":"a","features":{"text":[1,2]}}"#) { $0.dimensions = ["text": 2] }.description != nil)
  }

  @Test func theNumberOfFeaturesAndCategoriesIsBounded() throws {
    let many = (0...64).map { #""f\#($0)":[1]"# }.joined(separator: ",")
    #expect(try decodeItem(#"{"item":"a","features":{\#(many)}}"#).rejection?.reason == .tooLarge)
    var decoder = try ItemDecoder(.init())
    for index in 0..<64 { #expect(decoder.decode(bytes: Array(#"{"item":"a","features":{"f\#(index)":[1]}}"#.utf8)).description != nil) }
    #expect(decoder.decode(bytes: Array(#"{"item":"a","features":{"one more":[1]}}"#.utf8)).rejection?.reason == .tooLarge)
    let categories = Array(repeating: #""c""#, count: 257).joined(separator: ",")
    #expect(try decodeItem(#"{"item":"a","categories":[\#(categories)]}"#).rejection?.reason == .tooLarge)
  }

  @Test func everyDescriptionReadsBackAsItWasWritten() throws {
    var generator = SeededGenerator(seed: 3)
    for _ in 0..<2_000 {
      let names = Set((0..<Int.random(in: 0...3, using: &generator)).map { _ in randomText(using: &generator) })
      let features = names.sorted().map { name in
        ItemDescription.Feature(
          name: name,
          values: (0..<Int.random(in: 1...8, using: &generator)).map { _ in
            let value = Float(bitPattern: UInt32.random(in: 0...UInt32.max, using: &generator))
            return value.isFinite ? value : 0
          })
      }
      let description = ItemDescription(
        item: randomText(using: &generator), title: Bool.random(using: &generator) ? randomText(using: &generator) : nil,
        categories: (0..<Int.random(in: 0...3, using: &generator)).map { _ in randomText(using: &generator) },
        brand: Bool.random(using: &generator) ? randomText(using: &generator) : nil,
        price: Bool.random(using: &generator) ? Double.random(in: 0...1e6, using: &generator) : nil,
        available: Bool.random(using: &generator), features: features)
      var decoder = try ItemDecoder(.init())
      #expect(decoder.decode(bytes: description.json()) == .description(description))
    }
  }
}
