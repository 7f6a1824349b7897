/// Interactions in time order as bits, which can be appended to, shortened at the front and copied without being decoded.
///
/// An entry is item and type, gap and value, as wide as the layout says. The gap is the time since the entry before; that of the first means nothing, and
/// the time of the last is kept. So neither appending nor dropping the first touches another entry, unless the new one does not fit the layout. About
/// 5 bytes an interaction.
package struct PackedInteractions {
  /// Times lie within this many ms of 1970, so that no gap overflows.
  static let maximumTime: Int64 = 1 << 53

  private(set) var count = 0
  private(set) var lastTime: Int64 = 0
  private var layout = Layout()
  private var bits = BitWriter()
  /// The first entry's bit.
  private var start = 0

  package init() {}

  /// - Parameter interactions: none older than the one before.
  package init(_ interactions: some Collection<Interaction>) {
    guard var time = interactions.first?.time else {
      self.init()
      return
    }
    let entries = interactions.map { interaction in
      precondition(interaction.time >= time, "interactions are packed in time order")
      defer { time = interaction.time }
      return Entry(item: interaction.item, type: interaction.type, gap: UInt64(interaction.time - time), value: interaction.value)
    }
    self.init(entries, lastTime: time)
  }

  /// - Parameter entries: the first one's gap is 0.
  private init(_ entries: [Entry], lastTime: Int64) {
    (count, layout) = (entries.count, Layout(entries))
    self.lastTime = lastTime
    bits.reserve(layout.usualBits(of: count))
    for entry in entries { layout.write(entry, to: &bits) }
  }

  /// Appends an interaction that is not older than the last.
  package mutating func append(_ interaction: Interaction) throws(StateStoreError) {
    precondition(count == 0 || interaction.time >= lastTime, "interactions are packed in time order")
    let entry = Entry(
      item: interaction.item, type: interaction.type, gap: count == 0 ? 0 : UInt64(interaction.time - lastTime), value: interaction.value)
    guard count > 0, layout.takes(entry, behind: count) else {
      self = PackedInteractions(try entries(and: entry), lastTime: interaction.time)
      return
    }
    layout.write(entry, to: &bits)
    lastTime = interaction.time
    count += 1
  }

  private func entries(and last: Entry) throws(StateStoreError) -> [Entry] {
    var entries: [Entry] = []
    entries.reserveCapacity(count + 1)
    var reader = BitReader(bits.bytes, from: start)
    for _ in 0..<count { entries.append(try layout.read(&reader)) }
    if count > 0 { entries[0].gap = 0 }
    entries.append(last)
    return entries
  }

  /// Drops the oldest interactions so that at most `limit` are left.
  package mutating func keepLast(_ limit: Int) throws(StateStoreError) {
    guard count > limit else { return }
    guard limit > 0 else {
      self = PackedInteractions()
      return
    }
    var reader = BitReader(bits.bytes, from: start)
    for _ in limit..<count { _ = try layout.read(&reader) }
    start = reader.position
    count = limit
  }

  package func decoded() throws(StateStoreError) -> [Interaction] {
    var interactions: [Interaction] = []
    interactions.reserveCapacity(count)
    try decode(into: &interactions)
    return interactions
  }

  /// Puts the interactions in place of what is in the array.
  func decode(into interactions: inout [Interaction]) throws(StateStoreError) {
    interactions.removeAll(keepingCapacity: true)
    guard count > 0 else { return }
    var reader = BitReader(bits.bytes, from: start)
    for _ in 0..<count {
      let entry = try layout.read(&reader)
      guard let gap = Int64(exactly: entry.gap) else { throw RecordReader.damaged }
      interactions.append(Interaction(item: entry.item, type: entry.type, time: gap, value: entry.value))
    }
    guard reader.position == bits.bytes.count * 8 - bits.unusedBits else { throw RecordReader.damaged }
    // From the gaps to the times, the last of which is known.
    var time = lastTime
    for index in interactions.indices.reversed() {
      let gap = interactions[index].time
      interactions[index].time = time
      guard index > 0 else { break }
      guard gap <= time + Self.maximumTime else { throw RecordReader.damaged }
      time -= gap
    }
  }

  /// Writes count, time of the last, layout and entries; to be the last field of a record.
  func encode(to record: inout [UInt8]) {
    record.appendVarint(UInt64(count))
    guard count > 0 else { return }
    record.appendSigned(lastTime)
    record.appendLittleEndian(layout.packed | UInt32(start & 7) << Layout.packedWidth | UInt32(bits.unusedBits) << (Layout.packedWidth + 3))
    record.append(contentsOf: bits.bytes[(start >> 3)...])
  }

  /// Reads what `encode` wrote, up to the record's end. The entries are checked when they are decoded.
  init(from reader: inout RecordReader) throws(StateStoreError) {
    count = try reader.varint(as: Int.self)
    guard count > 0 else {
      try reader.end()
      return
    }
    lastTime = try reader.signed()
    guard lastTime.magnitude <= UInt64(Self.maximumTime) else { throw RecordReader.damaged }
    let header = try reader.littleEndian(UInt32.self)
    layout = try Layout(packed: header)
    start = reader.position * 8 + Int(header >> Layout.packedWidth & 7)
    let unusedBits = Int(header >> (Layout.packedWidth + 3))
    // So that a damaged count cannot ask for more memory than the record has.
    guard start < reader.bytes.count * 8 - unusedBits, count <= reader.bytes.count * 8 - start else { throw RecordReader.damaged }
    bits = BitWriter(reader.bytes, unusedBits: unusedBits)
    _ = reader.rest()
  }

  private struct Entry {
    let item: ItemNumber
    let type: InteractionTypeCode
    /// In milliseconds.
    var gap: UInt64
    let value: Float?
  }

  /// How an entry is written: a number that is the item's times the number of types plus the type, the gap, and the value. What does not fit makes a new
  /// layout of all entries.
  private struct Layout {
    /// Of the item and the type together, in bits.
    var nameWidth = 0
    /// More than any type's code.
    var typeCount: UInt64 = 1
    /// Of a gap, in bits; a longer one is as many ones, its width in 6 bits, and the gap.
    var gapWidth = 0
    /// Whether an entry ends with a bit that says if it has a value, and then with that.
    var hasValues = false
    /// Whether gaps are in seconds and not in milliseconds.
    var isInSeconds = false
    /// Longer gaps that were written since the layout was made.
    var longGaps = 0

    private static let widthBits = 6
    private static let widestGap = 55
    private static let mostLongGaps = 15

    init() {}

    /// As narrow as these entries allow.
    init(_ entries: [Entry]) {
      // 0 … widestGap.
      var counts = InlineArray<56, Int>(repeating: 0)
      isInSeconds = true
      for entry in entries {
        typeCount = max(typeCount, UInt64(entry.type.rawValue) + 1)
        if entry.value != nil { hasValues = true }
        if entry.gap % 1_000 != 0 { isInSeconds = false }
      }
      for entry in entries {
        nameWidth = max(nameWidth, name(entry).significantBits)
        counts[shortWidth(inUnit(entry.gap))] += 1
      }
      var (longer, longerBits, fewest) = (0, 0, Int.max)
      for width in counts.indices.reversed() {
        let size = entries.count * width + longer * Self.widthBits + longerBits
        if size < fewest { (fewest, gapWidth) = (size, width) }
        longer += counts[width]
        longerBits += counts[width] * width
      }
    }

    private func name(_ entry: Entry) -> UInt64 { UInt64(entry.item.rawValue) * typeCount + UInt64(entry.type.rawValue) }

    private func inUnit(_ gap: UInt64) -> UInt64 { isInSeconds ? gap / 1_000 : gap }

    /// With how many bits a gap is not all ones.
    private func shortWidth(_ gap: UInt64) -> Int { (gap + 1).significantBits }

    /// That so many entries take without longer gaps.
    func usualBits(of count: Int) -> Int { count * (nameWidth + gapWidth + (hasValues ? 33 : 0)) }

    private var escape: UInt64 { 1 << UInt64(gapWidth) - 1 }

    /// Whether the entry can be written. Not if every fourth entry or more has a longer gap by then: another layout may be narrower.
    mutating func takes(_ entry: Entry, behind count: Int) -> Bool {
      guard UInt64(entry.type.rawValue) < typeCount, name(entry).significantBits <= nameWidth, hasValues || entry.value == nil,
        !isInSeconds || entry.gap % 1_000 == 0
      else { return false }
      if inUnit(entry.gap) >= escape { longGaps += 1 }
      return longGaps <= min(count / 4, Self.mostLongGaps)
    }

    func write(_ entry: Entry, to bits: inout BitWriter) {
      bits.append(name(entry), width: nameWidth)
      let gap = inUnit(entry.gap)
      bits.append(min(gap, escape), width: gapWidth)
      if gap >= escape {
        bits.append(UInt64(gap.significantBits), width: Self.widthBits)
        bits.append(gap, width: gap.significantBits)
      }
      guard hasValues else { return }
      bits.append(entry.value == nil ? 0 : 1, width: 1)
      if let value = entry.value { bits.append(UInt64(value.bitPattern), width: 32) }
    }

    @inline(__always)
    func read(_ bits: inout BitReader) throws(StateStoreError) -> Entry {
      let name = try bits.read(nameWidth).quotientAndRemainder(dividingBy: typeCount)
      guard let item = UInt32(exactly: name.quotient) else { throw RecordReader.damaged }
      var gap = try bits.read(gapWidth)
      if gap == escape {
        let width = Int(try bits.read(Self.widthBits))
        guard width <= Self.widestGap else { throw RecordReader.damaged }
        gap = try bits.read(width)
      }
      let milliseconds = gap.multipliedReportingOverflow(by: isInSeconds ? 1_000 : 1)
      guard !milliseconds.overflow else { throw RecordReader.damaged }
      var value: Float?
      if hasValues, try bits.read(1) == 1 { value = Float(bitPattern: UInt32(truncatingIfNeeded: try bits.read(32))) }
      return Entry(
        item: ItemNumber(rawValue: item), type: InteractionTypeCode(rawValue: UInt8(truncatingIfNeeded: name.remainder)),
        gap: milliseconds.partialValue, value: value)
    }

    /// From the lowest bit on: name's width (6), types less one (8), gap's width (6), values (1), seconds (1), long gaps (4).
    var packed: UInt32 {
      let widths = UInt32(nameWidth) | UInt32(typeCount - 1) << 6 | UInt32(gapWidth) << 14
      return widths | (hasValues ? 1 : 0) << 20 | (isInSeconds ? 1 : 0) << 21 | UInt32(longGaps) << 22
    }

    /// Of ``packed``, in bits.
    static let packedWidth: UInt32 = 26

    /// - Parameter packed: what lies above ``packedWidth`` is not looked at.
    init(packed: UInt32) throws(StateStoreError) {
      nameWidth = Int(packed & 0x3F)
      typeCount = UInt64(packed >> 6 & 0xFF) + 1
      gapWidth = Int(packed >> 14 & 0x3F)
      hasValues = packed >> 20 & 1 == 1
      isInSeconds = packed >> 21 & 1 == 1
      longGaps = Int(packed >> 22 & 0xF)
      guard nameWidth <= 40, gapWidth <= Self.widestGap else { throw RecordReader.damaged }
    }
  }
}
