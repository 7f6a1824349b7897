#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// The few calls of the system that durable files need. Links are never followed; new files are 0600, new folders 0700.
struct PosixFile: ~Copyable {
  private let descriptor: Int32
  private let path: String

  /// Makes a file, in place of one that is there.
  init(creating path: String) throws(StateStoreError) {
    self.path = path
    descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
    if descriptor < 0 { throw Self.failure("making \(path)") }
  }

  init(reading path: String) throws(StateStoreError) {
    self.path = path
    descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
    if descriptor < 0 { throw Self.failure("opening \(path)") }
  }

  deinit {
    if descriptor >= 0 { close(descriptor) }
  }

  func write(_ bytes: RawSpan) throws(StateStoreError) {
    var written = 0
    while written < bytes.byteCount {
      let count = bytes.withUnsafeBytes { system_write(descriptor, $0.baseAddress?.advanced(by: written), $0.count - written) }
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw Self.failure("writing \(path)") }
      written += count
    }
  }

  func readAll() throws(StateStoreError) -> [UInt8] {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw Self.failure("reading \(path)") }
    var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
    var filled = 0
    while filled < bytes.count {
      let count = bytes.withUnsafeMutableBytes { read(descriptor, $0.baseAddress?.advanced(by: filled), $0.count - filled) }
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw Self.failure("reading \(path)") }
      if count == 0 { break }
      filled += count
    }
    bytes.removeLast(bytes.count - filled)
    return bytes
  }

  /// On disk when this returns.
  func sync() throws(StateStoreError) {
    guard fsync(descriptor) == 0 else { throw Self.failure("syncing \(path)") }
  }

  static func rename(_ from: String, to: String) throws(StateStoreError) {
    guard system_rename(from, to) == 0 else { throw failure("renaming \(from)") }
  }

  /// Gives a file a second name. Throws `.notEmpty` when something has that name.
  static func link(_ from: String, to: String) throws(StateStoreError) {
    guard system_link(from, to) == 0 else {
      throw errno == EEXIST ? StateStoreError(.notEmpty, "\(to) has come to be meanwhile and is left as it is") : failure("linking \(to)")
    }
  }

  static func removeIfPresent(_ path: String) throws(StateStoreError) {
    guard unlink(path) == 0 || errno == ENOENT else { throw failure("removing \(path)") }
  }

  /// Returns whether the folder was not there before.
  @discardableResult
  static func makeFolder(_ path: String) throws(StateStoreError) -> Bool {
    if mkdir(path, 0o700) == 0 { return true }
    guard errno == EEXIST else { throw failure("making \(path)") }
    return false
  }

  static func isLink(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFLNK
  }

  /// Removes a folder with all that is in it.
  static func removeFolder(_ path: String) throws(StateStoreError) {
    for name in try names(in: path) {
      let entry = "\(path)/\(name)"
      var status = stat()
      guard lstat(entry, &status) == 0 else { throw failure("removing \(entry)") }
      if status.st_mode & S_IFMT == S_IFDIR { try removeFolder(entry) } else { try removeIfPresent(entry) }
    }
    guard rmdir(path) == 0 else { throw failure("removing \(path)") }
  }

  /// Makes renames and removals in a folder last.
  static func syncFolder(_ path: String) throws(StateStoreError) {
    try PosixFile(reading: path).sync()
  }

  /// The names in a folder, sorted.
  static func names(in folder: String) throws(StateStoreError) -> [String] {
    guard let stream = opendir(folder) else { throw failure("listing \(folder)") }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
  }

  private static func failure(_ context: String) -> StateStoreError {
    let status = errno
    return StateStoreError(status == ENOSPC || status == EDQUOT ? .diskFull : .io, "\(context): \(String(cString: strerror(status)))")
  }
}

// The methods of the same name hide them inside the type.
private func system_write(_ descriptor: Int32, _ bytes: UnsafeRawPointer?, _ count: Int) -> Int { write(descriptor, bytes, count) }
private func system_link(_ from: String, _ to: String) -> Int32 { link(from, to) }
private func system_rename(_ from: String, _ to: String) -> Int32 { rename(from, to) }
