import Foundation

/// What was put into a store, and how good the model in it is. `encoded` is the machine's form, `description` the reader's.
public struct FirstModelReport: Encodable, Sendable {
  public let users: Int
  public let items: Int
  /// Those that are in the store.
  public let interactions: Int
  /// Interactions that came again and count once.
  public let repeats: Int
  /// The type that interactions without one were given; nil when all have one.
  public let untypedAs: String?
  /// Passes over the history until the best.
  public let passes: Int
  /// Mean NDCG@10 of the held-out interactions after that pass; nil when no user had enough to hold one out.
  public let validationNDCG: Double?
  public let checkpoint: String
  public let seconds: Double

  enum CodingKeys: String, CodingKey {
    case users, items, interactions, repeats, passes, checkpoint, seconds
    case untypedAs = "untyped_as"
    case validationNDCG = "validation_ndcg_at_10"
  }

  /// One JSON object.
  public func encoded() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(self), as: UTF8.self)
  }
}

extension FirstModelReport: CustomStringConvertible {
  public var description: String {
    var lines = ["\(users) users, \(items) items, \(interactions) interactions"]
    if repeats > 0 { lines.append("\(repeats) interactions came again and count once") }
    if let untypedAs { lines.append("interactions without a type count as \(untypedAs)") }
    lines.append("passes: \(passes), validation NDCG@10: \(validationNDCG.map { fixed($0, 5) } ?? "none held out")")
    lines.append("seconds: \(fixed(seconds, 1))")
    lines.append("checkpoint: \(checkpoint)")
    return lines.joined(separator: "\n")
  }
}
