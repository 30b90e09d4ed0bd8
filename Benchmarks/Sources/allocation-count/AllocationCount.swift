import CMemory
import DTLS
import Glibc
import Synchronization

/// Counts what the process allocates while datagrams go to and fro between a client and a server, both in it.
///
/// Prints a line for each way to handle them, and ends with status 1 when a datagram costs more blocks than it may:
/// none where bytes are lent, one, the caller's array, where a task awaits them. A datagram to a task on the global
/// pool costs two more, with which Dispatch is told of the task. Only a release build has so few.
@main
struct AllocationCount {
    /// Each is two datagrams out and two in, one of each on either side.
    static let echoes = 2_000
    /// So that what is made once is there: contexts, buffers, pools.
    static let echoesBefore = 500
    /// What threads and timers take meanwhile.
    static let others = 100

    static func main() async throws {
        memory_begin_census()
        let key = try DtlsPreSharedKey(identity: "counter", key: Array("0123456789abcdef".utf8))
        let server = try await DtlsServer.bind(
            host: "127.0.0.1",
            port: 0,
            context: DtlsServerContext(preSharedKeys: DtlsPreSharedKeyStore([key]))
        )
        server.handleConnections { connection in
            connection.handleDatagrams { connection, datagram in _ = try? connection.trySend(datagram) }
        }
        let context = try DtlsClientContext(preSharedKey: key)
        var isFine = true
        for way in Way.allCases {
            let client = try await DtlsClient.bind(host: "127.0.0.1")
            let connection = try await client.connect(to: server.localAddress, context: context)
            let count = try await count(way, on: connection)
            let most = echoes * way.mostForEach
            print("\(way): \(count) blocks for \(echoes) echoes; \(most) to \(most + others) are fine")
            if count > most + others { isFine = false }
            if way == .loop, count < most {
                print("an array for each is more: this was built without the census")
                isFine = false
            }
            await client.close()
        }
        await server.close()
        if !isFine { exit(1) }
    }

    /// How the client handles echoes.
    private enum Way: CaseIterable {
        case handler, loop, pool

        var mostForEach: Int {
            switch self {
            case .handler: 0
            case .loop: 1
            case .pool: 3
            }
        }
    }

    private static func count(_ way: Way, on connection: DtlsConnection) async throws -> Int {
        switch way {
        case .handler:
            let echoes = HandledEchoes(connection)
            return try await count { try await echoes.run(times: $0) }
        case .loop:
            return try await withTaskExecutorPreference(connection.executor) {
                try await count { try await echo(on: connection, times: $0) }
            }
        case .pool:
            return try await count { try await echo(on: connection, times: $0) }
        }
    }

    private static func count(_ echo: @Sendable (_ times: Int) async throws -> Void) async throws -> Int {
        try await echo(echoesBefore)
        let before = memory_made()
        try await echo(echoes)
        return Int(memory_made() - before)
    }

    /// Each echo is an array of the caller's.
    private static func echo(on connection: DtlsConnection, times: Int) async throws {
        var rest = times
        try await connection.send([UInt8](repeating: 0x5A, count: 64))
        for try await datagram in connection {
            rest -= 1
            guard rest > 0 else { return }
            try await connection.send(datagram)
        }
        throw CounterFailure.closed
    }
}

enum CounterFailure: Error {
    case refused, closed
}

/// Echoes that are answered where they come in.
private final class HandledEchoes: Sendable {
    private struct State {
        var rest = 0
        var finished: CheckedContinuation<Void, any Error>?
    }

    private let connection: DtlsConnection
    private let state = Mutex(State())

    init(_ connection: DtlsConnection) {
        self.connection = connection
        connection.handleDatagrams { [weak self] connection, datagram in
            if self?.isDone() == false { _ = try? connection.trySend(datagram) }
        }
    }

    /// Notes an echo. Returns whether it was the last one.
    private func isDone() -> Bool {
        state.withLock { state in
            state.rest -= 1
            guard state.rest == 0 else { return false }
            state.finished.take()?.resume()
            return true
        }
    }

    func run(times: Int) async throws {
        try await withCheckedThrowingContinuation { continuation in
            state.withLock { $0 = State(rest: times, finished: continuation) }
            let isSent = try? connection.trySend([UInt8](repeating: 0x5A, count: 64))
            if isSent != true { state.withLock { $0.finished.take() }?.resume(throwing: CounterFailure.refused) }
        }
    }
}
