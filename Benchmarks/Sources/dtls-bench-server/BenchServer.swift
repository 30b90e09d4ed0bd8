import ArgumentParser
import DTLS

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

@main
struct BenchServer: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dtls-bench-server",
        abstract: "The library's server as the peers' benchmark drives it.",
        discussion: """
            It speaks DTLS 1.2 with one suite. A message that begins with X is counted, one that begins with S is \
            answered with what was counted, anything else comes back. SIGTERM ends it.
            """
    )

    @Option(help: "UDP port on 127.0.0.1.")
    var port: UInt16 = 5684

    @Option(help: "What proves who the server is: psk or ecdsa.")
    var auth = Authentication.psk

    @Option(help: ArgumentHelp("The certificate, in PEM, for --auth ecdsa.", valueName: "file"))
    var cert: String?

    @Option(help: ArgumentHelp("Its private key, in PEM.", valueName: "file"))
    var key: String?

    @Option(help: "How messages are received.")
    var api = Interface.handler

    @Option(help: "How many loops share the port, 1 to 64.")
    var loops = 1

    @Option(help: "Who seals and opens records.")
    var recordLayer = RecordLayer.detached

    func validate() throws {
        guard (1...64).contains(loops) else { throw ValidationError("--loops takes 1 to 64") }
        if auth == .ecdsa, cert == nil || key == nil { throw ValidationError("--auth ecdsa needs --cert and --key") }
    }

    func run() async throws {
        // Without a goodbye, as the benchmark's other servers end.
        signal(SIGTERM) { _ in _exit(0) }
        let server = try await DtlsServer.bind(
            host: "127.0.0.1",
            port: port,
            context: try context(),
            options: DtlsSocketOptions(receiveBufferSize: 4 << 20, sendBufferSize: 4 << 20),
            loops: loops,
            limits: limits
        )
        switch api {
        case .handler: await HandlerService.run(server)
        case .async: await AsyncService.run(server)
        case .loop: await AsyncService.runOnLoop(server)
        }
    }

    private func context() throws -> DtlsServerContext {
        var configuration = DtlsConfiguration()
        // What the benchmark's client offers, and the MTU of its other servers.
        configuration.cipherSuites = .suites([auth.cipherSuite])
        configuration.groups = [.p256]
        configuration.mtu = 1_400
        configuration.recordLayer = recordLayer.value
        if let cert, let key, auth == .ecdsa {
            configuration.identity = try DtlsIdentity(certificateFile: cert, privateKeyFile: key)
        }
        let preSharedKeys = auth == .psk ? DtlsPreSharedKeyStore([try .ofBenchmark()]) : nil
        return try DtlsServerContext(configuration, preSharedKeys: preSharedKeys)
    }

    /// All clients are of one address, and in a hurry.
    private var limits: DtlsServerLimits {
        var limits = DtlsServerLimits()
        limits.connections = 1_000_000
        limits.handshakesPerPrefix = limits.handshakes
        limits.handshakeRatePerPrefix = nil
        limits.cookieRatePerPrefix = nil
        limits.waitingConnections = 100_000
        return limits
    }
}

enum Authentication: String, ExpressibleByArgument, CaseIterable {
    case psk, ecdsa

    var cipherSuite: DtlsCipherSuite {
        switch self {
        case .psk: .pskWithAES128GCM
        case .ecdsa: .ecdheECDSAWithAES128GCM
        }
    }
}

/// Which of the library's ways to receive is measured. Each has a service of its own.
enum Interface: String, ExpressibleByArgument, CaseIterable {
    /// Borrowed bytes on the socket's queue.
    case handler
    /// `for try await`, with a task for each connection on the global pool.
    case async
    /// The same on the socket's queue.
    case loop
}

enum RecordLayer: String, ExpressibleByArgument, CaseIterable {
    case detached, openssl

    var value: DtlsRecordLayer {
        switch self {
        case .detached: .detached
        case .openssl: .openSSL
        }
    }
}

extension DtlsPreSharedKey {
    /// The one key of all clients.
    static func ofBenchmark() throws -> DtlsPreSharedKey {
        let half: [UInt8] = [0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF]
        return try DtlsPreSharedKey(identity: "bench", key: half + half)
    }
}
