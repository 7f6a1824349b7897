import Hummingbird
import HummingbirdCore
public import Logging
import NIOCore
import NIOPosix
public import ServiceLifecycle

/// The daemon's HTTP server: health, metrics, status page and look-ups.
///
/// All servers of the process share one event loop thread, since the machine's cores are for learning and ranking.
public struct AdminServer: Service {
  private let configuration: AdminConfiguration
  private let status: any StatusSource
  private let lookups: any LookupService
  private let logger: Logger
  private let onListening: @Sendable (Int) -> Void

  /// - Parameter onListening: called once with the port that the server is bound to.
  /// - Throws: ``AdminError`` with `tokenRequired`.
  public init(
    configuration: AdminConfiguration, status: any StatusSource, lookups: any LookupService, logger: Logger,
    onListening: @escaping @Sendable (Int) -> Void = { _ in }
  ) throws(AdminError) {
    try configuration.validate()
    self.configuration = configuration
    self.status = status
    self.lookups = lookups
    self.logger = logger
    self.onListening = onListening
  }

  /// Method and path of every route, as the OpenAPI document writes them.
  package static var routes: [(method: String, path: String)] { Route.table.map { ($0.method.rawValue, $0.path) } }

  /// Never shut down, as NIO's own shared groups: connections that are closing may still hand it work after the server has ended.
  private static let eventLoops = MultiThreadedEventLoopGroup(numberOfThreads: 1)

  /// Serves until graceful shutdown or cancellation.
  /// - Throws: when the address cannot be bound.
  public func run() async throws {
    let history = StatusHistory()
    let application = Application(
      responder: AdminResponder(configuration: configuration, status: status, lookups: lookups, history: history),
      server: .http1(configuration: .init(configuration.limits)),
      configuration: ApplicationConfiguration(
        address: .hostname(configuration.host, port: configuration.port),
        availableConnectionsDelegate: MaximumAvailableConnections(configuration.limits.connections)),
      onServerRunning: { [logger, onListening, host = configuration.host] channel in
        let port = channel.localAddress?.port ?? 0
        logger.info("the admin server listens", metadata: ["address": "\(host)", "port": "\(port)"])
        onListening(port)
      },
      eventLoopGroupProvider: .shared(Self.eventLoops),
      logger: logger)

    try await withThrowingTaskGroup(of: Void.self) { tasks in
      tasks.addTask { [status] in
        while !Task.isCancelled {
          history.add(await status.report())
          try await Task.sleep(for: StatusHistory.samplingInterval)
        }
      }
      defer { tasks.cancelAll() }
      try await application.run()
    }
  }
}

extension HTTP1Channel.Configuration {
  /// A connection within these limits.
  init(_ limits: AdminConfiguration.Limits) {
    self.init(
      additionalChannelHandlers: [RequestLimitsHandler(bodyBytes: limits.bodyBytes, readTime: TimeAmount(limits.requestTime))],
      idleTimeout: TimeAmount(limits.idleTime),
      httpDecoderConfiguration: .init(
        maxHeaderFieldSize: limits.headerBytes, maxHeaderListSize: limits.headerBytes, maxHeaderFieldCount: limits.headerCount))
  }
}

/// The lifecycle logs its services as they describe themselves: not with the token.
extension AdminServer: CustomStringConvertible {
  public var description: String { "AdminServer" }
}
