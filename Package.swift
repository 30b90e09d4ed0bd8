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
        .library(name: "DTLSTestKit", targets: ["DTLSTestKit"]),
        .executable(name: "dtls-hello", targets: ["dtls-hello"]),
        .executable(name: "dtls-coap-ping", targets: ["dtls-coap-ping"]),
        .executable(name: "dtls-webrtc-peer", targets: ["dtls-webrtc-peer"]),
        .executable(name: "dtls-echo-server", targets: ["dtls-echo-server"]),
        .executable(name: "dtls-client", targets: ["dtls-client"]),
        .executable(name: "dtls-tunnel", targets: ["dtls-tunnel"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
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
        // The parts of sendmsg, recvmsg and epoll that Swift cannot import. Only DTLS imports it.
        .systemLibrary(name: "CPosixUDP"),
        // A lock and a time, in a module of their own so that they are compiled into their callers. In no product.
        .target(name: "DTLSPrimitives", swiftSettings: settings),
        // The sans-I/O engine: bytes and the time go in; datagrams, events and the next deadline come out.
        .target(
            name: "DTLSCore",
            dependencies: ["COpenSSL", "DTLSPrimitives", .product(name: "DequeModule", package: "swift-collections")],
            swiftSettings: settings
        ),
        // Sockets, Dispatch sources, demultiplexing, deadlines, the async API.
        .target(
            name: "DTLS",
            dependencies: [
                "CPosixUDP",
                "DTLSCore",
                "DTLSPrimitives",
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "HeapModule", package: "swift-collections"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings
        ),
        // Engines and endpoints over a seeded link that loses, repeats, reorders and damages: for the tests of users, and our own.
        .target(
            name: "DTLSTestKit",
            dependencies: ["DTLSCore", "DTLS", .product(name: "DequeModule", package: "swift-collections")],
            swiftSettings: settings
        ),

        .target(
            name: "ExampleSupport",
            dependencies: ["DTLS", .product(name: "ArgumentParser", package: "swift-argument-parser")],
            path: "Examples/ExampleSupport",
            swiftSettings: settings
        ),
        .executableTarget(
            name: "dtls-hello",
            dependencies: [
                "DTLS", "ExampleSupport", .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            path: "Examples/dtls-hello",
            exclude: ["README.md"],
            swiftSettings: settings
        ),
        .executableTarget(
            name: "dtls-coap-ping",
            dependencies: [
                "DTLS", "ExampleSupport", .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            path: "Examples/dtls-coap-ping",
            exclude: ["README.md"],
            swiftSettings: settings
        ),
        // On DTLSCore alone, without the sockets of DTLS.
        .executableTarget(
            name: "dtls-webrtc-peer",
            dependencies: ["DTLSCore", .product(name: "ArgumentParser", package: "swift-argument-parser")],
            path: "Examples/dtls-webrtc-peer",
            exclude: ["README.md"],
            swiftSettings: settings
        ),
        .executableTarget(
            name: "dtls-echo-server",
            dependencies: [
                "DTLS", "ExampleSupport", .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            path: "Examples/dtls-echo-server",
            exclude: ["README.md"],
            swiftSettings: settings
        ),
        .executableTarget(
            name: "dtls-client",
            dependencies: [
                "DTLS", "ExampleSupport", .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            path: "Examples/dtls-client",
            exclude: ["README.md"],
            swiftSettings: settings
        ),
        // What of epoll dtls-tunnel needs for plain sockets. Empty elsewhere than on Linux.
        .systemLibrary(name: "CReadiness", path: "Examples/CReadiness"),
        .executableTarget(
            name: "dtls-tunnel",
            dependencies: [
                "CReadiness", "DTLS", "ExampleSupport",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            path: "Examples/dtls-tunnel",
            exclude: ["README.md"],
            swiftSettings: settings
        ),

        .target(
            name: "DTLSTestSupport",
            dependencies: ["COpenSSL", "DTLSCore", "DTLSTestKit"],
            path: "Tests/DTLSTestSupport",
            swiftSettings: settings
        ),
        .testTarget(
            name: "DTLSCoreTests",
            dependencies: ["DTLSCore", "DTLSPrimitives", "DTLSTestSupport"],
            exclude: ["Vectors/make_record_vectors.py"],
            swiftSettings: settings
        ),
        .testTarget(
            name: "DTLSTests",
            dependencies: [
                "DTLS", "DTLSPrimitives", "DTLSTestSupport", .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "DTLSTestKitTests",
            dependencies: [
                "DTLS", "DTLSCore", "DTLSTestKit", "DTLSTestSupport",
                .product(name: "HeapModule", package: "swift-collections"),
            ],
            swiftSettings: settings
        ),
        // Parts of the example programs; InteropTests run the programs themselves.
        .testTarget(
            name: "ExampleTests",
            dependencies: ["dtls-coap-ping", "dtls-webrtc-peer"],
            swiftSettings: settings
        ),
        .testTarget(
            name: "InteropTests",
            dependencies: [
                "DTLS", "DTLSPrimitives", "DTLSTestKit", "dtls-hello", "dtls-echo-server", "dtls-client", "dtls-tunnel",
                "dtls-coap-ping", "dtls-webrtc-peer",
            ],
            swiftSettings: settings
        ),
    ],
    swiftLanguageModes: [.v6]
)

// Who builds the documentation sets this; who uses the package has nothing to fetch for it.
if Context.environment["SWIFT_DTLS_DOCUMENTATION"] != nil {
    package.dependencies.append(.package(url: "https://github.com/swiftlang/swift-docc-plugin", from: "1.5.0"))
}
