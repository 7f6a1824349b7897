import Foundation

/// A folder (0700) that is gone after the test.
public final class TemporaryFolder: Sendable {
  public let path: String

  public init() {
    path = FileManager.default.temporaryDirectory.appending(path: "rodpod-test-\(UUID().uuidString)").path
    try! FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  public func path(_ name: String) -> String { path + "/" + name }

  /// - Returns: the file's path.
  @discardableResult
  public func write(_ data: Data, to name: String = "file") throws -> String {
    try data.write(to: URL(filePath: path(name)))
    return path(name)
  }

  @discardableResult
  public func write(_ text: String, to name: String = "file") throws -> String { try write(Data(text.utf8), to: name) }

  @discardableResult
  public func write(_ bytes: [UInt8], to name: String = "file") throws -> String { try write(Data(bytes), to: name) }
}
