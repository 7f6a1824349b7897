import Foundation
import Kernels

/// A checkpoint is a safetensors file with everything that learning goes on from: parameters, both moments, the reference, the reservoir,
/// the random numbers' state, the cursor. `train, stop, restart, train` then equals `train`, bit for bit.
extension OnlineLearner {
  static let formatVersion = "3"
  private static let free = ItemNumber.max
  private static let checksumKey = "checksum"

  /// The bytes of a checkpoint of this moment, which has to lie between two strides.
  ///
  /// - Throws: ``Safetensors/FormatError``.
  public func checkpoint() throws(Safetensors.FormatError) -> [UInt8] {
    trainer.followCatalogue()
    var file = Safetensors()
    file.metadata = [
      "format": "rodpod-checkpoint", "format_version": Self.formatVersion, "cursor": String(cursor), "strides": String(strides),
      "model_version": String(snapshot.version), "reservoir_seen": String(reservoir.seen),
      "dense_steps": String(trainer.optimizer.denseSteps),
      "reference_version": trainer.reference.map { String($0.version) } ?? "",
      "model": try Self.json(configuration.model), "attributes": try Self.json(catalogue.attributeNames),
    ]
    let rows = catalogue.rowCount
    let attributes = catalogue.attributeNames.count
    let parameters = trainer.parameters
    let optimizer = trainer.optimizer
    file.set("random.state", "U64", shape: [4], random.state)
    file.set("catalogue.owners", "U32", shape: [rows], catalogue.owners.map { $0 ?? Self.free })
    file.set("catalogue.live_rows", "I32", shape: [catalogue.liveRows.count], catalogue.liveRows)
    file.set("catalogue.target_counts", "F32", shape: [rows], Array(trainer.targetCounts.prefix(rows)))
    for (prefix, dense) in [("", parameters.dense), ("adam.first.", optimizer.firstMoment), ("adam.second.", optimizer.secondMoment)] {
      for tensor in dense.tensors { file.set(prefix + tensor.name, tensor.values) }
    }
    file.set("item.embedding", parameters.itemEmbedding.rows(0..<rows))
    file.set("item.bias", parameters.itemBias.rows(0..<rows))
    file.set("item.attributes.embedding", parameters.attributeEmbedding.rows(0..<attributes))
    for (name, state, count) in [
      ("item.embedding", optimizer.embedding, rows), ("item.bias", optimizer.bias, rows),
      ("item.attributes.embedding", optimizer.attributes, attributes),
    ] {
      file.set("adam.first." + name, state.firstMoment.rows(0..<count))
      file.set("adam.second." + name, state.secondMoment.rows(0..<count))
      file.set("adam.steps." + name, "U32", shape: [count], Array(state.steps.prefix(count)))
    }
    if let reference = trainer.reference {
      file.set("reference.owners", "U32", shape: [reference.rowCount], reference.owners.map { $0 ?? Self.free })
      file.set("reference.item.vectors", reference.vectors)
      file.set("reference.item.bias", reference.bias)
      file.set("reference.dense", Matrix(reference.denseBuffer, rows: 1, columns: reference.denseBuffer.count))
    }
    let neighborhood = neighborhood
    let weights = neighborhood.weights
    let features = (0..<Neighborhood.featureCount).map { weights.features[$0] }
    file.set("neighborhood.weights", "F32", shape: [features.count], features)
    file.set("neighborhood.scale", "F32", shape: [1], [weights.scale])
    file.set("neighborhood.steps", "U32", shape: [1], [weights.steps])
    file.set("neighborhood.owners", "U32", shape: [neighborhood.owners.count], neighborhood.owners.map { $0 ?? Self.free })
    file.set("neighborhood.users", "F32", shape: [neighborhood.users.count], neighborhood.users)
    func set<Entry>(_ name: String, values: String, _ lists: [[Entry]], _ pair: (Entry) -> (item: ItemNumber, value: Float)) {
      let pairs = lists.flatMap { $0.map(pair) }
      file.set("\(name).used", "I32", shape: [lists.count], lists.map { Int32($0.count) })
      file.set("\(name).items", "U32", shape: [pairs.count], pairs.map(\.item))
      file.set("\(name).\(values)", "F32", shape: [pairs.count], pairs.map(\.value))
    }
    set("neighborhood.together", values: "counts", neighborhood.together.rows) { ($0.item, $0.count) }
    set("neighborhood.next", values: "counts", neighborhood.next.rows) { ($0.item, $0.count) }
    set("content", values: "similarities", neighborhood.content.lists) { ($0.item, $0.similarity) }
    file.set("content.fingerprints", "U64", shape: [neighborhood.content.fingerprints.count], neighborhood.content.fingerprints)
    Self.set(reservoir.examples, in: &file)
    file.metadata[Self.checksumKey] = String(file.checksum(without: Self.checksumKey))
    return try file.encoded()
  }

  /// A checkpoint without the examples of users who were erased since it was written.
  ///
  /// - Returns: nil when it has none of theirs.
  /// - Throws: ``Safetensors/FormatError`` when the bytes are damaged.
  public static func checkpoint(_ bytes: [UInt8], without users: Set<UInt64>) throws(Safetensors.FormatError) -> [UInt8]? {
    var file = try Safetensors(decoding: bytes)
    let examples = try examples(file)
    let kept = examples.filter { !users.contains($0.user) }
    guard kept.count < examples.count else { return nil }
    set(kept, in: &file)
    file.metadata[checksumKey] = String(file.checksum(without: checksumKey))
    return try file.encoded()
  }

  private static func set(_ examples: [TrainingExample], in file: inout Safetensors) {
    file.set("reservoir.user", "U64", shape: [examples.count], examples.map(\.user))
    file.set("reservoir.targets", "I32", shape: [examples.count], examples.map { Int32($0.targetCount) })
    file.set("reservoir.lengths", "I32", shape: [examples.count], examples.map { Int32($0.events.count) })
    let events = examples.flatMap(\.events)
    file.set("reservoir.items", "U32", shape: [events.count], events.map(\.item))
    file.set("reservoir.types", "U8", shape: [events.count], events.map(\.type))
    file.set("reservoir.times", "I64", shape: [events.count], events.map { $0.time ?? .min })
    let shown = examples.flatMap(\.shown)
    file.set("reservoir.shown_lengths", "I32", shape: [examples.count], examples.map { Int32($0.shown.count) })
    file.set("reservoir.shown", "U32", shape: [shown.count], shown)
  }

  /// The model's shape in a checkpoint, for telling why one does not fit.
  ///
  /// - Throws: ``Safetensors/FormatError`` when the bytes are no checkpoint of this format.
  public static func modelConfiguration(ofCheckpoint bytes: [UInt8]) throws(Safetensors.FormatError) -> ModelConfiguration {
    try modelConfiguration(Safetensors(decoding: bytes))
  }

  /// A learner that goes on where the checkpoint stood. The catalogue's rows keep their owners but have no content yet: describe the
  /// items before the next stride.
  ///
  /// - Throws: ``Safetensors/FormatError`` when the bytes are damaged or of another model.
  public convenience init(_ configuration: LearnerConfiguration, checkpoint bytes: [UInt8]) throws(Safetensors.FormatError) {
    self.init(configuration)
    try load(checkpoint: bytes, keepingCursor: false)
  }

  /// Goes back to an earlier checkpoint's model while the cursor stays: what led astray is not learned again. Versions go on rising.
  ///
  /// - Throws: ``Safetensors/FormatError``; the learner is unchanged when the file does not fit.
  public func rollBack(to bytes: [UInt8]) throws(Safetensors.FormatError) {
    let (cursor, version) = (cursor, snapshot.version)
    try load(checkpoint: bytes, keepingCursor: true)
    self.cursor = cursor
    restore(strides: strides, random: random, reservoir: reservoir, version: version + 1)
  }

  private func load(checkpoint bytes: [UInt8], keepingCursor: Bool) throws(Safetensors.FormatError) {
    let file = try Safetensors(decoding: bytes)
    guard file.metadata[Self.checksumKey] == String(file.checksum(without: Self.checksumKey)) else {
      throw Safetensors.FormatError(description: "it does not have the content that its checksum is of")
    }
    let model = try Self.modelConfiguration(file)
    guard model == configuration.model else {
      throw Safetensors.FormatError(description: "the checkpoint is of another model: \(model); configured is \(configuration.model)")
    }
    let attributeNames = try Self.decoded([String].self, file, "attributes")
    let owners = try file.values("catalogue.owners", "U32", as: ItemNumber.self)
    let rows = owners.count
    let live = try file.values("catalogue.live_rows", "I32", as: Int32.self)
    guard live.sorted() == owners.indices.filter({ owners[$0] != Self.free }).map({ Int32($0) }) else {
      throw Safetensors.FormatError(description: "the rows of the catalogue are damaged")
    }
    let parameters = trainer.parameters
    let optimizer = trainer.optimizer
    let reservoirRead = try Self.reservoir(file, capacity: configuration.reservoirSize)
    let reference = try Self.reference(file, configuration.model)
    let neighborhoodRead = try Self.neighborhood(file, configuration.model)
    guard let generator = Xoshiro256(state: try file.values("random.state", "U64", as: UInt64.self)) else {
      throw Safetensors.FormatError(description: "the random numbers' state is damaged")
    }
    // Everything is checked for its size before anything is changed.
    var loads: [(Matrix, Safetensors.Tensor)] = []
    func take(_ name: String, into values: Matrix) throws(Safetensors.FormatError) {
      guard let tensor = file[name], tensor.type == "F32", tensor.bytes.count == values.rows * values.columns * 4 else {
        throw Safetensors.FormatError(description: "tensor '\(name)' is missing or has another shape")
      }
      loads.append((values, tensor))
    }
    parameters.reserve(items: rows, attributes: attributeNames.count)
    optimizer.reserve(items: parameters.itemEmbedding.rows, attributes: parameters.attributeEmbedding.rows)
    for (prefix, dense) in [("", parameters.dense), ("adam.first.", optimizer.firstMoment), ("adam.second.", optimizer.secondMoment)] {
      for tensor in dense.tensors { try take(prefix + tensor.name, into: tensor.values) }
    }
    try take("item.embedding", into: parameters.itemEmbedding.rows(0..<rows))
    try take("item.bias", into: parameters.itemBias.rows(0..<rows))
    try take("item.attributes.embedding", into: parameters.attributeEmbedding.rows(0..<attributeNames.count))
    var steps: [[UInt32]] = []
    for (name, state, count) in [
      ("item.embedding", optimizer.embedding, rows), ("item.bias", optimizer.bias, rows),
      ("item.attributes.embedding", optimizer.attributes, attributeNames.count),
    ] {
      try take("adam.first." + name, into: state.firstMoment.rows(0..<count))
      try take("adam.second." + name, into: state.secondMoment.rows(0..<count))
      let own = try file.values("adam.steps." + name, "U32", as: UInt32.self)
      guard own.count == count else { throw Safetensors.FormatError(description: "tensor 'adam.steps.\(name)' has another shape") }
      steps.append(own)
    }
    let counts = try file.values("catalogue.target_counts", "F32", as: Float.self)
    guard counts.count == rows else { throw Safetensors.FormatError(description: "tensor 'catalogue.target_counts' has another shape") }

    if keepingCursor {
      // Items that came after the checkpoint start anew; those that it knows keep what it knew.
      trainer.followCatalogue()
    } else {
      catalogue.restore(owners: owners.map { $0 == Self.free ? nil : $0 }, live: live)
      catalogue.restoreAttributeNames(attributeNames)
      trainer.followCatalogue()
    }
    for (values, tensor) in loads { values.load(tensor.bytes) }
    for index in steps[0].indices { optimizer.embedding.steps[index] = steps[0][index] }
    for index in steps[1].indices { optimizer.bias.steps[index] = steps[1][index] }
    for index in steps[2].indices { optimizer.attributes.steps[index] = steps[2][index] }
    optimizer.denseSteps = UInt32(file.metadata["dense_steps"] ?? "") ?? 0
    trainer.reference = reference
    neighborhood = neighborhoodRead
    if keepingCursor {
      trainer.restartRows(
        except: { row in row < rows && owners[row] != Self.free && self.catalogue.owners[row] == owners[row] },
        attributes: attributeNames.count)
    } else {
      trainer.restore(targetCounts: counts)
      cursor = UInt64(file.metadata["cursor"] ?? "") ?? 0
    }
    restore(
      strides: UInt64(file.metadata["strides"] ?? "") ?? 0, random: generator, reservoir: reservoirRead,
      version: UInt64(file.metadata["model_version"] ?? "") ?? 0)
  }

  private static func reservoir(_ file: Safetensors, capacity: Int) throws(Safetensors.FormatError) -> Reservoir {
    Reservoir(capacity: capacity, examples: try examples(file), seen: UInt64(file.metadata["reservoir_seen"] ?? "") ?? 0)
  }

  private static func examples(_ file: Safetensors) throws(Safetensors.FormatError) -> [TrainingExample] {
    let users = try file.values("reservoir.user", "U64", as: UInt64.self)
    let targets = try file.values("reservoir.targets", "I32", as: Int32.self)
    let lengths = try file.values("reservoir.lengths", "I32", as: Int32.self)
    let items = try file.values("reservoir.items", "U32", as: ItemNumber.self)
    let types = try file.values("reservoir.types", "U8", as: UInt8.self)
    let times = try file.values("reservoir.times", "I64", as: Int64.self)
    let shown = try file.values("reservoir.shown", "U32", as: ItemNumber.self)
    let shownLengths = try file.values("reservoir.shown_lengths", "I32", as: Int32.self)
    guard users.count == targets.count, users.count == lengths.count, users.count == shownLengths.count, items.count == types.count,
      items.count == times.count, lengths.allSatisfy({ $0 >= 0 }), lengths.reduce(0, { $0 + Int($1) }) == items.count,
      shownLengths.allSatisfy({ $0 >= 0 }), shownLengths.reduce(0, { $0 + Int($1) }) == shown.count
    else { throw Safetensors.FormatError(description: "the reservoir is damaged") }
    var examples: [TrainingExample] = []
    var start = 0
    var shownStart = 0
    for index in users.indices {
      let events = (start..<start + Int(lengths[index])).map {
        ItemEvent(item: items[$0], type: types[$0], time: times[$0] == .min ? nil : times[$0])
      }
      start += events.count
      let shownEnd = shownStart + Int(shownLengths[index])
      examples.append(
        TrainingExample(
          user: users[index], events: events, targetCount: Int(max(0, targets[index])), shown: Array(shown[shownStart..<shownEnd])))
      shownStart = shownEnd
    }
    return examples
  }

  private static func neighborhood(_ file: Safetensors, _ model: ModelConfiguration) throws(Safetensors.FormatError) -> Neighborhood {
    let capacity = model.neighbourCount
    let weights = try file.values("neighborhood.weights", "F32", as: Float.self)
    let owners = try file.values("neighborhood.owners", "U32", as: ItemNumber.self)
    let users = try file.values("neighborhood.users", "F32", as: Float.self)
    func lists<Entry>(
      _ name: String, values: String, capacity: Int, _ entry: (ItemNumber, Float) -> Entry
    ) throws(Safetensors.FormatError) -> [[Entry]] {
      let used = try file.values("\(name).used", "I32", as: Int32.self)
      let items = try file.values("\(name).items", "U32", as: ItemNumber.self)
      let values = try file.values("\(name).\(values)", "F32", as: Float.self)
      guard used.allSatisfy({ 0...capacity ~= Int($0) }), items.count == values.count, used.reduce(0, { $0 + Int($1) }) == items.count else {
        throw Safetensors.FormatError(description: "the lists of '\(name)' are damaged")
      }
      var start = 0
      return used.map { length in
        let list = (start..<start + Int(length)).map { entry(items[$0], values[$0]) }
        start += Int(length)
        return list
      }
    }
    func table(_ name: String) throws(Safetensors.FormatError) -> Neighborhood.BoundedCountTable {
      let rows = try lists("neighborhood.\(name)", values: "counts", capacity: capacity) {
        Neighborhood.BoundedCountTable.Count(item: $0, count: $1)
      }
      guard rows.count == owners.count else { throw Safetensors.FormatError(description: "the neighbourhood's counts are damaged") }
      return Neighborhood.BoundedCountTable(capacity: capacity, rows: rows)
    }
    let fingerprints = try file.values("content.fingerprints", "U64", as: UInt64.self)
    let alike = try lists("content", values: "similarities", capacity: model.contentNeighbourCount) {
      ContentNeighbors.Neighbor(item: $0, similarity: $1)
    }
    guard alike.count == fingerprints.count else { throw Safetensors.FormatError(description: "the lists of 'content' are damaged") }
    let scale = try file.values("neighborhood.scale", "F32", as: Float.self)
    let steps = try file.values("neighborhood.steps", "U32", as: UInt32.self)
    guard weights.count == Neighborhood.featureCount, scale.count == 1, steps.count == 1, users.count == owners.count else {
      throw Safetensors.FormatError(description: "the neighbourhood is damaged")
    }
    var features = Neighborhood.Features.zero
    for (k, weight) in weights.enumerated() { features[k] = weight }
    return Neighborhood(
      capacity: capacity, weights: Neighborhood.Weights(features: features, scale: scale[0], steps: steps[0]),
      owners: owners.map { $0 == free ? nil : $0 }, users: users, together: try table("together"),
      next: try table("next"), content: ContentNeighbors(capacity: model.contentNeighbourCount, lists: alike, fingerprints: fingerprints))
  }

  private static func reference(_ file: Safetensors, _ model: ModelConfiguration) throws(Safetensors.FormatError) -> ModelSnapshot? {
    guard let version = UInt64(file.metadata["reference_version"] ?? "") else { return nil }
    let owners = try file.values("reference.owners", "U32", as: ItemNumber.self)
    let vectors = try file.values("reference.item.vectors", "F32", as: Float.self)
    let bias = try file.values("reference.item.bias", "F32", as: Float.self)
    let dense = DenseParameters(model)
    guard vectors.count == owners.count * model.hiddenSize, bias.count == owners.count, let tensor = file["reference.dense"],
      tensor.bytes.count == dense.buffer.count * 4
    else { throw Safetensors.FormatError(description: "the reference is damaged") }
    dense.all.load(tensor.bytes)
    return ModelSnapshot(
      version: version, configuration: model, owners: owners.map { $0 == free ? nil : $0 },
      vectors: Matrix(vectors, rows: owners.count, columns: model.hiddenSize), bias: Matrix(bias, rows: 1, columns: owners.count),
      dense: dense)
  }

  private static func modelConfiguration(_ file: Safetensors) throws(Safetensors.FormatError) -> ModelConfiguration {
    guard file.metadata["format"] == "rodpod-checkpoint" else { throw Safetensors.FormatError(description: "it is no checkpoint of rodpod") }
    guard file.metadata["format_version"] == formatVersion else {
      throw Safetensors.FormatError(description: "its format version is \(file.metadata["format_version"] ?? "missing"), not \(formatVersion)")
    }
    return try decoded(ModelConfiguration.self, file, "model")
  }

  private static func decoded<Value: Decodable>(
    _ type: Value.Type, _ file: Safetensors, _ key: String
  ) throws(Safetensors.FormatError) -> Value {
    guard let text = file.metadata[key], let value = try? JSONDecoder().decode(type, from: Data(text.utf8)) else {
      throw Safetensors.FormatError(description: "its metadata '\(key)' is missing or damaged")
    }
    return value
  }

  private static func json(_ value: some Encodable) throws(Safetensors.FormatError) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    guard let data = try? encoder.encode(value) else { throw Safetensors.FormatError(description: "the metadata can't be written as JSON") }
    return String(decoding: data, as: UTF8.self)
  }
}

extension Safetensors {
  mutating func set(_ name: String, _ values: Matrix) {
    set(name, "F32", shape: values.columns == 1 || values.rows == 1 ? [values.rows * values.columns] : [values.rows, values.columns], values.contiguousArray)
  }
}

extension Matrix {
  /// Overwrites a contiguous view.
  fileprivate func load(_ bytes: [UInt8]) {
    guard rows * columns > 0 else { return }
    copy(flat, from: Matrix(bytes.floats, rows: 1, columns: rows * columns))
  }

  fileprivate var contiguousArray: [Float] { (0..<rows).flatMap { row in (0..<columns).map { self[row, $0] } } }
}

extension [UInt8] {
  fileprivate var floats: [Float] {
    withUnsafeBytes { raw in (0..<count / 4).map { raw.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self) } }
  }
}
