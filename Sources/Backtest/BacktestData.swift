public import Datasets
import Recommender

/// What a backtest runs on: a history, the items' descriptions and their features.
public struct BacktestData: Sendable {
  public let history: InteractionHistory
  public let items: ItemTable?
  /// By modality's name, sorted.
  public let features: [(name: String, matrix: FeatureMatrix)]
  /// Each item's events in one file or another; none for items that are only described.
  public let itemCount: Int
  /// What a store calls users, items and types; nil where the history's own numbers do.
  let numbers: StoreNumbers?

  /// Reads the files.
  ///
  /// - Parameters:
  ///   - interactions: one file, or one for each period.
  ///   - items: the item table whose rows the feature matrices follow.
  ///   - features: modality name and `.npy` file.
  /// - Throws: `DatasetError` of the first line that is wrong; ``BacktestError`` when the files do not fit each other.
  public static func read(
    interactions: [String], items path: String? = nil, features: [(name: String, path: String)] = [], onProgress: (Int) -> Void = { _ in }
  ) throws -> BacktestData {
    let table = try path.map { try ItemTable.read($0) }
    guard features.isEmpty || table != nil else { throw BacktestError(.usage, "features need the item table whose rows they follow") }
    var matrices: [(name: String, matrix: FeatureMatrix)] = []
    for feature in features.sorted(by: { $0.name < $1.name }) {
      let matrix = try FeatureMatrix.read(feature.path)
      guard matrix.rowCount == table?.count else {
        throw BacktestError(.data, "\(feature.path) has \(matrix.rowCount) rows, the item table \(table?.count ?? 0) items")
      }
      matrices.append((feature.name, matrix))
    }
    let history = try InteractionHistory.read(interactions, items: table?.identifiers ?? IdentifierTable(), onProgress: onProgress)
    return BacktestData(history: history, items: table, features: matrices)
  }

  public init(history: InteractionHistory, items: ItemTable? = nil, features: [(name: String, matrix: FeatureMatrix)] = []) {
    self.init(history: history, items: items, features: features, numbers: nil)
  }

  init(history: InteractionHistory, items: ItemTable?, features: [(name: String, matrix: FeatureMatrix)], numbers: StoreNumbers?) {
    self.history = history
    self.items = items
    self.features = features
    self.numbers = numbers
    itemCount = history.itemCount
  }

  /// The dimension of each modality, for the model's configuration.
  public var modalities: [String: Int] { Dictionary(features.map { ($0.name, $0.matrix.columnCount) }) { first, _ in first } }

  /// Whether any item has a brand or a category.
  public var hasAttributes: Bool { items.map { !$0.attributes.isEmpty } ?? false }

  /// The weight of each type by its code in the history; 1 for types that are not named.
  public func typeWeights(_ weights: [String: Double]) -> [Float] { history.typeNames.map { Float(weights[$0] ?? 1) } }

  /// The learner's number of an item.
  func number(of item: Int32) -> ItemNumber { numbers?.items[Int(item)] ?? ItemNumber(item) }

  /// The learner's number of an event's user.
  func user(of event: Int) -> UInt64 { numbers?.users[Int(history.users[event])] ?? UInt64(history.users[event]) }

  func event(_ index: Int) -> ItemEvent {
    let type = history.types[index]
    return ItemEvent(
      item: number(of: history.items[index]), type: numbers?.types[Int(type)] ?? type,
      time: history.times.isEmpty ? nil : history.times[index])
  }

  /// The vectors of a described item; those that it lacks are left out.
  func featureVectors(of item: Int32) -> [(name: String, values: [Float])] {
    features.compactMap { $0.matrix.isPresent[Int(item)] ? ($0.name, Array($0.matrix.row(Int(item)))) : nil }
  }

  /// Whether the item table describes the item, which is then known before its first event.
  func isDescribed(_ item: Int32) -> Bool { items.map { item < $0.count } ?? false }

  /// Takes the item into the catalogue, on the next row if it is new there.
  func describe(_ item: Int32, in catalogue: ItemCatalogue) {
    let number = number(of: item)
    guard catalogue.row(of: number) == nil else { return }
    let isKnown = isDescribed(item)
    let content = features.map { feature -> [Float]? in
      isKnown && feature.matrix.isPresent[Int(item)] ? Array(feature.matrix.row(Int(item))) : nil
    }
    let attributes = isKnown ? items.map { table in table.attributes(of: item).map { table.attributeIdentifiers[$0] } } : nil
    catalogue.describe(item: number, row: Int32(catalogue.rowCount), content: content, attributes: attributes ?? [])
  }
}

/// The numbers by which a store knows what a history holds, by the history's own.
struct StoreNumbers: Sendable {
  var items: [ItemNumber]
  var users: [UInt64]
  /// The codes of the types.
  var types: [UInt8]
}
