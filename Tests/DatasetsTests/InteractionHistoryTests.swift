import Datasets
import TestSupport
import Testing

@Suite struct InteractionHistoryTests {
  let folder: TemporaryFolder

  init() throws { folder = TemporaryFolder() }

  private func items(_ history: InteractionHistory, of user: String) -> [String] {
    guard let index = history.userIdentifiers.index(of: user) else { return [] }
    return history.events(of: index).map { history.itemIdentifiers[history.items[$0]] }
  }

  private func chronology(_ history: InteractionHistory) -> [String] {
    history.chronologicalOrder().map {
      history.userIdentifiers[history.users[Int($0)]] + history.itemIdentifiers[history.items[Int($0)]]
    }
  }

  @Test func `a user's events are ordered by time, equal times as they stand`() throws {
    let history = try InteractionHistory.read([try folder.write("user,item,time\nu,c,3\nv,x,9\nu,a,1\nu,b,2\nu,b2,2\nu,b3,2\n")])
    #expect(items(history, of: "u") == ["a", "b", "b2", "b3", "c"])
    #expect(history.times == [1000, 2000, 2000, 2000, 3000, 9000])
    #expect(history.rows == [2, 3, 4, 5, 0, 1])
    #expect(history.users == [0, 0, 0, 0, 0, 1])
    #expect(chronology(history) == ["ua", "ub", "ub2", "ub3", "uc", "vx"])
  }

  @Test func `position goes before time`() throws {
    let history = try InteractionHistory.read([try folder.write("user,item,time,position\nu,b,1,1\nu,a,2,0\nu,c,3,2\nv,x,1,0\n")])
    #expect(items(history, of: "u") == ["a", "b", "c"])
    // In the order of time b would come before a; it follows right behind it instead.
    #expect(chronology(history) == ["vx", "ua", "ub", "uc"])
  }

  @Test func `without times the order is the file's`() throws {
    let history = try InteractionHistory.read([try folder.write("session\titem\n1\ta\n2\tb\n1\tc\n")])
    #expect(history.times.isEmpty)
    #expect(items(history, of: "1") == ["a", "c"])
    #expect(chronology(history) == ["1a", "2b", "1c"])
  }

  @Test func `files are periods that share their tables`() throws {
    let first = try folder.write("user,item,time\nu,a,10\nv,b,11\n", to: "1")
    let second = try folder.write("{\"time\":5,\"item\":\"b\",\"user\":\"u\"}\n{\"time\":4,\"item\":\"c\",\"user\":\"u\"}\n", to: "2")
    let history = try InteractionHistory.read([first, second])
    #expect(history.userCount == 2)
    #expect(history.itemCount == 3)
    #expect(items(history, of: "u") == ["a", "c", "b"])
    #expect(history.rowsOfFile == [0..<2, 2..<4])
    #expect(history.periods() == [0, 1, 1, 0])
  }

  @Test func `ordered by time, overlapping files count an event once`() throws {
    let first = try folder.write("user,item,time,type,rating\nu,a,10,view,1\nu,b,11,view,2\nv,a,5,view,3\nu,c,12,view,4\n", to: "1")
    let second = try folder.write(
      "user,item,time,type,rating\nu,b,11,view,5\nu,b,11,click,6\nu,c,12,view,7\nu,b,12,view,8\nw,a,1,view,9\n", to: "2")
    let history = try InteractionHistory.read([first, second])
    let once = history.orderedByTime(leavingOutRepeats: true)
    #expect(items(once, of: "u") == ["a", "b", "b", "c", "b"])
    #expect(once.values == [1, 2, 6, 4, 8, 3, 9])
    #expect(once.times.map { $0 / 1000 } == [10, 11, 11, 12, 12, 5, 1])
    #expect(once.offsets == [0, 5, 6, 7])
    #expect(once.users == [0, 0, 0, 0, 0, 1, 2])
    #expect(once.rows == [0, 1, 5, 3, 7, 2, 8])
    let all = history.orderedByTime(leavingOutRepeats: false)
    #expect(all.values == [1, 2, 5, 6, 4, 7, 8, 3, 9])
  }

  @Test func `ordered by time, a position no longer counts`() throws {
    let history = try InteractionHistory.read([try folder.write("user,item,time,position\nu,b,1,1\nu,a,2,0\n")])
    #expect(items(history, of: "u") == ["a", "b"])
    #expect(items(history.orderedByTime(leavingOutRepeats: true), of: "u") == ["b", "a"])
    let timeless = try InteractionHistory.read([try folder.write("user,item\nu,b\nu,b\n")])
    #expect(items(timeless.orderedByTime(leavingOutRepeats: true), of: "u") == ["b", "b"])
  }

  @Test func `item indices go on from a given table`() throws {
    let history = try InteractionHistory.read([try folder.write("user,item\nu,new\nu,b\n")], items: IdentifierTable(["a", "b"]))
    #expect(history.items == [2, 1])
    #expect(history.itemIdentifiers.index(of: "a") == 0)
    #expect(history.itemCount == 3)
  }

  @Test func `types have codes and values may be missing`() throws {
    let history = try InteractionHistory.read([try folder.write("user,item,type,value\nu,a,view,\nu,b,,3\nu,c,purchase,4.5\nu,d,view,\n")])
    #expect(history.typeNames == ["", "view", "purchase"])
    #expect(history.types == [1, 0, 2, 1])
    #expect(history.values.map { $0.isNaN ? -1 : $0 } == [-1, 3, 4.5, -1])
  }

  @Test func `times and positions are on every line or on none`() throws {
    func message(_ texts: String...) -> String {
      let error = #expect(throws: DatasetError.self) {
        try InteractionHistory.read(try texts.enumerated().map { try folder.write($1, to: "\($0)") })
      }
      return error.map { "\($0.line ?? 0): \($0.message)" } ?? ""
    }
    #expect(message("user,item,time\nu,a,1\nu,b,\n") == "3: no time, unlike the records before")
    #expect(message("user,item,time\nu,a,1\n", "user,item\nu,b\n") == "2: no time, unlike the records before")
    #expect(message("user,item,time\nu,a,\nu,b,1\n") == "3: a time, unlike the records before")
    #expect(message("user,item,position\nu,a,1\nu,b,\n") == "3: no position, unlike the records before")
  }

  @Test func `more types than a code can number are refused`() throws {
    let text = "user,item,type\n" + (0..<300).map { "u,i,t\($0)\n" }.joined()
    let error = #expect(throws: DatasetError.self) { try InteractionHistory.read([try folder.write(text)]) }
    #expect(error?.line == 257)
  }

  @Test func `a real file of ratings is read in full`() throws {
    let history = try InteractionHistory.read([fixture("movielens-small/ratings.csv.gz")])
    #expect(history.count == 100_004)
    #expect(history.userCount == 671)
    #expect(history.itemCount == 9066)
    #expect(history.values.count == history.count && history.values.allSatisfy { 0.5...5 ~= $0 })
    for user in 0..<Int32(history.userCount) {
      let times = Array(history.times[history.events(of: user)])
      #expect(times == times.sorted())
    }
    let order = history.chronologicalOrder().map { history.times[Int($0)] }
    #expect(order == history.times.sorted())
  }
}

@Suite struct IdentifierTableTests {
  @Test func `every id keeps the index that it got first`() {
    var table = IdentifierTable()
    var reference: [String: Int32] = [:]
    for step in 0..<20_000 {
      let identifier = String(step * step % 7919, radix: 36)
      let expected = reference[identifier] ?? Int32(reference.count)
      reference[identifier] = expected
      #expect(table.intern(identifier) == expected)
    }
    #expect(table.count == reference.count)
    #expect(reference.allSatisfy { table[$0.value] == $0.key && table.index(of: $0.key) == $0.value })
    #expect(table.index(of: "") == nil)
    #expect(table.index(of: "zzzzzz") == nil)
  }
}
