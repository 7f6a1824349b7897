import Events
@testable import Recommender

/// Messages of the interactions topic as a storefront writes them, one after the other in memory, and what they say.
struct InteractionMessages {
  static let types = ["view", "click", "add_to_cart", "purchase", "rating"]

  private(set) var expected: [Interaction] = []
  private var bytes: [UInt8] = []
  /// Where each message ends.
  private var ends: [Int] = [0]
  /// 2026-05-01T00:00:00Z in milliseconds since 1970.
  private let midnight: Int64 = 1_777_593_600_000

  var byteCount: Int { bytes.count }

  /// - Parameter inOrder: whether the events of the day come as they happened, or in no order.
  init(count: Int, users: Int, items: Int, inOrder: Bool = false) {
    var random = Xoshiro256(seed: 1)
    let day = 86_400_000
    for index in 0..<count {
      append(random.next(below: users), random.next(below: items), inOrder ? day / count * index : random.next(below: day), &random)
    }
  }

  /// Every fifth message is a rating with its value, every other fifth has a session.
  private mutating func append(_ user: Int, _ item: Int, _ milliseconds: Int, _ random: inout Xoshiro256) {
    let type = random.next(below: Self.types.count)
    var interaction = Interaction(
      user: "u-\(user)", item: "sku-\(item)", type: UInt8(type), time: midnight + Int64(milliseconds))
    var text =
      "{\"user\": \"\(interaction.user)\", \"item\": \"\(interaction.item)\", \"type\": \"\(Self.types[type])\", "
      + "\"time\": \"2026-05-01T\(clock(milliseconds))Z\""
    if Self.types[type] == "rating" {
      interaction.value = Double(random.next(below: 10) + 1) / 2
      text += ", \"value\": \(interaction.value ?? 0)"
    }
    if random.next(below: 5) == 0 {
      interaction.session = "s-\(random.next())"
      text += ", \"session\": \"\(interaction.session ?? "")\""
    }
    bytes += Array((text + "}").utf8)
    ends.append(bytes.count)
    expected.append(interaction)
  }

  private func clock(_ milliseconds: Int) -> String {
    func digits(_ number: Int, _ count: Int) -> String {
      let text = "\(number)"
      return String(repeating: "0", count: max(0, count - text.count)) + text
    }
    let seconds = milliseconds / 1000
    return digits(seconds / 3600, 2) + ":" + digits(seconds / 60 % 60, 2) + ":" + digits(seconds % 60, 2) + "."
      + digits(milliseconds % 1000, 3)
  }

  func message(_ index: Int) -> [UInt8] { Array(bytes[ends[index]..<ends[index + 1]]) }

  func decode(_ index: Int, _ decoder: inout InteractionDecoder) -> DecodedInteraction {
    decoder.decode(
      value: bytes.span.bytes.extracting(ends[index]..<ends[index + 1]), key: nil, timestamp: midnight, now: midnight + 86_400_000)
  }
}
