import Datasets
import Events
import Foundation
import Kafka
import TestBroker
import TestSupport

/// The ratings of movielens-small in time order, with the films.
struct MovieLens {
  let items: [Events.ItemDescription]
  let interactions: [Events.Interaction]

  init() throws {
    let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().appending(path: "Fixtures/movielens-small")
    let films = try ItemTable.read(folder.appending(path: "movies.csv.gz").path)
    let history = try InteractionHistory.read([folder.appending(path: "ratings.csv.gz").path])
    items = (0..<Int32(films.count)).map { film in
      Events.ItemDescription(
        item: films.identifiers[film], title: films.titles[Int(film)],
        categories: films.attributes(of: film).map { films.attributeIdentifiers[$0] })
    }
    interactions = history.chronologicalOrder().map { Int($0) }.map { event in
      Events.Interaction(
        user: history.userIdentifiers[history.users[event]], item: history.itemIdentifiers[history.items[event]], type: 0,
        time: history.times[event], value: Double(history.values[event]))
    }
  }

  var recordCount: Int { items.count + interactions.count }
}

/// Sends the films and then the ratings to a daemon's topics, by and by. It belongs to one task.
final class MovieLensPlayer {
  private let stream: MovieLens
  private let producer: Producer
  private let itemTopic: String
  private let interactionTopic: String
  private(set) var played = 0

  init(_ stream: MovieLens, to installation: Installation) throws {
    self.stream = stream
    itemTopic = installation.topic("items")
    interactionTopic = installation.topic("interactions")
    producer = try Producer(properties: ["bootstrap.servers": installation.bootstrapServers, "linger.ms": "2"])
  }

  deinit { producer.close(within: .seconds(5)) }

  /// Sends what comes next, up to this many records in all.
  func play(upTo count: Int) throws {
    while played < min(count, stream.recordCount) {
      let record: Record
      let topic: String
      if played < stream.items.count {
        (record, topic) = (Record(stream.items[played]), itemTopic)
      } else {
        (record, topic) = (Record(stream.interactions[played - stream.items.count], type: "rating"), interactionTopic)
      }
      if try producer.produce(topic: topic, key: record.key, value: record.value) == .queueFull { break }
      played += 1
    }
    try take(producer.poll(timeout: .zero))
  }

  /// Sends the rest and returns when the broker has acknowledged all.
  func finish() throws {
    while played < stream.recordCount { try play(upTo: stream.recordCount) }
    try take(producer.flush(within: .seconds(60)))
    guard producer.outstandingCount == 0 else { throw ConditionNotMet(description: "the broker has not acknowledged all") }
  }

  private func take(_ result: ProducerPollResult) throws {
    for report in result.deliveries { _ = try report.result.get() }
  }
}
