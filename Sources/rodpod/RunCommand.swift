import AdminAPI
import ArgumentParser
import CoreMetrics
import DaemonSupport
import Foundation
import Logging
import Pipeline
import ServiceLifecycle
import Settings

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
    if code != 0 { throw ExitCode(code) }
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

  /// - Returns: the exit code.
  func run(reload: @escaping @Sendable () throws -> Settings) async -> Int32 {
    ProcessSignal.ignoreBrokenPipes()
    let notifier = SystemdNotifier()
    notifier.status("starting")
    logger.info("rodpod starts", metadata: ["version": "\(BuildInformation.version)", "store": "\(settings.store.path)"])
    let (endings, ended) = AsyncStream.makeStream(of: Ending.self, bufferingPolicy: .bufferingNewest(8))
    let signals = ProcessSignal.stream()
    let daemon: Daemon
    do {
      daemon = try Daemon(settings: settings, logger: logger) { ended.yield(.failure($0)) }
    } catch {
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
    let services = ServiceGroup(services: [admin], logger: logger)
    let code = await withTaskGroup(of: Void.self) { group in
      group.addTask {
        do {
          try await services.run()
        } catch {
          ended.yield(.failure(PipelineError(.unavailable, "the admin server at \(settings.admin.listen) can't go on: \(error)")))
        }
      }
      group.addTask { await daemon.watchdog.feed(notifier, logger: logger) }
      group.addTask {
        for await signal in signals {
          if signal == .hangup { self.reload(daemon, notifier, reload) } else { ended.yield(.signal) }
        }
      }
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
      group.cancelAll()
      return isClean ? code : max(code, Exit.internal)
    }
    logger.info("rodpod has stopped", metadata: ["code": "\(code)"])
    return code
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
