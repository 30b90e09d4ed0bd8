import DTLS
import ExampleSupport

/// The way to the DTLS server: each peer's connection has a socket of its own, as the server knows it by that.
final class ServerLink: Sendable {
    struct Settings: Sendable {
        let target: HostPort
        let context: DtlsClientContext
        let serverName: String?
        /// Nil where the configuration knows better.
        let timeout: Duration?
        let reconnection: DtlsReconnection
    }

    private struct State {
        var clients: [ObjectIdentifier: DtlsClient] = [:]
        /// What went through those that have ended.
        var ended = DtlsStatistics()
        /// For the next connection, whose handshake it makes shorter.
        var session: DtlsSession?
        /// Whether the server ends handshakes that would resume one.
        var refusesSessions = false
        /// The address that has answered last, which is tried first.
        var preferred: DtlsAddress?
        var holdOff = HoldOff()
        var handshakes = 0
        var isOver = false

        var mayConnect: Bool {
            !isOver && handshakes < ServerLink.mostHandshakes && holdOff.allows(.now)
        }
    }

    /// How many handshakes may run at a time.
    private static let mostHandshakes = 64
    /// A handshake that was given up after so long says something of the server, too.
    private static let secondsBeforeFailed = 2.0

    /// How long an address is tried alone, before the next one is tried along with it.
    private static let aloneFor = Duration.milliseconds(300)

    private let settings: Settings
    private let lookUp: SharedLookUp
    private let state = Guarded(State())

    init(_ settings: Settings) {
        self.settings = settings
        lookUp = SharedLookUp(settings.target)
    }

    var target: HostPort { settings.target }

    /// Whether a connection may be tried now.
    var mayConnect: Bool {
        state.withLock { $0.mayConnect }
    }

    /// Takes a place for one handshake, if it may be tried now. ``connect()`` has to follow, which gives it back.
    func reserve() -> Bool {
        state.withLock { state in
            guard state.mayConnect else { return false }
            state.handshakes += 1
            return true
        }
    }

    /// Connects from a new socket, to which ``release(_:)`` has to be called at the end of the connection.
    func connect() async throws -> (DtlsClient, DtlsConnection) {
        defer { state.withLock { $0.handshakes -= 1 } }
        let begin = MonotonicTime.now
        do {
            return try await connectByAnyMeans()
        } catch {
            // A peer that was let go soon says nothing of the server.
            if !Task.isCancelled || .now >= begin + Self.secondsBeforeFailed {
                state.withLock { $0.holdOff.failed(begunAt: begin, .now) }
            }
            throw error
        }
    }

    /// Resumes the last session, or makes a full handshake. Some servers end handshakes that would resume in place of
    /// making full ones, such as OpenSSL's that ask for certificates and have no session ID context.
    private func connectByAnyMeans() async throws -> (DtlsClient, DtlsConnection) {
        guard let session = state.withLock({ $0.refusesSessions ? nil : $0.session }) else {
            return try await connect(resuming: nil)
        }
        do {
            return try await connect(resuming: session)
        } catch DtlsError.Code.handshakeFailed {
            let connected = try await connect(resuming: nil)
            state.withLock { $0.refusesSessions = true }
            return connected
        }
    }

    private func connect(resuming session: DtlsSession?) async throws -> (DtlsClient, DtlsConnection) {
        let addresses = try await addresses()
        let client = try await DtlsClient.bind()
        do {
            try register(client)
            let connection = try await connect(client, toFirstOf: addresses, resuming: session)
            state.withLock { state in
                state.preferred = connection.peerAddress
                state.holdOff.succeeded()
                state.session = connection.session ?? state.session
            }
            return (client, connection)
        } catch {
            await release(client)
            throw error
        }
    }

    /// The server's addresses, the one that is most likely to answer first.
    private func addresses() async throws -> [DtlsAddress] {
        var addresses = try await lookUp.addresses()
        if let preferred = state.withLock({ $0.preferred }), let index = addresses.firstIndex(of: preferred) {
            addresses.swapAt(0, index)
        }
        return addresses
    }

    /// Tries the addresses, each a little after the one before, and takes the first that answers. When none does, the
    /// error is that of the one that failed first.
    private func connect(
        _ client: DtlsClient,
        toFirstOf addresses: [DtlsAddress],
        resuming session: DtlsSession?
    ) async throws -> DtlsConnection {
        try await withThrowingTaskGroup(of: DtlsConnection.self) { group in
            for (index, address) in addresses.enumerated() {
                group.addTask { [settings] in
                    if index > 0 { try await Task.sleep(for: Self.aloneFor * index, clock: .continuous) }
                    return try await client.connect(
                        to: address,
                        context: settings.context,
                        // Not the address: the certificate is made out to what the user calls the server.
                        serverName: settings.serverName ?? settings.target.host,
                        timeout: settings.timeout,
                        session: session,
                        reconnection: settings.reconnection
                    )
                }
            }
            var failure: (any Error)?
            while let result = await group.nextResult() {
                switch result {
                case .success(let connection):
                    group.cancelAll()
                    return connection
                case .failure(let error): failure = failure ?? error
                }
            }
            throw failure ?? CancellationError()
        }
    }

    private func register(_ client: DtlsClient) throws {
        let isOver = state.withLock { state in
            if !state.isOver { state.clients[ObjectIdentifier(client)] = client }
            return state.isOver
        }
        if isOver { throw CancellationError() }
    }

    /// How long no connection is tried after one has failed.
    var holdOff: Double { state.withLock { $0.holdOff.seconds } }

    /// Closes a socket, and what it has of a connection.
    func release(_ client: DtlsClient) async {
        await client.close()
        state.withLock { state in
            guard state.clients.removeValue(forKey: ObjectIdentifier(client)) != nil else { return }
            state.ended.add(client.statistics)
        }
    }

    /// Closes all, with close_notify.
    func close() async {
        let clients = state.withLock { state in
            state.isOver = true
            return Array(state.clients.values)
        }
        await withDiscardingTaskGroup { group in
            for client in clients { group.addTask { await self.release(client) } }
        }
    }

    /// The sums over all connections.
    var statistics: DtlsStatistics {
        let (ended, clients) = state.withLock { ($0.ended, Array($0.clients.values)) }
        return clients.reduce(into: ended) { $0.add($1.statistics) }
    }
}
