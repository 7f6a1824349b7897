#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The figures by name: a line of the table as soon as each is known, and at the end one JSON object.
final class Report {
  private var figures: [(name: String, value: Double)] = []

  init() { line("figure", "median", "best", "unit", "core") }

  /// A figure's value is its median.
  func add(_ name: String, _ measurement: Measurement, unit: String, scale: Double = 1) {
    figures.append((name, measurement.median * scale))
    line(
      name, format(measurement.median * scale), format(measurement.best * scale), unit,
      "\(Int((measurement.coreShare * 100).rounded())) %")
  }

  func add(_ name: String, _ value: Double, unit: String) {
    figures.append((name, value))
    line(name, format(value), "", unit, "")
  }

  /// One object, in the order of the table; null is a figure that is not finite.
  var json: String {
    let fields = figures.map { name, value in "  \"\(name)\": " + (value.isFinite ? "\(value)" : "null") }
    return "{\n" + fields.joined(separator: ",\n") + "\n}\n"
  }

  private func line(_ name: String, _ median: String, _ best: String, _ unit: String, _ core: String) {
    print(name + pad(name, 52) + pad(median, 14) + median + pad(best, 12) + best + "  " + unit + pad(unit, 14) + pad(core, 6) + core)
    // In a pipe too, each line is to be seen when its figure is known.
    fflush(nil)
  }

  private func pad(_ text: String, _ width: Int) -> String { String(repeating: " ", count: max(0, width - text.count)) }

  /// Four digits that count.
  private func format(_ value: Double) -> String {
    guard value.isFinite, abs(value) < 1e15 else { return "\(value)" }
    if abs(value) >= 1000 {
      let digits = "\(Int(value.rounded()))"
      return String(digits.enumerated().flatMap { index, digit in
        index > 0 && (digits.count - index) % 3 == 0 && digit != "-" ? [",", digit] : [digit]
      })
    }
    let places = abs(value) >= 100 ? 10.0 : abs(value) >= 10 ? 100.0 : 1000.0
    return "\((value * places).rounded() / places)"
  }
}
