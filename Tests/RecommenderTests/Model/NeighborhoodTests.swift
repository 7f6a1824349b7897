import Kernels
import Testing

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

@testable import Recommender

struct NeighborhoodTests {
  /// Histories over a catalogue, counted one interaction at a time.
  struct Subject {
    let trainer: Trainer
    var neighborhood: Neighborhood
    var histories: [[ItemNumber]] = []

    init(items: Int, users: Int, capacity: Int, seed: UInt64) {
      trainer = Trainer.synthetic(.small(experts: 0, content: false), items: items, seed: seed)
      neighborhood = Neighborhood(capacity: capacity)
      var random = Xoshiro256(seed: seed)
      for _ in 0..<users {
        let history = (0..<8).map { _ in ItemNumber(random.next(below: items)) }
        for end in 1...history.count { neighborhood.observe(history.prefix(end), catalogue: trainer.catalogue) }
        histories.append(history)
      }
      neighborhood.weights = [0.5, 0.2, 0.7, 0.1]
    }

    var snapshot: ModelSnapshot { trainer.snapshot(version: 1, neighborhood: neighborhood) }

    func lookup(_ item: ItemNumber) -> Int32? { trainer.catalogue.row(of: item) }

    /// The evidences by their definition, counted anew from the histories.
    func evidence(_ context: [ItemNumber], _ candidate: ItemNumber) -> (together: Double, next: Double) {
      func users(_ item: ItemNumber) -> Double { Double(histories.count { $0.contains(item) }) }
      var result = (together: 0.0, next: 0.0)
      var weight = 1.0
      for item in context.reversed() {
        if item != candidate {
          let both = Double(histories.count { $0.contains(item) && $0.contains(candidate) })
          var after = 0.0
          for history in histories {
            for (first, second) in zip(history, history.dropFirst()) where first == item && second == candidate { after += 1 }
          }
          if both > 0 { result.together += weight * both * both / ((both + 1) * (users(item) * users(candidate)).squareRoot()) }
          result.next += weight * after / (users(item) + 1)
        }
        weight /= 2
      }
      return result
    }
  }

  @Test(arguments: [UInt64(1), 2, 3])
  func evidenceIsThatOfTheDefinitionWhileNothingIsCrowdedOut(seed: UInt64) {
    let subject = Subject(items: 15, users: 30, capacity: 15, seed: seed)
    let evidence = Neighborhood.Evidence()
    let snapshot = subject.snapshot
    for history in subject.histories.prefix(10) {
      let context = Array(history.prefix(5))
      evidence.collect(
        subject.neighborhood, context: context.compactMap(subject.lookup), owners: snapshot.owners, lookup: subject.lookup)
      for item in ItemNumber(0)..<15 where !context.contains(item) {
        let expected = subject.evidence(context, item)
        let features = evidence.features(subject.lookup(item)!)
        let plain: [Double] = [10 * expected.together, 100 * expected.together, 10 * expected.next, 100 * expected.next]
        for k in 0..<4 { #expect(abs(Double(features[k]) - log(1 + plain[k])) < 1e-4) }
      }
    }
  }

  @Test func aFrequentNeighbourStaysHoweverManyRareOnesComeBy() {
    let trainer = Trainer.synthetic(.small(experts: 0, content: false), items: 100, seed: 4)
    var neighborhood = Neighborhood(capacity: 4)
    for user in 0..<200 {
      let other = user % 2 == 0 ? 1 : ItemNumber(2 + user % 98)
      for history in [[ItemNumber(0)], [0, other]] { neighborhood.observe(history, catalogue: trainer.catalogue) }
    }
    let row = Int(trainer.catalogue.row(of: 0)!)
    let slots = neighborhood.next.slots(of: row)
    #expect(slots.count == 4)
    let best = slots.max { neighborhood.next.counts[$0] < neighborhood.next.counts[$1] }!
    #expect(neighborhood.next.items[best] == 1 && neighborhood.next.counts[best] == 100)
  }

  @Test func aRowThatGoesToAnotherItemStartsAnew() {
    var subject = Subject(items: 10, users: 20, capacity: 8, seed: 5)
    let row = subject.lookup(4)!
    subject.trainer.catalogue.retire(item: 4)
    subject.trainer.catalogue.describe(item: 50, row: row, content: [], attributes: [])
    let evidence = Neighborhood.Evidence()
    evidence.collect(subject.neighborhood, context: [row], owners: subject.snapshot.owners, lookup: subject.lookup)
    #expect(evidence.rows.isEmpty)
    // Nor is the item that is no more a neighbour of others.
    evidence.collect(subject.neighborhood, context: [subject.lookup(1)!], owners: subject.snapshot.owners, lookup: subject.lookup)
    #expect(evidence.rows.contains(subject.lookup(2)!) && !evidence.rows.contains(row))
    subject.neighborhood.observe([50, 1], catalogue: subject.trainer.catalogue)
    #expect(subject.neighborhood.next.slots(of: Int(row)).count == 1)
  }

  @Test(arguments: [UInt64(6), 7])
  func theRankerAddsTheEvidenceToEachScore(seed: UInt64) {
    let items = 2_100
    let subject = Subject(items: items, users: 300, capacity: 16, seed: seed)
    let snapshot = subject.snapshot
    let plain = subject.trainer.snapshot(version: 1)
    let requests = subject.histories.prefix(6).map { RankingRequest(events: $0.map { ItemEvent(item: $0) }, excluded: []) }
    let ranker = TopKRanker()
    let lists = ranker.rank(requests, count: 50, snapshot: snapshot, lookup: subject.lookup)
    let without = ranker.rank(requests, count: items, snapshot: plain, lookup: subject.lookup)
    let evidence = Neighborhood.Evidence()
    for (index, request) in requests.enumerated() {
      evidence.collect(
        subject.neighborhood, context: request.events.suffix(6).compactMap { subject.lookup($0.item) }, owners: snapshot.owners,
        lookup: subject.lookup)
      var expected = [Int32: Float](uniqueKeysWithValues: without[index].map { ($0.row, $0.score) })
      for row in evidence.rows { expected[row]! += subject.neighborhood.score(evidence.features(row)) }
      let best = expected.sorted { $0.value > $1.value }.prefix(50).map(\.value)
      #expect(zip(lists[index], best).allSatisfy { abs($0.score - $1) < 1e-3 && abs($0.score - expected[$0.row]!) < 1e-3 })
      let target = lists[index][7].row
      #expect(ranker.ranks(of: [target], [request], snapshot: snapshot, lookup: subject.lookup) == [7])
    }
  }

  @Test func calibrationFollowsTheGradientOfTheLoss() {
    let subject = Subject(items: 30, users: 60, capacity: 30, seed: 8)
    let examples = subject.histories.prefix(40).map { TrainingExample(user: 1, events: Array(Set($0)).sorted().map { ItemEvent(item: $0) }) }
    func loss(_ weights: [Float]) -> Double {
      var neighborhood = subject.neighborhood
      neighborhood.weights = weights
      let snapshot = subject.trainer.snapshot(version: 1, neighborhood: neighborhood)
      var sum = 0.0
      for example in examples {
        let context = example.events.dropLast()
        let request = RankingRequest(events: Array(context), excluded: context.compactMap { subject.lookup($0.item) })
        let list = TopKRanker().rank([request], count: 30, snapshot: snapshot, lookup: subject.lookup)[0]
        let target = subject.lookup(example.events.last!.item)!
        sum += log(list.reduce(0.0) { $0 + exp(Double($1.score)) }) - Double(list.first { $0.row == target }!.score)
      }
      return sum / Double(examples.count)
    }
    let weights = subject.neighborhood.weights
    let stepped = NeighborhoodCalibration().step(examples, snapshot: subject.snapshot, lookup: subject.lookup)
    for k in weights.indices {
      var (up, down) = (weights, weights)
      up[k] += 0.01
      down[k] -= 0.01
      let slope = (loss(up) - loss(down)) / 0.02
      #expect(abs(Double(weights[k] - stepped[k]) - Double(NeighborhoodCalibration.learningRate) * slope) < 2e-3 * max(1, abs(slope)))
    }
    #expect(loss(stepped) < loss(weights))
  }

  @Test func whatWasCountedIsRecommendedBeforeTheEncoderKnowsIt() {
    var configuration = LearnerConfiguration(model: .small(experts: 0, content: false))
    configuration.model.neighbourCount = 8
    let learner = OnlineLearner(configuration)
    for item in 0..<20 { learner.catalogue.describe(item: ItemNumber(item), row: Int32(item), content: [], attributes: []) }
    learner.remember((0..<4).map { TrainingExample(user: $0, events: [ItemEvent(item: 5), ItemEvent(item: 11)]) })
    learner.renewSnapshot()
    let list = TopKRanker().rank(
      [RankingRequest(events: [ItemEvent(item: 5)], excluded: [5])], count: 3, snapshot: learner.snapshot, lookup: learner.catalogue.row(of:))
    #expect(list.first?.first?.row == 11)
  }
}
