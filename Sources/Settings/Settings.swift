/// All that can be configured, typed, with its defaults.
///
/// The key in the file, the unit, the range and the description of each property stand in ``SettingsSchema``.
public struct Settings: Sendable, Equatable {
  public var kafka = Kafka()
  public var topics = Topics()
  public var store = Store()
  public var events = Events()
  public var model = Model()
  public var objective = Objective()
  public var learner = Learner()
  public var pool = Pool()
  public var ranker = Ranker()
  public var rules = Rules()
  public var quality = Quality()
  public var admin = Admin()
  public var log = Log()
  public var lifecycle = Lifecycle()

  public init() {}

  /// The connection to the broker.
  public struct Kafka: Sendable, Equatable {
    public var bootstrapServers = "localhost:9092"
    public var clientID = "rodpod"
    public var groupID = "rodpod"
    public var groupInstanceID = "rodpod-0"
    public var startAt = StartAt.earliest
    public var createTopics = true
    public var queuedMaxBytes = 16 << 20
    /// Properties handed to librdkafka as they are, for the consumer and the producer. Secrets are already read from their files.
    public var properties: [String: String] = [:]
    /// Names in ``properties`` whose values were read from a file.
    public var secretProperties: Set<String> = []

    /// Whether the value of this property must not be shown.
    public func isSecret(property name: String) -> Bool {
      secretProperties.contains(name)
        || ["password", "secret", "token", "jaas", "key.pem", "oauthbearer.config"].contains { name.contains($0) }
    }
  }

  /// Where a partition without a stored offset starts.
  public enum StartAt: String, CaseIterable, Sendable {
    case earliest, latest
  }

  /// Names of the topics, and what they are created with.
  public struct Topics: Sendable, Equatable {
    public var interactions = "interactions"
    public var items = "items"
    public var recommendations = "recommendations"
    public var deadLetters = "dead_letters"
    public var partitions = 4
    public var replicationFactor = 1
  }

  /// The LMDB store.
  public struct Store: Sendable, Equatable {
    public var path = "/var/lib/rodpod"
    public var mapSizeBytes = 4 << 30
    public var maxBytes = 64 << 30
    public var maxItems = 1_000_000
    public var admissionInteractions = 2
    /// 0 keeps them.
    public var unusedItemDays = 0
    public var commitInterval = Duration.milliseconds(5)
    public var commitMaxEvents = 100_000
  }

  /// What an event looks like and which are accepted.
  public struct Events: Sendable, Equatable {
    public var fields = Fields()
    /// The vocabulary in the order of the file, each type with its weight.
    public var types = [
      InteractionType("view", weight: 1), InteractionType("click", weight: 1), InteractionType("add_to_cart", weight: 2),
      InteractionType("purchase", weight: 4), InteractionType("rating", weight: 1),
    ]
    public var otherTypes = OtherTypes.reject
    public var maxFuture = Duration.milliseconds(300_000)
    public var maxLate = Duration.milliseconds(7 * 86_400_000)
    public var deduplicate = true
    public var maxMessageBytes = 1 << 20
  }

  /// What becomes of an event of a type that is not in the vocabulary.
  public enum OtherTypes: String, Sendable, CaseIterable {
    /// It goes to the dead letters.
    case reject
    /// It is passed over: a clickstream has much else in it.
    case ignore
  }

  /// A name in the vocabulary of interaction types.
  public struct InteractionType: Sendable, Equatable {
    public var name: String
    /// Weight of this type's loss; a type with weight 0 is kept in sequences but is never a target.
    public var weight: Double

    public init(_ name: String, weight: Double) {
      self.name = name
      self.weight = weight
    }
  }

  /// Where each field of an event is found: JSON pointers (RFC 6901).
  public struct Fields: Sendable, Equatable {
    public var interactions = InteractionFields()
    public var items = ItemFields()
  }

  /// JSON pointers of an interaction's fields. An empty pointer for `time` takes the record's timestamp.
  public struct InteractionFields: Sendable, Equatable {
    public var user = "/user"
    public var item = "/item"
    public var type = "/type"
    public var time = "/time"
    public var value = "/value"
    public var session = "/session"
    public var context = "/context"
    public var shown = "/shown"
  }

  /// JSON pointers of an item's fields.
  public struct ItemFields: Sendable, Equatable {
    public var item = "/item"
    public var title = "/title"
    public var categories = "/categories"
    public var brand = "/brand"
    public var price = "/price"
    public var available = "/available"
    public var features = "/features"
  }

  /// Shape of the network.
  public struct Model: Sendable, Equatable {
    public var hiddenSize = 64
    public var layerCount = 2
    public var headCount = 2
    public var innerSize = 256
    public var maximumSequenceLength = 50
    public var dropout = 0.2
    public var experts = 0
    public var expertsPerItem = 2
    public var loadBalancingWeight = 0.01
    public var neighbours = 256
    public var contentNeighbours = 32
    /// Dimension of each named feature vector. One that is not named here is fixed by the first item that has it.
    public var modalities: [String: Int] = [:]
  }

  /// What the learner minimises.
  public struct Objective: Sendable, Equatable {
    public var negatives = Negatives.stochastic
    public var negativesPerTarget = 8
    public var beta = 0.5
    public var lossForm = LossForm.pairwise
    public var crossEntropyWeight = 1.0
    public var preferenceWeight = 1.0
    public var fullSoftmaxMaxItems = 20_000
    public var sampledSoftmaxNegatives = 1024
    public var poolTemperature = 1.0
    public var softmaxPrecision = SoftmaxPrecision.auto
  }

  /// Of the operands of the softmax's products with the items' vectors; `auto` is what is fastest on the machine.
  public enum SoftmaxPrecision: String, CaseIterable, Sendable {
    case auto, bfloat16, float32
  }

  /// How negatives are drawn for the preference term.
  public enum Negatives: String, CaseIterable, Sendable {
    case stochastic, hard, uniform, none
  }

  /// Form of the preference term: each negative by itself, or all in one softmax (S-DPO).
  public enum LossForm: String, CaseIterable, Sendable {
    case pairwise, softmax
  }

  /// What a thread gets where cores are short.
  public enum CPUPriority: String, CaseIterable, Sendable {
    case idle, low, normal
  }

  /// The online learner.
  public struct Learner: Sendable, Equatable {
    public var threads = 1
    public var cpuPriority = CPUPriority.low
    public var stride = 256
    public var batchSize = 64
    public var windowInteractions = 100_000
    public var recentRatio = 0.5
    public var reservoirRatio = 0.25
    public var reservoirSize = 20_000
    public var replayTargets = 8
    public var learningRate = 1e-3
    public var weightDecay = 0.0
    public var gradientClip = 1.0
    public var referenceRefreshStrides = 16
    public var checkpointInterval = Duration.milliseconds(60_000)
    public var checkpointKeep = 3
    public var snapshotInterval = Duration.milliseconds(1_000)
    public var maxLagInteractions = 50_000
    public var maxUserShare = 0.1
    public var guardRelativeDrop = 0.2
    public var guardSignificance = 3.0
    public var guardMinimumEvents = 2_000
    public var seed = 42
    public var deterministic = false
  }

  /// The candidate pools.
  public struct Pool: Sendable, Equatable {
    public var size = 100
    public var maxAgeVersions = 64
  }

  /// Ranking and publishing.
  public struct Ranker: Sendable, Equatable {
    public var threads = 1
    public var batchSize = 256
    public var debounce = Duration.milliseconds(5)
    public var maxAge = Duration.milliseconds(86_400_000)
    public var topK = 20
    public var guestKey = "_guest"
    public var guestWindowEvents = 40_000
  }

  /// Business rules on what is published.
  public struct Rules: Sendable, Equatable {
    /// Interaction types whose items are not recommended again; nil is all types.
    public var excludeTypes: [String]?
    public var categoryCap = 0
  }

  /// Live quality.
  public struct Quality: Sendable, Equatable {
    public var k = 10
    public var windowEvents = 10_000
    public var popularityWindowEvents = 10_000
    public var logInterval = Duration.milliseconds(60_000)
  }

  /// The HTTP side.
  public struct Admin: Sendable, Equatable {
    public var listen = "127.0.0.1:9464"
    /// Path of the file with the token; empty is none.
    public var tokenFile = ""

    /// ``listen`` taken apart.
    public var address: (host: String, port: Int) { Self.address(listen) ?? ("127.0.0.1", 9464) }

    /// Whether only this machine can reach ``listen``.
    public var isLoopback: Bool {
      let host = address.host
      return host == "localhost" || host == "::1" || host.hasPrefix("127.") && host.allSatisfy { $0 == "." || $0.isNumber }
    }

    /// Host and port of `host:port`, an IPv6 address in brackets; nil if it is no such text.
    static func address(_ text: String) -> (host: String, port: Int)? {
      guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]),
        text[text.index(after: colon)...].allSatisfy(\.isNumber)
      else { return nil }
      var host = text[..<colon]
      if host.hasPrefix("["), host.hasSuffix("]") {
        host = host.dropFirst().dropLast()
      } else if host.contains(":") {
        return nil
      }
      return host.isEmpty || host.contains(where: \.isWhitespace) ? nil : (String(host), Int(port))
    }
  }

  /// The log.
  public struct Log: Sendable, Equatable {
    public var level = LogLevel.info
    public var format = LogFormat.auto
  }

  public enum LogLevel: String, CaseIterable, Sendable {
    case trace, debug, info, notice, warning, error, critical
  }

  /// `auto` is journald under systemd, text elsewhere.
  public enum LogFormat: String, CaseIterable, Sendable {
    case auto, journald, text, json
  }

  /// Start and stop.
  public struct Lifecycle: Sendable, Equatable {
    public var shutdownTimeout = Duration.milliseconds(20_000)
  }
}

extension Settings: CustomStringConvertible, CustomDebugStringConvertible {
  /// All settings, a line each, as `key: value`; secrets are redacted.
  public var description: String {
    SettingsSchema.settings.map { "\($0.key): \($0.text(self))" }.joined(separator: "\n")
  }

  public var debugDescription: String { description }
}

extension Settings.Kafka: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  public var description: String {
    var settings = Settings()
    settings.kafka = self
    return SettingsSchema.settings.filter { $0.key.hasPrefix("kafka.") }.map { "\($0.key): \($0.text(settings))" }.joined(separator: "\n")
  }

  public var debugDescription: String { description }

  /// Keeps secrets out of `dump` and of what prints by reflection.
  public var customMirror: Mirror { Mirror(self, children: ["description": description]) }
}
