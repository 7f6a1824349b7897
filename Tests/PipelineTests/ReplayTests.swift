import Datasets
import Foundation
import Recommender
import Settings
import StateStore
import TestSupport
import Testing

@testable import Pipeline

/// A slice of MovieLens in time order; films are described now before and now after they are first rated.
private let slice: [Replay.Event] = {
  let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().appending(path: "Fixtures/movielens-small").path
  let history = try! InteractionHistory.read([folder + "/ratings.csv.gz"])
  let films = try! ItemTable.read(folder + "/movies.csv.gz")
  var events: [Replay.Event] = []
  var seen: Set<String> = []
  for event in history.chronologicalOrder().prefix(2_000) {
    let item = history.itemIdentifiers[history.items[Int(event)]]
    let rating = Replay.Event.interaction(
      user: history.userIdentifiers[history.users[Int(event)]], item: item, type: UInt8(seen.count % 3), time: history.times[Int(event)],
      value: Double(history.values[Int(event)]))
    guard seen.insert(item).inserted, let film = films.identifiers.index(of: item) else {
      events.append(rating)
      continue
    }
    let description = Replay.Event.item(
      id: item, title: films.titles[Int(film)], categories: films.attributes(of: film).map { films.attributeIdentifiers[$0] }, features: [:])
    switch seen.count % 3 {
    case 0: events += [rating, description]
    case 1: events += [description, rating]
    default: events.append(rating)
    }
  }
  return events
}()

struct ReplayTests {
  let folder = TemporaryFolder()

  private func settings(_ name: String) -> Settings {
    var settings = Settings.small(folder, name)
    settings.learner.stride = 64
    settings.learner.windowInteractions = 400
    settings.quality.popularityWindowEvents = 10_000
    // Pools of the store grow old within the slice, and the softmax goes over a sample of the later catalogue.
    settings.pool.maxAgeVersions = 6
    settings.objective.fullSoftmaxMaxItems = 500
    settings.objective.sampledSoftmaxNegatives = 64
    return settings
  }

  struct Result: Equatable {
    var parameters: [UInt8]
    var digest: [UInt8]
    var pools: [String: [UInt32]]
  }

  /// Plays the slice, stopping with a checkpoint before each of these events.
  private func play(_ name: String, stops: [Int] = [], change: (inout Settings) -> Void = { _ in }) throws -> Result {
    var settings = settings(name)
    change(&settings)
    for stop in stops {
      let replay = try Replay(settings: settings, logger: quiet)
      try replay.play(slice, until: stop)
      #expect(try replay.position() == stop)
      try replay.checkpoint()
    }
    let replay = try Replay(settings: settings, logger: quiet)
    #expect(try replay.position() == stops.last ?? 0)
    try replay.play(slice)
    var pools: [String: [UInt32]] = [:]
    for sequence in try replay.store.read({ (view) throws(StateStoreError) in try view.sequences(limit: .max) }) {
      pools[sequence.user] = try replay.store.pool(of: sequence.user)?.items.map(\.rawValue)
    }
    return Result(parameters: try replay.parameters(), digest: try replay.store.digest(), pools: pools)
  }

  @Test func theSameStreamGivesTheSameBits() throws {
    let first = try play("a")
    #expect(try play("b") == first)
    let file = try Safetensors(decoding: first.parameters)
    #expect(Int(file.metadata["strides"] ?? "") ?? 0 > 25)
    #expect(first.pools.count > 5)
    // Another seed gives another model and the same state: the comparison sees what it should.
    let other = try play("c") { $0.learner.seed = 7 }
    #expect(other.parameters != first.parameters && other.digest == first.digest)
  }

  @Test(arguments: [[700], [1_301], [64, 65, 500, 1_777], [1_000, 1_000, 1_900]])
  func stoppedAndResumedItGivesTheSameBits(stops: [Int]) throws {
    let whole = try play("whole")
    let parts = try play("parts", stops: stops)
    let (first, second) = (try Safetensors(decoding: whole.parameters), try Safetensors(decoding: parts.parameters))
    #expect(first.names.filter { first[$0] != second[$0] } == [])
    #expect(first.metadata == second.metadata)
    #expect(parts.digest == whole.digest)
    #expect(parts.pools == whole.pools)
    #expect(parts == whole)
  }

  @Test func theStreamIsLearnedFromAndScored() throws {
    let replay = try Replay(settings: settings("scored"), logger: quiet)
    var strides = 0
    try replay.play(slice) { _ in strides += 1 }
    let interactions = slice.count { if case .interaction = $0 { true } else { false } }
    let totals = replay.metrics.current
    #expect(totals.events == UInt64(slice.count))
    #expect(totals.interactions + totals.duplicates == UInt64(interactions))
    #expect(strides == Int(totals.interactions) / 64)
    #expect(totals.learnedInteractions == UInt64(strides * 64))
    #expect(totals.quality.events == 50)
  }
}
