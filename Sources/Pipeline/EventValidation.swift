public import Events
public import Settings

/// Checks messages as ingestion would, before they are sent.
public struct EventValidation: ~Copyable {
  /// The topic that the messages are meant for.
  public enum Kind: Sendable { case interactions, items }

  private var interactions: InteractionDecoder
  private var items: ItemDecoder
  private let kind: Kind

  /// - Throws: ``InvalidPointer`` if a field's pointer in the settings is none.
  public init(_ kind: Kind, settings: Settings) throws(InvalidPointer) {
    let interactions = try InteractionDecoder(InteractionDecoder.Configuration(settings))
    let items = try ItemDecoder(ItemDecoder.Configuration(settings, dimensions: [:]))
    self.kind = kind
    self.interactions = interactions
    self.items = items
  }

  /// Why a message would not be accepted; nil when it would be, as far as it tells by itself: what is late only shows beside the user's
  /// other events.
  ///
  /// - Parameters:
  ///   - message: the record's value.
  ///   - now: milliseconds since 1970, from which the future is counted.
  public mutating func check(_ message: RawSpan, now: Int64) -> Rejection? {
    switch kind {
    case .interactions:
      if case .rejected(let rejection) = interactions.decode(value: message, key: nil, timestamp: now, now: now) { return rejection }
    case .items:
      if case .rejected(let rejection) = items.decode(value: message, key: nil) { return rejection }
    }
    return nil
  }
}
