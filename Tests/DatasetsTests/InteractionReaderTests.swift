import Datasets
import TestSupport
import Testing

@Suite struct InteractionReaderTests {
  let folder: TemporaryFolder

  init() throws { folder = TemporaryFolder() }

  private func records(_ text: String) throws -> [InteractionRecord] {
    var reader = try InteractionReader(path: try folder.write(text))
    var records: [InteractionRecord] = []
    while let record = try reader.next() { records.append(record) }
    return records
  }

  /// The message of the error that reading the text gives.
  private func message(_ text: String) -> String {
    let error = #expect(throws: DatasetError.self) { try records(text) }
    guard let error else { return "" }
    return error.line.map { "\($0): \(error.message)" } ?? error.message
  }

  @Test func `the three formats say the same`() throws {
    let expected = [
      InteractionRecord(user: "u1", item: "a", time: 1_400_000_000_000, position: 0, type: "view", value: 2.5, line: 2),
      InteractionRecord(user: "u2", item: "b", time: 1_400_000_001_000, position: 1, line: 3),
    ]
    let tabs = "user\titem\ttime\tposition\ttype\tvalue\nu1\ta\t1400000000\t0\tview\t2.5\nu2\tb\t1400000001\t1\t\t\n"
    #expect(try records(tabs) == expected)
    #expect(try records(tabs.replacing("\t", with: ",")) == expected)
    let json = try records(
      """
      {"user":"u1","item":"a","time":1400000000,"position":0,"type":"view","value":2.5}
      {"value":null,"user":"u2","item":"b","position":1,"time":1400000001, "context": {"x": [1, {"y": "}"}]}}
      """)
    #expect(
      json
        == expected.map { record in
          var record = record
          record.line -= 1
          return record
        })
  }

  @Test(arguments: [
    ("user", "item", "timestamp"), ("session", "item", "time"), ("userId", "movieId", "timestamp"), ("USER_ID", "item_id", "Time"),
  ])
  func `columns have the usual names, in any order and among others`(user: String, item: String, time: String) throws {
    let records = try records("note,\(time),\(item),\(user)\nx,5,i,u\n")
    #expect(records == [InteractionRecord(user: "u", item: "i", time: 5000, line: 2)])
  }

  @Test func `a user column is preferred to a session column`() throws {
    #expect(try records("session,user,item\ns,u,i\n").map(\.user) == ["u"])
    #expect(try records(#"{"session":"s","user":"u","item":"i"}"#).map(\.user) == ["u"])
    #expect(try records(#"{"user":"u","session":"s","item":"i"}"#).map(\.user) == ["u"])
    #expect(try records(#"{"session":"s","item":"i"}"#).map(\.user) == ["s"])
  }

  @Test func `quoted fields may hold commas, quotes and line ends`() throws {
    let records = try records("user,item\n\"a,b\",\"say \"\"hi\"\"\"\r\n\"two\nlines\",5\" pipe\nlast,\"\"\"\"\n")
    #expect(records.map(\.user) == ["a,b", "two\nlines", "last"])
    #expect(records.map(\.item) == ["say \"hi\"", "5\" pipe", "\""])
    #expect(records.map(\.line) == [2, 3, 5])
  }

  @Test func `tab-separated files know no quotes`() throws {
    #expect(try records("user\titem\n\"u\t\"i\"\n").map(\.item) == ["\"i\""])
  }

  @Test func `byte order mark, carriage returns, empty lines and a missing last line end do not matter`() throws {
    let records = try records("\u{FEFF}user,item\r\n\r\nu,i\r\n\nv,j")
    #expect(records.map(\.user) == ["u", "v"])
    #expect(records.map(\.line) == [3, 5])
  }

  @Test func `JSON strings are unescaped`() throws {
    let records = try records(#"{"user":"a\"\\\/\n\u00e9\ud83d\ude00","item":"日本"}"#)
    #expect(records.map(\.user) == ["a\"\\/\né😀"])
    #expect(records.map(\.item) == ["日本"])
  }

  @Test func `numbers serve as ids in JSON`() throws {
    #expect(try records(#"{"session": 17, "item": 4}"#).map { $0.user + $0.item } == ["174"])
  }

  @Test(arguments: [
    ("1318896000", 1_318_896_000_000), ("1318896000.25", 1_318_896_000_250), ("1318896000123", 1_318_896_000_123),
    ("1318896000123456", 1_318_896_000_123), ("-86400", -86_400_000), ("2011-10-18T00:00:00Z", 1_318_896_000_000),
    ("2011-10-18T02:00:00.5+02:00", 1_318_896_000_500), ("2011-10-17t18:30:00-05:30", 1_318_896_000_000), ("2011-10-18", 1_318_896_000_000),
    ("2011-10-18 00:00:01", 1_318_896_001_000), ("2000-02-29T12:00:00Z", 951_825_600_000), ("1969-12-31T23:59:59Z", -1000),
  ] as [(String, Int64)])
  func `times are Unix seconds, milliseconds or microseconds, or RFC 3339`(text: String, milliseconds: Int64) throws {
    #expect(try records("user\titem\ttime\nu\ti\t\(text)\n").map(\.time) == [milliseconds])
  }

  @Test(arguments: [
    "soon", "2011-13-01", "2011-02-29", "2011-10-18T25:00:00Z", "2011-10-18T00:00:00+2", "2011-10-18T00:00:00.Z", "12-34", "nan", "0x10",
    "1e300", "--1",
  ])
  func `what is no time is refused`(text: String) {
    #expect(
      message("user\titem\ttime\nu\ti\t\(text)\n")
        == "2: time is \"\(text)\", which is not a time (RFC 3339, or Unix seconds or milliseconds)")
  }

  @Test func `errors name the line and what is wrong with it`() {
    #expect(message("") == "is empty")
    #expect(message("name,item\nu,i\n").hasPrefix("1: the header has no column \"user\""))
    #expect(message("user,item\nu,i\nu\n") == "3: 1 fields where the header has 2")
    #expect(message("user,item\nu,i,x\n") == "2: 3 fields where the header has 2")
    #expect(message("user\titem\nu\t\n") == "2: no item")
    #expect(message("user,item,position\nu,i,1.5\n") == "2: position is \"1.5\", which is not a whole number")
    #expect(message("user,item,rating\nu,i,good\n") == "2: value is \"good\", which is not a number")
    #expect(message("user,item\n\"a\nb\",i\n\"open,i\n") == "4: a quoted field is not closed")
    #expect(message("user,item\n\"a\"b,i\n") == "2: text after a closing quote")
    #expect(message("{\"user\":\"u\",\"item\":\"i\"}\n{\"user\":\"u\"}\n") == "2: no item")
  }

  @Test(arguments: [
    "{", "{\"user\"}", "{\"user\":}", "{\"user\":\"u\" \"item\":\"i\"}", "{\"user\":\"u\",}", "{\"user\":\"u\",\"item\":\"i\"} x",
    "{\"user\":\"u",
    "{\"user\":\"\\x\"}", "{\"user\":\"\\ud800\"}", "{\"user\":\"\\u12\"}", "{\"user\":nope}", "{\"user\":[1,2}", "[]",
    "{\"user\":" + String(repeating: "[", count: 1000) + "}",
  ])
  func `broken JSON is refused`(text: String) {
    #expect(message("{\"user\":\"u\",\"item\":\"i\"}\n" + text).hasPrefix("2: not a JSON object: "))
  }

  @Test func `a missing file is an error with its path`() {
    let path = folder.path("nothing")
    let error = #expect(throws: DatasetError.self) { _ = try InteractionReader(path: path) }
    #expect(error?.code == .io)
    #expect(error?.description == "\(path): cannot be opened: No such file or directory")
  }

  @Test func `records are whole wherever the buffer ends`() throws {
    // Lines of every length around the size of a read, so that each kind of byte falls on its border once.
    var text = "user,item\n"
    var expected: [String] = []
    for index in 0..<3000 {
      let user = "u\(index)" + String(repeating: "x", count: index % 191)
      expected.append(user)
      text += index % 2 == 0 ? "\(user),i\r\n" : "\"\(user)\",\"i\"\n"
    }
    #expect(try records(text).map(\.user) == expected)
  }
}
