// swift-tools-version: 6.2
import PackageDescription

// DTLS servers among the services of ServiceLifecycle, and their counts among the metrics of swift-metrics. A package
// of its own, so that users of swift-dtls fetch nothing of it.

let dtls = Target.Dependency.product(name: "DTLS", package: "swift-dtls")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let metrics = Target.Dependency.product(name: "CoreMetrics", package: "swift-metrics")
let lifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let package = Package(
    name: "service-dtls",
    platforms: [.macOS(.v15)],
    products: [
        .library(name: "DTLSService", targets: ["DTLSService"]),
        .executable(name: "dtls-echo-service", targets: ["dtls-echo-service"]),
    ],
    dependencies: [
        // Outside of this repository: .package(url: "https://github.com/swift-dtls/swift-dtls", branch: "main")
        .package(name: "swift-dtls", path: "../.."),
        .package(url: "https://github.com/apple/swift-log", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: [
        .target(name: "DTLSService", dependencies: [dtls, metrics, lifecycle], swiftSettings: settings),
        .executableTarget(
            name: "dtls-echo-service",
            dependencies: [
                "DTLSService", dtls, logging, metrics, lifecycle,
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "DTLSServiceTests",
            dependencies: [
                "DTLSService", "dtls-echo-service", dtls, logging, metrics, lifecycle,
                .product(name: "MetricsTestKit", package: "swift-metrics"),
                .product(name: "ServiceLifecycleTestKit", package: "swift-service-lifecycle"),
            ],
            swiftSettings: settings
        ),
    ],
    swiftLanguageModes: [.v6]
)
