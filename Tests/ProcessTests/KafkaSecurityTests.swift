import Events
import Foundation
import Kafka
import Testing
import TestBroker
import TestSupport

extension DaemonProcessTests {
  /// TLS and SASL towards the broker, by a gateway before it: noida-db has no TLS and takes any password.
  @Suite(.enabled(if: Gateway.isAvailable, "python3 and openssl are needed: make test-dependencies")) struct KafkaSecurityTests {
    private let secret = "s3cret-\(UUID().uuidString)"

    private func views(_ range: Range<Int>) -> [Record] { viewRecords(range, users: 3, items: 20) }

    /// A daemon that is sent to the gateway, with its password in a file as systemd's `LoadCredential=` gives it. It logs all it can.
    private func installation(_ broker: Broker, _ gateway: Gateway, _ properties: [String: String]) throws -> Installation {
      let installation = try Installation(
        bootstrapServers: broker.bootstrapServers,
        configuration: ["kafka.bootstrap_servers": gateway.address, "log.level": "trace"])
      var properties = properties
      if properties["sasl.mechanism"] != nil {
        properties["sasl.username"] = "shop"
        properties["sasl.password"] = "file:kafka_password"
        try secret.appending("\n").write(to: installation.folder.appending(path: "kafka_password"), atomically: true, encoding: .utf8)
      }
      properties["reconnect.backoff.max.ms"] = "200"
      installation.configuration["kafka.properties"] = "{" + properties.map { "\($0.key): '\($0.value)'" }.joined(separator: ", ") + "}"
      return installation
    }

    private func environment(_ installation: Installation) -> [String: String] { ["CREDENTIALS_DIRECTORY": installation.folder.path] }

    @Test(arguments: [nil, "PLAIN", "SCRAM-SHA-256"])
    func overTLSWithEachMechanismEverythingWorks(mechanism: String?) async throws {
      let broker = try await Broker.start()
      let authority = try CertificateAuthority()
      let gateway = try await Gateway(before: broker, authority: authority, password: mechanism.map { _ in secret })
      var properties = ["security.protocol": mechanism == nil ? "ssl" : "sasl_ssl", "ssl.ca.location": authority.certificate]
      properties["sasl.mechanism"] = mechanism
      let installation = try installation(broker, gateway, properties)
      let daemon = try await installation.startAndWait(environment: environment(installation))
      try installation.produce(views(0..<30) + [Record("u-0", "not JSON")], to: "interactions")
      try await installation.waitUntilSettled()
      #expect(installation.metric("rodpod_ingest_interactions_total") == 30)
      #expect(Set(try installation.published().map(\.user)).isSuperset(of: ["u-0", "u-1", "u-2"]))
      #expect(try installation.deadLetters().count == 1)
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
      #expect(!daemon.standardError.contains(secret))
    }

    @Test func anUnknownAuthorityIsRefusedWithWhatToDo() async throws {
      let broker = try await Broker.start()
      let gateway = try await Gateway(before: broker, authority: CertificateAuthority(), password: nil)
      let other = try CertificateAuthority()
      let installation = try installation(broker, gateway, ["security.protocol": "ssl", "ssl.ca.location": other.certificate])
      let daemon = try installation.start()
      try await waitUntil("it says so; \(daemon.standardError.suffix(1000))") {
        daemon.standardError.contains(/WARNING .*can't be reached yet.*certificate verify failed.*see security.protocol and ssl.ca.location/)
      }
      #expect(daemon.standardError.contains(gateway.address))
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
      let names = try AdminClient(properties: ["bootstrap.servers": broker.bootstrapServers]).metadata(within: .seconds(10)).partitionCounts
      #expect(names[installation.topic("interactions")] == nil)
    }

    @Test(arguments: ["PLAIN", "SCRAM-SHA-256"])
    func aWrongPasswordIsRefusedWithWhatToDo(mechanism: String) async throws {
      let broker = try await Broker.start()
      let right = "r1ght-\(UUID().uuidString)"
      let gateway = try await Gateway(before: broker, authority: nil, password: right)
      let installation = try installation(broker, gateway, ["security.protocol": "sasl_plaintext", "sasl.mechanism": mechanism])
      let daemon = try installation.start(environment: environment(installation))
      try await waitUntil("it says so; \(daemon.standardError.suffix(1000))") {
        daemon.standardError.contains(/WARNING .*can't be reached yet.*Authentication failed.*see sasl.mechanism, sasl.username and sasl.password/)
      }
      #expect(daemon.standardError.contains(gateway.address))
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
      for text in [secret, right] { #expect(!daemon.standardError.contains(text)) }
    }

    @Test func aPasswordThatIsNoLongerTakenIsSaidAndCostsNothingOnceItIs() async throws {
      let broker = try await Broker.start()
      let gateway = try await Gateway(before: broker, authority: nil, password: secret)
      let installation = try installation(broker, gateway, ["security.protocol": "sasl_plaintext", "sasl.mechanism": "SCRAM-SHA-256"])
      let daemon = try await installation.startAndWait(environment: environment(installation))
      try installation.produce(views(0..<30), to: "interactions")
      try await installation.waitUntilSettled()
      try await gateway.restart(password: "an0ther")
      try installation.produce(views(30..<60), to: "interactions")
      try await waitUntil("it says so; \(daemon.standardError.suffix(1000))") {
        daemon.standardError.contains(/ERROR .*Kafka reports an error.*_AUTHENTICATION/)
      }
      #expect(installation.ask("/healthz")?.status == 200)
      #expect(installation.ask("/v1/users/u-1")?.status == 200)
      try await gateway.restart(password: secret)
      try await installation.waitUntilSettled()
      #expect(installation.metric("rodpod_ingest_interactions_total") == 60)
      daemon.send(SIGTERM)
      #expect(try await daemon.exitCode() == 0)
      for text in [secret, "an0ther"] { #expect(!daemon.standardError.contains(text)) }
    }
  }
}
