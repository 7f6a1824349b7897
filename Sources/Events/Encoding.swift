#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

extension Interaction {
  /// The event as JSON, with the default field names.
  /// - Parameter typeName: the name that ``type`` stands for.
  public func json(typeName: String) -> [UInt8] {
    var writer = JSONWriter()
    writer.object { event in
      event.key("user")
      event.string(user)
      event.key("item")
      event.string(item)
      event.key("type")
      event.string(typeName)
      event.key("time")
      // A small number would be read as seconds.
      if Double(time) >= Timestamp.millisecondsFrom { event.integer(time) } else { event.string(Timestamp.rfc3339(time)) }
      if let value {
        event.key("value")
        event.number(value)
      }
      if let session {
        event.key("session")
        event.string(session)
      }
      if let context {
        event.key("context")
        event.literal(context)
      }
      if !shown.isEmpty {
        event.key("shown")
        event.array { for item in shown { $0.string(item) } }
      }
    }
    return writer.bytes
  }

  /// An event that asks to erase a user.
  public static func forgetJSON(user: String) -> [UInt8] {
    var writer = JSONWriter()
    writer.object {
      $0.key("user")
      $0.string(user)
      $0.key("type")
      $0.string(InteractionDecoder.forgetType)
    }
    return writer.bytes
  }
}

extension ItemDescription {
  /// The description as JSON, with the default field names.
  public func json() -> [UInt8] {
    var writer = JSONWriter()
    writer.object { description in
      description.key("item")
      description.string(item)
      if let title {
        description.key("title")
        description.string(title)
      }
      if !categories.isEmpty {
        description.key("categories")
        description.array { for category in categories { $0.string(category) } }
      }
      if let brand {
        description.key("brand")
        description.string(brand)
      }
      if let price {
        description.key("price")
        description.number(price)
      }
      description.key("available")
      description.boolean(available)
      if !features.isEmpty {
        description.key("features")
        description.object {
          for feature in features {
            $0.key(feature.name)
            $0.array { for value in feature.values { $0.number(value) } }
          }
        }
      }
    }
    return writer.bytes
  }
}

extension Recommendation {
  /// The list as JSON.
  /// - Throws: ``Rejection`` with `not_finite` if a score is not finite.
  public func json() throws(Rejection) -> [UInt8] {
    if let bad = items.first(where: { !$0.score.isFinite }) {
      throw Rejection(.notFinite, field: "score", "the score of \(bad.item.shortened(to: 80)) is \(bad.score)")
    }
    var writer = JSONWriter(reserving: 256 + 48 * items.count)
    writer.object { list in
      list.key("user")
      list.string(user)
      list.key("items")
      list.array { array in
        for item in items {
          array.object {
            $0.key("item")
            $0.string(item.item)
            $0.key("score")
            $0.number(item.score)
          }
        }
      }
      list.key("revision")
      list.integer(revision)
      list.key("model")
      list.integer(model)
      if let asOf {
        list.key("as_of")
        list.object {
          $0.key("topic")
          $0.string(asOf.topic)
          $0.key("partition")
          $0.integer(asOf.partition)
          $0.key("offset")
          $0.integer(asOf.offset)
          $0.key("time")
          $0.string(Timestamp.rfc3339(asOf.time))
        }
      }
      list.key("generated_at")
      list.string(Timestamp.rfc3339(generatedAt))
    }
    return writer.bytes
  }

  /// Reads what ``json()`` wrote. Not for a hot path.
  /// - Throws: ``Rejection`` if it is no such list.
  public init(json bytes: [UInt8]) throws(Rejection) {
    let message: Message
    do {
      message = try JSONDecoder().decode(Message.self, from: Data(bytes))
    } catch let error as DecodingError {
      throw Rejection(.notJSON, "not a recommendation: \(error)")
    } catch {
      throw Rejection(.notJSON, "not a recommendation")
    }
    func time(_ text: String, _ field: String) throws(Rejection) -> Int64 {
      guard let time = Timestamp.milliseconds(rfc3339: Array(text.utf8).span) else {
        throw Rejection(.timeInvalid, field: field, "\(field) is not a date-time of RFC 3339")
      }
      return time
    }
    var asOf: Position?
    if let position = message.as_of {
      asOf = Position(
        topic: position.topic, partition: position.partition, offset: position.offset, time: try time(position.time, "as_of/time"))
    }
    self.init(
      user: message.user, items: message.items.map { ScoredItem(item: $0.item, score: $0.score) }, revision: message.revision,
      model: message.model, asOf: asOf, generatedAt: try time(message.generated_at, "generated_at"))
  }

  /// The wire's own names.
  private struct Message: Decodable {
    var user: String
    var items: [Item]
    var revision: UInt64
    var model: UInt64
    var as_of: AsOf?
    var generated_at: String

    struct Item: Decodable {
      var item: String
      var score: Float
    }

    struct AsOf: Decodable {
      var topic: String
      var partition: Int32
      var offset: Int64
      var time: String
    }
  }
}
