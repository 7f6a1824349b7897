import Foundation
import Kernels
import Testing

@testable import Recommender

/// The whole model against numbers that PyTorch gave (Tests/Fixtures/pytorch/make_fixture.py), tensor by tensor.
struct PyTorchFixtureTests {
  struct Fixture {
    let file: Safetensors
    let configuration: ModelConfiguration
    let objective: ObjectiveConfiguration
    let catalogue: ItemCatalogue
    let trainer: Trainer
    let batch: TrainingBatch

    init(_ name: String) throws {
      let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      file = try Safetensors(decoding: Array(Data(contentsOf: folder.appending(path: "Fixtures/pytorch/\(name).safetensors"))))
      let metadata = file.metadata
      func number(_ key: String) throws -> Int { try #require(metadata[key].flatMap { Int($0) }) }
      func real(_ key: String) throws -> Float { try #require(metadata[key].flatMap { Float($0) }) }
      let dimensions = try JSONDecoder().decode([String: Int].self, from: Data((metadata["modalities"] ?? "").utf8))
      configuration = try ModelConfiguration(
        hiddenSize: number("d"), layerCount: number("layers"), headCount: number("heads"), innerSize: number("inner"),
        maximumSequenceLength: number("length"), interactionTypeCount: number("types"), expertCount: number("experts"),
        expertsPerItem: number("top_k"),
        modalities: dimensions.sorted { $0.key < $1.key }.map { ModelConfiguration.Modality(name: $0.key, dimension: $0.value) },
        usesAttributes: number("attributes") > 0)
      batch = try Self.batch(file)
      // There the term is a mean over the sequences, here it is a share of all targets.
      let weights = batch.weights
      let preferring = batch.input.sequences.queryOffsets.dropFirst().reduce(Float(0)) { $0 + weights[$1 - 1] }
      objective = try ObjectiveConfiguration(
        negativesPerTarget: number("negatives"), form: #require(metadata["preference"].flatMap(PreferenceForm.init)), beta: real("beta"),
        preferenceWeight: real("preference_weight") * Float(batch.totalWeight) / preferring, crossEntropyWeight: real("ce_weight"), loadBalancingWeight: real("load_balancing_weight"),
        routerNoise: 0)
      catalogue = ItemCatalogue(configuration: configuration)
      try Self.describeItems(file, catalogue, count: number("items"), attributeCount: number("attributes"))
      let settings = OptimizerConfiguration(learningRate: 1e-3, gradientClip: 0, dropout: 0)
      trainer = Trainer(
        parameters: Parameters(configuration), catalogue: catalogue, objective: objective, settings: settings, workers: WorkerThreads(count: 1))
      trainer.followCatalogue()
      try Self.load(file, "parameter.", trainer)
      // The reference is a snapshot of a policy with the other parameters.
      let other = Trainer(
        parameters: Parameters(configuration), catalogue: catalogue, objective: objective, settings: settings, workers: WorkerThreads(count: 1))
      other.followCatalogue()
      try Self.load(file, "reference.", other)
      trainer.reference = other.snapshot(version: 1)
    }

    static func describeItems(_ file: Safetensors, _ catalogue: ItemCatalogue, count: Int, attributeCount: Int) throws {
      catalogue.restoreAttributeNames((0..<attributeCount).map { "a\($0)" })
      let offsets = attributeCount > 0 ? try file.values("features.attributes.offsets", "I32", as: Int32.self) : []
      let attributes = attributeCount > 0 ? try file.values("features.attributes.values", "I32", as: Int32.self) : []
      for item in 0..<count {
        let content = try catalogue.configuration.modalities.map { modality -> [Float]? in
          let present = try file.values("features.\(modality.name).present", "I32", as: Int32.self)
          let values = try file.values("features.\(modality.name).values", "F32", as: Float.self)
          return present[item] > 0 ? Array(values[item * modality.dimension..<(item + 1) * modality.dimension]) : nil
        }
        let names = attributeCount > 0 ? (offsets[item]..<offsets[item + 1]).map { "a\(attributes[Int($0)])" } : []
        catalogue.describe(item: ItemNumber(item), row: Int32(item), content: content, attributes: names)
      }
    }

    static func load(_ file: Safetensors, _ prefix: String, _ trainer: Trainer) throws {
      let catalogue = trainer.catalogue
      func fill(_ name: String, _ values: Matrix) throws {
        let source = try file.values(prefix + name, "F32", as: Float.self)
        try #require(source.count == values.rows * values.columns)
        copy(values.flat, from: Matrix(source, rows: 1, columns: source.count))
      }
      for tensor in trainer.parameters.dense.tensors { try fill(tensor.name, tensor.values) }
      try fill("item.embedding", trainer.parameters.itemEmbedding.rows(0..<catalogue.rowCount))
      try fill("item.bias", trainer.parameters.itemBias.rows(0..<catalogue.rowCount))
      if catalogue.configuration.usesAttributes {
        try fill("item.attributes.embedding", trainer.parameters.attributeEmbedding.rows(0..<catalogue.attributeNames.count))
      }
    }

    static func batch(_ file: Safetensors) throws -> TrainingBatch {
      func integers(_ name: String) throws -> [Int32] { try file.values("batch." + name, "I32", as: Int32.self) }
      let offsets = try integers("offsets")
      let lengths = zip(offsets, offsets.dropFirst()).map { Int($1 - $0) }
      let negatives = try integers("preference.negative")
      return try TrainingBatch(
        input: SequenceBatch(
          sequences: PackedSequences(lengths: lengths, queryCounts: lengths), items: integers("item"), types: integers("type"),
          gapBefore: integers("gap_before"), gapNext: integers("gap_next"), positions: lengths.flatMap { (0..<Int32($0)).reversed() }),
        targets: integers("target"), weights: file.values("batch.weight", "F32", as: Float.self),
        negatives: (0..<lengths.count).map { Array(negatives[$0 * 3..<($0 + 1) * 3]) })
    }
  }

  static func expectClose(_ actual: [Float], _ expected: [Float], _ what: String, tolerance: Float = 2e-4) {
    #expect(actual.count == expected.count, "\(what)")
    let scale = max(expected.map(abs).max() ?? 0, 1e-2)
    let worst = zip(actual, expected).map { abs($0 - $1) }.max() ?? 0
    #expect(worst <= tolerance * scale, "\(what): differs by \(worst) at a scale of \(scale)")
  }

  @Test(arguments: ["moe", "dense", "ids"])
  func forwardValuesAgree(name: String) throws {
    let fixture = try Fixture(name)
    let snapshot = fixture.trainer.snapshot(version: 1)
    Self.expectClose(snapshot.vectors.array, try fixture.file.values("forward.item", "F32", as: Float.self), "item vectors")
    let encoder = SequenceEncoder(configuration: fixture.configuration, parameters: snapshot.encoder)
    let pass = encoder.forward(fixture.batch.input, vectors: snapshot.vectors, dropout: nil, arena: Arena())
    Self.expectClose(pass.hidden.array, try fixture.file.values("forward.hidden", "F32", as: Float.self), "hidden states")
  }

  @Test(arguments: ["moe", "dense", "ids"])
  func lossesAndEveryGradientAgree(name: String) throws {
    let fixture = try Fixture(name)
    var random = Xoshiro256(seed: 1)
    let report = fixture.trainer.accumulateGradients([fixture.batch], using: &random).report
    func loss(_ name: String) throws -> Double { Double(try #require(try fixture.file.values("loss." + name, "F32", as: Float.self).first)) }
    #expect(abs(report.crossEntropy - (try loss("ce"))) < 1e-4)
    #expect(abs(report.preference - (try loss("preference"))) < 1e-4)
    #expect(abs(report.loadBalancing - (try loss("balance"))) < 1e-5)
    let gradients = fixture.trainer.gradients
    for (name, values) in gradients {
      Self.expectClose(values.array, try fixture.file.values("gradient." + name, "F32", as: Float.self), "gradient of \(name)")
    }
    #expect(gradients.count > 30)
  }

  @Test func twoAdamStepsAgree() throws {
    let fixture = try Fixture("moe")
    let name = try #require(fixture.file.metadata["adam_parameter"])
    let values = try #require(fixture.trainer.parameters.dense.tensors.first { $0.name == name }).values
    let gradient = Matrix(try fixture.file.values("gradient." + name, "F32", as: Float.self), rows: values.rows, columns: values.columns)
    var state = AdamOptimizer.TableState(rows: values.rows, columns: values.columns)
    let rows = (0..<Int32(values.rows)).map { $0 }
    for step in 1...2 {
      AdamOptimizer.updateRows(
        values, &state, rows: rows, gradient: gradient, AdamStep(learningRate: 1e-3))
      Self.expectClose(
        values.array, try fixture.file.values("adam.step\(step)", "F32", as: Float.self), "after step \(step)", tolerance: 2e-6)
    }
  }
}
