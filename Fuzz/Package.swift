// swift-tools-version: 6.2
import PackageDescription

// libFuzzer targets for DTLSCore. Fuzz/run builds them; `-sanitize=fuzzer,address` and `-enable-testing` on its command
// line reach the library as well, which a setting in this manifest would not.

let core = Target.Dependency.product(name: "DTLSCore", package: "swift-dtls")

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

// libFuzzer brings the main function.
let program = settings + [.unsafeFlags(["-parse-as-library"])]

let package = Package(
    name: "swift-dtls-fuzz",
    platforms: [.macOS(.v15)],
    dependencies: [.package(name: "swift-dtls", path: "..")],
    targets: [
        // Randomness that is the same in every run.
        .target(name: "CFuzzing", linkerSettings: [.linkedLibrary("crypto")]),
        .target(name: "FuzzSupport", dependencies: ["CFuzzing", core], swiftSettings: settings),
        .executableTarget(name: "fuzz-gate", dependencies: ["FuzzSupport", core], swiftSettings: program),
        .executableTarget(name: "fuzz-server-engine", dependencies: ["FuzzSupport", core], swiftSettings: program),
        .executableTarget(name: "fuzz-client-engine", dependencies: ["FuzzSupport", core], swiftSettings: program),
        .executableTarget(name: "fuzz-detached-records", dependencies: ["FuzzSupport", core], swiftSettings: program),
        .executableTarget(name: "fuzz-credentials", dependencies: ["FuzzSupport", core], swiftSettings: program),
    ],
    swiftLanguageModes: [.v6]
)
