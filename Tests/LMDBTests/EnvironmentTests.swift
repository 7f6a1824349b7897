import Foundation
import LMDB
import TestSupport
import Testing

struct EnvironmentTests {
  private let folder = TemporaryFolder()

  private func open(_ path: String, mapSize: Int = 1 << 24, isReadOnly: Bool = false) throws -> Environment {
    try Environment(path: path, options: .init(mapSize: mapSize, isReadOnly: isReadOnly))
  }

  @Test func filesAreForTheOwnerAlone() throws {
    let path = folder.path + "/store"
    let environment = try open(path)
    #expect(try permissions(path) == 0o700)
    for name in ["data.mdb", "lock.mdb", "writer.lock"] { #expect(try permissions("\(path)/\(name)") == 0o600, "\(name)") }
    _ = environment
  }

  @Test func aSecondOpenInThisProcessIsRefusedUntilTheFirstIsClosed() throws {
    var environment: Environment? = try open(folder.path)
    for isReadOnly in [false, true] {
      let error = #expect(throws: LMDBError.self) { try open(folder.path + "/.", isReadOnly: isReadOnly) }
      #expect(error?.code == .alreadyOpen)
    }
    #expect(environment != nil)
    environment = nil
    _ = try open(folder.path)
  }

  @Test func aSecondWritingProcessIsRefusedAndAReaderIsNot() async throws {
    let path = folder.path
    let environment = try open(path)
    let database = try environment.openDatabases(["numbers"])[0]
    try environment.write { (transaction) throws(LMDBError) in try transaction.put(database, [1], [2]) }
    await #expect(processExitsWith: .success) { [path = path as String] in
      let error = #expect(throws: LMDBError.self) { try Environment(path: path) }
      #expect(error?.code == .inUse)
      #expect(error?.description.contains("in use by process") == true)
      let reader = try Environment(path: path, options: .init(isReadOnly: true))
      let database = try reader.openDatabases(["numbers"])[0]
      let value = try reader.read { (transaction) throws(LMDBError) in try transaction.bytes(database, [1]) }
      #expect(value == [2])
    }
  }

  @Test func aReaderInAnotherProcessFollowsAMapThatGrew() async throws {
    let path = folder.path
    let environment = try open(path, mapSize: 1 << 17)
    let database = try environment.openDatabases(["values"])[0]
    let writer = Task {
      let deadline = ContinuousClock.now + .seconds(60)
      while !FileManager.default.fileExists(atPath: path + "/reader-is-open"), .now < deadline { await Task.yield() }
      try environment.grow(to: 1 << 22)
      try environment.write { (transaction) throws(LMDBError) in
        for key in 0..<200 as Range<UInt8> { try transaction.put(database, [key], [UInt8](repeating: key, count: 4_000)) }
      }
    }
    await #expect(processExitsWith: .success) { [path = path as String] in
      let reader = try Environment(path: path, options: .init(isReadOnly: true))
      let database = try reader.openDatabases(["values"])[0]
      let before = try reader.mapSize()
      try Data().write(to: URL(filePath: path + "/reader-is-open"))
      let deadline = ContinuousClock.now + .seconds(60)
      var value: [UInt8]?
      while value == nil, .now < deadline {
        value = try reader.read { (transaction) throws(LMDBError) in try transaction.bytes(database, [199]) }
      }
      #expect(value == [UInt8](repeating: 199, count: 4_000))
      #expect(try reader.mapSize() > before)
    }
    try await writer.value
  }

  @Test func aFileThatIsCutShortEndsTheProcessInWords() async throws {
    let path = folder.path
    do {
      let environment = try open(path)
      let database = try environment.openDatabases(["values"])[0]
      try environment.write { (transaction) throws(LMDBError) in
        for key in 0..<200 as Range<UInt8> { try transaction.put(database, [key], [UInt8](repeating: key, count: 1_000)) }
      }
    }
    #expect(truncate(path + "/data.mdb", 8 * 4_096) == 0)
    let result = await #expect(processExitsWith: .exitCode(74), observing: [\.standardErrorContent]) { [path = path as String] in
      let environment = try Environment(path: path)
      let database = try environment.openDatabases(["values"])[0]
      try environment.read { (transaction) throws(LMDBError) in try transaction.scan(database) { _, value in value.count == 1_000 } }
    }
    let complaint = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    #expect(complaint.contains("cut short"))
  }

  @Test func shrinkingKeepsWhatIsThere() throws {
    let environment = try open(folder.path, mapSize: 1 << 22)
    let database = try environment.openDatabases(["values"])[0]
    func fill(_ keys: Range<UInt8>) throws {
      try environment.write { (transaction) throws(LMDBError) in
        for key in keys { try transaction.put(database, [key], [UInt8](repeating: key, count: 4_000)) }
      }
    }
    try fill(0..<100)
    try environment.shrink(to: 1 << 16)
    #expect(try environment.mapSize() == environment.usage().usedBytes)
    for key in 0..<100 as Range<UInt8> {
      #expect(try environment.read { (transaction) throws(LMDBError) in try transaction.bytes(database, [key]) }?.count == 4_000)
    }
    let error = #expect(throws: LMDBError.self) { try fill(100..<200) }
    #expect(error?.code == .mapFull)
    try environment.grow(to: 1 << 22)
    try fill(100..<200)
  }

  @Test func aLinkInTheFolderIsRefused() throws {
    for name in ["data.mdb", "lock.mdb", "writer.lock"] {
      let path = folder.path + "/\(name)-store"
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
      try FileManager.default.createSymbolicLink(atPath: "\(path)/\(name)", withDestinationPath: folder.path + "/elsewhere")
      let error = #expect(throws: LMDBError.self) { try open(path) }
      #expect(error?.code == .symbolicLink, "\(name)")
    }
    #expect(!FileManager.default.fileExists(atPath: folder.path + "/elsewhere"))
  }

  @Test func readingWhatIsNotThereSaysSo() throws {
    let missing = #expect(throws: LMDBError.self) { try open(folder.path + "/none", isReadOnly: true) }
    #expect(missing?.code == .noSuchFile)
    try Data(repeating: 0xA5, count: 1 << 16).write(to: URL(filePath: folder.path + "/data.mdb"))
    let damaged = #expect(throws: LMDBError.self) { try open(folder.path) }
    #expect(damaged?.code == .corrupted)
  }

  @Test func aFullMapLosesNothingAndGoesOnOnceGrown() throws {
    let environment = try open(folder.path, mapSize: 1 << 17)
    let database = try environment.openDatabases(["values"])[0]
    func fill(_ key: UInt8) throws {
      try environment.write { (transaction) throws(LMDBError) in
        for part in 0..<50 as Range<UInt8> { try transaction.put(database, [key, part], [UInt8](repeating: key, count: 1_000)) }
      }
    }
    try fill(1)
    let error = #expect(throws: LMDBError.self) { for key in 2..<10 as Range<UInt8> { try fill(key) } }
    #expect(error?.code == .mapFull)
    let before = try environment.read { (transaction) throws(LMDBError) in try transaction.count(database) }
    #expect(before.isMultiple(of: 50))
    try environment.grow(to: 1 << 22)
    for key in 2..<10 as Range<UInt8> { try fill(key) }
    #expect(try environment.read { (transaction) throws(LMDBError) in try transaction.count(database) } == 9 * 50)
    let usage = try environment.usage()
    #expect(usage.mapSize == 1 << 22)
    #expect(usage.usedBytes > 450_000 && usage.usedBytes < usage.mapSize)
  }

  @Test func growingWaitsForReadersToEnd() async throws {
    let environment = try open(folder.path, mapSize: 1 << 20)
    let database = try environment.openDatabases(["values"])[0]
    try environment.write { (transaction) throws(LMDBError) in try transaction.put(database, [1], [1]) }
    await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<2 {
        group.addTask {
          for _ in 0..<2_000 {
            let value = try environment.read { (transaction) throws(LMDBError) in try transaction.bytes(database, [1]) }
            #expect(value == [1])
          }
        }
      }
      group.addTask { for step in 1...20 { try environment.grow(to: (1 << 20) + step * (1 << 16)) } }
    }
    #expect(try environment.mapSize() == (1 << 20) + 20 * (1 << 16))
  }

  @Test func pagesOfDeletedKeysCountAsFree() throws {
    let environment = try open(folder.path)
    let database = try environment.openDatabases(["values"])[0]
    try environment.write { (transaction) throws(LMDBError) in
      for key in 0..<200 as Range<UInt8> { try transaction.put(database, [key], [UInt8](repeating: 1, count: 1_500)) }
    }
    let full = try environment.usage()
    try environment.write { (transaction) throws(LMDBError) in _ = try transaction.deleteRange(database) }
    #expect(try environment.usage().freeBytes >= full.freeBytes + 200 * 1_500)
  }

  @Test func aCompactCopyHoldsTheSameAndReplacesNoFile() throws {
    let copy = folder.path + "/copy"
    try FileManager.default.createDirectory(atPath: copy, withIntermediateDirectories: false)
    do {
      let environment = try open(folder.path)
      let database = try environment.openDatabases(["values"])[0]
      try environment.write { (transaction) throws(LMDBError) in try transaction.put(database, [1], [9]) }
      try environment.copyCompact(toFile: copy + "/data.mdb")
      #expect(try permissions(copy + "/data.mdb") == 0o600)
      #expect(throws: LMDBError.self) { try environment.copyCompact(toFile: copy + "/data.mdb") }
    }
    let environment = try open(copy)
    let database = try environment.openDatabases(["values"])[0]
    #expect(try environment.read { (transaction) throws(LMDBError) in try transaction.bytes(database, [1]) } == [9])
  }
}
