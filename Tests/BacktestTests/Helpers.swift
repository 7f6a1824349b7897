import Backtest
import Foundation
import TestSupport

extension TemporaryFolder {
  /// A history of (user, item, time in seconds), one list for each file.
  func data(_ files: [[(user: Int, item: Int, time: Int)]]) throws -> BacktestData {
    let paths = try files.enumerated().map { index, events in
      try write("user\titem\ttime\n" + events.map { "u\($0.user)\ti\($0.item)\t\($0.time)\n" }.joined(), to: "events_\(index).tsv")
    }
    return try BacktestData.read(interactions: paths)
  }
}

/// The rows as a `.npy` file.
func npy(_ rows: [[Float]]) -> Data {
  var header = "{'descr': '<f4', 'fortran_order': False, 'shape': (\(rows.count), \(rows.first?.count ?? 0)), }"
  header += String(repeating: " ", count: 118 - header.utf8.count - 1) + "\n"
  var bytes: [UInt8] = [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(header.utf8.count), 0] + Array(header.utf8)
  for value in rows.joined() { withUnsafeBytes(of: value.bitPattern.littleEndian) { bytes.append(contentsOf: $0) } }
  return Data(bytes)
}

/// The JSON of a report.
func decoded(_ report: BacktestReport) throws -> [String: Any] {
  try JSONSerialization.jsonObject(with: Data(report.encoded().utf8)) as? [String: Any] ?? [:]
}

func metric(_ name: String, of recommender: String, _ report: BacktestReport, in group: [String: Any]? = nil) throws -> Double? {
  let results = try (group ?? decoded(report))["results"] as? [String: [String: Double]]
  return results?[recommender]?[name]
}
