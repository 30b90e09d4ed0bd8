import DTLSPrimitives
import Logging

/// What a client's connection was asked for; a second connect that asks the same gets the same connection.
struct ConnectTarget: Sendable {
    let context: DtlsClientContext
    let serverName: String?

    func isSame(as other: ConnectTarget) -> Bool {
        context === other.context && serverName == other.serverName
    }
}

/// The inside of a ``DtlsClient``: one socket and its associations by peer.
final class ClientEndpoint: AssociationOwner {
    let logger: Logger?
    private let state = Lock(State())
    private let currentLoop: Lock<SocketLoop>

    private struct State {
        /// Without candidates. One that has moved to where another one is stays in it, or nothing that concerns all
        /// would reach it.
        var table = ConnectionTable<Association>()
        var closeError: DtlsError?
        var counters = EndpointCounters()
    }

    private let queue: DtlsQueueLimits

    init(socket: UDPSocket, queue: DtlsQueueLimits, logger: Logger?) {
        self.queue = queue
        let loop = SocketLoop(socket: socket, executor: .client(), appetite: .client)
        currentLoop = Lock(loop)
        self.logger = logger
        loop.start(self)
    }

    /// The socket in use, which ``rebind(_:)`` changes.
    var loop: SocketLoop { currentLoop.withLock { $0 } }

    /// Goes on with another socket. What is on its way to the former one is lost.
    func rebind(_ socket: UDPSocket) throws(DtlsError) {
        if let error = state.withLock({ $0.closeError }) { throw error }
        // On the same queue, so that what runs on an association's loop runs one at a time.
        let loop = SocketLoop(socket: socket, executor: self.loop.executor, appetite: .client)
        let former = currentLoop.withLock { current in
            defer { current = loop }
            return current
        }
        loop.start(self)
        // After that: one that begins meanwhile is with either of them.
        let associations = state.withLock { $0.table.all }
        // It had the deadlines, and tasks that wait for room in it go on when it ends.
        for association in associations { association.reschedule(forgetsLocalAddress: true) }
        former.shutDown()
        // A close that came meanwhile may have ended the former one alone.
        if let error = state.withLock({ $0.closeError }) {
            loop.shutDown()
            throw error
        }
    }

    /// Joins the association with `peer`, or begins one. It is held for the caller, who releases it.
    func association(
        with peer: DtlsAddress,
        target: ConnectTarget,
        timeout: Duration?,
        session: DtlsSession? = nil,
        reconnection: DtlsReconnection = .never
    ) throws(DtlsError) -> Association {
        let found = state.withLock { $0.table[peer]?.current }
        if let found, found.hold() { return try join(found, target) }
        let ownName = loop.socket.localAddress.endpointName
        let engine = try Self.engine(for: target, peer: peer, ownName: ownName, timeout: timeout, session: session)
        let id = engine.ownConnectionID ?? []
        let fresh = Association(
            engine: engine,
            peer: peer,
            owner: self,
            target: target,
            connectionID: id,
            queue: queue,
            renewal: reconnection.silence.map { silence in
                Association.Renewal(silence: silence) { session throws(DtlsError) in
                    try Self.engine(for: target, peer: peer, ownName: ownName, timeout: timeout, session: session)
                }
            }
        )
        let result = state.withLock { state -> Result<Association, DtlsError> in
            if let error = state.closeError { return .failure(error) }
            // Another task may have been faster.
            if let found = state.table[peer]?.current, found.hold() { return .success(found) }
            guard !state.table.contains(connectionID: id) else { return .failure(Self.repeatedID) }
            state.table.insert(fresh, connectionID: id)
            state.table.insert(fresh, for: peer)
            _ = fresh.hold()
            state.counters.connections(state.table.count, handshakes: 0)
            return .success(fresh)
        }
        let association = try result.get()
        guard association === fresh else { return try join(association, target) }
        fresh.start()
        return fresh
    }

    private static func engine(
        for target: ConnectTarget,
        peer: DtlsAddress,
        ownName: DtlsEndpointName,
        timeout: Duration?,
        session: DtlsSession?
    ) throws(DtlsError) -> sending DtlsEngine {
        let engine = try DtlsEngine(
            client: target.context.engineContext,
            serverName: target.serverName,
            preSharedKey: target.context.fixedKey,
            usesIPv6: peer.isIPv6
        )
        if let timeout { engine.handshakeTimeout = timeout }
        engine.flow = (ownName, peer.endpointName)
        if let session { _ = try engine.resume(session) }
        return engine
    }

    private func join(_ association: Association, _ target: ConnectTarget) throws(DtlsError) -> Association {
        guard let existing = association.target, existing.isSame(as: target) else {
            association.release()
            throw DtlsError(
                .peerAlreadyConnected,
                phase: .handshake,
                "this socket already has a connection to \(association.peer), made with another context or server name",
                hint: "close that one first, or bind another client"
            )
        }
        return association
    }

    func close(_ error: DtlsError = ClientEndpoint.closed, as reason: DtlsCloseReason = .closedLocally) {
        let associations = state.withLock { state -> [Association] in
            if state.closeError == nil { state.closeError = error }
            return state.table.all
        }
        for association in associations { association.close(as: reason) }
        loop.shutDown()
    }

    /// The sums over everything, and what there is now.
    var statistics: DtlsStatistics {
        let (counters, associations) = state.withLock { ($0.counters, $0.table.all) }
        return counters.statistics(associations, loop.socket.counters)
    }

    private static let repeatedID = DtlsError(
        .invalidConfiguration,
        phase: .handshake,
        "another connection of this socket has the same Connection ID",
        hint: "let DtlsConnectionIDs make different ones, or none where this side's address does not change"
    )

    static let closed = DtlsError(.connectionClosed, phase: .closing, "the client was closed")

    // MARK: AssociationOwner

    func association(_ association: Association, asks question: AssociationQuestion, as asker: Int) {
        let context = association.target?.context
        switch question {
        case .preSharedKey(.hint(let hint)):
            guard case .asked(let ask)? = context?.keySource else { return association.answer(.unknown, to: asker) }
            Task { association.answer(await ask(hint).map { .identityAndKey($0) } ?? .unknown, to: asker) }
        case .certificates(let certificates):
            guard let accepts = context?.acceptsCertificates else {
                return association.answer(accepted: false, to: asker)
            }
            Task { association.answer(accepted: await accepts(certificates), to: asker) }
        case .preSharedKey(.identity), .hello:
            // Questions for servers.
            break
        }
    }

    func association(_ association: Association, established session: DtlsStoredSession) {}

    func associationOpened(_ association: Association, at address: DtlsAddress) {
        // The server may not know them.
        if let id = association.connectionID, association.negotiated?.connectionIDs == nil {
            state.withLock { $0.table.remove(association, connectionID: id) }
        }
        logger?.debug(
            "handshake finished",
            metadata: ["peer": "\(association.peer)", "suite": "\(association.negotiated?.cipherSuite.name ?? "")"]
        )
    }

    func associationRenewed(_ association: Association) {
        let id = association.negotiated?.connectionIDs?.own
        state.withLock { state in
            state.table.removeConnectionIDs(of: association)
            // Whoever has closed it meanwhile would not look for it again.
            guard association.closeReason == nil else { return }
            // If another one has it, the server's address has to do.
            if let id, !state.table.contains(connectionID: id) { state.table.insert(association, connectionID: id) }
        }
    }

    func associationMoved(_ association: Association, from former: DtlsAddress) {
        let address = association.peer
        state.withLock { state in
            // Whoever has closed it meanwhile has looked for it where it is now.
            guard association.closeReason == nil else { return state.table.remove(association, for: former) }
            state.table.move(association, from: former, to: address)
        }
        logger?.debug("peer moved", metadata: ["from": "\(former)", "to": "\(address)"])
    }

    func associationClosed(_ association: Association, _ reason: DtlsCloseReason) {
        let statistics = association.statistics
        let peer = association.peer
        // The one that it has begun with, and that of its last handshake.
        let ids = [association.connectionID, association.negotiated?.connectionIDs?.own].compactMap { $0 }
        state.withLock { state in
            state.counters.associationEnded(statistics, reason)
            state.table.remove(association, for: peer)
            for id in ids { state.table.remove(association, connectionID: id) }
        }
        logger?.debug("connection ended", metadata: ["peer": "\(association.peer)", "reason": "\(reason)"])
    }
}

extension ClientEndpoint: SocketLoopHandler {
    func receive(
        _ datagram: UnsafeRawBufferPointer,
        from source: DtlsAddress,
        to local: DtlsAddress?,
        on loop: SocketLoop,
        now: Moment
    ) {
        let association = state.withLock { state -> Association? in
            let association = state.table.owner(ofConnectionIDIn: datagram) ?? state.table.onlyOne(at: source)
            state.counters.received(datagram.count)
            // Nobody here has asked that peer for anything.
            if association == nil { state.counters.dropped(.unknownPeer) }
            return association
        }
        association?.receive(datagram, from: source, to: local, on: loop, now: now)
    }

    func networkReported(_ error: NetworkError, now: Moment) {
        let concerned = state.withLock { $0.table.associations(concernedBy: error) }
        for association in concerned { association.networkReported(error, now: now) }
    }

    func socketFailed(_ error: DtlsError, of loop: SocketLoop) {
        // What it had before is on its way out.
        guard loop === self.loop else { return }
        logger?.error("the client's socket failed", metadata: ["error": "\(error)"])
        close(error, as: .failed(error))
    }
}
