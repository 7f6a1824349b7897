/// One thing that a user did with an item.
public struct Interaction: Sendable, Equatable {
  /// External id, non-empty UTF-8 of at most 64 KiB.
  public var user: String
  /// External id, non-empty UTF-8 of at most 64 KiB.
  public var item: String
  /// Code of the interaction type in the decoder's vocabulary.
  public var type: UInt8
  /// Milliseconds since 1970.
  public var time: Int64
  /// A rating, a price or a quantity; finite, also as a 32-bit float.
  public var value: Double?
  public var session: String?
  /// The `context` object as compact JSON text.
  public var context: String?
  /// The items that were on screen.
  public var shown: [String]

  public init(
    user: String, item: String, type: UInt8, time: Int64, value: Double? = nil, session: String? = nil, context: String? = nil,
    shown: [String] = []
  ) {
    self.user = user
    self.item = item
    self.type = type
    self.time = time
    self.value = value
    self.session = session
    self.context = context
    self.shown = shown
  }
}

/// What a message of the interactions topic turned out to be.
public enum DecodedInteraction: Sendable, Equatable {
  case interaction(Interaction)
  /// An event that names several items, such as an order: an interaction with each, in their order.
  case interactions([Interaction])
  /// A tombstone or a `forget` event: erase this user.
  case forget(user: String)
  /// An event of a type that is passed over.
  case ignored
  case rejected(Rejection)
}
