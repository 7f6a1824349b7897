import Foundation

/// The safetensors format: eight bytes of header length, a JSON header, then the tensors' bytes, little endian. Checkpoints are kept in
/// it, so that PyTorch users can read them.
///
/// Specification: https://huggingface.co/docs/safetensors (the format's own page).
public struct Safetensors: Sendable, Equatable {
  public struct FormatError: Error, Equatable, CustomStringConvertible {
    public let description: String
  }

  public struct Tensor: Sendable, Equatable {
    /// `F32`, `I32`, `U32`, `I64`, `U64` or `U8`.
    public var type: String
    public var shape: [Int]
    public var bytes: [UInt8]
  }

  public var metadata: [String: String] = [:]
  public private(set) var names: [String] = []
  private var tensors: [String: Tensor] = [:]
  private static let widths = ["F32": 4, "I32": 4, "U32": 4, "I64": 8, "U64": 8, "U8": 1]

  public init() {}

  public subscript(name: String) -> Tensor? { tensors[name] }

  /// Adds a tensor of numbers in the machine's (little-endian) byte order.
  public mutating func set<Element: BitwiseCopyable>(_ name: String, _ type: String, shape: [Int], _ values: [Element]) {
    set(name, Tensor(type: type, shape: shape, bytes: values.withUnsafeBytes { Array($0) }))
  }

  public mutating func set(_ name: String, _ tensor: Tensor) {
    if tensors.updateValue(tensor, forKey: name) == nil { names.append(name) }
  }

  /// The values of a tensor.
  ///
  /// - Throws: ``FormatError`` when it is missing or of another type.
  public func values<Element: BitwiseCopyable>(_ name: String, _ type: String, as element: Element.Type) throws(FormatError) -> [Element] {
    guard let tensor = tensors[name] else { throw FormatError(description: "there is no tensor '\(name)'") }
    guard tensor.type == type else { throw FormatError(description: "tensor '\(name)' is \(tensor.type), not \(type)") }
    let count = tensor.bytes.count / MemoryLayout<Element>.stride
    return tensor.bytes.withUnsafeBytes { raw in
      (0..<count).map { raw.loadUnaligned(fromByteOffset: $0 * MemoryLayout<Element>.stride, as: Element.self) }
    }
  }

  /// A number that depends on every byte of the tensors and of the metadata, but for one key: FNV-1a over words of eight bytes.
  func checksum(without key: String) -> UInt64 {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    func mix(_ word: UInt64) {
      hash = (hash ^ word) &* 0x0000_0100_0000_01b3
      hash ^= hash >> 29
    }
    func mix(_ bytes: [UInt8]) {
      mix(UInt64(bytes.count))
      bytes.withUnsafeBytes { raw in
        for start in stride(from: 0, to: raw.count - 7, by: 8) { mix(raw.loadUnaligned(fromByteOffset: start, as: UInt64.self)) }
        for index in (raw.count & ~7)..<raw.count { mix(UInt64(raw[index])) }
      }
    }
    for name in names.sorted() {
      guard let tensor = tensors[name] else { continue }
      mix(Array("\(name) \(tensor.type) \(tensor.shape)".utf8))
      mix(tensor.bytes)
    }
    for (name, value) in metadata.sorted(by: { $0.key < $1.key }) where name != key { mix(Array("\(name)=\(value)".utf8)) }
    return hash
  }

  /// The file's bytes.
  public func encoded() throws(FormatError) -> [UInt8] {
    var header: [String: Any] = ["__metadata__": metadata]
    var offset = 0
    for name in names {
      guard let tensor = tensors[name] else { continue }
      header[name] = ["dtype": tensor.type, "shape": tensor.shape, "data_offsets": [offset, offset + tensor.bytes.count]]
      offset += tensor.bytes.count
    }
    guard var json = try? JSONSerialization.data(withJSONObject: header, options: [.sortedKeys]) else {
      throw FormatError(description: "the header can't be written as JSON")
    }
    while json.count % 8 != 0 { json.append(UInt8(ascii: " ")) }
    var result: [UInt8] = []
    result.reserveCapacity(8 + json.count + offset)
    for shift in 0..<8 { result.append(UInt8(truncatingIfNeeded: UInt64(json.count) >> (8 * shift))) }
    result.append(contentsOf: json)
    for name in names { if let tensor = tensors[name] { result.append(contentsOf: tensor.bytes) } }
    return result
  }

  /// - Throws: ``FormatError`` when the bytes are not a whole and consistent file.
  public init(decoding bytes: [UInt8]) throws(FormatError) {
    guard bytes.count >= 8 else { throw FormatError(description: "it ends within its first eight bytes") }
    let length = (0..<8).reduce(UInt64(0)) { $0 | UInt64(bytes[$1]) << (8 * UInt64($1)) }
    guard length <= UInt64(bytes.count - 8) else { throw FormatError(description: "it ends within its header") }
    let start = 8 + Int(length)
    guard let object = try? JSONSerialization.jsonObject(with: Data(bytes[8..<start])), let header = object as? [String: Any] else {
      throw FormatError(description: "its header is not a JSON object")
    }
    metadata = header["__metadata__"] as? [String: String] ?? [:]
    let described = header.filter { $0.key != "__metadata__" }
    var ranges: [(name: String, range: Range<Int>)] = []
    for (name, value) in described {
      guard let entry = value as? [String: Any], let type = entry["dtype"] as? String, let width = Self.widths[type],
        let shape = entry["shape"] as? [Int], let offsets = entry["data_offsets"] as? [Int], offsets.count == 2, offsets[0] >= 0,
        offsets[0] <= offsets[1], offsets[1] <= bytes.count - start, shape.allSatisfy({ $0 >= 0 && $0 <= bytes.count }),
        let size = Self.product(shape, width), size == offsets[1] - offsets[0]
      else { throw FormatError(description: "the entry of tensor '\(name.prefix(80))' is damaged") }
      tensors[name] = Tensor(type: type, shape: shape, bytes: Array(bytes[start + offsets[0]..<start + offsets[1]]))
      ranges.append((name, offsets[0]..<offsets[1]))
    }
    // An empty tensor stands before the one that begins where it ends.
    ranges.sort { ($0.range.lowerBound, $0.range.upperBound, $0.name) < ($1.range.lowerBound, $1.range.upperBound, $1.name) }
    names = ranges.map(\.name)
    guard (ranges.map(\.range.upperBound).max() ?? 0) == bytes.count - start else {
      throw FormatError(description: "it is longer than its tensors")
    }
  }

  private static func product(_ shape: [Int], _ width: Int) -> Int? {
    var result = width
    for size in shape {
      let (next, overflow) = result.multipliedReportingOverflow(by: size)
      if overflow { return nil }
      result = next
    }
    return result
  }
}
