import AdminAPI
import ArgumentParser
import CoreMetrics
import DaemonSupport
import Foundation
import Logging
import Pipeline
import ServiceLifecycle
import Settings
import Synchronization

struct RunCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Runs the daemon.",
    discussion: """
      Stops cleanly on SIGTERM and SIGINT; reads the configuration again on SIGHUP.
      Example: rodpod run --config /etc/rodpod/rodpod.yaml
      """)

  @OptionGroup var options: ConfigurationOptions

  func run() async throws {
    let settings = try options.load()
    let level = bootstrapLogging(format: LogFormat(settings.log.format), level: Logger.Level(settings.log.level))
    let registry = MetricsRegistry()
    PipelineMetrics.describe(in: registry)
    MetricsSystem.bootstrap(registry)
    let host = DaemonHost(settings: settings, registry: registry, logger: Logger(label: "rodpod"))
    let code = await host.run(reload: {
      let renewed = try options.load()
      level.current = Logger.Level(renewed.log.level)
      return renewed
    })
    exitAtOnce(code)
  }
}

/// A daemon with its admin server, its signals and systemd, from start to stop.
struct DaemonHost {
  let settings: Settings
  let registry: MetricsRegistry
  let logger: Logger

  /// What ends the daemon.
  private enum Ending: Sendable {
    case signal
    case failure(PipelineError)
  }

  /// What signals act on while the daemon starts, and then runs.
  private final class StartUp: Sendable {
    let isStopping = Atomic(false)
    private let started = Mutex<Daemon?>(nil)

    /// Nil until it runs: before that there is nothing to reload.
    var daemon: Daemon? {
      get { started.withLock { $0 } }
      set { started.withLock { $0 = newValue } }
    }
  }

  /// - Returns: the exit code.
  func run(reload: @escaping @Sendable () throws -> Settings) async -> Int32 {
    ProcessSignal.ignoreBrokenPipes()
    let notifier = SystemdNotifier()
    notifier.status("starting")
    logger.info("rodpod starts", metadata: ["version": "\(BuildInformation.version)", "store": "\(settings.store.path)"])
    let (endings, ended) = AsyncStream.makeStream(of: Ending.self, bufferingPolicy: .bufferingNewest(8))
    let signals = ProcessSignal.stream()
    let startUp = StartUp()
    let listening = Task {
      for await signal in signals {
        if signal == .hangup {
          if let daemon = startUp.daemon { self.reload(daemon, notifier, reload) }
        } else {
          startUp.isStopping.store(true, ordering: .relaxed)
          ended.yield(.signal)
        }
      }
    }
    defer { listening.cancel() }
    let daemon: Daemon
    do throws(PipelineError) {
      daemon = try await start(startUp) { ended.yield(.failure($0)) }
      startUp.daemon = daemon
    } catch {
      if startUp.isStopping.load(ordering: .relaxed) {
        logger.info("rodpod stops before it was ready")
        return 0
      }
      logger.critical("rodpod can't start", metadata: ["error": "\(error)"])
      complain(error.message)
      return Exit.code(for: error)
    }
    let admin: AdminServer
    do {
      admin = try adminServer(daemon)
    } catch {
      logger.critical("the admin server can't start", metadata: ["error": "\(error)"])
      complain("\(error)")
      _ = daemon.stop()
      return Exit.configuration
    }
    var serviceConfiguration = ServiceGroupConfiguration(services: [admin], logger: logger)
    serviceConfiguration.maximumGracefulShutdownDuration = .seconds(2)
    let services = ServiceGroup(configuration: serviceConfiguration)
    let serving = Task {
      do {
        try await services.run()
      } catch {
        ended.yield(.failure(PipelineError(.unavailable, "the admin server at \(settings.admin.listen) can't go on: \(error)")))
      }
    }
    let code = await withTaskGroup(of: Void.self) { group in
      group.addTask { await daemon.watchdog.feed(notifier, logger: logger) }
      notifier.ready(status: "running")
      logger.info("rodpod is ready", metadata: ["group": "\(settings.kafka.groupID)", "admin": "\(settings.admin.listen)"])
      var code: Int32 = 0
      for await ending in endings {
        if case .failure(let error) = ending {
          complain(error.message)
          code = Exit.code(for: error)
        }
        break
      }
      notifier.stopping(status: "stopping")
      logger.info("rodpod stops")
      notifier.extendTimeout(by: settings.lifecycle.shutdownTimeout)
      let isClean = await stop(daemon)
      await services.triggerGracefulShutdown()
      await serving.value
      group.cancelAll()
      return isClean ? code : max(code, Exit.internal)
    }
    logger.info("rodpod has stopped", metadata: ["code": "\(code)"])
    return code
  }

  /// Starting blocks, so it has a thread of its own. A signal ends the wait for Kafka.
  private func start(
    _ startUp: StartUp, onFailure: @escaping @Sendable (PipelineError) -> Void
  ) async throws(PipelineError) -> Daemon {
    let result = await withCheckedContinuation { (continuation: CheckedContinuation<Result<Daemon, PipelineError>, Never>) in
      let body: @Sendable () -> Void = {
        continuation.resume(
          returning: Result { () throws(PipelineError) in
            try Daemon(
              settings: settings, logger: logger, isStopping: { startUp.isStopping.load(ordering: .relaxed) }, onFailure: onFailure)
          })
      }
      do { _ = try DedicatedThread(name: "start", body) } catch { body() }
    }
    return try result.get()
  }

  /// Stopping blocks, so it has a thread of its own.
  private func stop(_ daemon: Daemon) async -> Bool {
    await withCheckedContinuation { continuation in
      do {
        _ = try DedicatedThread(name: "stop") { continuation.resume(returning: daemon.stop()) }
      } catch {
        continuation.resume(returning: daemon.stop())
      }
    }
  }

  private func adminServer(_ daemon: Daemon) throws -> AdminServer {
    let token = settings.admin.tokenFile.isEmpty ? nil : try String(contentsOfFile: settings.admin.tokenFile, encoding: .utf8)
    let adapter = AdminAdapter(daemon: daemon, registry: registry)
    let (host, port) = settings.admin.address
    return try AdminServer(
      configuration: AdminConfiguration(
        host: host, port: port, token: token?.trimmingCharacters(in: .whitespacesAndNewlines)),
      status: adapter, lookups: adapter, logger: logger,
      onListening: { port in logger.info("the admin server listens", metadata: ["port": "\(port)"]) })
  }

  private func reload(_ daemon: Daemon, _ notifier: SystemdNotifier, _ load: () throws -> Settings) {
    notifier.reloading()
    do {
      let changes = daemon.reload(try load())
      for change in changes.accepted { logger.notice("a setting is changed", metadata: ["setting": "\(change)"]) }
      for change in changes.refused {
        logger.warning("a setting can't change at run time and keeps its value until a restart", metadata: ["setting": "\(change)"])
      }
      if changes.accepted.isEmpty, changes.refused.isEmpty { logger.notice("nothing changed in the configuration") }
    } catch {
      logger.error("the configuration is left as it was: it has errors", metadata: ["error": "\(error)"])
    }
    notifier.ready(status: "running")
  }
}

extension LogFormat {
  init(_ format: Settings.LogFormat) {
    switch format {
    case .auto: self = .automatic
    case .journald: self = .journald
    case .text: self = .text
    case .json: self = .json
    }
  }
}

extension Logger.Level {
  init(_ level: Settings.LogLevel) {
    switch level {
    case .trace: self = .trace
    case .debug: self = .debug
    case .info: self = .info
    case .notice: self = .notice
    case .warning: self = .warning
    case .error: self = .error
    case .critical: self = .critical
    }
  }
}

extension Settings {
  /// The model's hyper-parameters by their keys.
  var modelDescription: [String: String] {
    Dictionary(
      uniqueKeysWithValues: SettingsSchema.settings.filter { setting in
        ["model.", "objective.", "pool."].contains { setting.key.hasPrefix($0) }
      }.map { ($0.key, $0.text(self)) })
  }
}
