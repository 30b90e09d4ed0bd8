// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let package = Package(
    name: "swift-dtls",
    platforms: [.macOS(.v15)],
    products: [
        .library(name: "DTLS", targets: ["DTLS"]),
        .library(name: "DTLSCore", targets: ["DTLSCore"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-collections", from: "1.1.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.6.0"),
    ],
    targets: [
        // OpenSSL's libssl and libcrypto. Only DTLSCore and the test support target import it.
        .systemLibrary(
            name: "COpenSSL",
            pkgConfig: "openssl",
            providers: [.apt(["libssl-dev"]), .yum(["openssl-devel"]), .brew(["openssl@3"])]
        ),
        // The sans-I/O engine: bytes and the time go in; datagrams, events and the next deadline come out.
        .target(
            name: "DTLSCore",
            dependencies: ["COpenSSL", .product(name: "DequeModule", package: "swift-collections")],
            swiftSettings: settings
        ),
        // Sockets, Dispatch sources, demultiplexing, deadlines, the async API.
        .target(
            name: "DTLS",
            dependencies: [
                "DTLSCore",
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "HeapModule", package: "swift-collections"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings
        ),
    ],
    swiftLanguageModes: [.v6]
)
