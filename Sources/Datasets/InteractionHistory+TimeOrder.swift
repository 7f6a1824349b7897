extension InteractionHistory {
  /// The same events with each user's in the order of their times, whatever file or position says otherwise. Without times it is as it was.
  ///
  /// - Parameter leavingOutRepeats: an event of the same user, item, type and time as another counts once, such as exports hold twice where
  ///   they overlap.
  public func orderedByTime(leavingOutRepeats: Bool) -> InteractionHistory {
    guard !times.isEmpty else { return self }
    struct Kind: Hashable {
      let item: Int32
      let type: UInt8
    }
    var order: [Int] = []
    order.reserveCapacity(count)
    var offsets = [0]
    offsets.reserveCapacity(userCount + 1)
    var sameTime: Set<Kind> = []
    for user in 0..<Int32(userCount) {
      var time: Int64?
      for event in events(of: user).sorted(by: { (times[$0], $0) < (times[$1], $1) }) {
        if times[event] != time { sameTime.removeAll(keepingCapacity: true) }
        time = times[event]
        let isNew = sameTime.insert(Kind(item: items[event], type: types[event])).inserted
        if isNew || !leavingOutRepeats { order.append(event) }
      }
      offsets.append(order.count)
    }
    return InteractionHistory(
      userIdentifiers: userIdentifiers, itemIdentifiers: itemIdentifiers, typeNames: typeNames, offsets: offsets,
      users: order.map { users[$0] }, items: order.map { items[$0] }, times: order.map { times[$0] }, types: order.map { types[$0] },
      values: values.isEmpty ? [] : order.map { values[$0] }, rows: order.map { rows[$0] }, rowsOfFile: rowsOfFile)
  }
}
