/// What the storefront says about an item.
public struct ItemDescription: Hashable, Sendable {
  public var title: String
  public var categories: [String]
  public var brand: String?
  public var price: Double?
  public var available: Bool
  /// By the modality's name. Finite numbers; the length is the modality's.
  public var features: [String: [Float]]

  public init(
    title: String, categories: [String] = [], brand: String? = nil, price: Double? = nil, available: Bool = true,
    features: [String: [Float]] = [:]
  ) {
    self.title = title
    self.categories = categories
    self.brand = brand
    self.price = price
    self.available = available
    self.features = features
  }
}

/// An item of the catalogue.
public struct CatalogueItem: Hashable, Sendable {
  public enum State: Hashable, Sendable {
    /// Known from interactions alone. Without a row when others needed the room, or when it was long unused, until it is seen again.
    case undescribed
    case described(ItemDescription)
    /// Taken out: never recommended. Keeps its number and id, because sequences still name it.
    case retired
  }

  public var id: String
  public var number: ItemNumber
  /// The item's place in the model's matrices; nil when it is retired, or undescribed and out of use. The lowest free one is taken.
  public var row: UInt32?
  /// The catalogue change with which the item got its row. When it is newer than what a reader has seen, the row held another item or
  /// none before.
  public var rowSince: UInt64
  /// The newest change of the item, its place in `catalogueChanges`.
  public var change: UInt64
  /// The day of the newest interaction with it while it is undescribed, in days since 1970.
  public var lastUse: UInt32
  public var state: State

  public init(id: String, number: ItemNumber, row: UInt32?, rowSince: UInt64, change: UInt64, lastUse: UInt32 = 0, state: State) {
    self.id = id
    self.number = number
    self.row = row
    self.rowSince = rowSince
    self.change = change
    self.lastUse = lastUse
    self.state = state
  }

  /// The description of a described item.
  public var description: ItemDescription? {
    if case .described(let description) = state { description } else { nil }
  }
}

/// Record: version, id, row, change that gave the row, newest change, day of the last use (since version 2), state, description.
extension CatalogueItem {
  private static let versions: ClosedRange<UInt8> = 1...2

  package init(_ bytes: [UInt8], number: ItemNumber) throws(StateStoreError) {
    var reader = RecordReader(bytes)
    let version = try reader.version(Self.versions)
    id = try reader.string()
    self.number = number
    row = try reader.optional { (reader) throws(StateStoreError) in try reader.varint(as: UInt32.self) }
    rowSince = try reader.varint()
    change = try reader.varint()
    lastUse = version > 1 ? try reader.varint(as: UInt32.self) : 0
    switch try reader.byte() {
    case 0: state = .undescribed
    case 1: state = .described(try ItemDescription(from: &reader))
    case 2: state = .retired
    default: throw RecordReader.damaged
    }
    try reader.end()
  }

  /// The id alone, for a look-up that needs no more.
  static func id(_ bytes: [UInt8]) throws(StateStoreError) -> String {
    var reader = RecordReader(bytes)
    _ = try reader.version(versions)
    return try reader.string()
  }

  package func encode(to record: inout [UInt8]) {
    record.append(Self.versions.upperBound)
    record.appendString(id)
    record.appendOptional(row) { $0.appendVarint(UInt64($1)) }
    record.appendVarint(rowSince)
    record.appendVarint(change)
    record.appendVarint(UInt64(lastUse))
    switch state {
    case .undescribed: record.append(0)
    case .described(let description):
      record.append(1)
      description.encode(to: &record)
    case .retired: record.append(2)
    }
  }
}

extension ItemDescription {
  init(from reader: inout RecordReader) throws(StateStoreError) {
    title = try reader.string()
    categories = []
    for _ in 0..<(try reader.count(elementSize: 1)) { categories.append(try reader.string()) }
    brand = try reader.optional { (reader) throws(StateStoreError) in try reader.string() }
    price = try reader.optional { (reader) throws(StateStoreError) in Double(bitPattern: try reader.littleEndian(UInt64.self)) }
    available = try reader.flag()
    features = [:]
    for _ in 0..<(try reader.count(elementSize: 2)) {
      let name = try reader.string()
      let length = try reader.count(elementSize: 4)
      var numbers: [Float] = []
      numbers.reserveCapacity(length)
      for _ in 0..<length { numbers.append(Float(bitPattern: try reader.littleEndian(UInt32.self))) }
      features[name] = numbers
    }
  }

  /// One description gives the same bytes always: the modalities go in the order of their names.
  func encode(to record: inout [UInt8]) {
    record.appendString(title)
    record.appendVarint(UInt64(categories.count))
    for category in categories { record.appendString(category) }
    record.appendOptional(brand) { $0.appendString($1) }
    record.appendOptional(price) { $0.appendLittleEndian($1.bitPattern) }
    record.append(available ? 1 : 0)
    record.appendVarint(UInt64(features.count))
    for (name, numbers) in features.sorted(by: { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }) {
      record.appendString(name)
      record.appendVarint(UInt64(numbers.count))
      for number in numbers { record.appendLittleEndian(number.bitPattern) }
    }
  }
}
