#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif
import Synchronization

/// Keeps a second writer, and a second open by this process, away from a store's folder.
///
/// LMDB's own locks would let two daemons write in turn, each unaware of the other; and closing a second open in one process drops the
/// process's POSIX locks on `lock.mdb` under the first. The `flock` belongs to the open file, so the kernel drops it whatever ends the
/// process.
struct StoreLock: ~Copyable {
  /// A folder as the kernel knows it, whatever path leads there.
  private struct Folder: Hashable {
    let device: UInt64
    let inode: UInt64
  }

  private static let openFolders = Mutex<Set<Folder>>([])

  private let folder: Folder
  private let descriptor: Int32

  /// Takes the folder for this process and, for a writer, for the whole machine. Throws `.alreadyOpen` or `.inUse`.
  init(folder path: String, isWriter: Bool) throws(LMDBError) {
    var status = stat()
    guard stat(path, &status) == 0 else { throw LMDBError(errno, "opening \(path)") }
    let folder = Folder(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
    guard Self.openFolders.withLock({ $0.insert(folder).inserted }) else {
      throw LMDBError(.alreadyOpen, "\(path) is already open in this process")
    }
    do throws(LMDBError) {
      self.descriptor = isWriter ? try Self.lockFile(path + "/writer.lock", store: path) : -1
    } catch {
      _ = Self.openFolders.withLock { $0.remove(folder) }
      throw error
    }
    self.folder = folder
  }

  deinit {
    if descriptor >= 0 {
      // A child that was forked and has not begun its program yet has the open file as well: closing alone would leave the lock to it.
      flock(descriptor, LOCK_UN)
      close(descriptor)
    }
    let folder = folder
    _ = Self.openFolders.withLock { $0.remove(folder) }
  }

  private static func lockFile(_ path: String, store: String) throws(LMDBError) -> Int32 {
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else {
      throw errno == ELOOP ? LMDBError(.symbolicLink, "\(path) is a symbolic link") : LMDBError(errno, "opening \(path)")
    }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      let reason = errno
      let holder = processID(in: descriptor)
      close(descriptor)
      guard reason == EWOULDBLOCK else { throw LMDBError(reason, "locking \(path)") }
      throw LMDBError(.inUse, "\(store) is in use by \(holder.map { "process \($0)" } ?? "another process")")
    }
    // The number is for the message above only; the lock is the kernel's.
    let text = Array("\(getpid())\n".utf8)
    _ = ftruncate(descriptor, 0)
    _ = text.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, 0) }
    return descriptor
  }

  private static func processID(in descriptor: Int32) -> Int? {
    var buffer = [UInt8](repeating: 0, count: 24)
    let count = buffer.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, 0) }
    return Int(String(decoding: buffer.prefix(max(count, 0)), as: UTF8.self).filter(\.isNumber))
  }
}
