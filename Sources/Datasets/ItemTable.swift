/// The items of a catalogue file, in its order.
public struct ItemTable: Sendable {
  /// The item on the file's n-th record has index n.
  public let identifiers: IdentifierTable
  /// One for each item; empty where none is given.
  public let titles: [String]
  /// The attribute values (brand, categories, genres) of all items.
  public let attributeIdentifiers: IdentifierTable
  /// The attributes of item `i` are `attributes[attributeOffsets[i] ..< attributeOffsets[i + 1]]`, each once.
  public let attributeOffsets: [Int32]
  public let attributes: [Int32]
  /// The attribute that each item's column of brands begins with; -1 where it has none.
  public let brands: [Int32]

  public var count: Int { identifiers.count }

  public func attributes(of item: Int32) -> ArraySlice<Int32> {
    attributes[Int(attributeOffsets[Int(item)])..<Int(attributeOffsets[Int(item) + 1])]
  }

  public func brand(of item: Int32) -> String? {
    let brand = brands[Int(item)]
    return brand < 0 ? nil : attributeIdentifiers[brand]
  }

  /// All attributes of the item but its brand.
  public func categories(of item: Int32) -> [String] {
    attributes(of: item).filter { $0 != brands[Int(item)] }.map { attributeIdentifiers[$0] }
  }

  /// Reads a tab-separated, comma-separated (RFC 4180) or JSON lines file, plain or gzip.
  ///
  /// Columns: `item` (also `itemId`, `movieId`), `title`, and any of `brand`, `attributes`, `categories`, `genres`, whose values are
  /// separated by bars (or, in JSON, are a list). Letter case and underscores do not matter; other columns are ignored.
  /// - Throws: the first error, with its line; an item that comes twice is one.
  public static func read(_ path: String) throws(DatasetError) -> ItemTable {
    var reader = try RecordReader(
      try ByteSource(path: path),
      columns: [
        .init("item", "itemId", "movieId", required: true), .init("title"), .init("brand"), .init("attributes"), .init("categories"),
        .init("genres"),
      ])
    var identifiers = IdentifierTable()
    var titles: [String] = []
    var attributeIdentifiers = IdentifierTable()
    var offsets: [Int32] = [0]
    var attributes: [Int32] = []
    var brands: [Int32] = []
    while try reader.advance() {
      guard let item = reader.intern(0, in: &identifiers) else { continue }
      guard Int(item) == titles.count else { throw reader.error("item \"\(identifiers[item])\" comes twice") }
      titles.append(reader.string(1) ?? "")
      let start = attributes.count
      brands.append(-1)
      for column in 2...5 {
        reader.forEachPart(column) { text, part in
          // MovieLens writes its missing value in words.
          if text[part].elementsEqual("(no genres listed)".utf8) { return }
          let attribute = attributeIdentifiers.intern(text, part)
          if column == 2, attributes.count == start { brands[Int(item)] = attribute }
          if !attributes[start...].contains(attribute) { attributes.append(attribute) }
        }
      }
      offsets.append(Int32(attributes.count))
    }
    return ItemTable(
      identifiers: identifiers, titles: titles, attributeIdentifiers: attributeIdentifiers,
      attributeOffsets: offsets, attributes: attributes, brands: brands)
  }
}
