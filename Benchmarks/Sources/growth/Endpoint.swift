import ArgumentParser
import BenchmarkSupport
import CTwins
import DTLS

/// What is measured: a process that echoes what its peers send.
enum Endpoint: String, CaseIterable, ExpressibleByArgument {
    case server, client
    /// In C, with two cipher contexts for each association that keep its key.
    case twin = "c"
    /// In C, with two for all of them that get the key anew for each record.
    case sharingTwin = "c-sharing"

    var title: String {
        switch self {
        case .server: "`DtlsServer`"
        case .client: "`DtlsClient`"
        case .twin: "C, ciphers for each"
        case .sharingTwin: "C, ciphers for all"
        }
    }

    /// What the process does. It prints its port, and ends with its input.
    ///
    /// - Parameter arguments: ``Subject``'s.
    func run(arguments: [String]) async throws {
        guard arguments.count == 3, let count = Int(arguments[0]), let port = UInt16(arguments[1]) else {
            throw Failure("\(self) takes the number of connections, the peers' port, and whether there are IDs")
        }
        let configuration = DtlsConfiguration.ofBenchmark(connectionIDs: arguments[2] == "ids")
        switch self {
        case .server: try await Self.serve(configuration)
        case .client: try await Self.connect(configuration, count, port)
        case .twin: try Self.runTwin(count, port, rekeys: false)
        case .sharingTwin: try Self.runTwin(count, port, rekeys: true)
        }
    }

    private static let options = DtlsSocketOptions(receiveBufferSize: 4 << 20, sendBufferSize: 4 << 20)

    private static func serve(_ configuration: DtlsConfiguration) async throws {
        var limits = DtlsServerLimits()
        limits.connections = 10_000_000
        // All peers are of one machine, and in a hurry.
        limits.handshakesPerPrefix = limits.handshakes
        limits.handshakeRatePerPrefix = nil
        limits.cookieRatePerPrefix = nil
        let server = try await DtlsServer.bind(
            host: "127.0.0.1",
            port: 0,
            context: DtlsServerContext(configuration, preSharedKeys: DtlsPreSharedKeyStore([.ofBenchmark()])),
            options: options,
            limits: limits
        )
        server.handleConnections { echo($0) }
        printLine("port \(server.localAddress.port)")
        for await _ in inputLines() { printLine("open \(server.statistics.connectionsOpen)") }
    }

    private static func connect(_ configuration: DtlsConfiguration, _ count: Int, _ port: UInt16) async throws {
        let client = try await DtlsClient.bind(host: "127.0.0.1", options: options)
        printLine("port \(client.localAddress.port)")
        let context = try DtlsClientContext(configuration, preSharedKey: .ofBenchmark())
        let addresses = try (0..<count).map { try DtlsAddress(ipAddress: PeerAddress.text(of: $0), port: port) }
        for await _ in inputLines() {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for (index, address) in addresses.enumerated() {
                    if index >= 64 { try await group.next() }
                    group.addTask { echo(try await client.connect(to: address, context: context)) }
                }
                try await group.waitForAll()
            }
            printLine("open \(client.statistics.connectionsOpen)")
        }
    }

    private static func echo(_ connection: DtlsConnection) {
        connection.handleDatagrams { connection, datagram in _ = try? connection.trySend(datagram) }
    }

    private static func runTwin(_ count: Int, _ port: UInt16, rekeys: Bool) throws {
        _ = inputLines()
        guard let twin = twin_echo_new(PeerAddress.first, count, port, rekeys) else {
            throw Failure("the C program has no memory or no socket")
        }
        printLine("port \(twin_echo_port(twin))")
        twin_echo_run(twin)
    }
}

extension DtlsConfiguration {
    /// What both sides want.
    static func ofBenchmark(connectionIDs: Bool) -> DtlsConfiguration {
        var configuration = DtlsConfiguration()
        configuration.cipherSuites = .suites([.pskWithAES128GCM])
        if !connectionIDs { configuration.connectionIDs = .off }
        return configuration
    }
}

extension DtlsPreSharedKey {
    /// The one key of all peers.
    static func ofBenchmark() throws -> DtlsPreSharedKey {
        try DtlsPreSharedKey(identity: "bench", key: Array(0..<16))
    }
}
