/// The number of an item: given once, at first sight of its external id, rising, and never used for another.
public struct ItemNumber: RawRepresentable, Hashable, Comparable, Sendable {
  public let rawValue: UInt32

  public init(rawValue: UInt32) {
    self.rawValue = rawValue
  }

  public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// The code of an interaction type's name (view, purchase, …), given once by the store.
public struct InteractionTypeCode: RawRepresentable, Hashable, Sendable {
  public let rawValue: UInt8

  public init(rawValue: UInt8) {
    self.rawValue = rawValue
  }
}

/// What a user did with an item, and when.
public struct Interaction: Hashable, Sendable {
  public var item: ItemNumber
  public var type: InteractionTypeCode
  /// Milliseconds since 1970. Below 0 only the order is known, as of a history without times: no event of the stream is from before 1970.
  public var time: Int64
  public var value: Float?

  public init(item: ItemNumber, type: InteractionTypeCode, time: Int64, value: Float? = nil) {
    self.item = item
    self.type = type
    self.time = time
    self.value = value
  }

  /// ``time``; nil when only the order is known.
  public var knownTime: Int64? { time < 0 ? nil : time }
}

/// An accepted interaction as ingest hands it over.
public struct UserInteraction: Hashable, Sendable {
  public var user: String
  /// The partition of the interactions topic that the user's events come from; -1 for what did not come from there.
  public var partition: Int32
  public var interaction: Interaction
  /// The items that were on the screen.
  public var shown: [ItemNumber]

  public init(user: String, partition: Int32, interaction: Interaction, shown: [ItemNumber] = []) {
    self.user = user
    self.partition = partition
    self.interaction = interaction
    self.shown = shown
  }
}

/// What became of an interaction.
public enum AppendOutcome: Hashable, Sendable {
  /// It has this journal sequence, and a place in the user's sequence unless it is older than all that is kept there.
  case appended(sequence: UInt64)
  /// The same item, type and time is kept already. Nothing was written.
  case duplicate
  /// It lies further behind the user's newest interaction (`newest`, ms since 1970) than the bound allows. Nothing was written.
  case tooLate(newest: Int64)
}
