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

    init(items: Int, users: Int, capacity: Int, content: Bool = false, seed: UInt64) {
      trainer = Trainer.synthetic(.small(experts: 0, content: content), items: items, seed: seed)
      neighborhood = Neighborhood(capacity: capacity, contentCapacity: 6)
      neighborhood.relate(trainer.catalogue, multiplications: .max, between: {})
      var random = Xoshiro256(seed: seed)
      for _ in 0..<users {
        let history = (0..<8).map { _ in ItemNumber(random.next(below: items)) }
        for end in 1...history.count { neighborhood.observe(history.prefix(end), catalogue: trainer.catalogue) }
        histories.append(history)
      }
      neighborhood.weights.features = [0.5, 0.2, 0.3, -0.1, 0.7, 0.1, 0.3, -0.2, 0.2, -0.1, 0.3, -0.3, 0.6, 0.4, 0, 0]
    }

    var snapshot: ModelSnapshot { trainer.snapshot(version: 1, neighborhood: neighborhood) }

    func lookup(_ item: ItemNumber) -> Int32? { trainer.catalogue.row(of: item) }

    /// The evidences by their definition, counted anew from the histories.
    func evidence(_ context: [ItemNumber], _ candidate: ItemNumber) -> (alike: Double, together: Double, next: Double, twoSteps: Double) {
      func users(_ item: ItemNumber) -> Double { Double(histories.count { $0.contains(item) }) }
      func both(_ a: ItemNumber, _ b: ItemNumber) -> Double { Double(histories.count { $0.contains(a) && $0.contains(b) }) }
      var result = oneStep(context, candidate)
      for middle in ItemNumber(0)..<15 where middle != candidate && !context.contains(middle) {
        result.twoSteps += oneStep(context, middle).together * both(middle, candidate) / (users(middle) + 1)
      }
      return result
    }

    private func oneStep(
      _ context: [ItemNumber], _ candidate: ItemNumber
    ) -> (alike: Double, together: Double, next: Double, twoSteps: Double) {
      func users(_ item: ItemNumber) -> Double { Double(histories.count { $0.contains(item) }) }
      var result = (alike: 0.0, together: 0.0, next: 0.0, twoSteps: 0.0)
      var weight = 1.0
      var slowWeight = 1.0
      for item in context.reversed() {
        if item != candidate {
          let both = Double(histories.count { $0.contains(item) && $0.contains(candidate) })
          var after = 0.0
          for history in histories {
            for (first, second) in zip(history, history.dropFirst()) where first == item && second == candidate { after += 1 }
          }
          if both > 0 { result.alike += weight * both * both / ((both + 1) * (users(item) * users(candidate)).squareRoot()) }
          result.together += slowWeight * both / (users(item) + 1)
          result.next += weight * after / (users(item) + 1)
        }
        weight /= 2
        slowWeight *= 0.8
      }
      return result
    }
  }

  @Test(arguments: [UInt64(1), 2, 3])
  func evidenceIsThatOfTheDefinitionWhileNothingIsCrowdedOut(seed: UInt64) {
    let subject = Subject(items: 15, users: 30, capacity: 15, seed: seed)
    var evidence = Neighborhood.Evidence()
    let snapshot = subject.snapshot
    for history in subject.histories.prefix(10) {
      let context = Array(history.prefix(5))
      evidence.collect(snapshot, context: context.compactMap(subject.lookup))
      for item in ItemNumber(0)..<15 where !context.contains(item) {
        let expected = subject.evidence(context, item)
        let features = evidence.features(subject.lookup(item)!)
        let plain = [expected.alike, expected.together, expected.next, expected.twoSteps].flatMap { [10 * $0, 100 * $0] }
        for k in 0..<8 { #expect(abs(Double(features[k]) - log(1 + plain[k])) < 1e-4) }
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
    #expect(neighborhood.next.rows[row].count == 4)
    let best = neighborhood.next.rows[row].max { $0.count < $1.count }!
    #expect(best.item == 1 && best.count == 100)
  }

  @Test func aRowThatGoesToAnotherItemStartsAnew() {
    var subject = Subject(items: 10, users: 20, capacity: 8, seed: 5)
    let row = subject.lookup(4)!
    subject.trainer.catalogue.retire(item: 4)
    subject.trainer.catalogue.describe(item: 50, row: row, content: [], attributes: [])
    var evidence = Neighborhood.Evidence()
    evidence.collect(subject.snapshot, context: [row])
    #expect(evidence.rows == [row])
    // Nor is the item that is no more a neighbour of others.
    evidence.collect(subject.snapshot, context: [subject.lookup(1)!])
    #expect(evidence.rows.contains(subject.lookup(2)!) && !evidence.rows.contains(row))
    subject.neighborhood.observe([50, 1], catalogue: subject.trainer.catalogue)
    #expect(subject.neighborhood.next.rows[Int(row)].count == 1)
  }

  @Test(arguments: [UInt64(6), 7])
  func theRankerAddsTheEvidenceToEachScore(seed: UInt64) {
    let items = 2_100
    let subject = Subject(items: items, users: 300, capacity: 16, content: seed == 6, seed: seed)
    let snapshot = subject.snapshot
    let plain = subject.trainer.snapshot(version: 1)
    let requests = subject.histories.prefix(6).map { RankingRequest(events: $0.map { ItemEvent(item: $0) }, excluded: []) }
    let ranker = TopKRanker()
    let lists = ranker.rank(requests, count: 50, snapshot: snapshot, lookup: subject.lookup)
    let without = ranker.rank(requests, count: items, snapshot: plain, lookup: subject.lookup)
    var evidence = Neighborhood.Evidence()
    for (index, request) in requests.enumerated() {
      evidence.collect(snapshot, context: request.events.suffix(6).compactMap { subject.lookup($0.item) })
      var expected = [Int32: Float](uniqueKeysWithValues: without[index].map { ($0.row, $0.score) })
      for row in evidence.rows { expected[row]! += subject.neighborhood.weights.score(evidence.features(row)) }
      let best = expected.sorted { $0.value > $1.value }.prefix(50).map(\.value)
      #expect(zip(lists[index], best).allSatisfy { abs($0.score - $1) < 1e-3 && abs($0.score - expected[$0.row]!) < 1e-3 })
      let target = lists[index][7].row
      #expect(ranker.ranks(of: [target], [request], snapshot: snapshot, lookup: subject.lookup) == [7])
      var hinted = request
      hinted.likely = lists[index].suffix(30).map(\.row) + Array(0..<20)
      let alone = ranker.rank([request], count: 50, snapshot: snapshot, lookup: subject.lookup)
      #expect(ranker.rank([hinted], count: 50, snapshot: snapshot, lookup: subject.lookup) == alone)
    }
  }

  /// The mean loss of the whole policy as a function of (u, τ), by its definition.
  private func loss(_ subject: Subject, _ examples: [TrainingExample], recommendsSeen: Bool, _ point: [Double]) -> Double {
    var neighborhood = subject.neighborhood
    neighborhood.weights.scale = Float(point[Neighborhood.featureCount])
    for k in 0..<Neighborhood.featureCount { neighborhood.weights.features[k] = Float(point[k] / point[Neighborhood.featureCount]) }
    let snapshot = subject.trainer.snapshot(version: 1, neighborhood: neighborhood)
    let ranker = TopKRanker()
    var sum = 0.0
    for example in examples {
      let context = example.events.dropLast()
      let request = RankingRequest(
        events: Array(context), excluded: recommendsSeen ? [] : context.compactMap { subject.lookup($0.item) })
      let list = ranker.rank([request], count: 30, snapshot: snapshot, lookup: subject.lookup)[0]
      let target = subject.lookup(example.events.last!.item)!
      let logits = list.map { point[Neighborhood.featureCount] * Double($0.score) }
      sum += log(logits.reduce(0.0) { $0 + exp($1) }) - point[Neighborhood.featureCount] * Double(list.first { $0.row == target }!.score)
    }
    return sum / Double(examples.count)
  }

  private func point(_ weights: Neighborhood.Weights) -> [Double] {
    (0..<Neighborhood.featureCount).map { Double(weights.features[$0] * weights.scale) } + [Double(weights.scale)]
  }

  @Test(arguments: [false, true])
  func calibrationsDerivativesAgreeWithFiniteDifferences(recommendsSeen: Bool) {
    var subject = Subject(items: 30, users: 60, capacity: 30, content: true, seed: 8)
    subject.neighborhood.weights.scale = 0.8
    let examples = subject.histories.prefix(40).map { history -> TrainingExample in
      let items = recommendsSeen ? history : Array(Set(history)).sorted()
      return TrainingExample(user: 1, events: items.map { ItemEvent(item: $0) })
    }
    let start = point(subject.neighborhood.weights)
    func at(_ moves: (Int, Double)...) -> Double {
      var moved = start
      for (k, by) in moves { moved[k] += by }
      return loss(subject, examples, recommendsSeen: recommendsSeen, moved)
    }
    let sums = NeighborhoodCalibration().derivatives(
      examples.map { ($0, 1) }, recommendsSeen: recommendsSeen, snapshot: subject.snapshot, lookup: subject.lookup)
    #expect(sums.weight == 40)
    let h = 0.05
    for j in 0...Neighborhood.featureCount {
      #expect(abs(Double(sums.gradient[j]) / 40 - (at((j, h)) - at((j, -h))) / (2 * h)) < 5e-3, "by parameter \(j)")
      for k in 0...j {
        let mixed = at((j, h), (k, h)) - at((j, h), (k, -h)) - at((j, -h), (k, h)) + at((j, -h), (k, -h))
        #expect(abs(Double(sums.curvature[j][k]) / 40 - mixed / (4 * h * h)) < 5e-2, "by parameters \(j) and \(k)")
      }
    }
  }

  @Test(arguments: [UInt64(1), 2, 3])
  func aPositiveDefiniteSystemIsSolved(seed: UInt64) throws {
    var random = Xoshiro256(seed: seed)
    let root = (0..<6).map { _ in (0..<6).map { _ in Double(random.nextNormal()) } }
    var matrix = root.map { a in root.map { b in zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } } }
    for i in 0..<6 { matrix[i][i] += 0.1 }
    let x = (0..<6).map { _ in Double(random.nextNormal()) }
    let found = try #require(solvePositiveDefinite(matrix, matrix.map { row in zip(row, x).reduce(0) { $0 + $1.0 * $1.1 } }))
    for (a, b) in zip(found, x) { #expect(abs(a - b) < 1e-6) }
    matrix[2][2] = -1
    #expect(solvePositiveDefinite(matrix, x) == nil)
  }

  @Test func calibrationFindsTheLeastLoss() {
    var subject = Subject(items: 30, users: 60, capacity: 30, seed: 9)
    let examples = subject.histories.map { TrainingExample(user: 1, events: $0.map { ItemEvent(item: $0) }) }
    let calibration = NeighborhoodCalibration()
    for _ in 0..<400 {
      subject.neighborhood.weights = calibration.step(
        examples.map { ($0, 1) }, recommendsSeen: true, snapshot: subject.snapshot, lookup: subject.lookup)
    }
    let found = point(subject.neighborhood.weights)
    let least = loss(subject, examples, recommendsSeen: true, found)
    for k in 0...Neighborhood.featureCount {
      for move in [-0.1, 0.1] {
        var moved = found
        // τ has a bound, where a random encoder takes it to.
        if k == Neighborhood.featureCount, moved[k] + move < 0.1 { continue }
        moved[k] += move
        #expect(loss(subject, examples, recommendsSeen: true, moved) > least - 1e-4)
      }
    }
  }

  @Test func anItemOfTheContextIsJudgedByRepetitionAlone() {
    let subject = Subject(items: 15, users: 30, capacity: 15, content: true, seed: 10)
    var evidence = Neighborhood.Evidence()
    evidence.collect(subject.snapshot, context: [3, 7, 3, 9].map { subject.lookup($0)! })
    #expect(evidence.features(subject.lookup(9)!) == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0])
    #expect(evidence.features(subject.lookup(7)!) == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0])
    #expect(evidence.features(subject.lookup(3)!) == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, log(2), 0, 0])
    let other = evidence.features(subject.lookup(5)!)
    #expect(other[11] == 0 && other[12] == 0 && other[13] == 0)
  }

  @Test(arguments: [(Float(9), Float(1)), (1, 9), (1, 0)])
  func anInteractionCountsAsItsTypeWeighs(first: Float, second: Float) {
    var configuration = LearnerConfiguration(model: .small(experts: 0, content: false), typeWeights: [first, second])
    configuration.model.neighbourCount = 8
    let learner = OnlineLearner(configuration)
    for item in 0..<20 { learner.catalogue.describe(item: ItemNumber(item), row: Int32(item), content: [], attributes: []) }
    for user in 0..<20 {
      let type = UInt8(user % 2)
      learner.remember([
        TrainingExample(user: UInt64(user), events: [ItemEvent(item: 5), ItemEvent(item: type == 0 ? 11 : 12, type: type)])
      ])
    }
    learner.renewSnapshot()
    var evidence = Neighborhood.Evidence()
    evidence.collect(learner.snapshot, context: [5])
    let features = (evidence.features(11), evidence.features(12))
    #expect((features.0[0] > features.1[0]) == (first > second) && (features.0[4] > features.1[4]) == (first > second))
    #expect(abs(exp(features.0[4]) - 1 - (exp(features.1[4]) - 1) * first / max(second, 1e-9)) < 1e-3 || second == 0 && features.1[4] == 0)
  }

  @Test func calibrationWeighsExamplesAsTheLossDoes() {
    let subject = Subject(items: 30, users: 60, capacity: 30, seed: 11)
    let examples = subject.histories.prefix(20).map { TrainingExample(user: 1, events: $0.map { ItemEvent(item: $0) }) }
    func weigh(_ examples: some Sequence<TrainingExample>, _ weight: Float) -> [(TrainingExample, Float)] { examples.map { ($0, weight) } }
    let twice = weigh(examples.prefix(10).flatMap { [$0, $0] }, 1) + weigh(examples.suffix(10), 1)
    let weighted = weigh(examples.prefix(10), 2) + weigh(examples.suffix(10), 1) + weigh(examples.prefix(1), 0)
    func step(_ examples: [(TrainingExample, Float)]) -> [Double] {
      point(NeighborhoodCalibration().step(examples, recommendsSeen: true, snapshot: subject.snapshot, lookup: subject.lookup))
    }
    for (a, b) in zip(step(twice), step(weighted)) { #expect(abs(a - b) < 1e-3) }
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
