import Foundation
import HTTPTypes

/// The body of `POST /v1/recommendations`.
struct SessionRequest: Decodable {
  /// At most so many items.
  static let maximumItems = 1000

  /// External ids, oldest first.
  let items: [String]
  let options: ListOptions

  /// - Throws: ``Problem`` that says what is wrong.
  init(_ body: Data) throws {
    do {
      self = try JSONDecoder().decode(SessionRequest.self, from: body)
    } catch is DecodingError {
      throw Problem(.badRequest, "The body is not a JSON object.")
    }
  }

  init(from decoder: any Decoder) throws {
    let members = try decoder.container(keyedBy: Member.self)
    let names: Set = ["items", "limit", "categories", "exclude"]
    guard members.allKeys.allSatisfy({ names.contains($0.stringValue) }) else {
      throw Problem(.badRequest, "The body has an unknown member; there are \(names.sorted().joined(separator: ", ")).")
    }
    func strings(_ name: String) throws -> [String]? {
      do {
        return try members.decodeIfPresent([String].self, forKey: Member(stringValue: name))
      } catch {
        throw Problem(.badRequest, "'\(name)' is a list of strings.")
      }
    }
    items = try strings("items") ?? []
    guard (1...Self.maximumItems).contains(items.count) else {
      throw Problem(.badRequest, "'items' is a list of 1 to \(Self.maximumItems) item ids, the oldest first.")
    }
    let limit: Int
    do {
      limit = try members.decodeIfPresent(Int.self, forKey: Member(stringValue: "limit")) ?? ListOptions.defaultLimit
    } catch {
      throw Problem.limit
    }
    guard (1...ListOptions.maximumLimit).contains(limit) else { throw Problem.limit }
    options = ListOptions(limit: limit, categories: try strings("categories") ?? [], excluded: try strings("exclude") ?? [])
  }

  private struct Member: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }

    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }
}
