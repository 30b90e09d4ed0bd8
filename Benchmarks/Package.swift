// swift-tools-version: 6.2
import PackageDescription

// Measurements of the library, one executable each. README.md says how to run them and what they print.

let core = Target.Dependency.product(name: "DTLSCore", package: "swift-dtls")
let dtls = Target.Dependency.product(name: "DTLS", package: "swift-dtls")
let arguments = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let package = Package(
    name: "swift-dtls-benchmarks",
    platforms: [.macOS(.v15)],
    dependencies: [
        .package(name: "swift-dtls", path: ".."),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
    ],
    targets: [
        // What the programs have in common: output, and processes of their own.
        .target(name: "BenchmarkSupport", dependencies: [arguments], swiftSettings: settings),
        // What glibc's allocator says of itself, and a census of what it has given out.
        .target(name: "CMemory"),
        .executableTarget(
            name: "allocation-count",
            dependencies: ["CMemory", dtls],
            swiftSettings: settings
        ),
        .executableTarget(
            name: "idle-memory",
            dependencies: ["BenchmarkSupport", "CMemory", core, dtls, arguments],
            swiftSettings: settings
        ),
        // Plain C that does the same on the same OpenSSL, for comparison.
        .target(name: "CTwins", linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]),
        .executableTarget(
            name: "dtls-micro",
            dependencies: ["BenchmarkSupport", "CMemory", "CTwins", core, dtls, arguments],
            swiftSettings: settings
        ),
        // Many peers on one socket.
        .target(name: "CLoad"),
        .executableTarget(
            name: "growth",
            dependencies: ["BenchmarkSupport", "CLoad", "CTwins", core, dtls, arguments],
            swiftSettings: settings
        ),
        .executableTarget(
            name: "throughput",
            dependencies: ["BenchmarkSupport", "CLoad", "CTwins", core, dtls, arguments],
            swiftSettings: settings
        ),
        .executableTarget(
            name: "dtls-bench-server",
            dependencies: [dtls, arguments],
            swiftSettings: settings
        ),
    ],
    swiftLanguageModes: [.v6]
)
