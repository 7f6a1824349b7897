public import Events
public import Settings

/// Checks messages as ingestion would, before they are sent.
public struct EventValidation: ~Copyable {
  /// The topic that the messages are meant for.
  public enum Kind: Sendable { case interactions, items }

  private var interactions: InteractionDecoder
  private var items: ItemDecoder
  private let kind: Kind

  /// - Throws: `InvalidPointer` if a field's pointer in the settings is none.
  public init(_ kind: Kind, settings: Settings) throws(InvalidPointer) {
    let interactions = try InteractionDecoder(InteractionDecoder.Configuration(settings))
    let items = try ItemDecoder(ItemDecoder.Configuration(settings, dimensions: [:]))
    self.kind = kind
    self.interactions = interactions
    self.items = items
  }

  /// Checks a message, as far as it tells by itself: what is late only shows beside the user's other events.
  ///
  /// - Parameters:
  ///   - message: the record's value; nil is a tombstone.
  ///   - key: the record's key, if it has one already.
  ///   - attributes: those of a CloudEvent in binary mode.
  ///   - timestamp: the record's own, in milliseconds since 1970; without it, now.
  ///   - now: milliseconds since 1970, from which the future is counted.
  /// - Returns: the id that keys the record: of the user, or of the item; nil for an event that is passed over.
  /// - Throws: `Rejection`: why the message would not be accepted.
  @discardableResult
  public mutating func check(
    _ message: RawSpan?, key: RawSpan?, attributes: CloudEventAttributes? = nil, timestamp: Int64? = nil, now: Int64
  ) throws(Rejection) -> String? {
    switch kind {
    case .interactions:
      switch interactions.decode(value: message, key: key, timestamp: timestamp ?? now, attributes: attributes, now: now) {
      case .interaction(let interaction): return interaction.user
      case .interactions(let interactions): return interactions.first?.user
      case .ignored: return nil
      case .forget(let user): return user
      case .rejected(let rejection): throw rejection
      }
    case .items:
      switch items.decode(value: message, key: key, attributes: attributes) {
      case .description(let description): return description.item
      case .retire(let item): return item
      case .rejected(let rejection): throw rejection
      }
    }
  }
}
