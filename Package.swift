// swift-tools-version: 6.2
import PackageDescription

/// `make fuzz`. The compiler measures coverage only where `fuzzer` is the last sanitizer that is named: so in our code, for which inputs are
/// sought, and not in that of others.
let isFuzzed = Context.environment["RODPOD_FUZZ"] != nil

/// What every Swift target is compiled with.
let common: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
] + (Context.environment["RODPOD_WARNINGS_AS_ERRORS"] == nil ? [] : [.treatAllWarnings(as: .error)])
  + (isFuzzed ? [.unsafeFlags(["-sanitize=fuzzer"])] : [])

// The floor for the numeric kernels is x86-64-v3 (AVX2 and FMA): without it Swift's SIMD types call `fmaf` one lane at a time.
// The flag changes Swift's own code generation, not only that of imported C.
// Fuzzing and sanitizers keep the checks that a release leaves out there.
let numericOptimization = Context.environment["RODPOD_CHECKED"] == nil ? "-Ounchecked" : "-O"
#if arch(x86_64)
  let numeric: [SwiftSetting] = common + [.unsafeFlags([numericOptimization, "-enable-testing", "-Xcc", "-march=x86-64-v3"], .when(configuration: .release))]
#else
  let numeric: [SwiftSetting] = common + [.unsafeFlags([numericOptimization, "-enable-testing"], .when(configuration: .release))]
#endif

// Release tests of internals need it; the numeric targets have it too.
let testable: [SwiftSetting] = common + [.unsafeFlags(["-enable-testing"], .when(configuration: .release))]

func library(
  _ name: String, _ dependencies: [Target.Dependency] = [], resources: [Resource] = [], settings: [SwiftSetting] = common
) -> Target {
  .target(name: name, dependencies: dependencies, resources: resources, swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency], resources: [Resource] = []) -> Target {
  .testTarget(name: name, dependencies: dependencies, resources: resources, swiftSettings: common)
}

let package = Package(
  name: "rodpod",
  platforms: [.macOS(.v15)],
  products: [.executable(name: "rodpod", targets: ["rodpod"])],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0", traits: []),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
    .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.0"),
    .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: []),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
  ],
  targets: [
    // Layer 0: system libraries.
    .systemLibrary(name: "CRdKafka", pkgConfig: "rdkafka", providers: [.apt(["librdkafka-dev"])]),
    .systemLibrary(name: "CLMDB", pkgConfig: "lmdb", providers: [.apt(["liblmdb-dev"])]),
    .systemLibrary(name: "COneDNN", providers: [.apt(["libdnnl-dev"])]),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    .target(
      name: "CSimdjson", cxxSettings: [.unsafeFlags(["-std=c++17"])],
      linkerSettings: [.linkedLibrary("simdjson"), .linkedLibrary("stdc++")]),

    .target(name: "CQuantizedSearch"),
    .target(name: "CVectorKernels", exclude: ["kernels.inc", "elementwise.inc", "products.inc", "attention.inc"]),

    // Layer 1: thin wrappers and kernels.
    library("Kernels", ["COneDNN", "CQuantizedSearch", "CVectorKernels"], settings: numeric),
    library("LMDB", ["CLMDB"]),
    library("Kafka", ["CRdKafka"]),
    library(
      "DaemonSupport",
      [.product(name: "Logging", package: "swift-log"), .product(name: "CoreMetrics", package: "swift-metrics")]),

    // Layer 2: the domain.
    library("Settings", [.product(name: "Yams", package: "Yams")]),
    library("Events", ["CSimdjson"]),
    library("StateStore", ["LMDB", .product(name: "Crypto", package: "swift-crypto")], settings: testable),
    library("Recommender", ["Kernels"], settings: numeric),
    library("Datasets", ["CZlib"], settings: testable),

    // Layer 3: services.
    library(
      "Pipeline",
      [
        "Kafka", "DaemonSupport", "Settings", "Events", "StateStore", "Recommender", "Kernels",
        .product(name: "Logging", package: "swift-log"), .product(name: "Metrics", package: "swift-metrics"),
      ], settings: testable),
    library(
      "Backtest",
      ["Pipeline", "Recommender", "Datasets", "Settings", "Events", "Kernels", .product(name: "Logging", package: "swift-log")],
      settings: numeric),
    library(
      "AdminAPI",
      [
        .product(name: "Hummingbird", package: "hummingbird"), .product(name: "HummingbirdCore", package: "hummingbird"),
        .product(name: "HTTPTypes", package: "swift-http-types"), .product(name: "Logging", package: "swift-log"),
        .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "NIOHTTPTypes", package: "swift-nio-extras"), .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
      ],
      // In the code, so that the daemon stays one file.
      resources: [.embedInCode("Resources/openapi.yaml"), .embedInCode("Resources/status.html")], settings: testable),

    // Layer 4: the daemon.
    .executableTarget(
      name: "rodpod",
      dependencies: [
        "Pipeline", "AdminAPI", "Backtest", "Datasets", "Settings", "Events", "StateStore", "Kafka", "Recommender", "DaemonSupport",
        .product(name: "ArgumentParser", package: "swift-argument-parser"), .product(name: "CoreMetrics", package: "swift-metrics"),
        .product(name: "Logging", package: "swift-log"), .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
      ],
      swiftSettings: common),

    // The benchmarks of `make bench`.
    .executableTarget(
      name: "rodpod-bench",
      dependencies: [
        "Kernels", "Recommender", "Events", "StateStore", "Datasets", "Pipeline", "Kafka", "Settings", "DaemonSupport", "TestBroker",
        "TestSupport", .product(name: "ArgumentParser", package: "swift-argument-parser"), .product(name: "Logging", package: "swift-log"),
      ], path: "Benchmarks/Speed", swiftSettings: numeric),

    // Tests mirror the sources.
    .target(name: "TestSupport", path: "Tests/TestSupport", swiftSettings: common),
    .target(name: "TestBroker", dependencies: ["Kafka", "TestSupport"], path: "Tests/TestBroker", swiftSettings: common),
    tests("KernelsTests", ["Kernels", "CQuantizedSearch"]),
    tests("LMDBTests", ["LMDB", "TestSupport"]),
    tests("KafkaTests", ["Kafka", "TestBroker", "TestSupport"]),
    tests(
      "DaemonSupportTests",
      [
        "DaemonSupport", "TestSupport", .product(name: "Logging", package: "swift-log"),
        .product(name: "CoreMetrics", package: "swift-metrics"),
      ]),
    tests("SettingsTests", ["Settings"]),
    tests("EventsTests", ["Events", "TestSupport"]),
    tests("StateStoreTests", ["StateStore", "LMDB", "TestSupport"]),
    tests("RecommenderTests", ["Recommender", "Kernels", "TestSupport"]),
    tests("DatasetsTests", ["Datasets", "TestSupport"]),
    tests(
      "BacktestTests",
      [
        "Backtest", "Datasets", "Pipeline", "Recommender", "Settings", "StateStore", "TestSupport",
        .product(name: "Logging", package: "swift-log"),
      ]),
    tests(
      "AdminAPITests",
      [
        "AdminAPI", "TestSupport", .product(name: "Logging", package: "swift-log"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"), .product(name: "Yams", package: "Yams"),
      ]),
    // These start the built daemon.
    tests("ProcessTests", ["rodpod", "TestBroker", "TestSupport", "Kafka", "Events", "Settings", "StateStore", "Datasets"]),
    tests(
      "PipelineTests",
      [
        "Pipeline", "Kafka", "DaemonSupport", "Events", "Settings", "StateStore", "Recommender", "Datasets", "TestSupport",
        .product(name: "Logging", package: "swift-log"),
      ]),
  ]
)

// The documentation of the modules: `make docs`. Nothing that is built needs it.
if Context.environment["RODPOD_DOCS"] != nil {
  package.dependencies.append(.package(url: "https://github.com/swiftlang/swift-docc-plugin", from: "1.5.0"))
}

// Coverage-guided fuzzing has a main program of libFuzzer's: `make fuzz`.
if isFuzzed {
  package.targets.append(
    .executableTarget(
      name: "rodpod-fuzz",
      dependencies: [
        "AdminAPI", "Events", "Settings", "StateStore", "Recommender", .product(name: "Hummingbird", package: "hummingbird"),
        .product(name: "HummingbirdCore", package: "hummingbird"), .product(name: "Logging", package: "swift-log"),
        .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOEmbedded", package: "swift-nio"),
      ], path: "Tests/Fuzz",
      swiftSettings: common + [.unsafeFlags(["-parse-as-library"])]))
}
