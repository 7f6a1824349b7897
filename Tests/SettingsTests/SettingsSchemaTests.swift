import Foundation
import Settings
import Testing

@Suite struct SettingsSchemaTests {
  private static let file = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath()
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("config/rodpod.yaml")

  @Test func theShippedFileShowsEveryKeyWithItsDefault() throws {
    #expect(try String(contentsOf: Self.file, encoding: .utf8) == SettingsSchema.template)
  }

  @Test func theShippedFileIsTheDefaults() throws {
    let loaded = try Settings.load(path: Self.file.path)
    #expect(loaded.settings == Settings())
  }

  @Test func keysAndVariablesAreUnique() {
    let settings = SettingsSchema.settings
    #expect(Set(settings.map(\.key)).count == settings.count)
    #expect(Set(settings.map(\.environmentName)).count == settings.count)
    #expect(settings.map(\.environmentName).contains("RODPOD_TOPICS_DEAD_LETTERS"))
    #expect(settings.map(\.environmentName).contains("RODPOD_EVENTS_FIELDS_INTERACTIONS_USER"))
  }

  /// A property without a declaration could never be set.
  @Test func everyPropertyIsDeclared() {
    func leaves(_ value: Any) -> Int {
      let children = Mirror(reflecting: value).children
      let isSection =
        !children.isEmpty && String(reflecting: type(of: value)).hasPrefix("Settings.Settings.")
        && Mirror(reflecting: value).displayStyle == .struct
      return isSection ? children.reduce(0) { $0 + leaves($1.value) } : 1
    }
    let settings = Settings()
    let kafka = SettingsSchema.settings.filter { $0.key.hasPrefix("kafka.") }.count
    // The Kafka section hides its properties from reflection, for the secrets among them.
    let others = Mirror(reflecting: settings).children.filter { $0.label != "kafka" }.reduce(0) { $0 + leaves($1.value) }
    #expect(others + kafka == SettingsSchema.settings.count)
  }

  @Test func everyValueAsTextReadsBack() throws {
    var settings = Settings()
    settings.kafka.properties = ["a.b": "x: \"y\"\n", "c": "true", "d": "#"]
    settings.events.types = [.init("a b", weight: 0.25), .init("é", weight: 3)]
    settings.model.modalities = ["text": 3]
    settings.rules.excludeTypes = ["é"]
    settings.learner.learningRate = 1e-7
    settings.ranker.guestKey = ""
    let yaml = SettingsSchema.settings.map { setting in
      let path = setting.key.split(separator: ".")
      return path.map { "{\($0): " }.joined() + setting.text(settings) + String(repeating: "}", count: path.count)
    }
    // One key a file, so that each stands for itself.
    for (setting, text) in zip(SettingsSchema.settings, yaml) where setting.key != "rules.exclude_types" {
      let read = try Settings.load(yaml: text, name: "").settings
      #expect(setting.text(read) == setting.text(settings))
    }
  }
}

@Suite struct SettingsChangesTests {
  @Test func nothingChangedIsNoChange() {
    let changes = SettingsChanges(from: Settings(), to: Settings())
    #expect(changes.accepted.isEmpty && changes.refused.isEmpty)
    #expect(changes.result == Settings())
  }

  @Test func acceptsWhatIsReloadableAndKeepsTheRest() {
    var new = Settings()
    new.log.level = .debug
    new.ranker.topK = 5
    new.kafka.groupID = "other"
    new.kafka.properties = ["sasl.password": "hunter2"]
    new.kafka.secretProperties = ["sasl.password"]
    let changes = SettingsChanges(from: Settings(), to: new)
    #expect(changes.accepted.map(\.description) == ["ranker.top_k: 20 -> 5", "log.level: info -> debug"])
    #expect(changes.refused.map(\.key) == ["kafka.group_id", "kafka.properties"])
    #expect(!"\(changes)".contains("hunter2"))
    var expected = Settings()
    expected.log.level = .debug
    expected.ranker.topK = 5
    #expect(changes.result == expected)
  }
}
