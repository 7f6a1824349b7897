import CZlib

#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// A file's bytes in order, decompressed when it begins with gzip's magic bytes, whatever its name.
///
/// zlib tells the two apart, joins the members of a concatenated file, and passes plain bytes through.
struct ByteSource: ~Copyable {
  let path: String
  private let file: gzFile
  private let size: Double

  /// - Throws: `io` if the file cannot be opened.
  init(path: String) throws(DatasetError) {
    self.path = path
    guard let file = gzopen(path, "rb") else {
      throw DatasetError(.io, path: path, "cannot be opened: \(String(cString: strerror(errno)))")
    }
    self.file = file
    var status = stat()
    size = stat(path, &status) == 0 ? Double(status.st_size) : 0
    gzbuffer(file, 128 * 1024)
  }

  deinit { gzclose_r(file) }

  /// The share of the file, as it lies on the disk, that has been read; 0 for what has no size.
  var fractionRead: Double { size > 0 ? min(1, Double(gzoffset(file)) / size) : 0 }

  /// Appends up to `limit` bytes to the buffer.
  /// - Returns: how many; zero at the end.
  /// - Throws: `io`, or `damaged` if the compressed stream is broken or ends too early.
  mutating func read(into buffer: inout [UInt8], limit: Int) throws(DatasetError) -> Int {
    let start = buffer.count
    buffer.append(contentsOf: repeatElement(0, count: limit))
    let count = buffer.withUnsafeMutableBytes { bytes in
      gzread(file, bytes.baseAddress.map { $0 + start }, UInt32(limit))
    }
    buffer.removeLast(limit - max(0, Int(count)))
    // A stream that is cut off is reported only by the code, after its last whole bytes were handed out.
    var code: Int32 = 0
    let message = gzerror(file, &code).map { String(cString: $0) } ?? ""
    if code == Z_ERRNO { throw DatasetError(.io, path: path, "cannot be read: \(message)") }
    if count < 0 || (count == 0 && code != Z_OK && code != Z_STREAM_END) {
      throw DatasetError(.damaged, path: path, "damaged gzip data: \(message)")
    }
    return Int(count)
  }
}
