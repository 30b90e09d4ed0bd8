import Logging

/// The inside of a ``DtlsServer``: one socket, the gate, the associations by peer, and the queue of finished connections.
final class ServerEndpoint: AssociationOwner {
    let loop: SocketLoop
    let logger: Logger?
    let accepted = AcceptQueue()
    private let state: Lock<State>

    private struct State: ~Copyable {
        var gate: DtlsHelloGate
        /// For handshakes that begin now.
        var context: DtlsServerContext
        var admission = HandshakeAdmission()
        var table = ConnectionTable<Association>()
        var isClosed = false
        var datagramsDropped = 0
    }

    init(socket: UDPSocket, gate: consuming DtlsHelloGate, context: DtlsServerContext, logger: Logger?) {
        loop = SocketLoop(socket: socket, label: "swift-dtls.server")
        self.logger = logger
        state = Lock(State(gate: gate, context: context))
        loop.start(self)
    }

    func close() {
        let associations = state.withLock { state -> [Association] in
            state.isClosed = true
            return state.table.all
        }
        let waiting = accepted.end()
        for association in associations { association.close() }
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

    // MARK: AssociationOwner

    func association(_ association: Association, asks question: AssociationQuestion) {
        guard let context = association.serverContext else { return }
        switch question {
        case .hello(let offer):
            prepare(association, for: offer, context)
        case .preSharedKey(.identity(let identity, let serverName)):
            switch context.preSharedKeys?.source {
            case nil:
                association.answer(.unknown)
            case .table(let keys)?:
                association.answer(keys[identity].map { .key($0) } ?? .unknown)
            case .lookUp(let lookUp)?:
                Task { association.answer(await lookUp(identity, serverName).map { .key($0) } ?? .unknown) }
            }
        case .certificates(let certificates):
            guard let accepts = context.acceptsCertificates else { return association.answer(accepted: false) }
            Task { association.answer(accepted: await accepts(certificates)) }
        case .preSharedKey(.hint):
            // A question for clients.
            break
        }
    }

    /// Asks for the identity and the stored session at once, outside of every lock.
    private func prepare(_ association: Association, for offer: DtlsClientOffer, _ context: DtlsServerContext) {
        Task {
            async let identity = context.identityFor?(offer)
            var session: DtlsStoredSession?
            if case .store(let store) = context.resumption.kind, !offer.sessionID.isEmpty {
                session = await store.session(for: offer.sessionID)
            }
            association.answer(identity: await identity ?? nil, session: session)
        }
    }

    func association(_ association: Association, established session: DtlsStoredSession) {
        guard let resumption = association.serverContext?.resumption, case .store(let store) = resumption.kind else {
            return
        }
        Task { await store.store(session, lifetime: resumption.lifetime) }
    }

    func associationOpened(_ association: Association) {
        let replaced = state.withLock { state -> Association? in
            state.admission.handshakeEnded(association)
            return state.table.promote(association, for: association.peer)
        }
        replaced?.abandon()
        logger?.debug(
            "handshake finished",
            metadata: ["peer": "\(association.peer)", "suite": "\(association.negotiated?.cipherSuite.name ?? "")"]
        )
        // Whoever nobody takes is released here, and closes by that.
        guard let connection = association.connection(keepingAlive: nil) else { return }
        if !accepted.add(connection) {
            logger?.warning("a connection was closed: too many wait for the application")
            connection.close()
        }
    }

    func associationClosed(_ association: Association, _ reason: DtlsCloseReason) {
        state.withLock { state in
            state.admission.handshakeEnded(association)
            state.table.remove(association, for: association.peer)
        }
        logger?.debug("connection ended", metadata: ["peer": "\(association.peer)", "reason": "\(reason)"])
    }
}

// MARK: - Datagrams

extension ServerEndpoint: SocketLoopHandler {
    /// What to do about a datagram.
    private enum Route {
        case drop
        case deliver(Association, also: Association?)
        case reply([UInt8], DtlsCapture?)
        case admit(DtlsClientHello, DtlsServerContext)
    }

    func receive(_ datagram: UnsafeRawBufferPointer, from source: DtlsAddress, now: ContinuousClock.Instant) {
        switch route(datagram, from: source, now: now) {
        case .drop:
            break
        case .deliver(let association, let other):
            association.receive(datagram, now: now)
            other?.receive(datagram, now: now)
        case .reply(let reply, let capture):
            reply.withUnsafeBytes { bytes in
                // A cookie that is lost comes again with the next hello.
                _ = loop.socket.send(bytes, to: source)
                capture?.record(datagram, from: source.endpointName, to: ownName)
                capture?.record(bytes, from: ownName, to: source.endpointName)
            }
        case .admit(let hello, let context):
            context.configuration.capture?.record(datagram, from: source.endpointName, to: ownName)
            admit(hello, from: source, context)
        }
    }

    private func route(
        _ datagram: UnsafeRawBufferPointer,
        from source: DtlsAddress,
        now: ContinuousClock.Instant
    ) -> Route {
        state.withLock { state -> Route in
            guard !state.isClosed else { return .drop }
            let entry = state.table[source]
            let route: Route
            if DtlsHelloGate.startsWithClientHello(datagram.bytes) {
                var peer: [UInt8] = []
                source.appendBytes(to: &peer)
                switch state.gate.judge(datagram.bytes, from: peer, now: now) {
                case .ignore: route = .drop
                case .reply(let reply): route = .reply(reply, state.context.configuration.capture)
                case .accept(let hello): route = Self.route(hello, entry: entry, state.context)
                }
            } else if let entry {
                route = Self.route(to: entry)
            } else {
                route = .drop
            }
            if case .drop = route { state.datagramsDropped += 1 }
            return route
        }
    }

    /// Datagrams of a peer that is starting anew go to both of its associations: what is in clear concerns the new one alone, which
    /// the engines see to, and what is sealed opens in one of them only.
    private static func route(to entry: ConnectionTable<Association>.Entry) -> Route {
        .deliver(entry.current, also: entry.candidate)
    }

    private static func route(
        _ hello: DtlsClientHello,
        entry: ConnectionTable<Association>.Entry?,
        _ context: DtlsServerContext
    ) -> Route {
        for association in [entry?.candidate, entry?.current].compactMap({ $0 }) {
            guard let known = association.clientHello, known.isRepetition(of: hello) else { continue }
            // A hello that came twice: OpenSSL repeats nothing for it, but drops it well; an open association need not see it.
            return .drop
        }
        return .admit(hello, context)
    }

    private func admit(_ hello: DtlsClientHello, from source: DtlsAddress, _ context: DtlsServerContext) {
        let association: Association
        do throws(DtlsError) {
            let engine = try DtlsEngine(server: context.engineContext, hello: hello, usesIPv6: source.isIPv6)
            engine.flow = (ownName, source.endpointName)
            association = Association(
                engine: engine,
                peer: source,
                owner: self,
                clientHello: hello,
                serverContext: context
            )
        } catch {
            logger?.error("no association could be made", metadata: ["peer": "\(source)", "error": "\(error)"])
            return
        }
        var displaced: Association?
        let isAdmitted = state.withLock { state -> Bool in
            guard !state.isClosed, state.admission.admit(association) else { return false }
            switch state.table[source] {
            case nil:
                state.table.insert(association, for: source)
            case let entry? where entry.current.connectionState == .handshaking:
                // The peer gave its first attempt up.
                displaced = entry.current
                state.table.insert(association, for: source)
            case .some:
                displaced = state.table.setCandidate(association, for: source)
            }
            return true
        }
        displaced?.abandon()
        if isAdmitted {
            association.start()
        } else {
            logger?.warning("a handshake was refused: too many are under way", metadata: ["peer": "\(source)"])
        }
    }

    private var ownName: DtlsEndpointName { loop.socket.localAddress.endpointName }

    func socketFailed(_ error: DtlsError) {
        logger?.error("the server's socket failed", metadata: ["error": "\(error)"])
        close()
    }
}
