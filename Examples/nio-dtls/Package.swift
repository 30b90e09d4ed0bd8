// swift-tools-version: 6.2
import PackageDescription

// DTLS in a pipeline of SwiftNIO. A package of its own, so that users of swift-dtls fetch nothing of SwiftNIO.

let core = Target.Dependency.product(name: "DTLSCore", package: "swift-dtls")
let nioCore = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioPosix = Target.Dependency.product(name: "NIOPosix", package: "swift-nio")

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let package = Package(
    name: "nio-dtls",
    platforms: [.macOS(.v15)],
    products: [
        .library(name: "NIODTLS", targets: ["NIODTLS"]),
        .executable(name: "nio-dtls-echo", targets: ["nio-dtls-echo"]),
    ],
    dependencies: [
        // Outside of this repository: .package(url: "https://github.com/swift-dtls/swift-dtls", branch: "main")
        .package(name: "swift-dtls", path: "../.."),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
    ],
    targets: [
        .target(name: "NIODTLS", dependencies: [core, nioCore], swiftSettings: settings),
        .executableTarget(
            name: "nio-dtls-echo",
            dependencies: ["NIODTLS", core, nioCore, nioPosix],
            swiftSettings: settings
        ),
        .testTarget(
            name: "NIODTLSTests",
            dependencies: [
                "NIODTLS", core, nioCore, nioPosix,
                .product(name: "DTLS", package: "swift-dtls"),
                .product(name: "DTLSTestKit", package: "swift-dtls"),
                .product(name: "NIOEmbedded", package: "swift-nio"),
            ],
            swiftSettings: settings
        ),
    ],
    swiftLanguageModes: [.v6]
)
