import CRdKafka

/// What librdkafka, or the broker through it, refused or failed to do.
public struct KafkaError: Error, Sendable, Equatable, CustomStringConvertible {
  /// An error code of librdkafka: negative ones are the client's own, positive ones are the broker's (the Kafka protocol's).
  public struct Code: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: Int32

    public init(rawValue: Int32) { self.rawValue = rawValue }

    init(_ code: rd_kafka_resp_err_t) { rawValue = code.rawValue }

    var raw: rd_kafka_resp_err_t { rd_kafka_resp_err_t(rawValue) }

    /// A configuration property is unknown, has a value which is not allowed, or is known to crash this version of librdkafka.
    public static let invalidConfiguration = Code(RD_KAFKA_RESP_ERR__INVALID_ARG)
    public static let timedOut = Code(RD_KAFKA_RESP_ERR__TIMED_OUT)
    public static let messageTimedOut = Code(RD_KAFKA_RESP_ERR__MSG_TIMED_OUT)
    public static let transport = Code(RD_KAFKA_RESP_ERR__TRANSPORT)
    public static let allBrokersDown = Code(RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
    public static let authentication = Code(RD_KAFKA_RESP_ERR__AUTHENTICATION)
    public static let tls = Code(RD_KAFKA_RESP_ERR__SSL)
    public static let queueFull = Code(RD_KAFKA_RESP_ERR__QUEUE_FULL)
    public static let fatal = Code(RD_KAFKA_RESP_ERR__FATAL)
    /// The consumer was not polled for `max.poll.interval.ms` and has left its group.
    public static let maximumPollIntervalExceeded = Code(RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED)
    public static let wrongState = Code(RD_KAFKA_RESP_ERR__STATE)
    public static let noOffset = Code(RD_KAFKA_RESP_ERR__NO_OFFSET)
    public static let unknownTopic = Code(RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC)
    public static let unknownTopicOrPartition = Code(RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
    public static let topicAlreadyExists = Code(RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
    public static let topicAuthorizationFailed = Code(RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
    public static let groupAuthorizationFailed = Code(RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED)
    public static let clusterAuthorizationFailed = Code(RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED)
    public static let illegalGeneration = Code(RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION)
    public static let messageTooLarge = Code(RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE)
    /// Another consumer with the same `group.instance.id` took this one's place.
    public static let fencedInstance = Code(RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID)
    public static let invalidProducerEpoch = Code(RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH)
    public static let outOfOrderSequenceNumber = Code(RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER)
    public static let offsetOutOfRange = Code(RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE)
    public static let notLeader = Code(RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION)
    public static let coordinatorLoading = Code(RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS)

    /// The code's name in librdkafka, for example `_TRANSPORT` or `ILLEGAL_GENERATION`.
    public var description: String {
      rd_kafka_err2name(raw).map { String(cString: $0) } ?? "\(rawValue)"
    }

    /// True for what somebody has to allow: the cluster does not know this client, or does not let it.
    public var isRefusal: Bool {
      [.authentication, .topicAuthorizationFailed, .groupAuthorizationFailed, .clusterAuthorizationFailed].contains(self)
    }

    /// True for what passes by itself when the same call is made again later: the network, a moving leader or coordinator, a full queue.
    var isTransient: Bool {
      switch raw {
      case RD_KAFKA_RESP_ERR__TRANSPORT, RD_KAFKA_RESP_ERR__TIMED_OUT, RD_KAFKA_RESP_ERR__MSG_TIMED_OUT,
        RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE, RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, RD_KAFKA_RESP_ERR__RESOLVE,
        RD_KAFKA_RESP_ERR__QUEUE_FULL, RD_KAFKA_RESP_ERR__WAIT_COORD, RD_KAFKA_RESP_ERR__RETRY,
        RD_KAFKA_RESP_ERR__NODE_UPDATE, RD_KAFKA_RESP_ERR__WAIT_CACHE, RD_KAFKA_RESP_ERR__IN_PROGRESS,
        RD_KAFKA_RESP_ERR__ASSIGNMENT_LOST, RD_KAFKA_RESP_ERR__NOENT,
        RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE,
        RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION,
        RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
        RD_KAFKA_RESP_ERR_NOT_COORDINATOR, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND, RD_KAFKA_RESP_ERR_NOT_CONTROLLER,
        RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS, RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
        RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
        RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED, RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR:
        true
      default:
        false
      }
    }
  }

  public let code: Code
  /// librdkafka's own words, for a person.
  public let message: String
  /// The client handle is of no use any more and has to be made again.
  public let isFatal: Bool
  /// The same call may succeed later.
  public let isRetriable: Bool

  public init(code: Code, message: String, isFatal: Bool = false, isRetriable: Bool? = nil) {
    self.code = code
    self.message = message
    self.isFatal = isFatal
    self.isRetriable = isRetriable ?? (!isFatal && code.isTransient)
  }

  public var description: String { "\(message) (\(code)\(isFatal ? ", fatal" : ""))" }
}

extension KafkaError {
  /// An error from a bare code. `_FATAL` only says that there is a fatal error: the cause is asked of the client.
  init(_ code: rd_kafka_resp_err_t, _ message: String? = nil, client: OpaquePointer? = nil) {
    if code == RD_KAFKA_RESP_ERR__FATAL, let client, let cause = KafkaError.fatal(of: client) {
      self = cause
    } else {
      self.init(
        code: Code(code), message: message ?? String(cString: rd_kafka_err2str(code)), isFatal: code == RD_KAFKA_RESP_ERR__FATAL)
    }
  }

  /// Takes over an error object, nil for success.
  init?(consuming error: OpaquePointer?) {
    guard let error else { return nil }
    defer { rd_kafka_error_destroy(error) }
    let code = Code(rd_kafka_error_code(error))
    self.init(
      code: code, message: String(cString: rd_kafka_error_string(error)), isFatal: rd_kafka_error_is_fatal(error) != 0,
      isRetriable: rd_kafka_error_is_retriable(error) != 0 || code.isTransient)
  }

  /// The fatal error that the client has raised, nil while there is none.
  static func fatal(of client: OpaquePointer) -> KafkaError? {
    let (code, message) = withMessageBuffer { rd_kafka_fatal_error(client, $0, $1) }
    return code == RD_KAFKA_RESP_ERR_NO_ERROR ? nil : KafkaError(code: Code(code), message: message, isFatal: true)
  }

  /// Throws unless the code says success.
  static func check(_ code: rd_kafka_resp_err_t, _ doing: String, client: OpaquePointer? = nil) throws(KafkaError) {
    guard code != RD_KAFKA_RESP_ERR_NO_ERROR else { return }
    let error = KafkaError(code, client: client)
    throw KafkaError(
      code: error.code, message: "\(doing): \(error.message)", isFatal: error.isFatal, isRetriable: error.isRetriable)
  }
}

/// Runs a C call that writes what went wrong into a buffer.
func withMessageBuffer<R>(_ call: (UnsafeMutablePointer<CChar>?, Int) -> R) -> (result: R, message: String) {
  withUnsafeTemporaryAllocation(of: CChar.self, capacity: 512) { buffer in
    buffer.initialize(repeating: 0)
    let result = call(buffer.baseAddress, buffer.count)
    return (result, buffer.baseAddress.map { String(cString: $0) } ?? "")
  }
}
