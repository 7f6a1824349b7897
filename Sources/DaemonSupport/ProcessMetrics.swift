import FoundationEssentials
import Glibc

/// The metrics of the process, by the names that every Prometheus client library uses, read from `/proc` (proc(5)).
enum ProcessMetrics {
  static func render() -> String {
    var output = ""
    func add(_ name: String, _ type: String, _ help: String, _ value: Double) {
      output += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n\(name) \(prometheusNumber(value))\n"
    }
    if let stat = ProcessStat() {
      add("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.", stat.cpuSeconds)
      add("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", stat.residentBytes)
      add("process_threads", "gauge", "Number of threads.", stat.threads)
    }
    if let started = startSeconds {
      add("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.", started)
    }
    if let descriptors = try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd") {
      // One of them is the folder's own.
      add("process_open_fds", "gauge", "Number of open file descriptors.", Double(max(0, descriptors.count - 1)))
    }
    output += "# HELP rodpod_build_info The release that runs, as a label.\n# TYPE rodpod_build_info gauge\n"
    return output + "rodpod_build_info{version=\"\(BuildInformation.version)\"} 1\n"
  }

  /// Taken once, so that it does not move with the clock. The hardened unit hides `/proc/stat` with its boot time, hence this way.
  private static let startSeconds: Double? = ProcessStat().map { stat in
    Date.now.timeIntervalSince1970 - (timeSinceBoot() - stat.startedAfterBoot) / .seconds(1)
  }
}

/// The fields of `/proc/self/stat` that matter here.
private struct ProcessStat {
  let cpuSeconds: Double
  let residentBytes: Double
  let threads: Double
  let startedAfterBoot: Duration

  init?() {
    guard let text = try? String(contentsOfFile: "/proc/self/stat", encoding: .utf8), let nameEnd = text.lastIndex(of: ")")
    else { return nil }
    // What follows the name in parentheses is field 3 onwards.
    let fields = text[text.index(after: nameEnd)...].split(separator: " ").map(String.init)
    func field(_ number: Int) -> Double? { number - 3 < fields.count ? Double(fields[number - 3]) : nil }
    guard let user = field(14), let system = field(15), let threads = field(20), let start = field(22), let pages = field(24)
    else { return nil }
    let ticks = Double(sysconf(Int32(_SC_CLK_TCK)))
    cpuSeconds = (user + system) / ticks
    residentBytes = pages * Double(sysconf(Int32(_SC_PAGESIZE)))
    self.threads = threads
    startedAfterBoot = .seconds(start / ticks)
  }
}
