import Logging

/// The inside of a ``DtlsServer``: one socket, the gate, the associations by peer, and the queue of finished connections.
final class ServerEndpoint: AssociationOwner {
    let loop: SocketLoop
    let context: DtlsServerContext
    let logger: Logger?
    let accepted = AcceptQueue()
    private let state: Lock<State>

    private struct State: ~Copyable {
        var gate: DtlsHelloGate
        var admission = HandshakeAdmission()
        var table = ConnectionTable<Association>()
        var isClosed = false
        var datagramsDropped = 0
    }

    init(socket: UDPSocket, context: DtlsServerContext, logger: Logger?) throws(DtlsError) {
        loop = SocketLoop(socket: socket, label: "swift-dtls.server")
        self.context = context
        self.logger = logger
        state = Lock(State(gate: try DtlsHelloGate()))
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

    // MARK: AssociationOwner

    func association(_ association: Association, requests request: DtlsPreSharedKeyRequest) {
        guard case .identity(let identity) = request, let store = context.preSharedKeys else {
            return association.answer(DtlsSecretBytes?.none)
        }
        switch store.source {
        case .table(let keys):
            association.answer(keys[identity])
        case .lookUp(let lookUp):
            Task { association.answer(await lookUp(identity)) }
        }
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
        case reply([UInt8])
        case admit(DtlsClientHello)
    }

    func receive(_ datagram: UnsafeRawBufferPointer, from source: DtlsAddress, now: ContinuousClock.Instant) {
        switch route(datagram, from: source, now: now) {
        case .drop:
            break
        case .deliver(let association, let other):
            association.receive(datagram, now: now)
            other?.receive(datagram, now: now)
        case .reply(let reply):
            // A cookie that is lost comes again with the next hello.
            reply.withUnsafeBytes { _ = loop.socket.send($0, to: source) }
        case .admit(let hello):
            admit(hello, from: source)
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
                case .reply(let reply): route = .reply(reply)
                case .accept(let hello): route = Self.route(hello, entry: entry)
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

    private static func route(_ hello: DtlsClientHello, entry: ConnectionTable<Association>.Entry?) -> Route {
        for association in [entry?.candidate, entry?.current].compactMap({ $0 }) {
            guard let known = association.clientHello, known.isRepetition(of: hello) else { continue }
            // A hello that came twice: OpenSSL repeats nothing for it, but drops it well; an open association need not see it.
            return .drop
        }
        return .admit(hello)
    }

    private func admit(_ hello: DtlsClientHello, from source: DtlsAddress) {
        let association: Association
        do throws(DtlsError) {
            let engine = try DtlsEngine(server: context.engineContext, hello: hello, usesIPv6: source.isIPv6)
            association = Association(engine: engine, peer: source, owner: self, clientHello: hello)
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

    func socketFailed(_ error: DtlsError) {
        logger?.error("the server's socket failed", metadata: ["error": "\(error)"])
        close()
    }
}
