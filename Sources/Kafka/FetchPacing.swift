import CRdKafka
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Sees to it that `fetch.wait.max.ms` and `fetch.min.bytes` hold with brokers that know neither.
///
/// A broker has to keep a fetch of less than `fetch.min.bytes` waiting (Kafka protocol, Fetch). One that answers at once with nothing is asked again
/// at once, ten thousand times a second, at the cost of a core on both sides. So what is left of the time that it should have taken is waited for
/// here, and half a millisecond after an answer that may hold records, but too few. A broker that keeps to the protocol answers early only with
/// enough records, or for an error or a quota, which are then that much later.
package final class FetchPacing: Sendable {
  /// `fetch.wait.max.ms` or less, in microseconds.
  private let wait: Int64
  /// So that a client that is to end does not wait for long.
  private static let longest: Int64 = 100_000
  /// After an answer that may hold records, in microseconds.
  private static let short: Int64 = 500
  private let minimumBytes: Int
  /// An answer without records has mostly so many bytes or less, and one with records more.
  private let emptyBytes = Atomic<Int>(0)

  /// - Parameter properties: librdkafka's.
  /// - Returns: nil when a broker may answer each fetch at once.
  package init?(_ properties: [String: String]) {
    guard let bytes = properties["fetch.min.bytes"].flatMap({ Int($0) }), bytes > 1,
      let milliseconds = Int64(properties["fetch.wait.max.ms"] ?? "500"), milliseconds > 0
    else { return nil }
    (wait, minimumBytes) = (min(milliseconds * 1000, Self.longest), bytes)
  }

  /// These partitions are fetched from now on.
  package func assigned(_ partitions: [TopicPartition]) {
    // Fetch response, version 11: a header, for each topic its name, and for each partition its number, an error, three offsets, another broker
    // and two lengths. librdkafka begins with another partition each time, so that one topic may come twice; more often if partitions were paused.
    // Of several brokers each has a part of the partitions.
    let names = Set(partitions.map(\.topic)).map { 6 + $0.utf8.count }
    emptyBytes.store(18 + names.reduce(0, +) + (names.max() ?? 0) + 42 * partitions.count, ordering: .relaxed)
  }

  /// How long to wait after an answer to a fetch, in microseconds.
  ///
  /// - Parameters:
  ///   - size: of the answer, in bytes.
  ///   - time: from the question to the answer, in microseconds; negative when it is not known.
  package func pause(size: Int, after time: Int64) -> Int64 {
    guard time >= 0, size < minimumBytes else { return 0 }
    return max(0, (size <= emptyBytes.load(ordering: .relaxed) ? wait : min(wait, Self.short)) - time)
  }

  /// - Parameter configuration: of a consumer, which `self` has to outlive.
  func install(in configuration: OpaquePointer) {
    rd_kafka_conf_interceptor_add_on_new(
      configuration, "pacing",
      { client, _, pacing, _, _ in
        rd_kafka_interceptor_add_on_response_received(
          client, "pacing",
          { _, _, _, _, request, _, _, size, time, code, pacing in
            let fetch: Int16 = 1
            if request == fetch, code == RD_KAFKA_RESP_ERR_NO_ERROR, let pacing {
              let pause = Unmanaged<FetchPacing>.fromOpaque(pacing).takeUnretainedValue().pause(size: size, after: time)
              // librdkafka wants no blocking here, in the thread of this broker's connection; it is for no longer than its answer should have taken.
              if pause > 0 { usleep(UInt32(clamping: pause)) }
            }
            return RD_KAFKA_RESP_ERR_NO_ERROR
          }, pacing)
      }, Unmanaged.passUnretained(self).toOpaque())
  }
}
