import Glibc

/// A Unix datagram socket that plays systemd or journald.
public final class DatagramReceiver {
  public let path: String
  private let descriptor: Int32

  /// - Parameter path: a file system path, or `@name` for the abstract namespace.
  public init(path: String) {
    self.path = path
    descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    if path.hasPrefix("@") { address.sun_path.0 = 0 }
    let length = socklen_t(MemoryLayout<sa_family_t>.size + path.utf8.count + (path.hasPrefix("@") ? 0 : 1))
    let bound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, length) }
    }
    precondition(bound == 0, "bind: \(errno)")
    // A datagram that never comes fails the test instead of hanging it.
    var patience = timeval(tv_sec: 60, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
  }

  deinit {
    close(descriptor)
    if !path.hasPrefix("@") { unlink(path) }
  }

  /// The next datagram; when it is empty and carries a file, that file's bytes.
  public func receive(flags: Int32 = 0) -> [UInt8]? {
    var buffer = [UInt8](repeating: 0, count: 1 << 18)
    var control = [UInt8](repeating: 0, count: 64)
    let capacity = buffer.count
    return buffer.withUnsafeMutableBytes { bytes in
      control.withUnsafeMutableBytes { control in
        var vector = iovec(iov_base: bytes.baseAddress, iov_len: capacity)
        return withUnsafeMutablePointer(to: &vector) { vector in
          var message = msghdr()
          message.msg_iov = vector
          message.msg_iovlen = 1
          message.msg_control = control.baseAddress
          message.msg_controllen = control.count
          let received = recvmsg(descriptor, &message, flags)
          guard received >= 0 else { return nil }
          if received == 0, message.msg_controllen >= 20 {
            return contents(of: control.load(fromByteOffset: MemoryLayout<cmsghdr>.size, as: Int32.self))
          }
          return Array(bytes.prefix(received))
        }
      }
    }
  }

  public func receiveText() -> String { String(decoding: receive() ?? [], as: UTF8.self) }

  /// A datagram that is there already.
  public func receiveTextIfAny() -> String? { receive(flags: Int32(MSG_DONTWAIT)).map { String(decoding: $0, as: UTF8.self) } }

  private func contents(of file: Int32) -> [UInt8] {
    defer { close(file) }
    let size = lseek(file, 0, SEEK_END)
    var bytes = [UInt8](repeating: 0, count: Int(size))
    let read = pread(file, &bytes, bytes.count, 0)
    return Array(bytes.prefix(max(0, read)))
  }
}

/// A path for a socket that no other test uses.
public func temporarySocketPath() -> String { "/tmp/rodpod-test-\(getpid())-\(UInt32.random(in: 0 ... .max))" }
