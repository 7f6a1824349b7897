import Events
import TestSupport
import Testing

@Suite struct InteractionDecoderTests {
  @Test func readsEveryField() throws {
    let decoded = try decodeInteraction(
      """
      {"user":"u1","item":"i1","type":"purchase","time":"2026-01-31T11:59:59.5Z","value":12.5,"session":"s",
       "context":{"page": "home", "n":[1]},
       "shown":["a","b"],"other":{"user":"not this"}}
      """)
    #expect(
      decoded
        == .interaction(
          Interaction(
            user: "u1", item: "i1", type: 3, time: now - 500, value: 12.5, session: "s", context: #"{"page":"home","n":[1]}"#,
            shown: ["a", "b"])))
  }

  @Test func optionalFieldsMayBeMissingOrNull() throws {
    let expected = Interaction(user: "u", item: "i", type: 0, time: 1_700_000_000_000)
    #expect(try decodeInteraction(#"{"user":"u","item":"i","type":"view","time":1700000000}"#).interaction == expected)
    #expect(
      try decodeInteraction(
        #"{"user":"u","item":"i","type":"view","time":1700000000,"value":null,"session":null,"context":null,"shown":null}"#
      ).interaction == expected)
  }

  @Test func readsEscapedAndUnusualIDs() throws {
    let decoded = try decodeInteraction(#"{"user":"\u00e9\ud83d\uded2\"\\\/\u0000","item":" ","type":"view","time":0}"#)
    #expect(decoded.interaction?.user == "é🛒\"\\/\0")
    #expect(decoded.interaction?.item == " ")
  }

  @Test(arguments: [
    ("1700000000", 1_700_000_000_000), ("1700000000.25", 1_700_000_000_250), ("1700000000123", 1_700_000_000_123),
    ("1700000000123.6", 1_700_000_000_124), ("0", 0), ("99999999999e-9", 100_000), ("1.7e9", 1_700_000_000_000),
    (#""2023-11-14T22:13:20Z""#, 1_700_000_000_000), (#""2023-11-15T00:13:20.999999+02:00""#, 1_700_000_000_999),
  ])
  func readsTimes(json: String, expected: Int64) throws {
    #expect(try decodeInteraction(#"{"user":"u","item":"i","type":"view","time":\#(json)}"#).interaction?.time == expected)
  }

  @Test func acceptsAnEventAtTheEdgeOfTheFuture() throws {
    func event(_ time: Int64) throws -> DecodedInteraction {
      try decodeInteraction(#"{"user":"u","item":"i","type":"view","time":\#(time)}"#)
    }
    #expect(try event(now + 300_000).interaction?.time == now + 300_000)
    #expect(try event(now + 300_001).rejection?.reason == .timeInFuture)
  }

  static let bad: [(String, Rejection.Reason, String?)] = [
    ("", .notJSON, nil),
    ("   ", .notJSON, nil),
    ("not json", .notJSON, nil),
    (#"{"user":"u""#, .notJSON, nil),
    (#"{"user":"u","item":"i","type":"view","time":1} x"#, .notJSON, nil),
    (#"{"user":"u","item":"i","type":"view","time":1}{}"#, .notJSON, nil),
    (#"{'user':'u'}"#, .notJSON, nil),
    (#"{"user":"u","item":"i","type":"view","time":01}"#, .notJSON, nil),
    (#"{"user":"\ud800","item":"i","type":"view","time":1}"#, .notJSON, nil),
    ("{\"user\":\"a\nb\",\"item\":\"i\",\"type\":\"view\",\"time\":1}", .notJSON, nil),
    ("null", .notAnObject, nil),
    ("[]", .notAnObject, nil),
    ("42", .notAnObject, nil),
    (#""text""#, .notAnObject, nil),
    ("{}", .missingField, "type"),
    (#"{"item":"i","type":"view","time":1}"#, .missingField, "user"),
    (#"{"user":"u","type":"view","time":1}"#, .missingField, "item"),
    (#"{"user":"u","item":"i","time":1}"#, .missingField, "type"),
    (#"{"user":"u","item":"i","type":"view"}"#, .missingField, "time"),
    (#"{"user":null,"item":"i","type":"view","time":1}"#, .nullValue, "user"),
    (#"{"user":"u","item":null,"type":"view","time":1}"#, .nullValue, "item"),
    (#"{"user":"u","item":"i","type":null,"time":1}"#, .nullValue, "type"),
    (#"{"user":"u","item":"i","type":"view","time":null}"#, .nullValue, "time"),
    (#"{"user":7,"item":"i","type":"view","time":1}"#, .wrongType, "user"),
    (#"{"user":"u","item":["i"],"type":"view","time":1}"#, .wrongType, "item"),
    (#"{"user":"u","item":"i","type":1,"time":1}"#, .wrongType, "type"),
    (#"{"user":"u","item":"i","type":"view","time":{}}"#, .wrongType, "time"),
    (#"{"user":"u","item":"i","type":"view","time":true}"#, .wrongType, "time"),
    (#"{"user":"u","item":"i","type":"view","time":1,"value":"3"}"#, .wrongType, "value"),
    (#"{"user":"u","item":"i","type":"view","time":1,"session":3}"#, .wrongType, "session"),
    (#"{"user":"u","item":"i","type":"view","time":1,"context":[]}"#, .wrongType, "context"),
    (#"{"user":"u","item":"i","type":"view","time":1,"shown":"i"}"#, .wrongType, "shown"),
    (#"{"user":"u","item":"i","type":"view","time":1,"shown":["a",1]}"#, .wrongType, "shown"),
    (#"{"user":"u","item":"i","type":"view","time":1,"shown":["a",""]}"#, .emptyID, "shown"),
    (#"{"user":"","item":"i","type":"view","time":1}"#, .emptyID, "user"),
    (#"{"user":"u","item":"","type":"view","time":1}"#, .emptyID, "item"),
    (#"{"user":"u","item":"i","type":"teleport","time":1}"#, .unknownType, "type"),
    (#"{"user":"u","item":"i","type":"","time":1}"#, .unknownType, "type"),
    (#"{"user":"u","item":"i","type":"View","time":1}"#, .unknownType, "type"),
    (#"{"user":"u","item":"i","type":"view","time":"yesterday"}"#, .timeInvalid, "time"),
    (#"{"user":"u","item":"i","type":"view","time":"1700000000"}"#, .timeInvalid, "time"),
    (#"{"user":"u","item":"i","type":"view","time":"2026-02-29T00:00:00Z"}"#, .timeInvalid, "time"),
    (#"{"user":"u","item":"i","type":"view","time":-1}"#, .timeBefore1970, "time"),
    (#"{"user":"u","item":"i","type":"view","time":-9223372036854775808}"#, .timeBefore1970, "time"),
    (#"{"user":"u","item":"i","type":"view","time":"1969-12-31T23:59:59.999Z"}"#, .timeBefore1970, "time"),
    (#"{"user":"u","item":"i","type":"view","time":1e300}"#, .timeInFuture, "time"),
    (#"{"user":"u","item":"i","type":"view","time":18446744073709551615}"#, .timeInFuture, "time"),
    (#"{"user":"u","item":"i","type":"view","time":9223372036854775807}"#, .timeInFuture, "time"),
    (#"{"user":"u","item":"i","type":"view","time":"9999-12-31T23:59:59Z"}"#, .timeInFuture, "time"),
    (#"{"user":"u","item":"i","type":"view","time":1e999}"#, .notFinite, nil),
    (#"{"user":"u","item":"i","type":"view","time":1,"value":1e39}"#, .notFinite, "value"),
    (#"{"user":"u","item":"i","type":"view","time":1,"value":NaN}"#, .notFinite, nil),
    (#"{"user":"u","item":"i","type":"view","time":1,"value":-Infinity}"#, .notFinite, nil),
    (#"{"user":"u","item":"i","type":"view","time":1,"other":123456789012345678901234567890}"#, .outOfRange, nil),
  ]

  @Test(arguments: bad)
  func rejects(json: String, reason: Rejection.Reason, field: String?) throws {
    let rejection = try #require(try decodeInteraction(json).rejection)
    #expect(rejection.reason == reason, "\(rejection)")
    #expect(rejection.field == field, "\(rejection)")
    #expect(!rejection.message.isEmpty && rejection.message.utf8.count <= Rejection.maximumMessageLength)
  }

  @Test func idsMayBe64KiBAndNotMore() throws {
    let longest = String(repeating: "x", count: 65_536)
    #expect(try decodeInteraction(#"{"user":"\#(longest)","item":"i","type":"view","time":1}"#).interaction?.user == longest)
    let rejection = try decodeInteraction(#"{"user":"u","item":"\#(longest)x","type":"view","time":1}"#).rejection
    #expect(rejection?.reason == .idTooLong)
    #expect(rejection?.field == "item")
    // 65,537 bytes though fewer characters.
    let wide = String(repeating: "é", count: 32_768) + "x"
    #expect(try decodeInteraction(#"{"user":"\#(wide)","item":"i","type":"view","time":1}"#).rejection?.reason == .idTooLong)
  }

  @Test func rejectsInvalidUTF8() throws {
    for invalid: [UInt8] in [[0xFF], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF5, 0x80, 0x80, 0x80], [0xE2, 0x82]] {
      let json = Array(#"{"user":"u"#.utf8) + invalid + Array(#"","item":"i","type":"view","time":1}"#.utf8)
      #expect(try decodeInteraction(json).rejection?.reason == .notUTF8)
    }
  }

  @Test func aMessageOfFiveMegabytesIsRejectedByDefaultAndReadWhereAllowed() throws {
    let json = #"{"user":"u","item":"i","type":"view","time":1,"padding":"\#(String(repeating: "x", count: 5_000_000))"}"#
    let rejection = try #require(try decodeInteraction(json).rejection)
    #expect(rejection.reason == .tooLarge)
    #expect(rejection.message.contains("1048576"))

    var configuration = InteractionDecoder.Configuration(types: types)
    configuration.maximumMessageBytes = 6_000_000
    var decoder = try InteractionDecoder(configuration)
    #expect(decoder.decode(bytes: Array(json.utf8)).interaction?.user == "u")
    // The decoder gives its large buffers back and goes on.
    #expect(
      decoder.decode(bytes: Array(#"{"user":"v","item":"i","type":"view","time":1}"#.utf8)).interaction?.user
        == "v")
  }

  @Test func deepNestingIsRejectedWithoutOverflow() throws {
    for depth in [1_025, 100_000] {
      for (open, close) in [("[", "]"), (#"{"a":"#, "}")] {
        let nested = String(repeating: open, count: depth) + "1" + String(repeating: close, count: depth)
        #expect(try decodeInteraction(#"{"user":"u","item":"i","type":"view","time":1,"x":\#(nested)}"#).rejection?.reason == .tooDeep)
      }
    }
    let nested = String(repeating: "[", count: 1_000) + String(repeating: "]", count: 1_000)
    #expect(try decodeInteraction(#"{"user":"u","item":"i","type":"view","time":1,"x":\#(nested)}"#).interaction != nil)
  }

  @Test func ofARepeatedKeyTheLastHolds() throws {
    #expect(try decodeInteraction(#"{"user":"a","user":"b","item":"i","type":"view","time":1}"#).interaction?.user == "b")
    #expect(try decodeInteraction(#"{"user":"a","user":null,"item":"i","type":"view","time":1}"#).rejection?.reason == .nullValue)
    let nested = try decodeInteraction(#"{"who":{"id":"a"},"who":{},"item":"i","type":"view","time":1}"#) { $0.fields.user = "/who/id" }
    #expect(nested.rejection?.reason == .missingField)
  }

  @Test func aByteOrderMarkIsSkipped() throws {
    #expect(try decodeInteraction("\u{FEFF}" + #"{"user":"u","item":"i","type":"view","time":1}"#).interaction?.user == "u")
  }

  @Test func theKeyIsTheUserWhereTheFieldIsMissing() throws {
    #expect(try decodeInteraction(#"{"item":"i","type":"view","time":1}"#, key: "k").interaction?.user == "k")
    #expect(try decodeInteraction(#"{"user":"u","item":"i","type":"view","time":1}"#, key: "k").interaction?.user == "u")
    #expect(try decodeInteraction(#"{"user":null,"item":"i","type":"view","time":1}"#, key: "k").rejection?.reason == .nullValue)
    #expect(try decodeInteraction(#"{"item":"i","type":"view","time":1}"#, key: "").rejection?.reason == .emptyID)
  }

  @Test func tombstonesAndForgetEventsEraseTheUser() throws {
    var decoder = try InteractionDecoder(.init(types: types))
    #expect(decoder.decode(bytes: nil, keyBytes: Array("u".utf8)) == .forget(user: "u"))
    #expect(decoder.decode(bytes: nil, keyBytes: nil).rejection?.reason == .nullValue)
    #expect(decoder.decode(bytes: nil, keyBytes: []).rejection?.reason == .emptyID)
    #expect(decoder.decode(bytes: nil, keyBytes: [0xFF]).rejection?.reason == .idNotUTF8)
    #expect(decoder.decode(bytes: nil, keyBytes: Array(repeating: 65, count: 65_537)).rejection?.reason == .idTooLong)
    #expect(try decodeInteraction(#"{"user":"u","type":"forget"}"#) == .forget(user: "u"))
    #expect(try decodeInteraction(#"{"type":"forget"}"#, key: "k") == .forget(user: "k"))
    #expect(try decodeInteraction(#"{"type":"forget"}"#).rejection?.reason == .missingField)
    #expect(try decodeInteraction(Interaction.forgetJSON(user: "a\"b")) == .forget(user: "a\"b"))
  }

  @Test func fieldsAreMappedByPointers() throws {
    let segment = """
      {"userId":"u","event":"Order Completed","timestamp":"2024-05-01T00:00:00Z","properties":{"products":[{"product_id":"p0"},{"product_id":"p1"}],
       "a/b":{"~":9.5}}}
      """
    let decoded = try decodeInteraction(segment) {
      $0.types = ["Order Completed": 7]
      $0.fields.user = "/userId"
      $0.fields.item = "/properties/products/1/product_id"
      $0.fields.type = "/event"
      $0.fields.time = "/timestamp"
      $0.fields.value = "/properties/a~1b/~0"
      $0.fields.session = "/userId"
    }
    #expect(decoded == .interaction(Interaction(user: "u", item: "p1", type: 7, time: 1_714_521_600_000, value: 9.5, session: "u")))
    let rejected = try decodeInteraction(#"{"user":"u","item":"i","type":"view","time":1}"#) { $0.fields.item = "/properties/id" }
    #expect(rejected.rejection?.field == "/properties/id")
  }

  @Test func anEmptyTimePointerTakesTheRecordsTimestamp() throws {
    var configuration = InteractionDecoder.Configuration(types: types)
    configuration.fields.time = ""
    var decoder = try InteractionDecoder(configuration)
    let json = Array(#"{"user":"u","item":"i","type":"view"}"#.utf8)
    #expect(decoder.decode(bytes: json, timestamp: 5).interaction?.time == 5)
    #expect(decoder.decode(bytes: json, timestamp: -1).rejection?.reason == .timeBefore1970)
    #expect(decoder.decode(bytes: json, timestamp: now * 2).rejection?.reason == .timeInFuture)
  }

  @Test(arguments: ["user", "/a~", "/a~2", "a/b"])
  func refusesWhatIsNoPointer(pointer: String) {
    var configuration = InteractionDecoder.Configuration(types: types)
    configuration.fields.item = pointer
    let error = #expect(throws: InvalidPointer.self) { _ = try InteractionDecoder(configuration) }
    #expect(error?.pointer == pointer)
  }

  @Test func aMessageDoesNotReflectHugeOrUnprintableInput() throws {
    let rejection = try #require(
      try decodeInteraction(#"{"user":"u","item":"i","type":"\u001b[2J\n\#(String(repeating: "é", count: 10_000))","time":1}"#).rejection)
    #expect(rejection.message.utf8.count <= Rejection.maximumMessageLength)
    #expect(!rejection.message.unicodeScalars.contains { $0.value < 0x20 })
    #expect(rejection.message.contains("add_to_cart"))
  }

  @Test func everyInteractionReadsBackAsItWasWritten() throws {
    var generator = SeededGenerator(seed: 1)
    let names = types.sorted { $0.value < $1.value }.map(\.key)
    var decoder = try InteractionDecoder(.init(types: types))
    for _ in 0..<5_000 {
      let exponent = Int.random(in: -300...120, using: &generator)
      let interaction = Interaction(
        user: randomText(using: &generator), item: randomText(using: &generator), type: UInt8.random(in: 0...4, using: &generator),
        time: Int64.random(in: 0...now, using: &generator) >> Int64.random(in: 0...40, using: &generator),
        value: Bool.random(using: &generator)
          ? Double(sign: .minus, exponent: exponent, significand: .random(in: 1..<2, using: &generator)) : nil,
        session: Bool.random(using: &generator) ? randomText(using: &generator, nonEmpty: false) : nil,
        context: Bool.random(using: &generator) ? #"{"a":[1,2.5,"x"],"b":{}}"# : nil,
        shown: (0..<Int.random(in: 0...3, using: &generator)).map { _ in randomText(using: &generator) })
      let json = interaction.json(typeName: names[Int(interaction.type)])
      let decoded = decoder.decode(bytes: json)
      #expect(decoded == .interaction(interaction))
      // Swift compares strings by canonical equivalence; ids are bytes.
      #expect(decoded.interaction.map { Array($0.user.utf8) } == Array(interaction.user.utf8))
    }
  }

  @Test func bytesAtRandomNeverCrash() throws {
    var generator = SeededGenerator(seed: 2)
    var interactions = try InteractionDecoder(.init(types: types))
    var items = try ItemDecoder(.init())
    let seeds = [
      #"{"user":"u1","item":"i1","type":"purchase","time":"2026-01-31T11:59:59.5Z","value":12.5,"session":"s","context":{"a":1},"shown":["a"]}"#,
      #"{"item":"i","title":"t","categories":["a","b"],"brand":"b","price":1e3,"available":true,"features":{"text":[0.1,-2,3e-4]}}"#,
    ].map { Array($0.utf8) }
    let tokens = ["{", "}", "[", "]", ",", ":", "\"", "\\u", "null", "NaN", "-", "1e9", "\u{FEFF}", "\"user\":", "\\"].map {
      Array($0.utf8)
    }
    var outcomes: Set<Rejection.Reason> = []
    var accepted = 0
    for round in 0..<120_000 {
      var bytes: [UInt8]
      if round % 4 == 0 {
        bytes = (0..<Int.random(in: 0...64, using: &generator)).map { _ in UInt8.random(in: 0...255, using: &generator) }
      } else {
        bytes = seeds[round % 2]
        for _ in 0..<Int.random(in: 1...4, using: &generator) {
          let place = Int.random(in: 0..<max(bytes.count, 1), using: &generator)
          switch Int.random(in: 0...3, using: &generator) {
          case 0 where !bytes.isEmpty: bytes[place] = UInt8.random(in: 0...255, using: &generator)
          case 1 where !bytes.isEmpty: bytes.remove(at: place)
          case 2 where !bytes.isEmpty: bytes.removeSubrange(place...)
          default: bytes.insert(contentsOf: tokens.randomElement(using: &generator)!, at: min(place, bytes.count))
          }
        }
      }
      switch interactions.decode(bytes: bytes) {
      case .rejected(let rejection):
        outcomes.insert(rejection.reason)
        if rejection.message.utf8.count > Rejection.maximumMessageLength { Issue.record("too long: \(rejection)") }
      case .interaction, .interactions, .forget, .ignored: accepted += 1
      }
      if items.decode(bytes: bytes).description != nil { accepted += 1 }
    }
    #expect(accepted > 1_000)
    #expect(outcomes.count > 8, "\(outcomes)")
  }
}
