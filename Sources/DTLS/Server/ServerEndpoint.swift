import DTLSPrimitives
import DequeModule
import Logging

/// The inside of a ``DtlsServer``, or one of its loops: one socket, the gate, the associations by peer, and the queue
/// of finished connections.
///
/// The loops of a server know of each other (`ServerEndpoint+Loops.swift`): what one of them does not know may be
/// another's. None holds its lock while it asks another one.
final class ServerEndpoint: AssociationOwner {
    let loop: SocketLoop
    /// Which of the server's loops it is, of how many.
    let index: Int
    let loopCount: Int
    let logger: Logger?
    let accepted: AcceptQueue
    let tally: ServerTally
    let limits: DtlsServerLimits
    let admitsAddress: (@Sendable (DtlsAddress) -> Bool)?
    let handshakeFailed: (@Sendable (DtlsAddress, DtlsError) -> Void)?
    let state: Lock<State>
    /// What other loops have handed to this one, and it has not taken.
    let strays = Lock(Strays())

    struct State: ~Copyable {
        var gate: DtlsHelloGate
        /// For handshakes that begin now.
        var context: DtlsServerContext
        /// Nil where nobody without a Connection ID is searched.
        var search: MovedPeerSearch?
        var table = ConnectionTable<Association>()
        /// All loops of the server in their order, until it is closed; empty where there is but one.
        var loops: [ServerEndpoint] = []
        var refused = RefusedHellos()
        var counters = EndpointCounters()
        var drainers = Waiters<Bool>()
        var isDraining = false
        var isClosed = false
    }

    init(socket: UDPSocket, plan: ServerPlan, index: Int) {
        self.index = index
        loopCount = plan.states.count
        loop = SocketLoop(socket: socket, executor: .server())
        accepted = plan.accepted
        tally = plan.tally
        limits = plan.limits
        admitsAddress = plan.admitsAddress
        handshakeFailed = plan.handshakeFailed
        logger = plan.logger
        state = plan.states[index]
    }

    /// Begins to read datagrams.
    func start() { loop.start(self) }

    func close(as reason: DtlsCloseReason = .closedLocally) {
        var drainers: [UnsafeContinuation<Bool, Never>] = []
        // The others leave the lock before they are released.
        let (associations, _) = state.withLock { state -> ([Association], [ServerEndpoint]) in
            state.isClosed = true
            drainers = state.drainers.removeAll()
            defer { state.loops = [] }
            return (state.table.all, state.loops)
        }
        for drainer in drainers { drainer.resume(returning: true) }
        var failure: DtlsError?
        if case .failed(let error) = reason { failure = error }
        let waiting = accepted.end(failure)
        // Those that nobody has accepted are among them, or another loop's.
        for association in associations { association.close(as: reason) }
        for connection in waiting { connection.close() }
        loop.shutDown()
    }

    /// Uses another context for handshakes that begin from now on.
    func replaceContext(_ context: DtlsServerContext) {
        // The former one leaves the lock before it is released: with it may go an object that calls this server.
        _ = state.withLock { state in
            defer { state.context = context }
            return state.context
        }
    }

    /// Closes the connections that `shouldClose` picks. Returns how many.
    func closeConnections(where shouldClose: (DtlsNegotiated) -> Bool) -> Int {
        let associations = state.withLock { $0.table.all }
        var count = 0
        for association in associations {
            guard let negotiated = association.negotiated, shouldClose(negotiated) else { continue }
            association.close()
            count += 1
        }
        return count
    }

    /// The sums over everything, and what there is now.
    var statistics: DtlsStatistics {
        let (counters, associations) = state.withLock { ($0.counters, $0.table.all) }
        return counters.statistics(associations, loop.socket.counters)
    }

    /// Lets nobody new in.
    func refuseHellos() {
        state.withLock { $0.isDraining = true }
    }

    /// Lets nobody new in, and waits until everyone has gone. Returns `false` when the task was cancelled before.
    func drain() async -> Bool {
        let id = state.withLock { state in
            state.isDraining = true
            return state.drainers.makeID()
        }
        return await waitInLine { continuation in
            state.withLock { state in
                if Task.isCancelled { return false }
                if state.isClosed || state.table.count == 0 { return true }
                state.drainers.add(id, continuation)
                return nil
            }
        } withdraw: {
            self.state.withLock { $0.drainers.remove(id) }?.resume(returning: false)
        }
    }

    /// How many associations there are, handshakes included.
    var connectionCount: Int { state.withLock { $0.table.all.count } }

    // MARK: AssociationOwner

    func association(_ association: Association, asks question: AssociationQuestion, as asker: Int) {
        guard let context = association.serverContext else { return }
        switch question {
        case .hello(let offer):
            prepare(association, for: offer, context, as: asker)
        case .preSharedKey(.identity(let identity, let serverName)):
            // An engine that has a table asks nobody.
            guard case .lookUp(let lookUp)? = context.preSharedKeys?.source else {
                return association.answer(.unknown, to: asker)
            }
            Task {
                let key = await lookUp(identity, serverName)
                association.answer(key.map { .key($0) } ?? .unknown, to: asker)
            }
        case .certificates(let certificates):
            guard let accepts = context.acceptsCertificates else {
                return association.answer(accepted: false, to: asker)
            }
            Task { association.answer(accepted: await accepts(certificates), to: asker) }
        case .preSharedKey(.hint):
            // A question for clients.
            break
        }
    }

    /// Asks for the identity and the stored session at once, outside of every lock.
    private func prepare(
        _ association: Association,
        for offer: DtlsClientOffer,
        _ context: DtlsServerContext,
        as asker: Int
    ) {
        Task {
            async let identity = context.identityFor?(offer)
            var session: DtlsStoredSession?
            if case .store(let store) = context.resumption.kind, !offer.sessionID.isEmpty {
                session = await store.session(for: offer.sessionID)
            }
            association.answer(identity: await identity ?? nil, session: session, to: asker)
        }
    }

    func association(_ association: Association, established session: DtlsStoredSession) {
        guard let resumption = association.serverContext?.resumption, case .store(let store) = resumption.kind else {
            return
        }
        Task { await store.store(session, lifetime: resumption.lifetime) }
    }

    func associationOpened(_ association: Association, at address: DtlsAddress) {
        opened(association, at: address, isImported: false)
    }

    /// Hands an open association to the application.
    ///
    /// - Parameters:
    ///   - peer: Where its peer was at the end of the handshake.
    ///   - isImported: Whether it has opened elsewhere: then it replaces nobody at its address, and any number may
    ///     wait.
    func opened(_ association: Association, at peer: DtlsAddress, isImported: Bool) {
        var replaced: Association?
        var evicted: Association?
        var loops: [ServerEndpoint] = []
        let usesConnectionID = association.usesConnectionID
        let isThere = state.withLock { state -> Bool in
            // Off the loop, the peer may be elsewhere by now, and the table know of it or not. And it may have been
            // closed between its last datagram and here.
            var place: DtlsAddress? = peer
            if !state.table.contains(association, for: peer) {
                let current = association.peer
                place = state.table.contains(association, for: current) ? current : nil
            }
            let former = place.flatMap { state.table.promote(association, for: $0) }
            tally.state.withLock { tally in
                tally.admission.handshakeEnded(association)
                if let former { tally.silence.remove(former) }
                guard place != nil else { return }
                // Only who has proved who he is takes the place of another.
                if tally.silence.count >= limits.connections {
                    evicted = tally.silence.takeStalest(silentSince: .now - limits.staleAfter) ?? association
                }
                if evicted !== association { tally.silence.add(association, now: .now) }
            }
            guard let place else { return false }
            replaced = former
            if let id = association.connectionID, !usesConnectionID {
                state.table.remove(association, connectionID: id)
            }
            if evicted !== association, !usesConnectionID { state.search?.add(association, at: place) }
            loops = state.loops
            return true
        }
        guard isThere else { return }
        evicted?.close(as: .evicted)
        replaced?.abandon()
        // Nothing but the address of the handshake, or it could be somebody else's.
        if !isImported { for other in others(among: loops) { other.abandonAssociation(at: peer) } }
        logger?.debug(
            "handshake finished",
            metadata: ["peer": "\(association.peer)", "suite": "\(association.negotiated?.cipherSuite.name ?? "")"]
        )
        // Whoever nobody takes is released here, and closes by that.
        guard evicted !== association, let connection = association.connection(keepingAlive: nil) else { return }
        if !accepted.add(connection, isLimited: !isImported) {
            logger?.warning("a connection was closed: too many wait for the application")
            connection.close()
        }
    }

    // Servers begin nothing anew.
    func associationRenewed(_ association: Association) {}

    func associationMoved(_ association: Association, from former: DtlsAddress) {
        let address = association.peer
        let usesConnectionID = association.usesConnectionID
        // Nobody else's place is taken, in whichever loop he is.
        let loops = state.withLock { $0.loops }
        let isTaken = others(among: loops).contains { loop in loop.state.withLock { $0.table[address] != nil } }
        let drainers = state.withLock { state -> [UnsafeContinuation<Bool, Never>] in
            defer { note(state.table.count) }
            // Whoever has closed it meanwhile has looked for it where it is now.
            guard association.closeReason == nil else {
                state.table.remove(association, for: former)
                state.search?.remove(association, at: former)
                return state.table.count == 0 ? state.drainers.removeAll() : []
            }
            state.table.move(association, from: former, to: address, isTaken: isTaken)
            if !usesConnectionID { state.search?.move(association, from: former, to: address) }
            return []
        }
        for drainer in drainers { drainer.resume(returning: true) }
        logger?.debug("peer moved", metadata: ["from": "\(former)", "to": "\(address)"])
    }

    /// Takes note of how many connections this loop has.
    private func note(_ count: Int) {
        _ = tally.state.withLock { $0.connections(count, ofLoop: index) }
    }

    func associationClosed(_ association: Association, _ reason: DtlsCloseReason) {
        let statistics = association.statistics
        let peer = association.peer
        let drainers = state.withLock { state -> [UnsafeContinuation<Bool, Never>] in
            state.table.remove(association, for: peer)
            tally.state.withLock { tally in
                tally.admission.handshakeEnded(association)
                tally.silence.remove(association)
                tally.connections(state.table.count, ofLoop: index)
            }
            state.search?.remove(association, at: peer)
            if let id = association.connectionID { state.table.remove(association, connectionID: id) }
            state.counters.associationEnded(statistics, reason)
            // The alert alone: nothing but the hello was the reason.
            if case .failed(let error) = reason, let alert = error.alertSent, statistics.datagramsSent == 1,
                let hello = association.clientHello
            {
                state.refused.add(hello.digest, from: association.peer, alert, now: .now)
            }
            return state.table.count == 0 ? state.drainers.removeAll() : []
        }
        for drainer in drainers { drainer.resume(returning: true) }
        if case .failed(let error) = reason, association.negotiated == nil {
            handshakeFailed?(association.peer, error)
        }
        logger?.debug("connection ended", metadata: ["peer": "\(association.peer)", "reason": "\(reason)"])
    }
}
