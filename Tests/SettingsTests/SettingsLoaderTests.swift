import Foundation
import Settings
import Testing

@Suite struct SettingsLoaderTests {
  private func load(_ yaml: String = "", environment: [String: String] = [:], overrides: [String] = []) throws -> Settings {
    try Settings.load(yaml: yaml, name: "rodpod.yaml", environment: environment, overrides: overrides).settings
  }

  private func problems(
    _ yaml: String = "", environment: [String: String] = [:], overrides: [String] = []
  ) throws -> [SettingsError.Problem] {
    let error = #expect(throws: SettingsError.self) { try load(yaml, environment: environment, overrides: overrides) }
    return error?.problems ?? []
  }

  @Test(arguments: ["", "\n", "# only a comment", "kafka:\n", "null", "---\n"])
  func whatSaysNothingGivesTheDefaults(yaml: String) throws {
    #expect(try load(yaml) == Settings())
  }

  @Test func flagsOverrideTheEnvironmentWhichOverridesTheFile() throws {
    let yaml = "kafka:\n  group_id: file\n  client_id: file\n  bootstrap_servers: file:1\n"
    let settings = try load(
      yaml, environment: ["RODPOD_KAFKA_GROUP_ID": "environment", "RODPOD_KAFKA_CLIENT_ID": "environment"],
      overrides: ["kafka.group_id=flag=1"])
    #expect(settings.kafka.groupID == "flag=1")
    #expect(settings.kafka.clientID == "environment")
    #expect(settings.kafka.bootstrapServers == "file:1")
  }

  @Test func anEmptyVariableCountsAsUnset() throws {
    #expect(try load("topics:\n  items: products", environment: ["RODPOD_TOPICS_ITEMS": ""]).topics.items == "products")
  }

  @Test func readsEveryKindOfValue() throws {
    let settings = try load(
      """
      store: {map_size_bytes: 1_073_741_824, commit_interval_ms: 250}
      events:
        types:
          buy: 5
          look: 0.5
        fields:
          interactions:
            user: /user~1id/~0
        deduplicate: false
      model:
        modalities: {text: 384}
        dropout: 1e-1
      objective: {negatives: hard}
      rules: {exclude_types: [buy]}
      kafka:
        properties:
          security.protocol: ssl
          socket.timeout.ms: 1000
      """)
    #expect(settings.store.mapSizeBytes == 1 << 30)
    #expect(settings.store.commitInterval == .milliseconds(250))
    #expect(settings.events.types == [.init("buy", weight: 5), .init("look", weight: 0.5)])
    #expect(settings.events.fields.interactions.user == "/user~1id/~0")
    #expect(!settings.events.deduplicate)
    #expect(settings.model.modalities == ["text": 384])
    #expect(settings.model.dropout == 0.1)
    #expect(settings.objective.negatives == .hard)
    #expect(settings.rules.excludeTypes == ["buy"])
    #expect(settings.kafka.properties == ["security.protocol": "ssl", "socket.timeout.ms": "1000"])
  }

  @Test func mapsAndListsCanComeFromTheEnvironmentAndFromFlags() throws {
    let settings = try load(
      "events:\n  types: {view: 1}\n",
      environment: [
        "RODPOD_MODEL_MODALITIES": "{text: 8}", "RODPOD_RULES_EXCLUDE_TYPES": "view, buy",
        "RODPOD_KAFKA_PROPERTIES_SECURITY_PROTOCOL": "sasl_ssl",
      ],
      overrides: ["events.types.buy=4", "events.types.view=0", "model.modalities.image=16", "kafka.properties.debug=broker,topic"])
    #expect(settings.events.types == [.init("view", weight: 0), .init("buy", weight: 4)])
    #expect(settings.model.modalities == ["text": 8, "image": 16])
    #expect(settings.rules.excludeTypes == ["view", "buy"])
    #expect(settings.kafka.properties == ["security.protocol": "sasl_ssl", "debug": "broker,topic"])
    #expect(try load(environment: ["RODPOD_RULES_EXCLUDE_TYPES": "all"]).rules.excludeTypes == nil)
    #expect(try load(environment: ["RODPOD_RULES_EXCLUDE_TYPES": "[]"]).rules.excludeTypes == [])
  }

  @Test func reportsAllErrorsTogetherWithTheirLines() throws {
    let problems = try problems(
      """
      kafka:
        bootstrap_server: a:1
      topics:
        partitions: 0
      ranker:
        top_k: ten
        threads: [1]
      colour: red
      """, environment: ["RODPOD_QUALITY_K": "many"], overrides: ["pool.sise=3", "nonsense"])
    #expect(
      problems.map(\.description) == [
        "rodpod.yaml:2: kafka.bootstrap_server: unknown key, did you mean kafka.bootstrap_servers?",
        "rodpod.yaml:4: topics.partitions: found \"0\", allowed is an integer from 1 to 10000",
        "rodpod.yaml:6: ranker.top_k: found \"ten\", allowed is an integer from 1 to 1000",
        "rodpod.yaml:7: ranker.threads: found a list, allowed is an integer from 1 to 256",
        "rodpod.yaml:8: colour: unknown key",
        "RODPOD_QUALITY_K: quality.k: found \"many\", allowed is an integer from 1 to 1000",
        "--set pool.sise: pool.sise: unknown key, did you mean pool.size?",
        "--set nonsense: found no =, key.path=value is allowed",
      ])
  }

  @Test(arguments: [
    ("ranker: {top_k: 1.5}", "ranker.top_k", SettingsError.Code.wrongType),
    (#"ranker: {top_k: "5"}"#, "ranker.top_k", .wrongType),
    ("ranker: {top_k: true}", "ranker.top_k", .wrongType),
    ("ranker: {top_k: }", "ranker.top_k", .wrongType),
    ("ranker: {top_k: 99999999999999999999}", "ranker.top_k", .outOfRange),
    ("ranker: {top_k: -1}", "ranker.top_k", .outOfRange),
    ("ranker: 5", "ranker", .wrongType),
    ("- ranker", "", .wrongType),
    ("model: {dropout: nan}", "model.dropout", .wrongType),
    ("model: {dropout: .inf}", "model.dropout", .wrongType),
    ("model: {dropout: 0.95}", "model.dropout", .outOfRange),
    ("model: {dropout: \"0.1\"}", "model.dropout", .wrongType),
    ("events: {deduplicate: yes}", "events.deduplicate", .wrongType),
    ("events: {deduplicate: 1}", "events.deduplicate", .wrongType),
    ("events: {types: [view]}", "events.types", .wrongType),
    ("events: {types: {}}", "events.types", .outOfRange),
    ("events: {types: {view: much}}", "events.types", .wrongType),
    ("events: {types: {view: -1}}", "events.types", .outOfRange),
    ("events: {types: {forget: 1}}", "events.types", .outOfRange),
    ("events: {types: {view: 0}}", "events.types", .inconsistent),
    ("events: {fields: {interactions: {item: item}}}", "events.fields.interactions.item", .outOfRange),
    ("events: {fields: {interactions: {item: /a~2}}}", "events.fields.interactions.item", .outOfRange),
    (#"events: {fields: {interactions: {item: ""}}}"#, "events.fields.interactions.item", .inconsistent),
    ("log: {level: loud}", "log.level", .outOfRange),
    ("topics: {items: a b}", "topics.items", .outOfRange),
    ("topics: {items: interactions}", "topics.items", .inconsistent),
    ("admin: {listen: nowhere}", "admin.listen", .outOfRange),
    ("admin: {listen: \"127.0.0.1:70000\"}", "admin.listen", .outOfRange),
    ("admin: {listen: \"0.0.0.0:9464\"}", "admin.listen", .inconsistent),
    ("admin: {listen: \"[::]:9464\"}", "admin.listen", .inconsistent),
    ("model: {head_count: 3}", "model.head_count", .inconsistent),
    ("model: {experts: 1}", "model.experts_per_item", .inconsistent),
    ("pool: {size: 10}", "ranker.top_k", .inconsistent),
    ("store: {max_bytes: 2097152}", "store.map_size_bytes", .inconsistent),
    ("rules: {exclude_types: [buy]}", "rules.exclude_types", .inconsistent),
    ("rules: {exclude_types: {a: 1}}", "rules.exclude_types", .wrongType),
    ("objective: {ce_weight: 0, negatives: none}", "objective.ce_weight", .inconsistent),
    ("kafka: {properties: {group.id: x}}", "kafka.properties", .inconsistent),
    ("kafka: {properties: {enable.auto.commit: true}}", "kafka.properties", .inconsistent),
    ("kafka: {properties: {debug: [x]}}", "kafka.properties", .wrongType),
    ("kafka: {group_id: ''}", "kafka.group_id", .outOfRange),
  ])
  func refuses(yaml: String, key: String, code: SettingsError.Code) throws {
    let problems = try problems(yaml)
    #expect(problems.map(\.key) == [key], "\(problems)")
    #expect(problems.first?.code == code, "\(problems)")
  }

  @Test(arguments: [
    ("a: [", 1), ("kafka: {}\nkafka: {}\n", 1), ("kafka: {}\n--- \nlog: {}", 2), ("a: b: c", 1), ("\ta: 1", 1), ("a: *nowhere", 1),
  ])
  func refusesWhatIsNotOneYAMLDocument(yaml: String, line: Int) throws {
    let problem = try #require(try problems(yaml).first)
    #expect(problem.code == .syntax)
    guard case .file("rodpod.yaml", let found?) = problem.source else { return #expect(Bool(false), "\(problem)") }
    #expect(found >= line)
  }

  @Test func refusesAFileThatIsMissing() throws {
    let error = #expect(throws: SettingsError.self) { try Settings.load(path: "/nonexistent/rodpod.yaml") }
    #expect(error?.problems.map(\.code) == [.unreadable])
  }

  @Test func anUnknownVariableIsAWarning() throws {
    let loaded = try Settings.load(
      yaml: "", name: "", environment: ["RODPOD_KAFKA_GROUPID": "x", "RODPOD_TEST_BOOTSTRAP": "x", "PATH": "x"])
    #expect(loaded.settings == Settings())
    #expect(loaded.warnings == ["the variable RODPOD_KAFKA_GROUPID names no setting and is ignored"])
  }

  @Test(arguments: [
    ("127.0.0.1:1", "127.0.0.1", 1, true), ("localhost:80", "localhost", 80, true), ("[::1]:80", "::1", 80, true),
    ("127.example.com:80", "127.example.com", 80, false), ("10.0.0.1:80", "10.0.0.1", 80, false),
  ])
  func takesAddressesApart(listen: String, host: String, port: Int, isLoopback: Bool) {
    var admin = Settings().admin
    admin.listen = listen
    #expect(admin.address.host == host)
    #expect(admin.address.port == port)
    #expect(admin.isLoopback == isLoopback)
  }

  @Test func secretsAreReadFromFilesAndNeverShown() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("settings-\(UUID())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try Data("hunter2\n".utf8).write(to: folder.appendingPathComponent("sasl"))
    try Data("token\n".utf8).write(to: folder.appendingPathComponent("admin"))
    let yaml = """
      kafka:
        properties:
          sasl.password: file:sasl
          sasl.username: file:\(folder.path)/sasl
          ssl.key.password: inline-secret
          security.protocol: sasl_ssl
      admin:
        listen: 0.0.0.0:9464
        token_file: admin
      """
    let settings = try load(yaml, environment: ["CREDENTIALS_DIRECTORY": folder.path])
    #expect(settings.kafka.properties["sasl.password"] == "hunter2")
    #expect(settings.kafka.properties["sasl.username"] == "hunter2")
    #expect(settings.admin.tokenFile == folder.path + "/admin")
    var dumped = ""
    dump(settings, to: &dumped)
    dump(settings.kafka, to: &dumped)
    for text in ["\(settings)", String(reflecting: settings), "\(settings.kafka)", String(reflecting: settings.kafka), dumped] {
      #expect(!text.contains("hunter2") && !text.contains("inline-secret"))
      #expect(text.contains("sasl_ssl"))
    }

    let missing = try problems(yaml)
    #expect(missing.map(\.key) == ["kafka.properties.sasl.password", "admin.token_file"])
    #expect(missing.allSatisfy { $0.code == .secret })
    #expect(missing.first?.source == .file("rodpod.yaml", line: 3))
    let unreadable = try problems(
      "kafka: {properties: {sasl.password: file:nothing}}", environment: ["CREDENTIALS_DIRECTORY": folder.path])
    #expect(unreadable.map(\.code) == [.secret])
  }

  @Test func nestingAndAliasesWithoutBoundAreHarmless() throws {
    #expect(try problems("log: " + String(repeating: "[", count: 100_000)).map(\.code) == [.syntax])
    #expect(try problems(String(repeating: "- ", count: 100_000)).map(\.code) == [.syntax])
    var bomb = "kafka: &a0 {x: [1, 2]}\n"
    for level in 1...60 {
      bomb += "events: &a\(level) [*a\(level - 1), *a\(level - 1)]\n".replacingOccurrences(of: "events", with: "l\(level)")
    }
    bomb += "rules: {exclude_types: *a60}\n"
    let keys = try problems(bomb).map(\.key)
    #expect(keys.contains("l60") && keys.contains("rules.exclude_types"))
  }

  @Test func textAtRandomNeverCrashes() throws {
    var state: UInt64 = 7
    func random(_ bound: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % bound
    }
    let seed = Array(SettingsSchema.template.unicodeScalars.filter { $0 != "#" }.prefix(3_000))
    let tokens: [Unicode.Scalar] = ["{", "}", "[", "]", ":", "\n", " ", "-", "&", "*", "!", "|", "\"", "'", "\t", "~", "<", "?", "\0", "é"]
    var refused = 0
    for _ in 0..<2_000 {
      let start = random(seed.count - 200)
      var scalars = Array(seed[start..<(start + 200)])
      for _ in 0..<(1 + random(6)) { scalars[random(scalars.count)] = tokens[random(tokens.count)] }
      var text = ""
      text.unicodeScalars.append(contentsOf: scalars)
      do {
        _ = try load(text)
      } catch {
        refused += 1
      }
    }
    #expect(refused > 1_000)
  }
}
