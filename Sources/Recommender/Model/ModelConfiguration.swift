/// The shape of the model: what can't change without a new set of parameters.
public struct ModelConfiguration: Sendable, Equatable, Codable {
  /// d: the size of item vectors and hidden states.
  public var hiddenSize: Int
  public var layerCount: Int
  public var headCount: Int
  /// The width inside the feed-forward blocks.
  public var innerSize: Int
  /// L: the last interactions that the encoder sees.
  public var maximumSequenceLength: Int
  /// How many interaction types are told apart; higher codes share the last row.
  public var interactionTypeCount: Int
  /// E: the experts of the item tower; 0 is one dense layer.
  public var expertCount: Int
  /// k of the top-k routing.
  public var expertsPerItem: Int
  /// Dense content of an item, in order: the modality's name and its dimension.
  public var modalities: [Modality]
  /// Whether brand and categories are embedded.
  public var usesAttributes: Bool
  /// Neighbours that are counted of each item (``Neighborhood``); 0 leaves the neighbourhood out.
  public var neighbourCount: Int
  /// Items of like content that are kept of each item (``ContentNeighbors``), where there is a neighbourhood; 0 leaves them out.
  public var contentNeighbourCount: Int

  public struct Modality: Sendable, Equatable, Codable {
    public var name: String
    public var dimension: Int
    public init(name: String, dimension: Int) {
      self.name = name
      self.dimension = dimension
    }
  }

  public init(
    hiddenSize: Int = 64, layerCount: Int = 2, headCount: Int = 2, innerSize: Int = 256, maximumSequenceLength: Int = 50,
    interactionTypeCount: Int = 16, expertCount: Int = 4, expertsPerItem: Int = 2, modalities: [Modality] = [], usesAttributes: Bool = true,
    neighbourCount: Int = 0, contentNeighbourCount: Int = 0
  ) {
    precondition(hiddenSize % headCount == 0, "the heads share the hidden size evenly")
    self.hiddenSize = hiddenSize
    self.layerCount = layerCount
    self.headCount = headCount
    self.innerSize = innerSize
    self.maximumSequenceLength = maximumSequenceLength
    self.interactionTypeCount = interactionTypeCount
    self.expertCount = expertCount
    self.expertsPerItem = min(expertsPerItem, max(expertCount, 1))
    self.modalities = modalities
    self.usesAttributes = usesAttributes
    self.neighbourCount = neighbourCount
    self.contentNeighbourCount = contentNeighbourCount
  }

  /// False when items are known by their ID alone.
  public var usesContent: Bool { usesAttributes || !modalities.isEmpty }
}

/// Time gaps in logarithmic buckets, as HM4SR shows that time helps: 0 is unknown, then 1 + ⌊log₂(1 + seconds)⌋.
public enum TimeGap {
  public static let bucketCount = 32
  public static let unknown: Int32 = 0

  /// - Parameters: times in milliseconds since 1970; nil is unknown.
  public static func bucket(from earlier: Int64?, to later: Int64?) -> Int32 {
    guard let earlier, let later else { return unknown }
    let seconds = UInt64(max(0, later &- earlier) / 1000)
    return Int32(min(bucketCount - 1, 64 - (seconds &+ 1).leadingZeroBitCount))
  }
}
