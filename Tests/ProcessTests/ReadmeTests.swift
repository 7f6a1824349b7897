import Events
import Foundation
import Kafka
import Testing
import TestBroker
import TestSupport

extension DaemonProcessTests {
  /// The commands of the documents, run or accounted for one by one.
  @Suite struct ReadmeTests {
    /// What is done with a command.
    private enum Check {
      /// It runs in a shell as it stands, or in these forms of it, and each ends with 0.
      case runs([String] = [])
      /// It is started and goes on until all others have run.
      case goesOn
      /// It would take minutes, or install things: `make` knows what it would do, and that is all that is seen here.
      case dryRun
      /// A verb that is named in passing: its help is there.
      case help
      /// It needs a machine of its own, on which this script runs these words.
      case inScript(String, String)
      /// It is another program's; these tests are run by it, or only an installed service has it.
      case notHere(because: String)
    }

    /// In the order in which they are run. `DIR` and the like stand in synopses; the forms are what is meant.
    private static let readme: [(command: String, check: Check)] = [
      ("make demo", .dryRun), ("make test", .dryRun), ("make deb", .dryRun), ("make check-deb", .dryRun), ("make build", .dryRun),
      ("make docs", .dryRun), ("make bench", .dryRun), ("make bench-peers", .dryRun), ("make quality", .dryRun), ("make torture", .dryRun),
      ("make fuzz", .dryRun), ("make sanitize", .dryRun), ("make sbom", .dryRun),
      ("sudo apt install ./dist/rodpod_*_amd64.deb", .inScript("debian/check-service.sh", "apt-get install -y -q --no-install-recommends /srv/rodpod.deb")),
      ("sudo systemctl enable --now rodpod", .inScript("debian/check-service.sh", "systemctl enable --now rodpod")),

      ("export PATH=$PWD/.build/release:$PATH", .runs(["export PATH=$PWD/.build/release:$PATH && rodpod --version"])),
      ("rodpod default-config > rodpod.yaml", .runs()),
      ("rodpod check-config --config rodpod.yaml", .runs()),
      ("rodpod check-config", .runs()),
      ("rodpod validate --config rodpod.yaml events.jsonl", .runs()),
      ("rodpod import --config rodpod.yaml events.jsonl", .runs()),
      ("rodpod run --config rodpod.yaml", .goesOn),
      ("rodpod run", .help),
      ("rodpod dlq list --config rodpod.yaml", .runs()),
      ("rodpod dlq replay --config rodpod.yaml", .runs()),
      ("rodpod top --config FILE", .runs(["rodpod top --config rodpod.yaml"])),
      (#"rodpod inspect user\|item\|pool\|offsets\|model … --store DIR [--json]"#,
        .runs(["user u-17", "item sku-4711", "pool u-17", "offsets", "model"].map { "rodpod inspect \($0) --store store --json" })),
      ("rodpod backup FOLDER --store DIR", .runs(["rodpod backup copy --store store"])),
      ("rodpod restore FOLDER --store DIR", .runs(["rodpod restore copy --store restored"])),
      (#"rodpod checkpoint list\|verify --store DIR"#, .runs(["list", "verify"].map { "rodpod checkpoint \($0) --store store" })),
      ("rodpod checkpoint export FOLDER --store DIR", .runs(["rodpod checkpoint export exported --store store"])),
      ("rodpod state digest --store DIR", .runs(["rodpod state digest --store store"])),

      ("curl 'localhost:9464/v1/users/u-17/recommendations'", .runs()),
      ("curl 'localhost:9464/v1/users/u-17/recommendations?fresh=true&category=kitchen&exclude=sku-4711&limit=5'", .runs()),
      (#"curl 'localhost:9464/v1/recommendations' -H 'Content-Type: application/json' -d '{"items": ["sku-4711", "sku-0815"]}'"#, .runs()),
      ("curl 'localhost:9464/v1/items/sku-4711/similar'", .runs()),
      ("curl 'localhost:9464/v1/users/u-17'", .runs()),
      ("curl -X DELETE 'localhost:9464/v1/users/u-17'", .runs()),

      ("rodpod backtest", .help),
      ("rodpod backtest prequential --block day --interactions events.tsv.gz --items items.tsv.gz --features text=text.npy", .runs()),
      ("rodpod backtest leave-one-out --interactions events.csv --seed 1 --seed 2 --seed 3 --ranks mine.ranks", .runs()),
      ("rodpod backtest periods --allow-repeats --interactions week_*.jsonl.gz --json", .runs()),
      ("rodpod train", .help),
      ("rodpod train --interactions clicks.csv.gz --items items.csv --store /var/lib/rodpod/store --config rodpod.yaml", .runs()),
    ]

    private static let others: [(command: String, check: Check)] = [
      ("make test", .dryRun), ("make quality", .dryRun), ("make test check-deb check-rules", .dryRun),
      ("swift build -c release --product rodpod", .notHere(because: "it builds what is tested here")),
      ("swift build -c release --build-tests", .notHere(because: "it builds these tests")),
      ("swift test -c release --skip-build --filter EventsTests", .notHere(because: "it runs tests as these are run")),
      ("rodpod default-config > config/rodpod.yaml", .notHere(because: "a test of Settings compares the file with what the verb prints")),
      ("rodpod top", .help), ("rodpod dlq replay", .help), ("rodpod import", .help), ("rodpod backtest", .help),
      ("rodpod check-config --config /etc/rodpod/rodpod.yaml", .inScript("debian/check.sh", "rodpod check-config --config /etc/rodpod/rodpod.yaml")),
      ("rodpod dlq list --config /etc/rodpod/rodpod.yaml", .runs(["rodpod dlq list --help"])),
      ("systemctl restart rodpod", .inScript("debian/check-service.sh", "systemctl restart rodpod")),
      ("systemctl status rodpod", .notHere(because: "it is systemd's, of an installed service")),
      ("journalctl --unit rodpod --priority warning", .notHere(because: "it is systemd's, of an installed service")),
      (#"journalctl --unit rodpod --grep "rodpod has stopped|can't""#, .notHere(because: "it is systemd's, of an installed service")),
    ]

    private func text(_ document: String) throws -> String {
      try String(contentsOf: ForeignProgram.root.appending(path: document), encoding: .utf8)
    }

    /// The contents of the fenced blocks of a language.
    private func blocks(_ language: String, in text: String) -> [String] {
      text.matches(of: #/(?s)```([a-z]*)\n(.*?)\n```/#).filter { $0.1 == language }.map { String($0.2) }
    }

    /// The commands in blocks of shell, without their comments, and those that stand in the text as code.
    private func commands(in text: String) -> Set<String> {
      let lines = blocks("sh", in: text).joined(separator: "\n").replacing("\\\n", with: " ").components(separatedBy: "\n")
      let inBlocks = lines.map { $0.replacing(#/(^|\s\s+)#.*/#, with: "") }.filter { !$0.isEmpty }
      let inText = text.replacing(#/(?s)```.*?```/#, with: "").matches(of: /`([^`]+)`/)
        .map { $0.1.split(whereSeparator: \.isWhitespace).joined(separator: " ") }
        .filter { $0.contains(#/^(rodpod|make|sudo|systemctl|journalctl|curl|swift) /#) }
      return Set(inBlocks + inText)
    }

    @Test func everyCommandOfTheDocumentsIsAccountedForHere() throws {
      #expect(commands(in: try text("README.md")) == Set(Self.readme.map(\.command)))
      let others = try ["CONTRIBUTING.md", "docs/runbook.md"].map { commands(in: try text($0)) }
      #expect(others[0].union(others[1]) == Set(Self.others.map(\.command)))
      #expect(commands(in: "```sh\na  # why\n\nb \\\n  c#d\n```\n`make x` `rodpod\n y` `make`") == ["a", "b    c#d", "make x", "rodpod y"])
    }

    /// The files that the README's commands name, in the installation's folder.
    private func writeFiles(in installation: Installation) async throws {
      let json = blocks("json", in: try text("README.md"))
      let users = 12
      let items = ["sku-4711", "sku-0815"] + (0..<10).map { "sku-\($0)" }
      var jsonLines: [[String]] = [[], []]
      var rows: [String] = []
      for user in 0..<users {
        for step in 0..<6 {
          let item = items[(user * 5 + step) % items.count]
          let time = 1_777_000_000 + step * 90_000 + user
          rows.append("u-\(user),\(item),view,\(time)")
          jsonLines[step / 3].append(#"{"session":"u-\#(user)","item":"\#(item)","time":\#(time)}"#)
        }
      }
      let events = "user,item,type,time\n" + rows.joined(separator: "\n") + "\n"
      let table = "item,title,categories\n" + items.map { "\($0),Title of \($0),kitchen" }.joined(separator: "\n") + "\n"
      for (name, content) in [
        "events.jsonl": json[0] + "\n" + json[0].replacing("sku-4711", with: "sku-0815"), "items.jsonl": json[1].replacing("\n", with: " "),
        "events.csv": events, "clicks.csv": events, "events.tsv": events.replacing(",", with: "\t"), "items.csv": table,
        "items.tsv": table.replacing(",", with: "\t"), "week_1.jsonl": jsonLines[0].joined(separator: "\n"),
        "week_2.jsonl": jsonLines[1].joined(separator: "\n"),
      ] {
        try Data(content.utf8).write(to: installation.folder.appending(path: name))
      }
      try numpyFile(items.indices.map { [Float($0), 1] }).write(to: installation.folder.appending(path: "text.npy"))
      let recommendation = try Recommendation(json: Array(json[2].utf8))
      #expect(recommendation.user == "u-17" && recommendation.items.map(\.item) == ["sku-0815"])
      let binary = try ChildProcess.locateBinary().path
      let folder = installation.folder.appending(path: ".build/release")
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      try FileManager.default.createSymbolicLink(atPath: folder.path + "/rodpod", withDestinationPath: binary)
      try await shell("gzip -k clicks.csv events.tsv items.tsv week_*.jsonl", in: installation)
      try await shell("rodpod validate --items items.jsonl", in: installation)
    }

    private func started(_ command: String, in installation: Installation, at folder: URL? = nil) throws -> (ForeignProcess, URL) {
      let output = installation.folder.appending(path: uniqueName("shell"))
      // Its port and its store are this test's own.
      let meant = command.replacing("localhost:9464", with: "127.0.0.1:\(installation.adminPort)").replacing("/var/lib/rodpod/store", with: "trained")
        .replacing(#/^curl /#, with: "curl --silent --show-error --fail ")
      let script = "cd \(folder?.path ?? installation.folder.path) && PATH=\(installation.folder.path)/.build/release:$PATH && \(meant)"
      return (try ForeignProcess("/bin/sh", ["-c", script], output: output, errors: output.appendingPathExtension("errors")), output)
    }

    /// Runs a command to its end, which has to be 0.
    /// - Returns: what it printed.
    @discardableResult
    private func shell(_ command: String, in installation: Installation, at folder: URL? = nil) async throws -> String {
      let (process, output) = try started(command, in: installation, at: folder)
      let code = try await process.exitCode(within: .seconds(240))
      let printed = try String(contentsOf: output, encoding: .utf8)
      let errors = try String(contentsOf: output.appendingPathExtension("errors"), encoding: .utf8)
      #expect(code == 0, "\(command): \(printed.suffix(1000))\(errors.suffix(1000))")
      return printed
    }

    @Test func everyCommandOfTheReadmeRuns() async throws {
      let installation = try Installation(bootstrapServers: try await Broker.shared().bootstrapServers)
      installation.configuration["learner.checkpoint_interval_ms"] = "200"
      try await writeFiles(in: installation)
      var daemon: ForeignProcess?
      for (command, check) in Self.readme + Self.others {
        switch check {
        case .runs(let forms):
          for form in forms.isEmpty ? [command] : forms {
            let printed = try await shell(form, in: installation)
            #expect(!printed.isEmpty || form.contains(" > ") || form.contains("DELETE"), "\(form) prints nothing")
          }
          // What it shows is filled in, as the README says.
          if command.hasSuffix("default-config > rodpod.yaml") { try installation.writeConfiguration() }
        case .goesOn:
          let (process, output) = try started("exec " + command, in: installation)
          daemon = process
          try await waitUntil("the daemon is ready") {
            installation.ask("/readyz")?.status == 200 || !process.isRunning
          }
          let said = try String(contentsOf: output.appendingPathExtension("errors"), encoding: .utf8)
          #expect(process.isRunning, "\(said)")
          try installation.produce(
            ["sku-4711", "sku-0815", "sku-1"].map { (item: String) in Record(item, #"{"item":"\#(item)","categories":["kitchen"]}"#) },
            to: "items")
          try await installation.waitUntilRankable(3)
          try await installation.waitUntilSettled()
        case .dryRun: try await shell("make --dry-run " + command.dropFirst("make ".count), in: installation, at: ForeignProgram.root)
        case .help: #expect(try await shell(command + " --help", in: installation).contains("USAGE: " + command))
        case .inScript(let script, let words): #expect(try text(script).contains(words), "\(command) in \(script)")
        case .notHere(let reason): #expect(!reason.isEmpty)
        }
      }
      withExtendedLifetime(daemon) {}
    }

    @Test func everyVerbIsInTheReadmeAndItsHelpHasAnExample() async throws {
      let installation = try Installation(bootstrapServers: "127.0.0.1:1")
      let help = try await installation.rodpod("--help").output
      let list = try #require(help.firstMatch(of: #/(?s)SUBCOMMANDS:\n(.*?)\n\n/#)).1
      let verbs = list.matches(of: #/(?m)^  ([a-z][a-z-]*)/#).map { String($0.1) }
      #expect(verbs.count > 10)
      let readme = try text("README.md")
      for verb in verbs {
        #expect(readme.contains("rodpod \(verb)") || readme.contains("make \(verb)"), "\(verb)")
        let words = try await installation.rodpod(verb, "--help").output.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        #expect(words.contains("Example: rodpod \(verb) "), "\(verb)")
      }
    }
  }
}
