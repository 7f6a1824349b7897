/// Every setting, in the order of the file.
public enum SettingsSchema {
  /// What each section is about.
  static let sections: [String: String] = [
    "kafka": "The connection to the broker.",
    "topics": "Names of the topics, and what missing ones are created with.",
    "store": "The LMDB store: one folder on a local file system, owned by one daemon.",
    "events": "What an event looks like, and which events are accepted. The others go to the dead-letter topic.",
    "events.fields": "Where each field is found, as JSON pointers (RFC 6901), so that an existing clickstream need not change.",
    "events.fields.interactions": "An interaction. An empty pointer is never read; user then comes from the record's key.",
    "events.fields.items": "An item's description. An empty pointer is never read; item then comes from the record's key.",
    "model": "Shape of the network. A checkpoint of another shape cannot be continued.",
    "objective": "What the learner minimises: cross-entropy plus the preference term (RoDPO).",
    "learner": "The online learner.",
    "pool": "The candidate pool of each user, from which negatives are drawn and lists are published.",
    "ranker": "Ranking and publishing.",
    "rules": "Business rules on what is published.",
    "quality": "Live quality: each interaction is scored against the list the user had, before it is learned from.",
    "admin": "HTTP: health, metrics, status page, look-ups.",
    "log": "The log.",
    "lifecycle": "Start and stop.",
  ]

  public static let settings: [Setting] = [
    .text("kafka.bootstrap_servers", \.kafka.bootstrapServers, allowed: "host:port, comma-separated", "Brokers to find the cluster by."),
    .text(
      "kafka.client_id", \.kafka.clientID, allowed: "text of 1 to 64 characters", "Name of this client in the broker's logs and quotas."
    ) {
      1...64 ~= $0.count
    },
    .text("kafka.group_id", \.kafka.groupID, "Consumer group, which also names the committed offsets that lag tools read."),
    .text("kafka.group_instance_id", \.kafka.groupInstanceID, "This daemon's static membership in the group; unique in it."),
    .choice(
      "kafka.start_at", \.kafka.startAt, "Where a topic starts that was never read. A partition that is added later is read from its beginning."
    ),
    .boolean("kafka.create_topics", \.kafka.createTopics, "Create missing topics at start; else they are reported."),
    .integer(
      "kafka.queued_max_bytes", \.kafka.queuedMaxBytes, 1 << 20...1 << 31, "Most that is fetched ahead of a partition's processing."),
    properties,

    topic("topics.interactions", \.topics.interactions, "What users do; read."),
    topic("topics.items", \.topics.items, "What the shop says of its items; compacted; read."),
    topic("topics.recommendations", \.topics.recommendations, "Each user's list; compacted; written."),
    topic("topics.dead_letters", \.topics.deadLetters, "Events that were not accepted, with the reason; written."),
    .integer("topics.partitions", \.topics.partitions, 1...10_000, "Partitions of a topic that is created."),
    .integer("topics.replication_factor", \.topics.replicationFactor, 1...32, "Replicas of a topic that is created."),

    .text("store.path", \.store.path, allowed: "path of a folder", "Folder of the store and the checkpoints."),
    .integer(
      "store.map_size_bytes", \.store.mapSizeBytes, 1 << 20...1 << 46, "First size of the memory map; it is sparse and grows by itself."),
    .integer(
      "store.max_bytes", \.store.maxBytes, 1 << 20...1 << 46,
      "Most that the store may take; beyond it consumption stops and says so."),
    .integer(
      "store.max_items", \.store.maxItems, 1...100_000_000,
      "Most items in the model. At that number the undescribed one that was longest unused makes room for another."),
    .integer(
      "store.admission_interactions", \.store.admissionInteractions, 1...255,
      "From half of max_items on, interactions with an item of which nothing is known until it is let in: ids that are made up stay out."),
    .integer(
      "store.unused_item_days", \.store.unusedItemDays, 0...36_500,
      "Days after which an undescribed item that nobody touched makes room, by the stream's clock; 0 keeps it."),
    .duration("store.commit_interval_ms", \.store.commitInterval, 0...60_000, live: true, "Longest wait to fill a write transaction."),
    .integer(
      "store.commit_max_events", \.store.commitMaxEvents, 1...1_000_000, live: true,
      "Most events in a write transaction, which 16 MB of them end, too; 30000 once the users' sequences take more than 128 MB."),

    pointer("events.fields.interactions.user", \.events.fields.interactions.user, "The user's id: a string."),
    pointer(
      "events.fields.interactions.item", \.events.fields.interactions.item,
      "The item's id: a string. A * stands for each element of an array, as in /items/*/item_id."),
    pointer("events.fields.interactions.type", \.events.fields.interactions.type, "A name of events.types, or forget to erase the user."),
    pointer(
      "events.fields.interactions.time", \.events.fields.interactions.time,
      "RFC 3339, or Unix seconds (below 1e11), milliseconds or microseconds (from 1e14); empty for the record's timestamp."),
    pointer("events.fields.interactions.value", \.events.fields.interactions.value, "A number, such as a rating or a price; optional."),
    pointer("events.fields.interactions.session", \.events.fields.interactions.session, "The session's id: a string; optional."),
    pointer("events.fields.interactions.context", \.events.fields.interactions.context, "An object; optional."),
    pointer("events.fields.interactions.shown", \.events.fields.interactions.shown, "Ids of the items that were on screen; optional."),
    pointer("events.fields.items.item", \.events.fields.items.item, "The item's id: a string."),
    pointer("events.fields.items.title", \.events.fields.items.title, "A string; optional."),
    pointer("events.fields.items.categories", \.events.fields.items.categories, "A list of strings; optional."),
    pointer("events.fields.items.brand", \.events.fields.items.brand, "A string; optional."),
    pointer("events.fields.items.price", \.events.fields.items.price, "A number that is not negative; optional."),
    pointer("events.fields.items.available", \.events.fields.items.available, "Whether it may be recommended; true if missing."),
    pointer("events.fields.items.features", \.events.fields.items.features, "An object of named number lists; optional."),
    types,
    .choice("events.other_types", \.events.otherTypes, "What becomes of events of other types, or of none: dead letters, or passed over."),
    .duration(
      "events.max_future_ms", \.events.maxFuture, 0...31_536_000_000, "How far ahead of the daemon's clock an event may be."),
    .duration(
      "events.max_late_ms", \.events.maxLate, 0...3_153_600_000_000,
      "How far behind the user's newest interaction an event may be; within this it is placed in order."),
    .boolean("events.deduplicate", \.events.deduplicate, "Count an event of the same user, item, type and time once."),
    .integer("events.max_message_bytes", \.events.maxMessageBytes, 1024...1 << 30, "Largest message that is read."),

    .integer("model.hidden_size", \.model.hiddenSize, 4...1024, "Width d of embeddings and layers."),
    .integer("model.layer_count", \.model.layerCount, 1...16, "Transformer layers."),
    .integer("model.head_count", \.model.headCount, 1...16, "Attention heads; they divide hidden_size."),
    .integer("model.inner_size", \.model.innerSize, 4...8192, "Width of the feed-forward layers."),
    .integer("model.maximum_sequence_length", \.model.maximumSequenceLength, 1...1024, "Newest interactions of a user that are kept."),
    .number("model.dropout", \.model.dropout, 0...0.9, "Share of activations that are dropped while training."),
    .integer(
      "model.experts", \.model.experts, 0...64,
      "Experts over the item features; 0 is one dense layer, which was the better one wherever both were measured."),
    .integer("model.experts_per_item", \.model.expertsPerItem, 1...64, "Experts that each item is routed to."),
    .integer(
      "model.neighbours", \.model.neighbours, 0...4096,
      "Neighbours that are counted of each item, 16 bytes for each that it has; 0 leaves the neighbourhood out."),
    .integer(
      "model.content_neighbours", \.model.contentNeighbours, 0...1024,
      "Items of like content (model.modalities) that are kept of each item, 8 bytes each; 0 leaves them out."),
    .number("model.load_balancing_weight", \.model.loadBalancingWeight, 0...10, "Weight of the loss that keeps the experts evenly used."),
    modalities,

    .choice("objective.negatives", \.objective.negatives, "How negatives are drawn; none leaves the preference term out."),
    .integer("objective.negatives_per_target", \.objective.negativesPerTarget, 1...1024, "Negatives for each target."),
    .number("objective.beta", \.objective.beta, 0.001...100, live: true, "Sharpness of the preference term."),
    .choice("objective.loss_form", \.objective.lossForm, "Each negative by itself, or all of them in one softmax."),
    .number("objective.ce_weight", \.objective.crossEntropyWeight, 0...100, live: true, "Weight of the cross-entropy."),
    .number(
      "objective.preference_weight", \.objective.preferenceWeight, 0...100, live: true,
      "Weight of the preference term at a target, beside that of the cross-entropy."),
    .integer(
      "objective.full_softmax_max_items", \.objective.fullSoftmaxMaxItems, 0...100_000_000,
      "Largest catalogue with the whole softmax; above it is sampled, with the logQ correction."),
    .integer("objective.sampled_softmax_negatives", \.objective.sampledSoftmaxNegatives, 1...1_000_000, "Size of that sample."),
    .number(
      "objective.pool_temperature", \.objective.poolTemperature, 0...1000,
      "Draw from the pool in proportion to (1 + rank)^(-1/temperature), 1 being about as targets fall; 0 draws evenly."),
    .choice(
      "objective.softmax_precision", \.objective.softmaxPrecision,
      "Of the softmax's products: auto is bfloat16 where the CPU is faster with it (AMD's with AVX512_BF16); without AVX512_BF16 all are float32."),

    .integer("learner.threads", \.learner.threads, 1...256, "Threads of the learner."),
    .choice(
      "learner.cpu_priority", \.learner.cpuPriority,
      "What the learner gets where cores are short: what others leave over, which may be nothing; that, but a tenth of a core at least; or as much as others."),
    .integer("learner.stride", \.learner.stride, 1...1_000_000, "New interactions that make a step of the window."),
    .integer("learner.batch_size", \.learner.batchSize, 1...65_536, "Sequences in a mini-batch."),
    .integer("learner.window_interactions", \.learner.windowInteractions, 1...1_000_000_000, "Width of the sliding window."),
    .number("learner.recent_ratio", \.learner.recentRatio, 0...10, "Examples drawn from the window, by recency, for each new one."),
    .number("learner.reservoir_ratio", \.learner.reservoirRatio, 0...10, "Examples drawn from the long-term reservoir for each new one."),
    .integer("learner.reservoir_size", \.learner.reservoirSize, 0...100_000_000, "Examples in the reservoir."),
    .integer(
      "learner.replay_targets", \.learner.replayTargets, 1...65_536,
      "Interactions at the end of a replayed sequence that are learned from again."),
    .number("learner.learning_rate", \.learner.learningRate, 1e-8...1, live: true, "Step size of Adam."),
    .number("learner.weight_decay", \.learner.weightDecay, 0...1, "Decoupled weight decay."),
    .number("learner.gradient_clip", \.learner.gradientClip, 0...1_000_000, "Largest norm of a gradient; 0 does not clip."),
    .integer(
      "learner.reference_refresh_strides", \.learner.referenceRefreshStrides, 1...1_000_000,
      "Strides after which the reference policy is renewed."),
    .duration("learner.checkpoint_interval_ms", \.learner.checkpointInterval, 100...86_400_000, live: true, "Time between checkpoints."),
    .integer("learner.checkpoint_keep", \.learner.checkpointKeep, 1...1000, "Checkpoints that are kept."),
    .duration(
      "learner.snapshot_interval_ms", \.learner.snapshotInterval, 0...86_400_000, live: true,
      "Least time between two snapshots handed to the ranker."),
    .integer(
      "learner.max_lag_interactions", \.learner.maxLagInteractions, 1...1_000_000_000, live: true,
      "Backlog beyond which the learner samples instead of learning from every interaction."),
    .number(
      "learner.max_user_share", \.learner.maxUserShare, 0...1,
      "Share of the last 10000 interactions that one user may have in learning and in popularity, with one item a hundredth of it; 1 bounds nobody."),
    .number(
      "learner.guard_relative_drop", \.learner.guardRelativeDrop, 0...1, live: true,
      "Fall of live NDCG, as a share of the last good one, at which a snapshot is held back; 1 switches the guard off."),
    .number(
      "learner.guard_significance", \.learner.guardSignificance, 0...100,
      "Standard errors by which that fall must stand out of the noise."),
    .integer(
      "learner.guard_minimum_events", \.learner.guardMinimumEvents, 1...1_000_000_000,
      "Scored interactions before the guard judges."),
    .integer("learner.seed", \.learner.seed, 0...Int.max, "Seed of all randomness."),
    .boolean(
      "learner.deterministic", \.learner.deterministic,
      "One thread and learning paced by the stream: the same history gives the same bits on the same CPU."),

    .integer("pool.size", \.pool.size, 1...10_000, "Items in a user's pool."),
    .integer("pool.max_age_versions", \.pool.maxAgeVersions, 1...1_000_000, "Model versions after which a pool is made afresh."),

    .integer("ranker.threads", \.ranker.threads, 1...256, "Threads of the ranker."),
    .integer("ranker.batch_size", \.ranker.batchSize, 1...65_536, "Users that are ranked together."),
    .duration("ranker.debounce_ms", \.ranker.debounce, 0...3_600_000, live: true, "How long a user's further events are waited for."),
    .duration(
      "ranker.max_age_ms", \.ranker.maxAge, 1000...31_536_000_000, live: true,
      "Age at which a list is published again though it did not change."),
    .integer("ranker.top_k", \.ranker.topK, 1...1000, live: true, "Items in a published list."),
    .integer(
      "ranker.guest_window_events", \.ranker.guestWindowEvents, 1...100_000_000,
      "Newest interactions by which items are popular for guests, and for users of whom nothing is known."),
    .text("ranker.guest_key", \.ranker.guestKey, allowed: "text; empty publishes none", "Key of the list for guests: the popular items.") {
      _ in
      true
    },

    excludedTypes,
    .integer(
      "rules.category_cap", \.rules.categoryCap, 0...1000, live: true, "Most items of one category in a published list; 0 is no cap."),

    .integer("quality.k", \.quality.k, 1...1000, "Cut-off K of HR@K, NDCG@K and MRR@K."),
    .integer("quality.window_events", \.quality.windowEvents, 1...100_000_000, "Scored interactions that the figures are over."),
    .integer(
      "quality.popularity_window_events", \.quality.popularityWindowEvents, 1...100_000_000,
      "Newest interactions that the popularity beside it counts."),
    .duration(
      "quality.log_interval_ms", \.quality.logInterval, 1000...86_400_000, live: true, "Time between two lines of figures in the log."),

    .text(
      "admin.listen", \.admin.listen, allowed: "host:port, an IPv6 address in brackets",
      "Where HTTP is served. Anything but a loopback address needs token_file."
    ) { Settings.Admin.address($0) != nil },
    .text(
      "admin.token_file", \.admin.tokenFile, allowed: "path of a file, or a name in $CREDENTIALS_DIRECTORY; empty is none",
      "File with the bearer token that requests must carry."
    ) { _ in true },

    .choice("log.level", \.log.level, live: true, "Least severe level that is logged."),
    .choice("log.format", \.log.format, "Form of the log; auto is journald under systemd and text elsewhere."),

    .duration(
      "lifecycle.shutdown_timeout_ms", \.lifecycle.shutdownTimeout, 100...600_000, live: true, "Longest that a clean stop may take."),
  ]

  private static func topic(_ key: String, _ path: any WritableKeyPath<Settings, String> & Sendable, _ summary: String) -> Setting {
    .text(key, path, allowed: "1 to 249 of letters, digits, . _ -", summary) { name in
      1...249 ~= name.utf8.count && name != "." && name != ".."
        && name.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "._-".contains($0)) }
    }
  }

  private static func pointer(_ key: String, _ path: any WritableKeyPath<Settings, String> & Sendable, _ summary: String) -> Setting {
    .text(key, path, allowed: "a JSON pointer: /name or /outer/name, or empty", summary) { pointer in
      guard !pointer.isEmpty else { return true }
      let afterTildes = pointer.split(separator: "~", omittingEmptySubsequences: false).dropFirst()
      return pointer.hasPrefix("/") && afterTildes.allSatisfy { $0.hasPrefix("0") || $0.hasPrefix("1") }
    }
  }

  private static let properties = Setting(
    "kafka.properties", \.kafka.properties,
    allowed: "a map of librdkafka properties; a value file:NAME is read from that file, by its path or in $CREDENTIALS_DIRECTORY",
    live: false, "Passed to librdkafka as they are: TLS, SASL, timeouts.",
    decode: { input throws(Mismatch) in
      var properties: [String: String] = [:]
      for (name, value) in try decodeMap(input) { properties[name] = try decodeProperty(name, value) }
      return properties
    },
    assignEntry: { name, input, settings throws(Mismatch) in settings.kafka.properties[name] = try decodeProperty(name, input) },
    text: { settings in
      map(
        settings.kafka.properties.sorted { $0.key < $1.key }.map { name, value in
          (name, quoted(settings.kafka.isSecret(property: name) ? "(redacted)" : value))
        })
    })

  /// Properties that rodpod sets itself, with what to use instead.
  private static let reservedProperties: [String: String] = [
    "bootstrap.servers": "kafka.bootstrap_servers", "metadata.broker.list": "kafka.bootstrap_servers", "client.id": "kafka.client_id",
    "group.id": "kafka.group_id", "group.instance.id": "kafka.group_instance_id", "auto.offset.reset": "kafka.start_at",
    "queued.max.messages.kbytes": "kafka.queued_max_bytes", "enable.auto.commit": "", "enable.auto.offset.store": "",
    "enable.idempotence": "", "partition.assignment.strategy": "",
  ]

  /// A secret's text never goes into a message.
  private static func decodeProperty(_ name: String, _ input: Input) throws(Mismatch) -> String {
    if let instead = reservedProperties[name] {
      throw Mismatch(
        code: .inconsistent, found: instead.isEmpty ? "\(name), which rodpod itself must set" : "\(name), which \(instead) sets")
    }
    guard case .scalar(let text, plain: _) = input else { throw Mismatch(code: .wrongType, found: "\(name) with \(input.found)") }
    return text
  }

  private static let types = Setting(
    "events.types", \.events.types, allowed: "a map of 1 to 250 names to weights from 0 to 1000; forget is reserved", live: false,
    "The interaction types that are accepted, each with its weight in the loss; 0 is kept as context but never a target.",
    decode: { input throws(Mismatch) in
      var types: [Settings.InteractionType] = []
      for (name, value) in try decodeMap(input) { types.append(try decodeType(name, value)) }
      guard 1...250 ~= types.count else { throw Mismatch(code: .outOfRange, found: "\(types.count) names") }
      return types
    },
    assignEntry: { name, input, settings throws(Mismatch) in
      let type = try decodeType(name, input)
      if let index = settings.events.types.firstIndex(where: { $0.name == name }) {
        settings.events.types[index] = type
      } else {
        settings.events.types.append(type)
      }
    },
    text: { map($0.events.types.map { ($0.name, plain($0.weight)) }) })

  private static func decodeType(_ name: String, _ input: Input) throws(Mismatch) -> Settings.InteractionType {
    guard 1...255 ~= name.utf8.count, name != "forget" else {
      throw Mismatch(code: .outOfRange, found: "the name \(Input.scalar(name, plain: false).found)")
    }
    do {
      return Settings.InteractionType(name, weight: try decodeNumber(input, 0...1000))
    } catch {
      throw Mismatch(code: error.code, found: "\(name) with \(error.found)")
    }
  }

  private static let modalities = Setting(
    "model.modalities", \.model.modalities, allowed: "a map of at most 64 names to dimensions from 1 to 65536", live: false,
    "Dimension of each named feature vector; one that is not named here is fixed by the first item that has it.",
    decode: { input throws(Mismatch) in
      var modalities: [String: Int] = [:]
      for (name, value) in try decodeMap(input) { modalities[name] = try decodeDimension(name, value) }
      guard modalities.count <= 64 else { throw Mismatch(code: .outOfRange, found: "\(modalities.count) names") }
      return modalities
    },
    assignEntry: { name, input, settings throws(Mismatch) in settings.model.modalities[name] = try decodeDimension(name, input) },
    text: { map($0.model.modalities.sorted { $0.key < $1.key }.map { ($0.key, String($0.value)) }) })

  private static func decodeDimension(_ name: String, _ input: Input) throws(Mismatch) -> Int {
    do {
      return try decodeInteger(input, 1...65_536)
    } catch {
      throw Mismatch(code: error.code, found: "\(name) with \(error.found)")
    }
  }

  private static let excludedTypes = Setting(
    "rules.exclude_types", \.rules.excludeTypes, allowed: "all, or a list of names from events.types", live: true,
    "Interaction types after which an item is not recommended to that user again.",
    decode: { input throws(Mismatch) in
      switch input {
      case .scalar("all", plain: _): return nil
      case .list(let elements):
        var names: [String] = []
        for element in elements { names.append(try decodeText(element)) }
        return names
      // A flag or a variable: names with commas between them.
      case .scalar(let text, plain: _): return text.split(separator: ",").map { $0.trimmingSpaces() }
      default: throw Mismatch(code: .wrongType, found: input.found)
      }
    },
    text: { $0.rules.excludeTypes.map { "[" + $0.map(quoted).joined(separator: ", ") + "]" } ?? "all" })

  private static func decodeMap(_ input: Input) throws(Mismatch) -> [(key: String, value: Input)] {
    switch input {
    case .null: return []
    case .map(let entries): return entries
    default: throw Mismatch(code: .wrongType, found: input.found)
    }
  }

  private static func map(_ entries: [(String, String)]) -> String {
    "{" + entries.map { "\(quoted($0)): \($1)" }.joined(separator: ", ") + "}"
  }
}

extension StringProtocol {
  func trimmingSpaces() -> String {
    var rest = self[...]
    while rest.first?.isWhitespace == true { rest.removeFirst() }
    while rest.last?.isWhitespace == true { rest.removeLast() }
    return String(rest)
  }
}
