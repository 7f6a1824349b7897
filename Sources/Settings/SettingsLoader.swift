import Yams

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

/// What a configuration came to.
public struct LoadedSettings: Sendable {
  public var settings: Settings
  /// What is odd but does not stand in the way, such as an unknown `RODPOD_` variable.
  public var warnings: [String]
}

extension Settings {
  /// Reads the file, then the environment over it, then the flags over both; decodes once and reports everything that is wrong together.
  ///
  /// An empty variable counts as unset. Maps are replaced whole by the file or a variable; a flag `map.NAME=value`
  /// (and `RODPOD_KAFKA_PROPERTIES_…` with `_` for `.`) sets one entry.
  /// - Parameters:
  ///   - path: of the YAML file, if there is one.
  ///   - overrides: the flags' values, `key.path=value` each.
  /// - Throws: ``SettingsError`` with every problem.
  public static func load(
    path: String?, environment: [String: String] = [:], overrides: [String] = []
  ) throws(SettingsError) -> LoadedSettings {
    guard let path else { return try load(yaml: "", name: "", environment: environment, overrides: overrides) }
    let text: String
    do {
      text = try String(contentsOfFile: path, encoding: .utf8)
    } catch {
      throw SettingsError(problems: [
        .init(code: .unreadable, key: "", source: .file(path, line: nil), message: "cannot be read as a UTF-8 text file")
      ])
    }
    return try load(yaml: text, name: path, environment: environment, overrides: overrides)
  }

  /// As ``load(path:environment:overrides:)``, with the file's text.
  /// - Parameter name: what the file is called in errors.
  public static func load(
    yaml: String, name: String, environment: [String: String] = [:], overrides: [String] = []
  ) throws(SettingsError) -> LoadedSettings {
    var loader = SettingsLoader(file: name, environment: environment)
    loader.read(yaml: yaml)
    loader.readEnvironment()
    for override in overrides { loader.read(override: override) }
    loader.readSecrets()
    loader.checkConsistency()
    guard loader.problems.isEmpty else { throw SettingsError(problems: loader.problems) }
    return LoadedSettings(settings: loader.settings, warnings: loader.warnings)
  }
}

private struct SettingsLoader {
  /// Bound on the file, which a person writes.
  static let maximumFileBytes = 1 << 20

  let file: String
  let environment: [String: String]
  var settings = Settings()
  var problems: [SettingsError.Problem] = []
  var warnings: [String] = []
  /// Where each key's present value came from.
  var sources: [String: SettingsError.Source] = [:]

  init(file: String, environment: [String: String]) {
    self.file = file
    self.environment = environment
  }

  mutating func report(_ code: SettingsError.Code, _ key: String, _ source: SettingsError.Source, _ message: String) {
    problems.append(.init(code: code, key: key, source: source, message: message))
  }

  mutating func read(yaml: String) {
    guard yaml.utf8.count <= Self.maximumFileBytes else {
      return report(.syntax, "", .file(file, line: nil), "has \(yaml.utf8.count) bytes, \(Self.maximumFileBytes) are allowed")
    }
    do {
      // The sequence ends silently at a mistake and keeps it.
      var sequence = try Yams.compose_all(yaml: yaml)
      var documents: [Node] = []
      while documents.count < 2, let document = sequence.next() { documents.append(document) }
      if let error = sequence.error { throw error }
      guard documents.count <= 1 else {
        return report(.syntax, "", .file(file, line: documents[1].mark?.line), "a second YAML document begins here, one is allowed")
      }
      guard let root = documents.first else { return }
      visit(root, prefix: "")
    } catch let error as YamlError {
      let (line, message) = Self.describe(error)
      report(.syntax, "", .file(file, line: line), "not YAML: \(message)")
    } catch {
      report(.syntax, "", .file(file, line: nil), "not YAML")
    }
  }

  mutating func visit(_ node: Node, prefix: String) {
    if case .null = Input(node) { return }
    guard let mapping = node.mapping else {
      return report(.wrongType, prefix, .file(file, line: node.mark?.line), "found \(Input(node).found), a section of keys is allowed")
    }
    for (name, value) in mapping {
      let key = (prefix.isEmpty ? "" : prefix + ".") + (name.scalar?.string ?? "")
      let source = SettingsError.Source.file(file, line: name.mark?.line)
      if let setting = SettingsSchema.byKey[key] {
        assign(setting, Input(value), source)
        if case .mapping(let entries) = value {
          for (entry, _) in entries { sources["\(key).\(entry.scalar?.string ?? "")"] = .file(file, line: entry.mark?.line) }
        }
      } else if SettingsSchema.sections[key] != nil {
        visit(value, prefix: key)
      } else {
        report(.unknownKey, key, source, "unknown key\(Self.suggestion(for: key))")
      }
    }
  }

  static func describe(_ error: YamlError) -> (line: Int?, message: String) {
    switch error {
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _), .composer(_, let problem, let mark, _):
      (mark.line, problem)
    case .duplicatedKeysInMapping(let duplicates, let context):
      (context.mark.line, "repeated keys in the map: " + duplicates.sorted().joined(separator: ", "))
    default: (nil, String("\(error)".prefix(200)))
    }
  }

  mutating func readEnvironment() {
    let byName = Dictionary(uniqueKeysWithValues: SettingsSchema.settings.map { ($0.environmentName, $0) })
    let propertyPrefix = "RODPOD_KAFKA_PROPERTIES_"
    for (name, text) in environment.sorted(by: { $0.key < $1.key }) where name.hasPrefix("RODPOD_") && !text.isEmpty {
      let source = SettingsError.Source.environment(name)
      if let setting = byName[name] {
        read(text: text, for: setting, source)
      } else if name.hasPrefix(propertyPrefix), name != propertyPrefix {
        let property = name.dropFirst(propertyPrefix.count).lowercased().map { $0 == "_" ? "." : String($0) }.joined()
        read(entry: property, text: text, of: "kafka.properties", source)
      } else if !name.hasPrefix("RODPOD_TEST_") {
        warnings.append("the variable \(name) names no setting and is ignored")
      }
    }
  }

  mutating func read(override: String) {
    guard let equals = override.firstIndex(of: "=") else {
      return report(.syntax, "", .flag(String(override.prefix(80))), "found no =, key.path=value is allowed")
    }
    let key = override[..<equals].trimmingSpaces()
    let text = String(override[override.index(after: equals)...])
    let source = SettingsError.Source.flag(key)
    if let setting = SettingsSchema.byKey[key] { return read(text: text, for: setting, source) }
    for setting in SettingsSchema.settings where setting.assignEntry != nil && key.hasPrefix(setting.key + ".") {
      return read(entry: String(key.dropFirst(setting.key.count + 1)), text: text, of: setting.key, source)
    }
    report(.unknownKey, key, source, "unknown key\(Self.suggestion(for: key))")
  }

  /// Lists and maps are written as in YAML: `[a, b]`, `{a: 1}`.
  mutating func read(text: String, for setting: Setting, _ source: SettingsError.Source) {
    var input = Input.scalar(text, plain: true)
    if text.hasPrefix("[") || text.hasPrefix("{"), let node = try? Yams.compose(yaml: text) { input = Input(node) }
    assign(setting, input, source)
  }

  mutating func read(entry: String, text: String, of key: String, _ source: SettingsError.Source) {
    guard let setting = SettingsSchema.byKey[key], let assignEntry = setting.assignEntry else { return }
    do {
      try assignEntry(entry, .scalar(text, plain: true), &settings)
      sources["\(key).\(entry)"] = source
    } catch {
      report(error.code, "\(key).\(entry)", source, "found \(error.found), allowed is \(setting.allowed)")
    }
  }

  mutating func assign(_ setting: Setting, _ input: Input, _ source: SettingsError.Source) {
    do {
      try setting.assign(input, &settings)
      sources[setting.key] = source
    } catch {
      report(error.code, setting.key, source, "found \(error.found), allowed is \(setting.allowed)")
    }
  }

  mutating func readSecrets() {
    for (name, value) in settings.kafka.properties.sorted(by: { $0.key < $1.key }) where value.hasPrefix("file:") {
      let key = "kafka.properties.\(name)"
      guard let path = credential(named: String(value.dropFirst("file:".count)), key: key) else { continue }
      guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
        report(.secret, key, source(of: key), "the file \(path) cannot be read as UTF-8 text")
        continue
      }
      settings.kafka.properties[name] = text.hasSuffix("\n") ? String(text.dropLast()) : text
      settings.kafka.secretProperties.insert(name)
    }
    let key = "admin.token_file"
    guard !settings.admin.tokenFile.isEmpty, let path = credential(named: settings.admin.tokenFile, key: key) else { return }
    if let token = try? String(contentsOfFile: path, encoding: .utf8), !token.trimmingSpaces().isEmpty {
      settings.admin.tokenFile = path
    } else {
      report(.secret, key, source(of: key), "the file \(path) cannot be read, or is empty")
    }
  }

  mutating func credential(named name: String, key: String) -> String? {
    if name.hasPrefix("/") { return name }
    guard let folder = environment["CREDENTIALS_DIRECTORY"], !folder.isEmpty else {
      report(.secret, key, source(of: key), "\(name) is looked for in $CREDENTIALS_DIRECTORY, which is not set; a full path is allowed too")
      return nil
    }
    return folder + "/" + name
  }

  func source(of key: String) -> SettingsError.Source {
    if let source = sources[key] { return source }
    // The entry of a map that a variable gave whole.
    guard let dot = key.lastIndex(of: ".") else { return .defaults }
    return key.hasPrefix("kafka.properties.") ? sources["kafka.properties"] ?? .defaults : sources[String(key[..<dot])] ?? .defaults
  }

  mutating func checkConsistency() {
    func check(_ holds: Bool, _ key: String, _ message: @autoclosure () -> String) {
      if !holds { report(.inconsistent, key, source(of: key), message()) }
    }
    let topics = [
      ("topics.interactions", settings.topics.interactions), ("topics.items", settings.topics.items),
      ("topics.recommendations", settings.topics.recommendations), ("topics.dead_letters", settings.topics.deadLetters),
    ]
    for (index, topic) in topics.enumerated() {
      if let other = topics[..<index].first(where: { $0.1 == topic.1 }) {
        check(false, topic.0, "found \(topic.1), which is also \(other.0); each topic needs its own")
      }
    }
    let model = settings.model
    check(
      model.hiddenSize % model.headCount == 0, "model.head_count",
      "found \(model.headCount), which does not divide model.hidden_size \(model.hiddenSize)")
    check(
      model.experts == 0 || model.expertsPerItem <= model.experts, "model.experts_per_item",
      "found \(model.expertsPerItem), at most model.experts \(model.experts) are allowed")
    check(
      settings.store.mapSizeBytes <= settings.store.maxBytes, "store.map_size_bytes",
      "found \(settings.store.mapSizeBytes), at most store.max_bytes \(settings.store.maxBytes) is allowed")
    check(
      settings.ranker.topK <= settings.pool.size, "ranker.top_k",
      "found \(settings.ranker.topK), at most pool.size \(settings.pool.size) is allowed")
    check(
      settings.quality.k <= settings.pool.size, "quality.k",
      "found \(settings.quality.k), at most pool.size \(settings.pool.size) is allowed")
    check(
      settings.objective.crossEntropyWeight > 0 || settings.objective.preferenceWeight > 0 && settings.objective.negatives != .none,
      "objective.ce_weight", "found 0 and no preference term either: nothing would be learned")
    check(settings.events.types.contains { $0.weight > 0 }, "events.types", "all weights are 0: nothing would be learned")
    let names = settings.events.types.map(\.name)
    for type in settings.rules.excludeTypes ?? [] {
      check(
        names.contains(type), "rules.exclude_types",
        "found \(Input.scalar(type, plain: true).found), allowed are the names of events.types: \(names.joined(separator: ", "))")
    }
    check(
      settings.admin.isLoopback || !settings.admin.tokenFile.isEmpty, "admin.listen",
      "found \(settings.admin.listen), which other machines can reach: admin.token_file is needed")
    let interactions = settings.events.fields.interactions
    for (key, pointer) in [("item", interactions.item), ("type", interactions.type)] {
      check(!pointer.isEmpty, "events.fields.interactions.\(key)", "found an empty pointer, this field is required")
    }
  }

  /// The nearest known key, if it is near enough to be meant.
  static func suggestion(for key: String) -> String {
    let lastName = key.split(separator: ".").last ?? ""
    let known = SettingsSchema.settings.map(\.key) + SettingsSchema.sections.keys.sorted()
    let nearest = known.map { ($0, editDistance(key, $0)) }.min { $0.1 < $1.1 }
    if let nearest, nearest.1 <= max(2, key.count / 5) { return ", did you mean \(nearest.0)?" }
    // A right name in the wrong section.
    if let elsewhere = known.first(where: { $0.hasSuffix("." + lastName) }) { return ", did you mean \(elsewhere)?" }
    let section = key.split(separator: ".").dropLast().joined(separator: ".")
    let siblings = SettingsSchema.settings.map(\.key).filter { !section.isEmpty && $0.hasPrefix(section + ".") }
      .map { String($0.dropFirst(section.count + 1)) }.filter { !$0.contains(".") }
    return siblings.isEmpty ? "" : ", known in \(section) are \(siblings.joined(separator: ", "))"
  }

  /// Levenshtein's distance, of bounded texts.
  static func editDistance(_ a: String, _ b: String) -> Int {
    let a = Array(a.utf8.prefix(128))
    let b = Array(b.utf8.prefix(128))
    var row = Array(0...b.count)
    for (i, x) in a.enumerated() {
      var diagonal = row[0]
      row[0] = i + 1
      for (j, y) in b.enumerated() {
        let substituted = diagonal + (x == y ? 0 : 1)
        diagonal = row[j + 1]
        row[j + 1] = min(substituted, row[j] + 1, diagonal + 1)
      }
    }
    return row[b.count]
  }
}

extension Input {
  /// No setting nests deeper than a map of scalars, so what is inside of an element is left out; this also bounds what aliases can blow up.
  fileprivate init(_ node: Node, isElement: Bool = false) {
    switch node {
    case .scalar(let scalar):
      let isPlain = scalar.style == .plain || scalar.style == .any
      let isNull = isPlain && ["", "~", "null", "Null", "NULL"].contains(scalar.string)
      self = isNull ? .null : .scalar(scalar.string, plain: isPlain)
    case .mapping(let mapping):
      self = .map(isElement ? [] : mapping.map { ($0.key.scalar?.string ?? "", Input($0.value, isElement: true)) })
    case .sequence(let sequence): self = .list(isElement ? [] : sequence.map { Input($0, isElement: true) })
    case .alias: self = .null
    }
  }
}

extension SettingsSchema {
  fileprivate static let byKey = Dictionary(uniqueKeysWithValues: settings.map { ($0.key, $0) })
}
