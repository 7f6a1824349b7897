import CRdKafka

/// Where a message has come to lie.
public struct Delivery: Hashable, Sendable {
  public let partition: Int32
  /// -1 when the broker was not asked to say (`acks=0`).
  public let offset: Int64
}

/// The end of one `Producer.produce`: the broker's acknowledgement, or why there will be none.
public struct DeliveryReport: Sendable {
  public let token: UInt64
  public let result: Result<Delivery, KafkaError>

  init(_ message: rd_kafka_message_t, client: OpaquePointer?) {
    token = UInt64(UInt(bitPattern: message._private))
    result =
      message.err == RD_KAFKA_RESP_ERR_NO_ERROR
      ? .success(Delivery(partition: message.partition, offset: message.offset)) : .failure(KafkaError(message.err, client: client))
  }
}

/// What a call of `Producer.poll` met.
public struct ProducerPollResult: Sendable {
  public var deliveries: [DeliveryReport] = []
  /// Errors of the client as a whole (brokers down, authentication, a fatal one).
  public var errors: [KafkaError] = []

  public init() {}
}

/// Sends messages, idempotently unless told otherwise: once each and in order within a partition, as long as it lives.
///
/// It belongs to one thread (hence not `Sendable`). Every message that `produce` has taken gets exactly one `DeliveryReport`, from
/// `poll` or `flush`. After a fatal error nothing is delivered any more: close it, make another, and send again what was not
/// acknowledged.
public final class Producer {
  public enum Outcome: Sendable {
    case enqueued
    /// The local queue is full: poll, and try again.
    case queueFull
  }

  private let handle: ClientHandle
  private var isClosed = false

  private var client: OpaquePointer { handle.pointer }

  /// - Parameter properties: librdkafka's. Unless given, `enable.idempotence` is `true`, `acks` is `all`, and the partition of a key
  ///   is the one that Kafka's Java clients choose (`murmur2_random`).
  /// - Throws: `invalidConfiguration`.
  public init(properties: [String: String], observers: ClientObservers = ClientObservers()) throws(KafkaError) {
    handle = try ClientHandle(
      type: RD_KAFKA_PRODUCER, properties: properties,
      defaults: ["enable.idempotence": "true", "acks": "all", "partitioner": "murmur2_random"], observers: observers)
  }

  /// Queues a message, copied; it does not wait.
  /// - Parameters:
  ///   - partition: nil leaves it to the partitioner (by key).
  ///   - value: nil is a tombstone, which is something else than an empty value.
  ///   - timestamp: milliseconds since 1970; nil is now.
  ///   - token: comes back in the delivery report.
  /// - Throws: what makes the message impossible to send: too large, unknown topic or partition, a fatal error.
  public func produce(
    topic: String, partition: Int32? = nil, key: [UInt8]?, value: [UInt8]?, headers: [Header] = [], timestamp: Int64? = nil,
    token: UInt64 = 0
  ) throws(KafkaError) -> Outcome {
    guard !isClosed else { throw KafkaError(code: .wrongState, message: "the producer is closed") }
    let list = headers.isEmpty ? nil : makeHeaders(headers)
    let code = withBytes(key) { key in
      withBytes(value) { value in
        rdkafka_shim_produce(
          client, topic, partition ?? RD_KAFKA_PARTITION_UA, key.baseAddress, key.count, value.baseAddress, value.count, list,
          timestamp ?? 0, UnsafeMutableRawPointer(bitPattern: UInt(token)))
      }
    }
    if code == RD_KAFKA_RESP_ERR_NO_ERROR {
      outstandingCount += 1
      return .enqueued
    }
    if let list { rd_kafka_headers_destroy(list) }
    if code == RD_KAFKA_RESP_ERR__QUEUE_FULL { return .queueFull }
    throw KafkaError(code, client: client)
  }

  /// Waits up to `timeout` for delivery reports and takes those that are there.
  public func poll(timeout: Duration) -> ProducerPollResult {
    guard !isClosed else { return ProducerPollResult() }
    rd_kafka_poll(client, handle.context.deliveries.isEmpty ? timeout.milliseconds : 0)
    return takeReports()
  }

  /// Sends everything without lingering and waits up to `bound` until it is acknowledged or has failed; `outstandingCount` tells
  /// what is left.
  public func flush(within bound: Duration) -> ProducerPollResult {
    guard !isClosed else { return ProducerPollResult() }
    // The time running out is no error here: what is left is counted.
    _ = rd_kafka_flush(client, bound.milliseconds)
    return takeReports()
  }

  /// Messages which have no delivery report yet.
  public private(set) var outstandingCount = 0

  /// The error after which this producer delivers nothing more.
  public var fatalError: KafkaError? { isClosed ? nil : KafkaError.fatal(of: client) }

  /// Frees the client. What is not acknowledged by now is dropped without a report: flush first.
  /// - Returns: false when librdkafka did not end within `bound`: it is left to itself then.
  @discardableResult
  public func close(within bound: Duration) -> Bool {
    guard !isClosed else { return true }
    isClosed = true
    return handle.destroy(within: bound)
  }

  private func takeReports() -> ProducerPollResult {
    var result = ProducerPollResult()
    swap(&result.deliveries, &handle.context.deliveries)
    outstandingCount -= result.deliveries.count
    result.errors = handle.context.takeErrors()
    return result
  }

  private func makeHeaders(_ headers: [Header]) -> OpaquePointer {
    guard let list = rd_kafka_headers_new(headers.count) else { Swift.fatalError("out of memory") }
    for header in headers {
      _ = withBytes(header.value) { value in
        rd_kafka_header_add(list, header.name, -1, value.baseAddress, value.count)
      }
    }
    return list
  }
}

/// Lends the bytes to C, where only a null pointer means null: an empty array gets an address too.
private func withBytes<R>(_ bytes: [UInt8]?, _ body: (UnsafeRawBufferPointer) -> R) -> R {
  guard let bytes else { return body(UnsafeRawBufferPointer(start: nil, count: 0)) }
  if bytes.isEmpty {
    return withUnsafeBytes(of: UInt8(0)) { body(UnsafeRawBufferPointer(rebasing: $0.prefix(0))) }
  }
  return bytes.withUnsafeBytes(body)
}
