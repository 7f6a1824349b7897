@testable import Recommender

/// A catalogue with feature vectors, in which new items are related to all others by content.
final class DescribedItems {
  let relatedTogether = 32
  private let catalogue: ItemCatalogue
  private let multiplications: Int

  init(itemCount: Int, dimension: Int) {
    catalogue = ItemCatalogue(configuration: ModelConfiguration(modalities: [.init(name: "text", dimension: dimension)]))
    multiplications = relatedTogether * itemCount * dimension
    var random = Xoshiro256(seed: 5)
    for item in 0..<itemCount {
      let features = (0..<dimension).map { _ in Float(random.nextUnit()) - 0.5 }
      catalogue.describe(item: ItemNumber(item), row: Int32(item), content: [features], attributes: [])
    }
  }

  func relate() throws {
    var neighbors = ContentNeighbors(capacity: 32)
    let related = neighbors.relate(catalogue, multiplications: multiplications, between: {}).count
    try check(related == relatedTogether, "\(related) items were related")
  }
}
