import Kernels
@testable import Recommender

/// A random model and users to rank for with it.
final class RankingRun {
  let requests: [RankingRequest]
  private let snapshot: ModelSnapshot
  /// One item in twenty is not available.
  private let allowed: [Bool]
  /// By item number, as the ranker's view of the catalogue has it.
  private let rowOfItem: [Int32]
  private let ranker: ParallelRanker
  /// For the encoder alone.
  private let encoder = TopKRanker()
  private let listLength = 100
  private let contextLength: Int

  /// What the item vectors take, in bytes.
  var vectorBytes: Int { snapshot.vectors.rows * snapshot.vectors.columns * MemoryLayout<Float>.size }

  /// - Parameters:
  ///   - contextLength: interactions of each user.
  ///   - neighbours: that are counted of each item; 0 leaves the neighbourhood out.
  init(itemCount: Int, users: Int = 128, contextLength: Int = 50, neighbours: Int = 0, threads: Int = 1) throws {
    self.contextLength = contextLength
    ranker = ParallelRanker(threads: threads)
    var random = Xoshiro256(seed: 1)
    let model = ModelConfiguration(
      maximumSequenceLength: max(50, contextLength), expertCount: 0, usesAttributes: false, neighbourCount: neighbours)
    let parameters = Parameters(model)
    parameters.initialize(using: &random)
    let vectors = Matrix(rows: itemCount, columns: model.hiddenSize)
    vectors.fillNormal(0.1, using: &random)
    let bias = Matrix(rows: 1, columns: itemCount)
    bias.fillNormal(0.5, using: &random)
    let owners = (0..<itemCount).map { ItemNumber?(ItemNumber($0)) }
    let whole = ModelSnapshot(
      version: 1, configuration: model, owners: owners, vectors: vectors, bias: bias, dense: parameters.dense,
      neighborhood: Self.neighborhood(model, itemCount, &random))
    allowed = (0..<itemCount).map { _ in random.next(below: 20) != 0 }
    snapshot = whole.restricted(to: allowed)
    rowOfItem = (0..<Int32(itemCount)).map { $0 }
    let length = contextLength
    requests = (0..<users).map { _ in
      let items = (0..<length).map { _ in ItemNumber(random.next(below: itemCount)) }
      let events = items.enumerated().map { ItemEvent(item: $1, type: UInt8($0 % 5), time: Int64($0) * 60_000) }
      return RankingRequest(events: events, excluded: Array(Set(items.map { Int32($0) })))
    }
  }

  /// Counts of so many random pairs that the neighbours of nearly all items are as many as are kept.
  private static func neighborhood(_ model: ModelConfiguration, _ itemCount: Int, _ random: inout Xoshiro256) -> Neighborhood {
    var result = Neighborhood(capacity: model.neighbourCount)
    guard model.neighbourCount > 0 else { return result }
    let catalogue = ItemCatalogue(configuration: model)
    for item in 0..<itemCount { catalogue.describe(item: ItemNumber(item), row: Int32(item), content: [], attributes: []) }
    for _ in 0..<4 * itemCount {
      result.observe((0...Neighborhood.contextLength).map { _ in ItemNumber(random.next(below: itemCount)) }, catalogue: catalogue)
    }
    return result
  }

  deinit { ranker.stop() }

  private var row: @Sendable (ItemNumber) -> Int32? {
    { [rowOfItem] item in Int(item) < rowOfItem.count ? rowOfItem[Int(item)] : nil }
  }

  @discardableResult
  func rank(_ requests: ArraySlice<RankingRequest>) throws -> [[RankedItem]] {
    let lists = ranker.rank(Array(requests), count: listLength, snapshot: snapshot, lookup: row)
    try check(lists.allSatisfy { $0.count == listLength }, "a list is shorter than \(listLength)")
    return lists
  }

  /// The encoder's part of ranking alone.
  func encode() throws {
    try check(encoder.encode(requests, snapshot, row).hidden.rows == requests.count, "not every user was encoded")
  }

  /// How much of the plain reference's lists is in the ranker's; a score that rounding may have moved over the edge counts as found.
  func recall(users: Int) throws -> Double {
    let lists = try rank(requests[..<users])
    let hidden = encoder.encode(Array(requests[..<users]), snapshot, row).hidden
    var found = 0
    for user in 0..<users {
      let best = plainScores(hidden, user).sorted { $0.score > $1.score }.prefix(listLength)
      let listed = Set(lists[user].map(\.row))
      guard let edge = best.last?.score else { continue }
      found += best.count { listed.contains($0.row) || $0.score - edge < 1e-5 }
      for (plain, ranked) in zip(best, lists[user]) {
        try check(abs(plain.score - Double(ranked.score)) < 1e-4, "score \(ranked.score) has to be \(plain.score)")
      }
    }
    let recall = Double(found) / Double(users * listLength)
    try check(recall == 1, "the exact ranking found \(recall) of the plain reference's items")
    return recall
  }

  /// One inner product for each item that may be in the user's list.
  private func plainScores(_ hidden: Matrix, _ user: Int) -> [(row: Int32, score: Double)] {
    let excluded = Set(requests[user].excluded)
    return (0..<Int32(snapshot.rowCount)).filter { allowed[Int($0)] && !excluded.contains($0) }.map { row in
      let product = (0..<hidden.columns).reduce(0.0) { $0 + Double(hidden[user, $1]) * Double(snapshot.vectors[Int(row), $1]) }
      return (row, product + Double(snapshot.bias[0, Int(row)]))
    }
  }
}
