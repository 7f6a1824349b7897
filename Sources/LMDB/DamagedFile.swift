import CLMDB

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Ends the process in words where a store's file turns out to be damaged while LMDB reads it through its map.
///
/// LMDB calls `abort` where a page can't be what it should, and a page that the file or its disk no longer has is a SIGBUS: either would
/// look like a fault of this program. The exit code is that of input and output, 74.
enum DamagedFile {
  private static let exitCode: Int32 = 74
  private static let advice = "stop here, check the disk, and go on from a copy: see `rodpod restore`\n"
  /// Made before the first signal, because a handler may not allocate.
  nonisolated(unsafe) private static let cutShort = strdup(
    "a page of the store's file can't be read: the file is cut short, or its disk is full or fails; " + advice)
  private static let isHandlingBusErrors: Bool = {
    _ = cutShort
    var action = sigaction()
    action.__sigaction_handler.sa_handler = { _ in
      if let text = DamagedFile.cutShort { _ = write(STDERR_FILENO, text, strlen(text)) }
      _exit(DamagedFile.exitCode)
    }
    return sigaction(SIGBUS, &action, nil) == 0
  }()

  static func report(for environment: OpaquePointer) {
    _ = isHandlingBusErrors
    mdb_env_set_assert(environment) { _, message in
      let detail = message.map { String(cString: $0) } ?? ""
      let text = "the store's file is damaged (\(detail)); " + DamagedFile.advice
      _ = write(STDERR_FILENO, text, text.utf8.count)
      _exit(DamagedFile.exitCode)
    }
  }
}
