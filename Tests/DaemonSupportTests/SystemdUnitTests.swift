import Foundation
import Testing

/// Runs `systemd/check.sh`, which needs Debian's `systemd` package.
struct SystemdUnitTests {
  private static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "systemd")

  @Test func theUnitIsValidAndItsExposureLowEnough() throws {
    let (status, output) = try check()
    #expect(status == 0, "\(output)")
  }

  @Test(arguments: [
    ("Type=notify", "Type=notyfi"), ("WatchdogSec=60s", "WatchdogSeconds=60s"),
    ("ExecStart=/usr/bin/rodpod", "ExecStart=/usr/bin/nothing"),
    ("User=rodpod", "User=root"), ("SystemCallFilter=", "#"),
  ])
  func theCheckFindsAFaultyUnit(original: String, replacement: String) throws {
    let unit = try String(contentsOf: Self.folder.appending(path: "rodpod.service"), encoding: .utf8)
    #expect(unit.contains(original))
    let faulty = FileManager.default.temporaryDirectory.appending(path: "rodpod-\(UUID().uuidString).service")
    defer { try? FileManager.default.removeItem(at: faulty) }
    try unit.replacing(original, with: replacement).write(to: faulty, atomically: true, encoding: .utf8)
    #expect(try check(faulty.path).status != 0)
  }

  private func check(_ unit: String? = nil) throws -> (status: Int32, output: String) {
    let process = Process()
    process.executableURL = Self.folder.appending(path: "check.sh")
    process.arguments = unit.map { [$0] } ?? []
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    let output = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return (process.terminationStatus, String(decoding: output, as: UTF8.self))
  }
}
