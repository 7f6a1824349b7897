import Foundation
import TestBroker
import TestSupport

/// A small ext4 file system in an image file, mounted by a loop device: it can be filled up, and its power can be cut. It needs root.
///
/// What was written and not synced is in the page cache of the mounted file system; the image has what the "disk" was given. So a copy of the
/// image, taken while the file system is mounted, is what a power cut leaves, and mounting the copy replays ext4's log as after one.
/// Writeback by time goes on, so that some of what was not synced is there, and some is not. What it does not play is a disk that
/// acknowledges a flush before it is done.
final class Disk {
  let folder: URL
  private let image: URL
  private var filler: URL { folder.appending(path: "filler") }

  /// Whether this machine lets the tests mount a file system.
  static let isAvailable: Bool = {
    guard geteuid() == 0, let disk = try? Disk(megabytes: 8) else { return false }
    return FileManager.default.fileExists(atPath: disk.folder.appending(path: "lost+found").path)
  }()

  init(megabytes: Int) throws {
    let base = FileManager.default.temporaryDirectory.appending(path: uniqueName("rodpod-disk"))
    folder = base.appending(path: "mounted")
    image = base.appending(path: "image")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    try Self.run("truncate", "-s", "\(megabytes)M", image.path)
    try Self.run("mkfs.ext4", "-q", "-m", "0", image.path)
    try mount()
  }

  deinit {
    try? Self.run("umount", "-l", folder.path)
    try? FileManager.default.removeItem(at: folder.deletingLastPathComponent())
  }

  /// Takes what the disk has been given so far for all that there is. No process may use it.
  func cutPower() throws {
    let copy = image.appendingPathExtension("copy")
    try Self.run("cp", "--sparse=always", image.path, copy.path)
    try Self.run("umount", folder.path)
    try FileManager.default.removeItem(at: image)
    try FileManager.default.moveItem(at: copy, to: image)
    try mount()
  }

  /// Leaves no room.
  func fill() throws {
    try? Self.run("dd", "if=/dev/zero", "of=\(filler.path)", "bs=4k", "conv=notrunc", "oflag=append", "status=none")
    guard try Data(contentsOf: filler, options: .alwaysMapped).count > 0 else { throw CocoaError(.fileWriteUnknown) }
  }

  /// Takes back what ``fill()`` wrote.
  func free() throws { try FileManager.default.removeItem(at: filler) }

  func remountReadOnly() throws { try Self.run("mount", "-o", "remount,ro", folder.path) }

  private func mount() throws { try Self.run("mount", "-o", "loop", image.path, folder.path) }

  private static func run(_ command: String...) throws {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = command
    process.standardError = FileHandle.nullDevice
    try process.runUnmasked()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else { throw ConditionNotMet(description: "\(command) ended with \(process.terminationStatus)") }
  }
}
