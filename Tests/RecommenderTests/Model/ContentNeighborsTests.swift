import Kernels
import Testing

@testable import Recommender

struct ContentNeighborsTests {
  static let configuration = ModelConfiguration(
    hiddenSize: 4, layerCount: 1, headCount: 1, innerSize: 4, maximumSequenceLength: 4,
    modalities: [.init(name: "image", dimension: 5), .init(name: "text", dimension: 3)], neighbourCount: 4, contentNeighbourCount: 4)

  /// Items with content that comes, changes and goes.
  struct Shop {
    let catalogue = ItemCatalogue(configuration: ContentNeighborsTests.configuration)
    var content: [ItemNumber: [[Float]?]] = [:]
    var random: Xoshiro256

    init(seed: UInt64) { random = Xoshiro256(seed: seed) }

    mutating func describe(_ item: ItemNumber, row: Int32) {
      func vector(_ count: Int) -> [Float]? { random.nextUnit() < 0.2 ? nil : (0..<count).map { _ in Float(random.nextUnit()) - 0.3 } }
      let content = [vector(5), vector(3)]
      self.content[item] = content
      catalogue.describe(item: item, row: row, content: content, attributes: [])
    }

    mutating func retire(_ item: ItemNumber) {
      content[item] = nil
      catalogue.retire(item: item)
    }

    /// The similarity by its definition.
    func similarity(_ a: ItemNumber, _ b: ItemNumber) -> Double {
      var sum = 0.0
      for case (let x?, let y?) in zip(content[a]!, content[b]!) {
        func product(_ x: [Float], _ y: [Float]) -> Double { zip(x, y).reduce(0.0) { $0 + Double($1.0) * Double($1.1) } }
        sum += product(x, y) / (product(x, x) * product(y, y)).squareRoot()
      }
      return sum / 2
    }

    /// The positive similarities of the items most like an item, best first.
    func best(_ item: ItemNumber) -> [Double] {
      Array(content.keys.filter { $0 != item }.map { similarity(item, $0) }.filter { $0 > 0 }.sorted(by: >).prefix(4))
    }

    func expectBest(_ neighbors: ContentNeighbors) {
      for (row, owner) in catalogue.owners.enumerated() {
        guard let owner else { continue }
        let list = neighbors.lists[row]
        let expected = best(owner)
        #expect(list.count == expected.count)
        #expect(zip(list, expected).allSatisfy { abs(Double($0.similarity) - $1) < 1e-5 })
        #expect(list.allSatisfy { abs(Double($0.similarity) - similarity(owner, $0.item)) < 1e-5 })
      }
    }
  }

  @Test(arguments: [UInt64(1), 2, 3])
  func listsAreTheMostAlikeHoweverTheItemsCame(seed: UInt64) {
    var shop = Shop(seed: seed)
    var neighbors = ContentNeighbors(capacity: 4)
    var described: ItemNumber = 0
    for count in [1, 3, 1, 40, 7] {
      for _ in 0..<count {
        shop.describe(described, row: Int32(described))
        described += 1
      }
      while !neighbors.relate(shop.catalogue, multiplications: 1000, between: {}).isEmpty {}
      shop.expectBest(neighbors)
    }
  }

  @Test(arguments: [UInt64(4), 5])
  func oneCallDoesABoundedPartNewestFirst(seed: UInt64) {
    var shop = Shop(seed: seed)
    for item in ItemNumber(0)..<20 { shop.describe(item, row: Int32(item)) }
    let described = (Int32(0)..<20).filter { shop.content[ItemNumber($0)]!.contains { $0 != nil } }
    var neighbors = ContentNeighbors(capacity: 4)
    var pieces = 0
    // 20 rows of 8 numbers are 160 multiplications an item.
    var made: [Int32] = []
    while case let rows = neighbors.relate(shop.catalogue, multiplications: 320, between: { pieces += 1 }), !rows.isEmpty {
      #expect(rows.count <= 2)
      made += rows
    }
    #expect(made == described.reversed())
    #expect(pieces >= described.count / 2)
  }

  @Test(arguments: [UInt64(6), 7, 8])
  func aNewDescriptionTakesThePlaceOfTheOldOneEverywhere(seed: UInt64) {
    var shop = Shop(seed: seed)
    for item in ItemNumber(0)..<6 { shop.describe(item, row: Int32(item)) }
    var neighbors = ContentNeighbors(capacity: 4)
    _ = neighbors.relate(shop.catalogue, multiplications: .max, between: {})
    for item in [ItemNumber(2), 5, 2] {
      shop.describe(item, row: Int32(item))
      _ = neighbors.relate(shop.catalogue, multiplications: .max, between: {})
      #expect(neighbors.lists.allSatisfy { Set($0.map(\.item)).count == $0.count })
      for (row, list) in neighbors.lists.enumerated() {
        #expect(list.allSatisfy { abs(Double($0.similarity) - shop.similarity(ItemNumber(row), $0.item)) < 1e-5 })
      }
    }
  }

  @Test func aRetiredItemMakesRoomAndItsRowStartsAnew() {
    var shop = Shop(seed: 9)
    for item in ItemNumber(0)..<30 { shop.describe(item, row: Int32(item)) }
    var neighbors = ContentNeighbors(capacity: 4)
    _ = neighbors.relate(shop.catalogue, multiplications: .max, between: {})
    for item in ItemNumber(0)..<8 {
      shop.retire(item)
      shop.describe(100 + item, row: Int32(item))
    }
    _ = neighbors.relate(shop.catalogue, multiplications: .max, between: {})
    for (row, list) in neighbors.lists.enumerated() {
      let owner = shop.catalogue.owners[row]!
      #expect(zip(list, list.dropFirst()).allSatisfy { $0.similarity >= $1.similarity })
      for neighbor in list where shop.content[neighbor.item] != nil {
        #expect(abs(Double(neighbor.similarity) - shop.similarity(owner, neighbor.item)) < 1e-5)
      }
      if owner >= 100 { #expect(zip(list, shop.best(owner)).allSatisfy { abs(Double($0.similarity) - $1) < 1e-5 }) }
    }
  }

  @Test func ofTwinsTheNewestStay() {
    let catalogue = ItemCatalogue(configuration: Self.configuration)
    var neighbors = ContentNeighbors(capacity: 4)
    for item in ItemNumber(0)..<8 {
      catalogue.describe(item: item, row: Int32(item), content: [nil, [1, 0, 0]], attributes: [])
      _ = neighbors.relate(catalogue, multiplications: .max, between: {})
    }
    #expect(neighbors.lists[0].map(\.item) == [7, 6, 5, 4])
  }

  @Test func marginsRunFromTheLastOfAFullListToOne() {
    func margins(_ similarities: [Float]) -> [Float] {
      let list = similarities.enumerated().map { ContentNeighbors.Neighbor(item: ItemNumber($0), similarity: $1) }
      return ContentNeighbors(capacity: 4, lists: [list], fingerprints: [1]).margins(of: 0).map(\.margin)
    }
    #expect(margins([1, 0.75, 0.5]) == [1, 0.75, 0.5])
    #expect(margins([1, 0.75, 0.5, 0.5]) == [1, 0.5, 0, 0])
    #expect(margins([1, 1, 1, 0.9999]) == [1, 1, 1, 1])
  }

  /// An item that nobody had is in the list of who had one that is like it, and not in the others'.
  @Test func anItemWithoutInteractionsIsFoundByItsContent() {
    var model = ModelConfiguration(
      hiddenSize: 8, layerCount: 1, headCount: 1, innerSize: 8, maximumSequenceLength: 4, modalities: [.init(name: "text", dimension: 4)],
      usesAttributes: false, neighbourCount: 8, contentNeighbourCount: 2)
    model.expertCount = 0
    let learner = OnlineLearner(LearnerConfiguration(model: model, seed: 3))
    let directions: [[Float]] = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    for item in ItemNumber(0)..<12 {
      var content = directions[Int(item) % 4]
      content[(Int(item) + 1) % 4] = 0.01 * Float(item)
      learner.catalogue.describe(item: item, row: Int32(item), content: [content], attributes: [])
    }
    learner.relateContent()
    learner.renewSnapshot()
    var evidence = Neighborhood.Evidence()
    for item in ItemNumber(0)..<12 {
      evidence.collect(learner.snapshot, context: [Int32(item)])
      let found = evidence.rows.filter { evidence.features($0)[8] > 0 }
      #expect(!found.isEmpty && found.allSatisfy { $0 % 4 == Int32(item) % 4 })
      for row in found {
        let features = evidence.features(row)
        // Nobody had it: the third of the content's features is the whole of it.
        #expect(features[9] > 0 && features[10] == features[9] && abs(features[8] * features[8] - features[9]) < 1e-6)
      }
    }
  }
}
