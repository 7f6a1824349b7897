import Kernels

/// One user to rank for.
public struct RankingRequest: Sendable, Equatable {
  /// The user's last interactions, oldest first; those with items that are no more are passed over.
  public var events: [ItemEvent]
  /// Milliseconds since 1970 at which the list will be read; nil when that is not known.
  public var now: Int64?
  /// Rows that may not be in the list.
  public var excluded: [Int32]
  /// Rows that are likely in the list, as those of the list before: with their scores the search finds fewer others. The list is the same.
  public var likely: [Int32]

  public init(events: [ItemEvent], now: Int64? = nil, excluded: [Int32] = [], likely: [Int32] = []) {
    self.events = events
    self.now = now
    self.excluded = excluded
    self.likely = likely
  }
}

public struct RankedItem: Sendable, Equatable {
  public var row: Int32
  /// f(s, i): the raw score.
  public var score: Float

  public init(row: Int32, score: Float) {
    self.row = row
    self.score = score
  }
}

/// What f(s, i) is the sum of.
public struct ScoreParts: Sendable, Equatable {
  /// h(s)·v(i): how well the item fits what the encoder makes of the sequence.
  public var encoder: Float
  /// b(i): the item's bias.
  public var bias: Float
  /// What the neighbourhood adds; 0 for an item without counts beside the sequence's and of no like content.
  public var neighborhood: Float
}

/// The exact top of the whole catalogue for a batch of users: a search in 8 bits finds the rows that may be in it, whose scores are then
/// computed; no vector of all scores is ever in memory.
public final class TopKRanker {
  private let arena = Arena()
  private let encoderArena = Arena()
  private var collector = TopKCollector(k: 1)
  /// What each user may not have, and whose score or addition is known before the search.
  private var settled: [RowSet] = []
  /// Rows whose scores are in memory at a time where all are needed.
  private let tile = 2048
  /// About so many interactions are encoded at a time: what the encoder writes then stays in a core's second cache.
  private let encodedTogether = 512
  /// Users for whom the catalogue is searched at a time.
  private let searchedTogether = 128
  private var evidence = Neighborhood.Evidence()

  public init() {}

  /// - Parameters:
  ///   - snapshot: rows that may be in nobody's list are left out by ``ModelSnapshot/restricted(to:)``.
  ///   - lookup: the row of an item number; nil when it is no more.
  /// - Returns: for each request at most `count` items, best first; empty when nothing of the context is known.
  public func rank(
    _ requests: [RankingRequest], count: Int, snapshot: ModelSnapshot, lookup: (ItemNumber) -> Int32?
  ) -> [[RankedItem]] {
    guard count > 0, snapshot.rowCount > 0 else { return requests.map { _ in [] } }
    let (hidden, slots, contexts) = encode(requests, snapshot, lookup)
    reserve(count: count, rows: snapshot.rowCount, users: min(slots.count, searchedTogether))
    var result = [[RankedItem]](repeating: [], count: requests.count)
    for first in stride(from: 0, to: slots.count, by: searchedTogether) {
      let part = first..<min(first + searchedTogether, slots.count)
      let hidden = hidden.rows(part)
      var known: [[RankedItem]] = []
      var additions: [[RowAddition]] = []
      for (i, slot) in slots[part].enumerated() {
        func settle(_ row: Int32) -> Bool { 0..<Int32(snapshot.rowCount) ~= row && settled[i].insert(row) }
        settled[i].removeAll()
        for row in requests[slot].excluded { _ = settle(row) }
        let boosts = boosts(contexts[first + i], snapshot)
        let likely = requests[slot].likely.filter(settle)
        known.append(
          zip(likely, exactScores(hidden, i, likely, snapshot)).map { RankedItem(row: $0, score: $1 + boost(of: $0, snapshot)) })
        additions.append(settled[i].insert(boosts))
      }
      let found = snapshot.quantized.search(
        hidden, bias: snapshot.bias, count: count, known: known.map { $0.map(\.score) }, additions: additions,
        settled: settled[..<part.count], arena: arena)
      for (i, slot) in slots[part].enumerated() {
        collector.removeAll()
        for item in known[i] { collector.offer(item.score, index: item.row) }
        for (candidate, score) in zip(found[i], exactScores(hidden, i, found[i].map(\.row), snapshot)) {
          collector.offer(score + candidate.addition, index: candidate.row)
        }
        result[slot] = collector.sorted().map { RankedItem(row: $0.index, score: $0.score) }
      }
    }
    return result
  }

  /// The parts of some rows' scores for one user.
  ///
  /// - Returns: one a row, nil in place of nil; all are nil when nothing of the context is known.
  public func scoreParts(
    of rows: [Int32?], _ request: RankingRequest, snapshot: ModelSnapshot, lookup: (ItemNumber) -> Int32?
  ) -> [ScoreParts?] {
    let (hidden, slots, contexts) = encode([request], snapshot, lookup)
    guard !slots.isEmpty else { return rows.map { _ in nil } }
    let boosts = Dictionary(uniqueKeysWithValues: boosts(contexts[0], snapshot).map { ($0.row, $0.addition) })
    return rows.map { row in
      row.map { row in
        ScoreParts(
          encoder: dot(hidden, 0, snapshot.vectors, Int(row)), bias: snapshot.bias[0, Int(row)], neighborhood: boosts[row, default: 0])
      }
    }
  }

  private func reserve(count: Int, rows: Int, users: Int) {
    if collector.k != count { collector = TopKCollector(k: count) }
    if settled.contains(where: { $0.capacity < rows }) { settled.removeAll() }
    while settled.count < users { settled.append(RowSet(capacity: rows)) }
  }

  /// f(s, i) of each row without the neighbourhood.
  private func exactScores(_ hidden: Matrix, _ i: Int, _ rows: [Int32], _ snapshot: ModelSnapshot) -> [Float] {
    zip(rows, dots(hidden, i, snapshot.vectors, rows: rows)).map { $1 + snapshot.bias[0, Int($0)] }
  }

  /// The place of one row among all that are not excluded, from 0; ties count against it. What full-ranking evaluation needs, without a
  /// sort. Nil when nothing of the context is known, and for a row that the snapshot does not have: it could not be in a list.
  public func ranks(
    of targets: [Int32], _ requests: [RankingRequest], snapshot: ModelSnapshot, lookup: (ItemNumber) -> Int32?
  ) -> [Int?] {
    let (hidden, slots, contexts) = encode(requests, snapshot, lookup)
    let boosts = contexts.map { context in self.boosts(context, snapshot).sorted { $0.row < $1.row } }
    var result = [Int?](repeating: nil, count: requests.count)
    var own = [Float](repeating: 0, count: slots.count)
    for (i, slot) in slots.enumerated() {
      let row = Int(targets[slot])
      guard 0..<snapshot.rowCount ~= row else { continue }
      own[i] = exactScores(hidden, i, [targets[slot]], snapshot)[0] + (boosts[i].first { Int($0.row) == row }?.addition ?? 0)
      result[slot] = 0
    }
    let excluded = slots.map { Set(requests[$0].excluded) }
    forEachTile(hidden, boosts, snapshot) { range, scores in
      for (i, slot) in slots.enumerated() {
        guard let ahead = result[slot] else { continue }
        // The product and the inner product round differently: what is no further off than that is a tie, and stands before the target.
        let target = Int(targets[slot])
        if range.contains(target) { scores[i, target - range.lowerBound] = -.infinity }
        for row in excluded[i] where range.contains(Int(row)) { scores[i, Int(row) - range.lowerBound] = -.infinity }
        result[slot] = ahead + countAtLeast(scores, row: i, own[i] - 1e-5 * max(1, abs(own[i])))
      }
    }
    return result
  }

  /// Calls the body with the scores of each tile of rows in turn: (requests, rows of the tile).
  ///
  /// - Parameter boosts: of each request by rising row.
  private func forEachTile(
    _ hidden: Matrix, _ boosts: [[RowAddition]], _ snapshot: ModelSnapshot, _ body: (Range<Int>, Matrix) -> Void
  ) {
    guard hidden.rows > 0 else { return }
    var boosted = [Int](repeating: 0, count: hidden.rows)
    let scores = arena.matrix(hidden.rows, min(tile, snapshot.rowCount))
    var start = 0
    while start < snapshot.rowCount {
      let range = start..<min(start + tile, snapshot.rowCount)
      let part = Matrix(scores.buffer, offset: scores.offset, rows: hidden.rows, columns: range.count)
      multiply(part, hidden, snapshot.vectors.rows(range), transposeB: true, bias: snapshot.bias.columns(range))
      for i in boosts.indices { boosted[i] = add(boosts[i], from: boosted[i], to: part, row: i, range) }
      body(range, part)
      start = range.upperBound
    }
  }

  /// What the neighbourhood adds to the scores.
  private func boosts(_ context: [(row: Int32, event: ItemEvent)], _ snapshot: ModelSnapshot) -> [RowAddition] {
    guard snapshot.neighborhood.capacity > 0 else { return [] }
    evidence.collect(snapshot, context: context.map(\.row))
    return evidence.additions(snapshot.neighborhood.weights)
  }

  /// What the neighbourhood adds to a row's score, of the context that `boosts` was called for last.
  private func boost(of row: Int32, _ snapshot: ModelSnapshot) -> Float {
    guard snapshot.neighborhood.capacity > 0 else { return 0 }
    return snapshot.neighborhood.weights.score(evidence.features(row))
  }

  /// - Returns: where the next tile goes on.
  private func add(
    _ boosts: [RowAddition], from first: Int, to part: Matrix, row: Int, _ range: Range<Int>
  ) -> Int {
    var index = first
    while index < boosts.count, Int(boosts[index].row) < range.upperBound {
      part[row, Int(boosts[index].row) - range.lowerBound] += boosts[index].addition
      index += 1
    }
    return index
  }

  /// h of each request that has a context, which requests these are, and their contexts.
  func encode(
    _ requests: [RankingRequest], _ snapshot: ModelSnapshot, _ lookup: (ItemNumber) -> Int32?
  ) -> (hidden: Matrix, slots: [Int], contexts: [[(row: Int32, event: ItemEvent)]]) {
    arena.reset()
    var slots: [Int] = []
    var contexts: [[(row: Int32, event: ItemEvent)]] = []
    for (slot, request) in requests.enumerated() {
      var events: [(row: Int32, event: ItemEvent)] = []
      events.reserveCapacity(request.events.count)
      for event in request.events {
        guard let row = lookup(event.item), Int(row) < snapshot.rowCount, snapshot.owners[Int(row)] == event.item else { continue }
        events.append((row, event))
      }
      guard !events.isEmpty else { continue }
      events.removeFirst(max(0, events.count - snapshot.configuration.maximumSequenceLength))
      slots.append(slot)
      contexts.append(events)
    }
    let hidden = arena.matrix(slots.count, snapshot.configuration.hiddenSize)
    let encoder = SequenceEncoder(configuration: snapshot.configuration, parameters: snapshot.encoder)
    var start = 0
    while start < slots.count {
      var end = start
      var tokens = 0
      while end < slots.count, tokens < encodedTogether {
        tokens += contexts[end].count
        end += 1
      }
      let range = start..<end
      encoderArena.reset()
      let input = batch(contexts[range], times: slots[range].map { requests[$0].now }, snapshot.configuration)
      copy(hidden.rows(range), from: encoder.forward(input, vectors: snapshot.vectors, dropout: nil, arena: encoderArena).hidden)
      start = end
    }
    return (hidden, slots, contexts)
  }

  private func batch(
    _ contexts: ArraySlice<[(row: Int32, event: ItemEvent)]>, times: [Int64?], _ configuration: ModelConfiguration
  ) -> SequenceBatch {
    let lastType = Int32(configuration.interactionTypeCount - 1)
    let lengths = contexts.map(\.count)
    var input = SequenceBatch(
      sequences: PackedSequences(lengths: lengths, queryCounts: lengths.map { _ in 1 }), items: [], types: [], gapBefore: [], gapNext: [],
      positions: [])
    for (events, now) in zip(contexts, times) {
      for (index, (row, event)) in events.enumerated() {
        input.items.append(row)
        input.types.append(min(Int32(event.type), lastType))
        input.gapBefore.append(index == 0 ? TimeGap.unknown : TimeGap.bucket(from: events[index - 1].event.time, to: event.time))
        let next = index + 1 < events.count ? events[index + 1].event.time : now
        input.gapNext.append(TimeGap.bucket(from: event.time, to: next))
        input.positions.append(Int32(events.count - 1 - index))
      }
    }
    return input
  }
}
