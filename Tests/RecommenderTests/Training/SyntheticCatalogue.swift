import Kernels

@testable import Recommender

extension ModelConfiguration {
  /// Small enough for a test, with every part of the model in it.
  static func small(experts: Int = 3, content: Bool = true) -> ModelConfiguration {
    ModelConfiguration(
      hiddenSize: 8, layerCount: 2, headCount: 2, innerSize: 16, maximumSequenceLength: 6, interactionTypeCount: 3, expertCount: experts,
      expertsPerItem: 2, modalities: content ? [.init(name: "text", dimension: 4)] : [], usesAttributes: content)
  }
}

extension ItemCatalogue {
  /// Describes an item by content that depends on its number alone; every fifth has none.
  func describeSynthetic(_ item: ItemNumber, row: Int32) {
    var random = Xoshiro256(seed: UInt64(item) &+ 77)
    let features = (0..<4).map { _ in random.nextNormal() }
    let isBare = item % 5 == 4
    describe(
      item: item, row: row, content: configuration.modalities.map { _ in isBare ? nil : features },
      attributes: isBare ? [] : ["category:\(item % 3)", "brand:\(item % 4)"])
  }
}

extension Trainer {
  /// A trainer of so many items with random parameters of a size that matters.
  static func synthetic(
    _ configuration: ModelConfiguration, items: Int, objective: ObjectiveConfiguration = ObjectiveConfiguration(),
    settings: OptimizerConfiguration = OptimizerConfiguration(), threads: Int = 1, seed: UInt64 = 8
  ) -> Trainer {
    let catalogue = ItemCatalogue(configuration: configuration)
    for item in 0..<items { catalogue.describeSynthetic(ItemNumber(item), row: Int32(item)) }
    let trainer = Trainer(
      parameters: Parameters(configuration), catalogue: catalogue, objective: objective, settings: settings,
      workers: WorkerThreads(count: threads))
    trainer.followCatalogue()
    var random = Xoshiro256(seed: seed)
    trainer.parameters.dense.fillForCheck(using: &random)
    trainer.parameters.itemEmbedding.rows(0..<items).fillNormal(0.5, using: &random)
    trainer.parameters.itemBias.rows(0..<items).fillNormal(0.5, using: &random)
    trainer.parameters.attributeEmbedding.fillNormal(0.5, using: &random)
    return trainer
  }

  /// Every number that learning changes.
  var everything: [[UInt32]] {
    let tables = [
      parameters.dense.all, parameters.itemEmbedding, parameters.itemBias, parameters.attributeEmbedding, optimizer.firstMoment.all,
      optimizer.secondMoment.all, optimizer.embedding.firstMoment, optimizer.embedding.secondMoment, optimizer.bias.firstMoment,
      optimizer.bias.secondMoment, optimizer.attributes.firstMoment, optimizer.attributes.secondMoment,
    ]
    return tables.map { $0.array.map(\.bitPattern) } + [optimizer.embedding.steps, optimizer.bias.steps, [optimizer.denseSteps]]
  }
}

/// Random examples over items 0 ..< count.
func randomExamples(_ count: Int, items: Int, targets: Int = 1, using random: inout Xoshiro256) -> [TrainingExample] {
  (0..<count).map { index in
    let length = targets + 1 + random.next(below: 5)
    return TrainingExample(
      user: UInt64(index),
      events: (0..<length).map { ItemEvent(item: ItemNumber(random.next(below: items)), type: UInt8(random.next(below: 3)), time: Int64($0) * 4_000_000) },
      targetCount: targets)
  }
}
