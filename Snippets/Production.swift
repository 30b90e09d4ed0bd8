import DTLS
import Logging
import Synchronization

// A server for more than a demonstration: bounded, observed, renewed while it runs, and ended with manners.

let preSharedKeys = DtlsPreSharedKeyStore([])

// snippet.limits
var limits = DtlsServerLimits()
limits.connections = 50_000
limits.idleTimeout = .seconds(3_600)
limits.handshakeRatePerPrefix = DtlsRate(perSecond: 50, burst: 200)
limits.queue = DtlsQueueLimits(datagrams: 64, bytes: 64 * 1_024)
// snippet.end

// snippet.context
var configuration = DtlsConfiguration()
configuration.identity = try DtlsIdentity(certificateFile: "server.pem", privateKeyFile: "server.key")
let ticketKeys = try DtlsTicketKeys(secrets: [DtlsTicketKeys.randomSecret()])
let context = try DtlsServerContext(
    configuration,
    preSharedKeys: preSharedKeys,
    resumption: .tickets(ticketKeys, lifetime: .seconds(3_600))
)
// snippet.end

// snippet.bind
let banned: Set<String> = ["203.0.113.9"]
let server = try await DtlsServer.bind(
    port: 5684,
    context: context,
    loops: 4,
    limits: limits,
    admitsAddress: { address in !banned.contains(address.host) },
    handshakeFailed: { address, error in print("refused \(address): \(error)") },
    logger: Logger(label: "gateway")
)
// snippet.end

// snippet.rotation
/// New secrets for tickets: the newest seals, the others still open. Call it every few hours.
func rotate(_ ticketKeys: DtlsTicketKeys, _ secrets: inout [DtlsSecretBytes]) throws(DtlsError) {
    secrets.insert(try DtlsTicketKeys.randomSecret(), at: 0)
    secrets = Array(secrets.prefix(2))
    try ticketKeys.replace(secrets: secrets)
}
// snippet.end

// snippet.metrics
/// What a monitoring system would ask for, every some seconds.
func report(_ server: DtlsServer) {
    let statistics = server.statistics
    print("open \(statistics.connectionsOpen), handshaking \(statistics.connectionsHandshaking)")
    for (code, count) in statistics.handshakesFailed { print("failed \(code) \(count)") }
    for (reason, count) in statistics.drops.nonZero { print("dropped \(reason) \(count)") }
}
// snippet.end

// snippet.registry
/// The connections that are served, so that all peers can be told to go.
final class Connections: Sendable {
    private struct State {
        var all: [ObjectIdentifier: DtlsConnection] = [:]
        var farewell: String?
    }

    private let state = Mutex(State())

    /// Serves a connection, which is told to go at once if the others have been.
    func serve(_ connection: DtlsConnection) async throws {
        let farewell = state.withLock { state in
            state.all[ObjectIdentifier(connection)] = connection
            return state.farewell
        }
        // Whoever is held is not closed.
        defer { state.withLock { _ = $0.all.removeValue(forKey: ObjectIdentifier(connection)) } }
        if let farewell { try await connection.send(farewell) }
        for try await datagram in connection { try await connection.send(datagram) }
    }

    /// Says something to every peer, in your protocol. It may be lost.
    func tellAllToGo(_ farewell: String) {
        let all = state.withLock { state in
            state.farewell = farewell
            return Array(state.all.values)
        }
        for connection in all { _ = try? connection.trySend(Array(farewell.utf8)) }
    }
}
// snippet.end

// snippet.drain
/// Lets nobody new in, tells those who are there to go, and closes those who have not gone after a minute.
func end(_ server: DtlsServer, _ connections: Connections) async {
    connections.tellAllToGo("bye")
    let closed = await server.drain(for: .seconds(60))
    print("\(closed) connections had to be closed")
}
// snippet.end

// snippet.capture
/// What a developer wants to see of one peer's problem. Whoever has the file can read what it holds.
func contextWithCapture(_ configuration: DtlsConfiguration) throws(DtlsError) -> DtlsServerContext {
    var configuration = configuration
    configuration.capture = try DtlsCapture(file: "gateway.pcapng")
    return try DtlsServerContext(configuration)
}
// snippet.end

// snippet.serve
let connections = Connections()
await server.serve { connection in try await connections.serve(connection) }
// snippet.end

var secrets: [DtlsSecretBytes] = []
try rotate(ticketKeys, &secrets)
server.replaceContext(try contextWithCapture(configuration))
report(server)
await end(server, connections)
