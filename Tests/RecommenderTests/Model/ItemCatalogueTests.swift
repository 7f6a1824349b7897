import Kernels
import Testing

@testable import Recommender

struct ItemCatalogueTests {
  static let configuration = ModelConfiguration(
    hiddenSize: 4, layerCount: 1, headCount: 1, innerSize: 4, maximumSequenceLength: 4, modalities: [.init(name: "text", dimension: 2)])

  @Test func aReusedRowForgetsItsFormerItem() {
    let catalogue = ItemCatalogue(configuration: Self.configuration)
    catalogue.describe(item: 7, row: 0, content: [[1, 2]], attributes: ["brand:x"])
    catalogue.describe(item: 8, row: 1, content: [nil], attributes: [])
    #expect(catalogue.takeChangedOwners() == [0, 1])
    catalogue.retire(item: 7)
    #expect(catalogue.row(of: 7) == nil)
    #expect(catalogue.owners == [nil, 8])
    #expect(!catalogue.isDescribed(row: 0))
    catalogue.describe(item: 9, row: 0, content: [nil], attributes: [])
    #expect(catalogue.row(of: 9) == 0)
    #expect(catalogue.row(of: 7) == nil, "a number is never given to another item")
    #expect(!catalogue.isDescribed(row: 0), "nothing of the former item's content is left")
    #expect(catalogue.takeChangedOwners() == [0])
  }

  @Test func aRetiredItemComesBackInAnotherRow() {
    let catalogue = ItemCatalogue(configuration: Self.configuration)
    catalogue.describe(item: 1, row: 0, content: [[1, 1]], attributes: [])
    catalogue.retire(item: 1)
    catalogue.describe(item: 2, row: 0, content: [[2, 2]], attributes: [])
    catalogue.describe(item: 1, row: 1, content: [[3, 3]], attributes: [])
    #expect(catalogue.row(of: 1) == 1)
    #expect(catalogue.row(of: 2) == 0)
    #expect(catalogue.features[0].rows(0..<2).array == [2, 2, 3, 3])
  }

  @Test func featuresOfAnotherLengthAreMissing() {
    let catalogue = ItemCatalogue(configuration: Self.configuration)
    catalogue.describe(item: 0, row: 0, content: [[1, 2, 3]], attributes: [])
    #expect(!catalogue.hasFeatures[0][0])
    catalogue.describe(item: 0, row: 0, content: [[1, 2]], attributes: [])
    #expect(catalogue.hasFeatures[0][0])
  }

  /// Against a dictionary, over random histories in the order in which a store gives rows.
  @Test(arguments: 0..<20)
  func rowsOwnersAndLiveRowsAgreeWithAPlainTable(seed: UInt64) {
    var random = Xoshiro256(seed: seed)
    let catalogue = ItemCatalogue(configuration: Self.configuration)
    var rows: [ItemNumber: Int32] = [:]
    var free: [Int32] = []
    var height: Int32 = 0
    for _ in 0..<300 {
      let item = ItemNumber(random.next(below: 40))
      if random.next(below: 3) == 0 {
        if let row = rows.removeValue(forKey: item) { free.append(row) }
        catalogue.retire(item: item)
      } else {
        if rows[item] == nil {
          free.sort()
          if free.isEmpty {
            rows[item] = height
            height += 1
          } else {
            rows[item] = free.removeFirst()
          }
        }
        catalogue.describe(item: item, row: rows[item]!, content: [[Float(item), 0]], attributes: [])
      }
      for item in ItemNumber(0)..<40 { #expect(catalogue.row(of: item) == rows[item]) }
      #expect(catalogue.liveRows.sorted() == rows.values.sorted())
      #expect(catalogue.rowCount == Int(height))
      for (item, row) in rows { #expect(catalogue.owners[Int(row)] == item && catalogue.features[0][Int(row), 0] == Float(item)) }
    }
  }

  @Test func aNewOwnerStartsWithoutTheFormersParametersAndMoments() {
    let catalogue = ItemCatalogue(configuration: Self.configuration)
    for row in 0..<Int32(3) { catalogue.describe(item: ItemNumber(row), row: row, content: [[1, 2]], attributes: []) }
    let trainer = Trainer(
      parameters: Parameters(Self.configuration), catalogue: catalogue, objective: ObjectiveConfiguration(),
      settings: OptimizerConfiguration(), workers: WorkerThreads(count: 1))
    trainer.followCatalogue()
    let everything = [
      trainer.parameters.itemEmbedding, trainer.parameters.itemBias, trainer.optimizer.embedding.firstMoment,
      trainer.optimizer.embedding.secondMoment, trainer.optimizer.bias.firstMoment, trainer.optimizer.bias.secondMoment,
    ]
    for table in everything {
      for i in 0..<3 { for j in 0..<table.columns { table[i, j] = 5 } }
    }
    trainer.optimizer.embedding.steps = trainer.optimizer.embedding.steps.map { _ in 9 }
    trainer.optimizer.bias.steps = trainer.optimizer.bias.steps.map { _ in 9 }

    catalogue.retire(item: 1)
    catalogue.describe(item: 30, row: 1, content: [[3, 4]], attributes: [])
    // A new description of a known item is no new item.
    catalogue.describe(item: 2, row: 2, content: [[9, 9]], attributes: ["brand:y"])
    trainer.followCatalogue()
    for table in everything {
      #expect(table.rows(1..<2).array.allSatisfy { $0 == 0 })
      #expect(table.rows(0..<1).array.allSatisfy { $0 == 5 })
      #expect(table.rows(2..<3).array.allSatisfy { $0 == 5 })
    }
    #expect(trainer.optimizer.embedding.steps[..<3] == [9, 0, 9])
    #expect(trainer.optimizer.bias.steps[..<3] == [9, 0, 9])
  }

  @Test func anItemKnownByNothingElseStartsWithASmallEmbeddingOfItsOwn() {
    func embedding(_ item: ItemNumber, described: Bool) -> [Float] {
      let catalogue = ItemCatalogue(configuration: Self.configuration)
      catalogue.describe(item: item, row: 0, content: [described ? [1, 1] : nil], attributes: [])
      let trainer = Trainer(
        parameters: Parameters(Self.configuration), catalogue: catalogue, objective: ObjectiveConfiguration(),
        settings: OptimizerConfiguration(), workers: WorkerThreads(count: 1))
      trainer.followCatalogue()
      return trainer.parameters.itemEmbedding.rows(0..<1).array
    }
    #expect(embedding(3, described: true) == [0, 0, 0, 0])
    #expect(embedding(3, described: false).contains { $0 != 0 })
    #expect(embedding(3, described: false).allSatisfy { abs($0) < 0.2 })
    #expect(embedding(3, described: false) != embedding(4, described: false))
    #expect(embedding(3, described: false) == embedding(3, described: false))
  }

  @Test func timeGapsFallIntoLogarithmicBuckets() {
    #expect(TimeGap.bucket(from: nil, to: 5) == TimeGap.unknown)
    #expect(TimeGap.bucket(from: 5, to: nil) == TimeGap.unknown)
    #expect(TimeGap.bucket(from: 0, to: 999) == 1)
    #expect(TimeGap.bucket(from: 0, to: 1_000) == 2)
    #expect(TimeGap.bucket(from: 0, to: 3_000) == 3)
    #expect(TimeGap.bucket(from: 9_000, to: 0) == 1, "times out of order have no gap")
    #expect(TimeGap.bucket(from: 0, to: .max) == 31)
    #expect(TimeGap.bucket(from: .min, to: .max) >= 1)
  }
}
