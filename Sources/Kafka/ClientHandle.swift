import CRdKafka
import Dispatch
import Synchronization

/// A line that librdkafka logs.
public struct LogLine: Sendable {
  /// syslog's severity, 0 (emergency) to 7 (debug).
  public let severity: Int
  /// librdkafka's name for the kind of line, for example `FAIL` or `OFFSET`.
  public let facility: String
  public let message: String
}

/// Where a client's log lines, statistics and what its brokers' quotas do go.
public struct ClientObservers: Sendable {
  /// Called on librdkafka's own threads, several at once: it must be thread safe, quick, and must not call the client.
  public var log: @Sendable (LogLine) -> Void
  /// Called with librdkafka's statistics document (JSON) every `statistics.interval.ms`, on the thread which polls the client.
  public var statistics: (@Sendable (String) -> Void)?
  /// Called on the thread which polls the client, with how long the client is held back by a broker after each request that went over a
  /// quota (KIP-13, KIP-219), and with zero when requests pass freely again.
  public var throttled: (@Sendable (Duration) -> Void)?

  public init(
    log: @escaping @Sendable (LogLine) -> Void = { _ in }, statistics: (@Sendable (String) -> Void)? = nil,
    throttled: (@Sendable (Duration) -> Void)? = nil
  ) {
    self.log = log
    self.statistics = statistics
    self.throttled = throttled
  }
}

/// What the C callbacks of a client reach. Lines are logged on any thread, and an admin client may be asked on any; all the rest belongs to
/// the thread which polls, as librdkafka serves those callbacks from inside a poll.
final class CallbackContext {
  private let observers: ClientObservers
  /// Of a consumer.
  let pacing: FetchPacing?
  private let offsetResets = Mutex<[PollResult.OutOfRange]>([])
  private let errors = Mutex<[KafkaError]>([])
  var commitFailures: [KafkaError] = []
  var deliveries: [DeliveryReport] = []
  /// Nil: there is nobody to ask, the assignment is dropped.
  var rebalance: ((rd_kafka_resp_err_t, UnsafeMutablePointer<rd_kafka_topic_partition_list_t>) -> Void)?

  init(observers: ClientObservers, pacing: FetchPacing?) {
    self.observers = observers
    self.pacing = pacing
  }

  /// Errors of the client as a whole (brokers down, authentication), since they were last taken.
  func takeErrors() -> [KafkaError] {
    errors.withLock { errors in
      defer { errors.removeAll() }
      return errors
    }
  }

  func report(_ error: KafkaError) { errors.withLock { $0.append(error) } }

  func log(_ line: LogLine) {
    if let reset = PollResult.OutOfRange(line) { offsetResets.withLock { $0.append(reset) } }
    observers.log(line)
  }

  func takeOffsetResets() -> [PollResult.OutOfRange] {
    offsetResets.withLock { resets in
      defer { resets.removeAll() }
      return resets
    }
  }

  func report(statistics: String) { observers.statistics?(statistics) }

  func report(throttle: Duration) { observers.throttled?(throttle) }

  static func from(_ opaque: UnsafeMutableRawPointer?) -> CallbackContext? {
    opaque.map { Unmanaged<CallbackContext>.fromOpaque($0).takeUnretainedValue() }
  }
}

/// Owns a client of librdkafka and destroys it.
///
/// `@unchecked Sendable`: librdkafka's handle may be used from any thread, and `context` is touched by the polling thread alone,
/// or by the thread which closes while the polling one waits for it or has given it up.
final class ClientHandle: @unchecked Sendable {
  let pointer: OpaquePointer
  let context: CallbackContext
  private var isReleased = false

  /// - Parameter defaults: used where `properties` does not name the same property.
  init(
    type: rd_kafka_type_t, properties: [String: String], defaults: [String: String] = [:], forced: [String: String] = [:],
    observers: ClientObservers
  ) throws(KafkaError) {
    let effective = defaults.merging(properties) { $1 }.merging(forced) { $1 }
    try refuseDangerous(effective)
    guard let configuration = rd_kafka_conf_new() else { fatalError("out of memory") }
    for (name, value) in effective.sorted(by: { $0.key < $1.key }) {
      let (code, message) = withMessageBuffer { rd_kafka_conf_set(configuration, name, value, $0, $1) }
      guard code == RD_KAFKA_CONF_OK else {
        rd_kafka_conf_destroy(configuration)
        throw KafkaError(code: .invalidConfiguration, message: message)
      }
    }
    let context = CallbackContext(observers: observers, pacing: type == RD_KAFKA_CONSUMER ? FetchPacing(effective) : nil)
    // Held by the client until it is destroyed: a callback may come as long as it lives.
    let opaque = Unmanaged.passRetained(context)
    rd_kafka_conf_set_opaque(configuration, opaque.toOpaque())
    rd_kafka_conf_set_log_cb(configuration) { client, level, facility, message in
      guard let client, let context = CallbackContext.from(rd_kafka_opaque(client)) else { return }
      context.log(
        LogLine(
          severity: Int(level), facility: facility.map { String(cString: $0) } ?? "", message: message.map { String(cString: $0) } ?? ""))
    }
    if observers.statistics != nil {
      rd_kafka_conf_set_stats_cb(configuration) { _, json, size, opaque in
        if let json {
          CallbackContext.from(opaque)?.report(
            statistics: String(decoding: UnsafeRawBufferPointer(start: json, count: size), as: UTF8.self))
        }
        return 0
      }
    }
    if observers.throttled != nil {
      rd_kafka_conf_set_throttle_cb(configuration) { _, _, _, milliseconds, opaque in
        CallbackContext.from(opaque)?.report(throttle: .milliseconds(Int(milliseconds)))
      }
    }
    rd_kafka_conf_set_error_cb(configuration) { client, code, reason, opaque in
      CallbackContext.from(opaque)?.report(
        KafkaError(rd_kafka_resp_err_t(code), reason.map { String(cString: $0) }, client: client))
    }
    switch type {
    case RD_KAFKA_CONSUMER:
      context.pacing?.install(in: configuration)
      rd_kafka_conf_set_rebalance_cb(configuration) { client, code, partitions, opaque in
        guard let partitions, let rebalance = CallbackContext.from(opaque)?.rebalance else {
          rd_kafka_assign(client, nil)
          return
        }
        rebalance(code, partitions)
      }
      rd_kafka_conf_set_offset_commit_cb(configuration) { client, code, partitions, opaque in
        guard let context = CallbackContext.from(opaque) else { return }
        let failure = code != RD_KAFKA_RESP_ERR_NO_ERROR ? code : partitions?.firstError
        if let failure, failure != RD_KAFKA_RESP_ERR__NO_OFFSET {
          context.commitFailures.append(KafkaError(failure, client: client))
        }
      }
    default:
      rd_kafka_conf_set_dr_msg_cb(configuration) { client, message, opaque in
        guard let message = message?.pointee, let context = CallbackContext.from(opaque) else { return }
        context.deliveries.append(DeliveryReport(message, client: client))
      }
    }
    // On success librdkafka owns the configuration.
    let (client, message) = withMessageBuffer { rd_kafka_new(type, configuration, $0, $1) }
    guard let client else {
      rd_kafka_conf_destroy(configuration)
      opaque.release()
      throw KafkaError(code: .invalidConfiguration, message: message)
    }
    pointer = client
    self.context = context
  }

  /// Destroys the client on a thread of its own, because librdkafka may block for long after a lost broker. Call it once, and use
  /// the client no more.
  /// - Returns: false when it did not end in time: it goes on in the background, abandoned.
  func destroy(within bound: Duration, closing: @escaping @Sendable (OpaquePointer) -> Void = { _ in }) -> Bool {
    precondition(!isReleased, "a client is destroyed once")
    isReleased = true
    let done = DispatchSemaphore(value: 0)
    DispatchQueue(label: "kafka.close").async {
      closing(self.pointer)
      self.release()
      done.signal()
    }
    return done.wait(timeout: .now() + .milliseconds(Int(bound.milliseconds))) == .success
  }

  private func release() {
    rd_kafka_destroy_flags(pointer, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE)
    Unmanaged.passUnretained(context).release()
  }

  deinit {
    // No goodbye to the group here: it would call back into an owner that is gone.
    if !isReleased { release() }
  }
}

/// What is known to crash librdkafka 2.0.2 or to hide a loss of data is refused before librdkafka sees it.
private func refuseDangerous(_ properties: [String: String]) throws(KafkaError) {
  if properties["partition.assignment.strategy"]?.contains("cooperative-sticky") == true {
    throw KafkaError(
      code: .invalidConfiguration,
      message: "partition.assignment.strategy=cooperative-sticky crashes librdkafka before 2.4.0: use range or roundrobin")
  }
  if properties["client.rack"]?.isEmpty == false {
    throw KafkaError(code: .invalidConfiguration, message: "client.rack crashes librdkafka before 2.1.1: leave it out")
  }
  if let level = properties["log_level"].flatMap({ Int($0) }), level < 4 {
    throw KafkaError(
      code: .invalidConfiguration, message: "log_level=\(level) hides the warning of an offset out of range: 4 or more is allowed")
  }
  if let count = properties["client.id"]?.utf8.count, count > 128 {
    throw KafkaError(
      code: .invalidConfiguration, message: "client.id has \(count) bytes: more than 128 can crash librdkafka before 2.5.0")
  }
}

extension Duration {
  /// Whole milliseconds, rounded up, within what librdkafka's `int` can hold.
  var milliseconds: Int32 {
    let (seconds, attoseconds) = components
    guard seconds < 2_000_000 else { return 2_000_000_000 }
    return Int32(max(0, seconds * 1000 + (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000))
  }
}
