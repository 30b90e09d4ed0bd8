import BenchmarkSupport
import CTwins
import DTLS

/// A connection of the library's client.
struct Library {
    private let client: DtlsClient
    private let connection: DtlsConnection

    init(port: UInt16) async throws {
        let options = DtlsSocketOptions(receiveBufferSize: 4 << 20, sendBufferSize: 4 << 20)
        client = try await DtlsClient.bind(host: "127.0.0.1", options: options)
        let context = try DtlsClientContext(.ofBenchmark(), preSharedKey: .ofBenchmark())
        connection = try await client.connect(to: DtlsAddress(ipAddress: "127.0.0.1", port: port), context: context)
    }

    func close() async { await client.close() }

    var ways: [Way] {
        let connection = connection
        return [
            Way(name: "`send`, on the global pool") { payload, times in
                try await Self.sendEach(connection, payload, times)
            },
            Way(name: "`trySend`, on the global pool") { payload, times in
                try await Self.sendBursts(connection, payload, times)
            },
            Way(name: "`send`, on the connection's executor") { payload, times in
                try await withTaskExecutorPreference(connection.executor) {
                    try await Self.sendEach(connection, payload, times)
                }
            },
            Way(name: "`trySend`, on the connection's executor") { payload, times in
                try await withTaskExecutorPreference(connection.executor) {
                    try await Self.sendBursts(connection, payload, times)
                }
            },
        ]
    }

    private nonisolated static func sendEach(_ connection: DtlsConnection, _ payload: [UInt8], _ times: Int)
        async throws
    {
        for _ in 0..<times { try await connection.send(payload) }
    }

    /// Bursts, between which others have their turn: on the connection's executor, whoever receives.
    private nonisolated static func sendBursts(_ connection: DtlsConnection, _ payload: [UInt8], _ times: Int)
        async throws
    {
        var rest = times
        while rest > 0 {
            for _ in 0..<min(rest, 64) {
                // The socket has no room: send waits until it has.
                if !(try connection.trySend(payload.span.bytes)) { try await connection.send(payload) }
                rest -= 1
            }
            await Task.yield()
        }
    }
}

/// The C program.
enum Twin {
    static func ways(port: UInt16) throws -> [Way] {
        let ways = [
            ("C, sendto", TWIN_SENDTO), ("C, send, connected", TWIN_SEND), ("C, sendmmsg", TWIN_SENDMMSG),
            ("C, UDP_SEGMENT", TWIN_SEGMENT),
        ]
        return try ways.map { name, how in
            guard let sender = twin_sender_new(port, how) else { throw Failure("the C program has no socket") }
            return Way(name: name) { payload, times in
                guard twin_send(sender, payload, payload.count, times) == times else {
                    throw Failure("the C program has not sent its datagrams")
                }
            }
        }
    }
}

extension DtlsConfiguration {
    /// What both sides want.
    static func ofBenchmark() -> DtlsConfiguration {
        var configuration = DtlsConfiguration()
        configuration.cipherSuites = .suites([.pskWithAES128GCM])
        configuration.mtu = 1_400
        // The C program knows none.
        configuration.connectionIDs = .off
        return configuration
    }
}

extension DtlsPreSharedKey {
    /// The one key.
    static func ofBenchmark() throws -> DtlsPreSharedKey {
        try DtlsPreSharedKey(identity: "bench", key: Array(0..<16))
    }
}
