import Kernels
import Testing

@testable import Recommender

struct TopKRankerTests {
  /// More items than a tile, with free rows among them.
  struct Subject {
    let trainer: Trainer
    let snapshot: ModelSnapshot
    let requests: [RankingRequest]
    let allowed: [Bool]

    init(items: Int, seed: UInt64) {
      let configuration = ModelConfiguration.small(experts: 0, content: false)
      trainer = Trainer.synthetic(configuration, items: items, seed: seed)
      var random = Xoshiro256(seed: seed &+ 1)
      for item in 0..<items where item % 17 == 3 { trainer.catalogue.retire(item: ItemNumber(item)) }
      snapshot = trainer.snapshot(version: 1)
      requests = (0..<12).map { index in
        let known = (0..<(index % 8)).map { _ in
          ItemEvent(item: ItemNumber(random.next(below: items)), type: UInt8(random.next(below: 4)), time: Int64(random.next(below: 1 << 30)))
        }
        // Retired items (3, 20) and numbers that were never given are passed over.
        let events = index % 3 == 0 ? [ItemEvent(item: 3)] + known + [ItemEvent(item: 9_999_999)] : known
        let excluded = (0..<random.next(below: 30)).map { _ in Int32(random.next(below: items)) }
        return RankingRequest(events: events, now: index % 2 == 0 ? nil : 1 << 31, excluded: excluded + excluded.prefix(2))
      }
      allowed = (0..<items).map { $0 % 5 != 2 }
    }

    func lookup(_ item: ItemNumber) -> Int32? { trainer.catalogue.row(of: item) }

    /// The scores of all rows, one sequence at a time; nil for a request of which nothing is known.
    func scores(_ request: RankingRequest) -> [Float]? {
      var events = request.events.filter { lookup($0.item) != nil }
      events = Array(events.suffix(snapshot.configuration.maximumSequenceLength))
      guard !events.isEmpty else { return nil }
      let n = events.count
      let batch = SequenceBatch(
        sequences: PackedSequences(lengths: [n], queryCounts: [n]), items: events.map { lookup($0.item)! }, types: events.map { min(Int32($0.type), 2) },
        gapBefore: (0..<n).map { $0 == 0 ? 0 : TimeGap.bucket(from: events[$0 - 1].time, to: events[$0].time) },
        gapNext: (0..<n).map { TimeGap.bucket(from: events[$0].time, to: $0 + 1 < n ? events[$0 + 1].time : request.now) },
        positions: (0..<Int32(n)).reversed())
      let encoder = SequenceEncoder(configuration: snapshot.configuration, parameters: snapshot.encoder)
      let hidden = encoder.forward(batch, vectors: snapshot.vectors, dropout: nil, arena: Arena()).hidden
      return (0..<snapshot.rowCount).map { row in
        snapshot.owners[row] == nil
          ? -.infinity : Float((0..<8).reduce(Double(snapshot.bias[0, row])) { $0 + Double(hidden[n - 1, $1]) * Double(snapshot.vectors[row, $1]) })
      }
    }
  }

  /// Rows of the list before, of a retired item, beyond the table, excluded ones, one twice: what is likely changes no list.
  @Test func likelyRowsChangeNothing() {
    let subject = Subject(items: 5_000, seed: 5)
    let ranker = TopKRanker()
    let lists = ranker.rank(subject.requests, count: 50, snapshot: subject.snapshot, lookup: subject.lookup)
    let hinted = zip(subject.requests, lists).enumerated().map { index, pair in
      var request = pair.0
      let before = pair.1.map(\.row)
      request.likely = [before, before.suffix(20) + [3, 9_999, -1, 7, 7], Array(0..<60), request.excluded][index % 4]
      return request
    }
    for (list, expected) in zip(ranker.rank(hinted, count: 50, snapshot: subject.snapshot, lookup: subject.lookup), lists) {
      #expect(list == expected)
    }
  }

  @Test(arguments: [(60, UInt64(1)), (2_048, 2), (2_049, 3), (5_000, 4)], [1, 10, 100])
  func theListIsTheTopOfASortOfAllScores(shape: (items: Int, seed: UInt64), count: Int) {
    let subject = Subject(items: shape.items, seed: shape.seed)
    let ranker = TopKRanker()
    for allowed in [[], subject.allowed, Array(subject.allowed.prefix(40))] {
      // Twice, so that what is kept from one call to the next is seen to do no harm.
      _ = ranker.rank(Array(subject.requests.prefix(3)), count: count + 1, snapshot: subject.snapshot, lookup: subject.lookup)
      let snapshot = allowed.isEmpty ? subject.snapshot : subject.snapshot.restricted(to: allowed)
      let lists = ranker.rank(subject.requests, count: count, snapshot: snapshot, lookup: subject.lookup)
      #expect(lists.count == subject.requests.count)
      for (request, list) in zip(subject.requests, lists) {
        guard let scores = subject.scores(request) else {
          #expect(list.isEmpty, "of this user nothing is known")
          continue
        }
        let excluded = Set(request.excluded)
        let candidates = scores.indices.filter { row in
          scores[row] > -.infinity && !excluded.contains(Int32(row)) && (allowed.isEmpty || (row < allowed.count && allowed[row]))
        }
        let expected = candidates.sorted { (scores[$0], -$0) > (scores[$1], -$1) }.prefix(count)
        #expect(list.count == expected.count)
        for (ranked, row) in zip(list, expected) {
          // Two scores may be nearer to each other than rounding.
          #expect(abs(ranked.score - scores[Int(ranked.row)]) < 1e-4 && abs(ranked.score - scores[row]) < 1e-4)
        }
        #expect(Set(list.map(\.row)).isSubset(of: Set(candidates.map { Int32($0) })))
        #expect(Set(list.map(\.row)).count == list.count)
        #expect(zip(list, list.dropFirst()).allSatisfy { $0.score >= $1.score })
        if expected.count > 1, zip(expected, expected.dropFirst()).allSatisfy({ scores[$0] - scores[$1] > 1e-4 }) {
          #expect(list.map { Int($0.row) } == Array(expected))
        }
      }
    }
  }

  @Test(arguments: [(60, UInt64(1)), (2_049, 3), (5_000, 4)])
  func aRankIsThePlaceInASortOfAllScores(items: Int, seed: UInt64) {
    let subject = Subject(items: items, seed: seed)
    var random = Xoshiro256(seed: seed)
    let targets = subject.requests.map { _ in
      var row = Int32(random.next(below: items))
      while subject.snapshot.owners[Int(row)] == nil { row = Int32(random.next(below: items)) }
      return row
    }
    let ranks = TopKRanker().ranks(of: targets, subject.requests, snapshot: subject.snapshot, lookup: subject.lookup)
    for (index, request) in subject.requests.enumerated() {
      guard let scores = subject.scores(request) else {
        #expect(ranks[index] == nil)
        continue
      }
      let target = Int(targets[index])
      let others = scores.indices.filter { $0 != target && !request.excluded.contains(Int32($0)) }
      let least = others.count { scores[$0] > scores[target] + 1e-4 }
      let most = others.count { scores[$0] > scores[target] - 1e-4 }
      #expect((least...most).contains(ranks[index]!), "request \(index)")
    }
  }

  @Test(arguments: [1, 2, 3, 20])
  func severalThreadsMakeTheListsOfOne(threads: Int) {
    let subject = Subject(items: 2_049, seed: 5)
    let catalogue = subject.trainer.catalogue
    let rows = (0..<2_049).map { catalogue.row(of: ItemNumber($0)) ?? -1 }
    let lookup: @Sendable (ItemNumber) -> Int32? = { item in Int(item) < rows.count && rows[Int(item)] >= 0 ? rows[Int(item)] : nil }
    let ranker = ParallelRanker(threads: threads)
    defer { ranker.stop() }
    for requests in [subject.requests, Array(subject.requests.prefix(1)), []] {
      let lists = ranker.rank(requests, count: 10, snapshot: subject.snapshot, lookup: lookup)
      let expected = TopKRanker().rank(requests, count: 10, snapshot: subject.snapshot, lookup: lookup)
      #expect(lists.map { $0.map(\.row) } == expected.map { $0.map(\.row) })
    }
  }

  @Test func tiesCountAgainstTheTarget() {
    let trainer = Trainer.synthetic(.small(experts: 0, content: false), items: 30)
    zero(trainer.parameters.itemEmbedding)
    zero(trainer.parameters.itemBias)
    let snapshot = trainer.snapshot(version: 1)
    let request = RankingRequest(events: [ItemEvent(item: 1)], excluded: [4, 5])
    #expect(TopKRanker().ranks(of: [9], [request], snapshot: snapshot) { trainer.catalogue.row(of: $0) } == [27])
    let list = TopKRanker().rank([request], count: 4, snapshot: snapshot) { trainer.catalogue.row(of: $0) }[0]
    #expect(list.map(\.row) == [0, 1, 2, 3], "of equal scores the lower row comes first")
  }

  @Test func aRowThatTheSnapshotDoesNotHaveHasNoRank() {
    let trainer = Trainer.synthetic(.small(experts: 0, content: false), items: 30)
    let snapshot = trainer.snapshot(version: 1)
    trainer.catalogue.describeSynthetic(30, row: 30)
    let request = RankingRequest(events: [ItemEvent(item: 2)])
    let ranks = TopKRanker().ranks(of: [30, -1, 4], [request, request, request], snapshot: snapshot) { trainer.catalogue.row(of: $0) }
    #expect(ranks[0] == nil && ranks[1] == nil && ranks[2] != nil)
  }

  @Test func aRowThatChangedItsOwnerIsNotTakenForTheFormerItem() {
    let subject = Subject(items: 60, seed: 1)
    subject.trainer.catalogue.retire(item: 7)
    subject.trainer.catalogue.describe(item: 700, row: 7, content: [], attributes: [])
    // The snapshot still has item 7 in the row that is now 700's.
    let lists = TopKRanker().rank([RankingRequest(events: [ItemEvent(item: 700)])], count: 5, snapshot: subject.snapshot, lookup: subject.lookup)
    #expect(lists == [[]])
  }

  @Test func nothingComesOfNoItemsNoRequestsOrNoCount() {
    let subject = Subject(items: 60, seed: 1)
    let empty = Trainer.synthetic(.small(experts: 0, content: false), items: 0).snapshot(version: 0)
    let request = RankingRequest(events: [ItemEvent(item: 1)])
    #expect(TopKRanker().rank([request], count: 5, snapshot: empty) { Int32($0) } == [[]])
    #expect(TopKRanker().rank([request], count: 0, snapshot: subject.snapshot, lookup: subject.lookup) == [[]])
    #expect(TopKRanker().rank([], count: 5, snapshot: subject.snapshot, lookup: subject.lookup).isEmpty)
  }
}
