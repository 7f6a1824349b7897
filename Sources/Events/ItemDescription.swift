/// What the shop says of an item; a later description replaces an earlier one whole.
public struct ItemDescription: Sendable, Equatable {
  /// External id, non-empty UTF-8 of at most 64 KiB.
  public var item: String
  public var title: String?
  public var categories: [String]
  public var brand: String?
  /// In the shop's currency; finite and not negative.
  public var price: Double?
  /// Whether it may be recommended.
  public var available: Bool
  /// Sorted by name, without duplicates.
  public var features: [Feature]

  public init(
    item: String, title: String? = nil, categories: [String] = [], brand: String? = nil, price: Double? = nil, available: Bool = true,
    features: [Feature] = []
  ) {
    self.item = item
    self.title = title
    self.categories = categories
    self.brand = brand
    self.price = price
    self.available = available
    self.features = features
  }

  /// A named feature vector (a modality) of finite numbers.
  public struct Feature: Sendable, Equatable {
    public var name: String
    public var values: [Float]

    public init(name: String, values: [Float]) {
      self.name = name
      self.values = values
    }
  }
}

/// What a message of the items topic turned out to be.
public enum DecodedItem: Sendable, Equatable {
  case description(ItemDescription)
  /// A tombstone: never recommend this item again.
  case retire(item: String)
  case rejected(Rejection)
}
