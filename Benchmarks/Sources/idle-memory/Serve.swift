import ArgumentParser
import BenchmarkSupport
import CMemory
import DTLS
import Synchronization

/// The server's process. It is told on standard input how many connections there are now, answers with what its memory
/// comes to then, and ends with the input.
struct Serve: AsyncParsableCommand {
    /// What this program's first argument is then.
    static let word = "serve"

    static let configuration = CommandConfiguration(
        commandName: "idle-memory \(word)",
        abstract: "What idle-memory starts as a process of its own."
    )

    @Option
    var recordLayer = RecordLayer.detached

    @OptionGroup
    var options: ServerOptions

    func run() async throws {
        if options.census { memory_begin_census() }
        let server = try await DtlsServer.bind(host: "127.0.0.1", port: 0, context: try context(), limits: limits)
        printLine("port \(server.localAddress.port)")
        let service = EchoService(hasReaders: options.readers)
        Task { await service.run(server) }
        for await line in inputLines() {
            guard let count = Int(line) else { throw Failure("no number: \(line)") }
            // The client has its echo a moment before it is counted here.
            let limit = ContinuousClock.now + .seconds(30)
            while service.echoed.load(ordering: .acquiring) < count, .now < limit {
                try await Task.sleep(for: .milliseconds(5))
            }
            try await Task.sleep(for: .seconds(options.idle))
            let open = server.statistics.connectionsOpen
            let echoed = service.echoed.load(ordering: .acquiring)
            guard open == count, echoed == count else {
                throw Failure("\(open) connections are open and \(echoed) echoed where \(count) should be")
            }
            MemoryReading.now(withCensus: options.census).write()
        }
    }

    private func context() throws -> DtlsServerContext {
        var configuration = options.suite.configuration
        configuration.recordLayer = recordLayer.value
        return try DtlsServerContext(configuration, preSharedKeys: DtlsPreSharedKeyStore([.ofBenchmark()]))
    }

    /// What lets any number of clients of one machine in.
    private var limits: DtlsServerLimits {
        var limits = DtlsServerLimits()
        limits.connections = 10_000_000
        limits.handshakesPerPrefix = limits.handshakes
        limits.handshakeRatePerPrefix = nil
        limits.cookieRatePerPrefix = nil
        return limits
    }
}

/// Echoes the first datagram of each connection, and keeps them all.
final class EchoService: Sendable {
    let hasReaders: Bool
    let echoed = Atomic(0)
    private let kept = Mutex<[DtlsConnection]>([])

    init(hasReaders: Bool) {
        self.hasReaders = hasReaders
    }

    func run(_ server: DtlsServer) async {
        await withDiscardingTaskGroup { group in
            for await connection in server {
                if hasReaders {
                    group.addTask { try? await self.echoAll(connection) }
                } else {
                    kept.withLock { $0.append(connection) }
                    group.addTask { try? await self.echoFirst(connection) }
                }
            }
        }
    }

    private func echoAll(_ connection: DtlsConnection) async throws {
        for try await datagram in connection {
            try await connection.send(datagram)
            echoed.add(1, ordering: .releasing)
        }
    }

    private func echoFirst(_ connection: DtlsConnection) async throws {
        var iterator = connection.makeAsyncIterator()
        guard let datagram = try await iterator.next() else { return }
        try await connection.send(datagram)
        echoed.add(1, ordering: .releasing)
    }
}
