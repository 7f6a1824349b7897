import CSimdjson

/// Decodes and validates messages of the items topic.
///
/// - A null value (a tombstone) retires the item.
/// - Where the item field is missing, the record's key is the item; where both are there and differ, the field holds.
/// - A field that is null is as if it were missing, and of a repeated key the last one holds.
///
/// The dimension of each feature is fixed by ``dimensions``, to which a description that is accepted adds what it brings anew.
/// One decoder belongs to one thread at a time.
public struct ItemDecoder: ~Copyable, Sendable {
  /// Most categories of an item.
  public static let maximumCategories = 256
  /// Most named feature vectors, of an item and of the catalogue.
  public static let maximumFeatures = 64

  /// What is read from where, and what is allowed.
  public struct Configuration: Sendable {
    /// JSON pointers of the fields; an empty one is never read.
    public var fields = Fields()
    /// Known dimension of each named feature vector: as configured, or as the catalogue has it.
    public var dimensions: [String: Int] = [:]
    public var maximumMessageBytes = 1 << 20

    public init() {}
  }

  /// JSON pointers (RFC 6901) of an item's fields.
  public struct Fields: Sendable {
    public var item = "/item"
    public var title = "/title"
    public var categories = "/categories"
    public var brand = "/brand"
    public var price = "/price"
    public var available = "/available"
    public var features = "/features"

    public init() {}
  }

  private enum Field {
    static let item = 0, title = 1, categories = 2, brand = 3, price = 4, available = 5, features = 6
  }

  private var reader: EventReader
  /// Dimension of each named feature vector.
  public private(set) var dimensions: [String: Int]

  /// - Throws: ``InvalidPointer`` if a field's pointer is none.
  public init(_ configuration: Configuration) throws(InvalidPointer) {
    let fields = configuration.fields
    reader = try EventReader(
      fields: [
        ("item", fields.item), ("title", fields.title), ("categories", fields.categories), ("brand", fields.brand),
        ("price", fields.price), ("available", fields.available), ("features", fields.features),
      ], maximumMessageBytes: configuration.maximumMessageBytes)
    dimensions = configuration.dimensions
  }

  /// Decodes one record.
  /// - Parameters:
  ///   - value: the message, or nil for a tombstone.
  ///   - attributes: those of a CloudEvent in binary mode.
  public mutating func decode(value: RawSpan?, key: RawSpan?, attributes: CloudEventAttributes? = nil) -> DecodedItem {
    do throws(Rejection) {
      guard let value else { return .retire(item: try reader.id(inKey: key)) }
      return .description(try decode(value, key: key, attributes: attributes))
    } catch {
      return .rejected(error)
    }
  }

  private mutating func decode(
    _ value: RawSpan, key: RawSpan?, attributes: CloudEventAttributes?
  ) throws(Rejection) -> ItemDescription {
    try reader.parse(value, attributes: attributes)
    let description = ItemDescription(
      item: try reader.id(Field.item, orKey: key),
      title: try reader.optionalString(Field.title),
      categories: try reader.optionalStrings(Field.categories, atMost: Self.maximumCategories),
      brand: try reader.optionalString(Field.brand),
      price: try reader.optionalNumber(Field.price),
      available: try reader.optionalBoolean(Field.available) ?? true,
      features: try reader.optionalVectors(Field.features, atMost: Self.maximumFeatures))
    if let price = description.price, price < 0 {
      throw Rejection(.outOfRange, field: reader.name(Field.price), "\(reader.name(Field.price)) is \(price), it may not be negative")
    }
    try fixDimensions(of: description.features)
    return description
  }

  private mutating func fixDimensions(of features: [ItemDescription.Feature]) throws(Rejection) {
    let field = reader.name(Field.features)
    var known = dimensions
    for feature in features {
      let name = feature.name.shortened(to: 80)
      if let dimension = known[feature.name], feature.values.count != dimension {
        throw Rejection(.featureDimension, field: field, "\(field)/\(name) has \(feature.values.count) numbers, \(dimension) are needed")
      }
      if feature.values.isEmpty { throw Rejection(.featureDimension, field: field, "\(field)/\(name) is empty") }
      known[feature.name] = feature.values.count
    }
    guard known.count <= max(Self.maximumFeatures, dimensions.count) else {
      throw Rejection(.tooLarge, field: field, "\(field) names a vector beyond the catalogue's \(Self.maximumFeatures)")
    }
    dimensions = known
  }
}
