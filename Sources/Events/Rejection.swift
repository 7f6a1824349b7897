/// Why a message was not accepted. It goes whole to the dead-letter topic with this.
public struct Rejection: Error, Sendable, Equatable, CustomStringConvertible {
  /// The closed set of reasons: labels of a metric, and the error class of a dead letter.
  public enum Reason: String, CaseIterable, Sendable {
    case notJSON = "not_json"
    case notUTF8 = "not_utf8"
    case notAnObject = "not_an_object"
    case tooLarge = "too_large"
    case tooDeep = "too_deep"
    case nullValue = "null_value"
    case missingField = "missing_field"
    case wrongType = "wrong_type"
    case emptyID = "empty_id"
    case idTooLong = "id_too_long"
    case idNotUTF8 = "id_not_utf8"
    case unknownType = "unknown_type"
    case timeInvalid = "time_invalid"
    case timeInFuture = "time_in_future"
    case timeBefore1970 = "time_before_1970"
    /// Given by the pipeline, which knows the user's newest interaction.
    case timeTooLate = "time_too_late"
    case outOfRange = "out_of_range"
    /// Two different ids have the same hash: the later one is refused.
    case idCollision = "id_collision"
    case notFinite = "not_finite"
    case featureDimension = "feature_dimension"
  }

  public var reason: Reason
  /// The field (or JSON pointer) at fault, if it is one field's.
  public var field: String?
  /// What was found and what is allowed; at most ``maximumMessageLength`` bytes.
  public var message: String

  /// Bound on ``message`` in bytes.
  public static let maximumMessageLength = 300

  public init(_ reason: Reason, field: String? = nil, _ message: String) {
    self.reason = reason
    self.field = field
    self.message = message.utf8.count <= Self.maximumMessageLength ? message : message.shortened(to: Self.maximumMessageLength)
  }

  public var description: String { "\(reason.rawValue): \(message)" }
}

extension String {
  /// This text cut at a character boundary to at most `limit` bytes of UTF-8, with an ellipsis where something was cut.
  package func shortened(to limit: Int) -> String {
    guard utf8.count > limit else { return self }
    var kept = ""
    var length = 3
    for scalar in unicodeScalars {
      length += UTF8.width(scalar)
      if length > limit { break }
      kept.unicodeScalars.append(scalar)
    }
    return kept + "…"
  }
}
