import Kernels

/// The number of an item: given once, never to another item.
public typealias ItemNumber = UInt32

/// What the model knows of the items beside its parameters: which row of the tables each item has, and the content that the item
/// tower reads. One thread owns it; its workers may read while it waits for them.
///
/// Rows are dense and reused when an item is retired; numbers are not. Sequences and examples name items by number.
public final class ItemCatalogue: @unchecked Sendable {
  // @unchecked: the owner's thread alone writes, and no worker reads meanwhile.
  public let configuration: ModelConfiguration
  /// The rows in use are all below.
  public private(set) var rowCount = 0
  /// The item of each row; nil is a free row.
  public private(set) var owners: [ItemNumber?] = []
  private var rowOfNumber: [Int32] = []
  /// Dense content by modality: (capacity, D).
  private(set) var features: [Matrix]
  /// For each modality and row whether the content is there.
  private(set) var hasFeatures: [[Bool]]
  /// For each modality and row one over the content's length; 0 where there is none.
  private var inverseLengths: [[Float]]
  /// For each row a hash of its item and that item's dense content; 0 where there is none.
  private(set) var contentFingerprints: [UInt64] = []
  /// The embedded attributes of each row.
  private(set) var attributes: [[Int32]] = []
  /// The attributes' names in the order of their embeddings.
  public private(set) var attributeNames: [String] = []
  private var attributeIndex: [String: Int32] = [:]
  /// Rows that took a new owner since the trainer last looked: their parameters have to start anew.
  private var changedOwners: [Int32] = []
  /// Rows whose item got its first content, or lost its last, since the trainer last looked.
  private var changedKinds: [Int32] = []
  /// Rises with every change.
  private(set) var revision: UInt64 = 0
  /// The rows in use, in an order that depends on what came and went: draws go by it, so a checkpoint keeps it.
  private(set) var liveRows: [Int32] = []
  private var positionInLive: [Int32] = []
  /// More attributes than these are left out: what bounds the table's memory.
  private let maximumAttributes = 65_536

  public init(configuration: ModelConfiguration) {
    self.configuration = configuration
    features = configuration.modalities.map { Matrix(rows: 64, columns: $0.dimension) }
    hasFeatures = configuration.modalities.map { _ in [] }
    inverseLengths = hasFeatures.map { _ in [] }
  }

  /// The row of an item; nil when it is not known or is retired.
  public func row(of item: ItemNumber) -> Int32? {
    guard Int(item) < rowOfNumber.count else { return nil }
    let row = rowOfNumber[Int(item)]
    return row < 0 ? nil : row
  }

  /// Takes an item in, or takes its new description.
  ///
  /// - Parameters:
  ///   - row: as the store assigned it.
  ///   - content: for each of the configuration's modalities the features, or nil.
  ///   - names: brand and categories, each with a prefix that tells them apart.
  public func describe(item: ItemNumber, row: Int32, content: [[Float]?], attributes names: [String]) {
    if let old = self.row(of: item), old != row { retire(item: item) }
    let index = Int(row)
    reserve(index + 1)
    if let owner = owners[index], owner != item { retire(item: owner) }
    revision += 1
    let isNew = owners[index] == nil
    let wasDescribed = isDescribed(row: index)
    if isNew {
      owners[index] = item
      changedOwners.append(row)
      while rowOfNumber.count <= Int(item) { rowOfNumber.append(-1) }
      rowOfNumber[Int(item)] = row
      positionInLive[index] = Int32(liveRows.count)
      liveRows.append(row)
    }
    for (modality, values) in content.enumerated() where modality < features.count {
      let present = values.map { $0.count == features[modality].columns } ?? false
      hasFeatures[modality][index] = present
      for column in 0..<features[modality].columns { features[modality][index, column] = present ? values?[column] ?? 0 : 0 }
      let length = dot(features[modality], index, features[modality], index).squareRoot()
      inverseLengths[modality][index] = length > 0 ? 1 / length : 0
    }
    contentFingerprints[index] = fingerprint(row: index, of: item)
    attributes[index] = configuration.usesAttributes ? names.compactMap(attribute) : []
    if !isNew, isDescribed(row: index) != wasDescribed { changedKinds.append(row) }
  }

  /// Gives the item's row free.
  public func retire(item: ItemNumber) {
    guard let row = row(of: item) else { return }
    let index = Int(row)
    revision += 1
    owners[index] = nil
    rowOfNumber[Int(item)] = -1
    attributes[index] = []
    contentFingerprints[index] = 0
    for modality in hasFeatures.indices {
      hasFeatures[modality][index] = false
      inverseLengths[modality][index] = 0
    }
    let hole = Int(positionInLive[index])
    let last = liveRows.removeLast()
    if last != row {
      liveRows[hole] = last
      positionInLive[Int(last)] = Int32(hole)
    }
  }

  /// The rows whose owner changed since the last call, in order.
  func takeChangedOwners() -> [Int32] {
    defer { changedOwners.removeAll(keepingCapacity: true) }
    return changedOwners
  }

  /// The rows whose item got its first content, or lost its last, since the last call.
  func takeChangedKinds() -> [Int32] {
    defer { changedKinds.removeAll(keepingCapacity: true) }
    return changedKinds
  }

  /// Whether a row has content that tells it apart before anything was learned of its ID.
  func isDescribed(row: Int) -> Bool { !attributes[row].isEmpty || hasFeatures.contains { $0[row] } }

  /// The mean over the modalities of the cosine of two rows' content, 0 for one that either lacks.
  ///
  /// - Parameter result: (rows, others).
  func contentSimilarities(of rows: [Int], to others: Range<Int>, into result: Matrix) {
    zero(result)
    for (modality, all) in features.enumerated() {
      let own = Matrix(rows: rows.count, columns: all.columns)
      gather(own, from: all, rows.map { Int32($0) })
      let products = Matrix(rows: rows.count, columns: others.count)
      multiply(products, own, all.rows(others), transposeB: true)
      let scale = inverseLengths[modality]
      for (i, row) in rows.enumerated() {
        let share = scale[row] / Float(features.count)
        for (j, other) in others.enumerated() { result[i, j] += products[i, j] * share * scale[other] }
      }
    }
  }

  /// FNV-1a over the item's number and the bits of its dense content.
  private func fingerprint(row: Int, of item: ItemNumber) -> UInt64 {
    guard hasFeatures.contains(where: { $0[row] }) else { return 0 }
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    func add(_ word: UInt32) { hash = (hash ^ UInt64(word)) &* 0x100_0000_01b3 }
    add(item)
    for (modality, values) in features.enumerated() where hasFeatures[modality][row] {
      add(UInt32(modality))
      for column in 0..<values.columns { add(values[row, column].bitPattern) }
    }
    return max(hash, 1)
  }

  /// Fills an empty catalogue with the rows of a checkpoint, without content.
  ///
  /// - Parameter live: the rows that have an owner, in the order in which ``liveRows`` had them.
  func restore(owners: [ItemNumber?], live: [Int32]) {
    reserve(owners.count)
    for row in live { if let owner = owners[Int(row)] { describe(item: owner, row: row, content: [], attributes: []) } }
  }

  /// Restores the attributes' names in the order in which a checkpoint's embeddings stand.
  func restoreAttributeNames(_ names: [String]) {
    attributeNames = names
    attributeIndex = Dictionary(names.enumerated().map { ($1, Int32($0)) }, uniquingKeysWith: { first, _ in first })
  }

  private func attribute(_ name: String) -> Int32? {
    if let known = attributeIndex[name] { return known }
    guard attributeNames.count < maximumAttributes else { return nil }
    let index = Int32(attributeNames.count)
    attributeNames.append(name)
    attributeIndex[name] = index
    return index
  }

  private func reserve(_ count: Int) {
    guard count > rowCount else { return }
    rowCount = count
    let missing = count - owners.count
    owners.append(contentsOf: repeatElement(nil, count: missing))
    attributes.append(contentsOf: repeatElement([], count: missing))
    positionInLive.append(contentsOf: repeatElement(-1, count: missing))
    contentFingerprints.append(contentsOf: repeatElement(0, count: missing))
    for modality in features.indices {
      features[modality] = features[modality].grown(to: count)
      hasFeatures[modality].append(contentsOf: repeatElement(false, count: missing))
      inverseLengths[modality].append(contentsOf: repeatElement(0, count: missing))
    }
  }
}
