import DequeModule

/// Who runs associations: a client's or a server's endpoint. Called without any lock held.
protocol AssociationOwner: AnyObject, Sendable {
    var loop: SocketLoop { get }

    /// The handshake waits for an answer of the application.
    func association(_ association: Association, asks question: AssociationQuestion)

    /// A server's session is to be stored.
    func association(_ association: Association, established session: DtlsStoredSession)

    /// The handshake is finished.
    func associationOpened(_ association: Association)

    /// The association has ended; it is to be forgotten.
    func associationClosed(_ association: Association, _ reason: DtlsCloseReason)
}

/// What a handshake waits for.
enum AssociationQuestion: Sendable {
    case hello(DtlsClientOffer)
    case preSharedKey(DtlsPreSharedKeyRequest)
    case certificates(DtlsPresentedCertificates)
}

/// An engine on a socket: one association, its queue of payloads, and everyone who waits for it.
///
/// The engine sits behind a lock that is held for one input and the non-blocking sends that come of it; continuations, the
/// owner and user's closures are called after it is released. Payloads reach the socket in the order of their sequence numbers,
/// whichever tasks send them.
final class Association: Sendable {
    let peer: DtlsAddress
    let owner: any AssociationOwner
    let clientHello: DtlsClientHello?
    /// What tells a client's second connect to the same peer apart from another one.
    let target: ConnectTarget?
    /// A server's context, which may have been replaced since.
    let serverContext: DtlsServerContext?
    /// How long it may be silent in both directions before it is closed.
    private let idleTimeout: Duration?

    private let state: Lock<State>

    struct State: ~Copyable {
        // Nil once the association has ended, which frees what OpenSSL keeps for it.
        var engine: DtlsEngine?
        var closeReason: DtlsCloseReason?
        var negotiated: DtlsNegotiated?
        var maximumPayloadSize = 0
        /// The engine's, once it has gone.
        var statistics = DtlsStatistics()
        var sendFailures = 0
        var sendsDropped = 0
        var inbox: Inbox
        /// When the last authentic payload came, or the last one went.
        var lastActivity: ContinuousClock.Instant
        var openers = Waiters<Result<Void, DtlsError>>()
        var closers = Waiters<DtlsCloseReason?>()
        var scheduledDeadline: ContinuousClock.Instant?
        weak var handle: DtlsConnection?
        /// Connects under way and connections that someone holds. When the last one goes, the association is closed.
        var holds = 0
        /// Whether the last one has gone.
        var isLetGo = false
    }

    /// What an input brought about, to be carried out after the lock is released.
    private struct Effects: Sendable {
        var question: AssociationQuestion?
        var sessions: [DtlsStoredSession] = []
        var hasOpened = false
        var closeReason: DtlsCloseReason?
        var deadline: ContinuousClock.Instant?
        var deliveries: [Inbox.Delivery] = []
        var openers: [CheckedContinuation<Result<Void, DtlsError>, Never>] = []
        var closers: [CheckedContinuation<DtlsCloseReason?, Never>] = []
    }

    init(
        engine: sending DtlsEngine,
        peer: DtlsAddress,
        owner: any AssociationOwner,
        clientHello: DtlsClientHello? = nil,
        serverContext: DtlsServerContext? = nil,
        target: ConnectTarget? = nil,
        queue: DtlsQueueLimits = DtlsQueueLimits(),
        idleTimeout: Duration? = nil
    ) {
        self.peer = peer
        self.owner = owner
        self.clientHello = clientHello
        self.target = target
        self.serverContext = serverContext
        self.idleTimeout = idleTimeout
        state = Lock(State(engine: engine, inbox: Inbox(limits: queue), lastActivity: .now))
    }

    // MARK: Inputs

    func start() {
        input { $0.start() }
    }

    func receive(_ datagram: UnsafeRawBufferPointer, now: ContinuousClock.Instant) {
        input { $0.receive(datagram, now: now) }
    }

    func handleTimeout(now: ContinuousClock.Instant) {
        let effects = state.withLock { state in
            // The entry that led here is used up.
            state.scheduledDeadline = nil
            if let idleTimeout, state.negotiated != nil, now >= state.lastActivity + idleTimeout {
                return collect(&state) { $0.close(as: .idle) }
            }
            return collect(&state) { $0.handleTimeout(now: now) }
        }
        carryOut(effects)
    }

    func answer(_ answer: DtlsPreSharedKeyAnswer) {
        input { $0.answer(answer) }
    }

    func answer(accepted: Bool) {
        input { $0.answer(accepted: accepted) }
    }

    func answer(identity: DtlsIdentity?, session: DtlsStoredSession?) {
        input { $0.answer(identity: identity, session: session) }
    }

    /// Asks the engine of an open association.
    func ask<Answer: Sendable>(
        _ body: (DtlsEngine) throws(DtlsError) -> Answer
    ) throws(DtlsError) -> Answer {
        try state.withLock { state throws(DtlsError) in
            guard let engine = state.engine else { throw Self.closedError(state.closeReason) }
            return try body(engine)
        }
    }

    func close(as reason: DtlsCloseReason = .closedLocally) {
        input { $0.close(as: reason) }
    }

    func abandon() {
        input { $0.abandon() }
    }

    /// Seals and sends a payload. `false`: the socket has no room, nothing was sealed.
    func trySend(_ payload: UnsafeRawBufferPointer) throws(DtlsError) -> Bool {
        var result = Result<Bool, DtlsError>.success(true)
        let effects = state.withLock { state -> Effects in
            guard let engine = state.engine else {
                result = .failure(Self.closedError(state.closeReason))
                return Effects()
            }
            guard engine.isOpen, owner.loop.socket.hasRoom else {
                if engine.isOpen { result = .success(false) } else { result = .failure(Self.closedError(nil)) }
                return Effects()
            }
            state.lastActivity = .now
            return collect(&state, sendFailure: { result = .failure($0) }) { engine in
                do throws(DtlsError) {
                    try engine.send(payload)
                } catch {
                    result = .failure(error)
                }
            }
        }
        carryOut(effects)
        return try result.get()
    }

    static func closedError(_ reason: DtlsCloseReason?) -> DtlsError {
        if case .failed(let error)? = reason { return error }
        let what = reason.map { "the connection was \($0)" } ?? "the connection is not open"
        return DtlsError(.connectionClosed, phase: .established, what)
    }

    private func input(_ body: (DtlsEngine) -> Void) {
        carryOut(state.withLock { collect(&$0, body) })
    }

    /// Runs one input and follows the engine's contract: outbound datagrams, then events, then the deadline.
    private func collect(
        _ state: inout State,
        sendFailure: (DtlsError) -> Void = { _ in },
        _ body: (DtlsEngine) -> Void
    ) -> Effects {
        var effects = Effects()
        guard let engine = state.engine else { return effects }
        body(engine)
        var refused = 0
        var dropped = 0
        engine.drainOutboundBytes { datagram in
            switch owner.loop.socket.send(datagram, to: peer) {
            case .sent, .queued:
                break
            case .dropped:
                dropped += 1
            case .failed(let code):
                refused += 1
                sendFailure(Self.sendError(code, datagram.count))
            }
        }
        if refused > 0 { state.sendFailures += refused }
        if dropped > 0 { state.sendsDropped += dropped }
        while let event = engine.nextEvent() {
            switch event {
            case .helloReceived(let offer):
                effects.question = .hello(offer)
            case .preSharedKeyRequested(let request):
                effects.question = .preSharedKey(request)
            case .certificatesPresented(let certificates):
                effects.question = .certificates(certificates)
            case .sessionEstablished(let session):
                effects.sessions.append(session)
            case .handshakeFinished(let negotiated):
                state.negotiated = negotiated
                state.maximumPayloadSize = engine.maximumPayloadSize
                state.lastActivity = .now
                effects.hasOpened = true
                effects.openers = state.openers.removeAll()
            case .applicationData:
                state.lastActivity = .now
                engine.drainApplicationDataBytes { payload in
                    if let delivery = state.inbox.add(payload) { effects.deliveries.append(delivery) }
                }
            case .closed(let reason):
                state.closeReason = reason
                effects.closeReason = reason
                effects.deliveries += state.inbox.finish(reason)
                effects.openers += state.openers.removeAll()
                effects.closers = state.closers.removeAll()
            }
        }
        if state.closeReason != nil {
            state.statistics = engine.statistics
            state.engine = nil
        } else if let deadline = engine.nextDeadline ?? idleDeadline(state) {
            if let scheduled = state.scheduledDeadline, scheduled <= deadline { return effects }
            state.scheduledDeadline = deadline
            effects.deadline = deadline
        }
        return effects
    }

    private func idleDeadline(_ state: borrowing State) -> ContinuousClock.Instant? {
        guard let idleTimeout, state.negotiated != nil else { return nil }
        // The one that is scheduled comes first, and looks then whether anything has happened meanwhile.
        return state.scheduledDeadline ?? state.lastActivity + idleTimeout
    }

    private static func sendError(_ code: Int32, _ count: Int) -> DtlsError {
        DtlsError(
            code == SystemCall.messageTooLarge ? .payloadTooLarge : .socketFailed,
            phase: .established,
            "a datagram of \(count) bytes could not be sent: \(SystemCall.description(of: code))",
            hint: code == SystemCall.messageTooLarge ? "lower the configuration's mtu" : nil,
            systemError: code
        )
    }

    private func carryOut(_ effects: Effects) {
        if let deadline = effects.deadline { owner.loop.schedule(self, at: deadline) }
        if let question = effects.question { owner.association(self, asks: question) }
        for session in effects.sessions { owner.association(self, established: session) }
        if effects.hasOpened { owner.associationOpened(self) }
        for delivery in effects.deliveries { delivery.carryOut() }
        if let reason = effects.closeReason {
            owner.associationClosed(self, reason)
            for closer in effects.closers { closer.resume(returning: reason) }
        }
        guard !effects.openers.isEmpty else { return }
        let result: Result<Void, DtlsError> =
            effects.hasOpened ? .success(()) : .failure(Self.handshakeError(effects.closeReason))
        for opener in effects.openers { opener.resume(returning: result) }
    }

    private static func handshakeError(_ reason: DtlsCloseReason?) -> DtlsError {
        if case .failed(let error)? = reason { return error }
        return DtlsError(
            .connectionClosed,
            phase: .handshake,
            "the connection was closed before its handshake was finished"
        )
    }

    // MARK: Questions

    var connectionState: DtlsConnectionState {
        state.withLock { state in
            if state.closeReason != nil { return .closed }
            return state.negotiated == nil ? .handshaking : .open
        }
    }

    var closeReason: DtlsCloseReason? { state.withLock { $0.closeReason } }
    var negotiated: DtlsNegotiated? { state.withLock { $0.negotiated } }
    var maximumPayloadSize: Int { state.withLock { $0.maximumPayloadSize } }
    var lastActivity: ContinuousClock.Instant { state.withLock { $0.lastActivity } }

    var statistics: DtlsStatistics {
        state.withLock { state in
            var statistics = state.engine?.statistics ?? state.statistics
            statistics.drops[.receiveQueueFull] = state.inbox.dropped
            statistics.drops[.sendQueueFull] = state.sendsDropped
            statistics.sendFailures = state.sendFailures
            statistics.mostQueuedPayloads = state.inbox.highWater
            if state.closeReason == nil {
                if state.negotiated == nil {
                    statistics.connectionsHandshaking = 1
                } else {
                    statistics.connectionsOpen = 1
                }
            }
            return statistics
        }
    }

    /// The user's connection, the same one for as long as someone holds it.
    ///
    /// Nil when the handshake is not finished.
    func connection(keepingAlive endpoint: (any AnyObject & Sendable)?) -> DtlsConnection? {
        state.withLock { state in
            if let handle = state.handle { return handle }
            guard let negotiated = state.negotiated else { return nil }
            let handle = DtlsConnection(self, negotiated, keepingAlive: endpoint)
            state.handle = handle
            state.holds += 1
            return handle
        }
    }

    // MARK: Holding

    /// Keeps the association from being closed for want of users. `false`: it has ended already, or is about to.
    func hold() -> Bool {
        state.withLock { state in
            guard state.closeReason == nil, !state.isLetGo else { return false }
            state.holds += 1
            return true
        }
    }

    /// Takes one hold back.
    func release() {
        let isLast = state.withLock { state in
            state.holds -= 1
            state.isLetGo = state.holds == 0
            return state.isLetGo
        }
        if isLast { close() }
    }

    // MARK: Waiting

    /// Waits until the handshake is finished.
    func waitUntilOpen() async throws(DtlsError) {
        let id = state.withLock { $0.openers.makeID() }
        let result = await waitInLine { continuation in
            state.withLock { state -> Result<Void, DtlsError>? in
                if Task.isCancelled { return .failure(Self.cancelledInHandshake) }
                if let reason = state.closeReason { return .failure(Self.handshakeError(reason)) }
                if state.negotiated != nil { return .success(()) }
                state.openers.add(id, continuation)
                return nil
            }
        } withdraw: {
            self.state.withLock { $0.openers.remove(id) }?.resume(returning: .failure(Self.cancelledInHandshake))
        }
        try result.get()
    }

    private static var cancelledInHandshake: DtlsError {
        DtlsError(.cancelled, phase: .handshake, "the task was cancelled while it waited for the handshake")
    }

    /// Waits for a payload; `nil` at the end.
    func nextPayload() async throws(DtlsError) -> [UInt8]? {
        let id = state.withLock { $0.inbox.readers.makeID() }
        let result = await waitInLine { continuation in
            state.withLock { state -> Inbox.Reading? in
                if let reading = state.inbox.take() { return reading }
                if Task.isCancelled { return .cancelled }
                state.inbox.readers.add(id, continuation)
                return nil
            }
        } withdraw: {
            self.state.withLock { $0.inbox.readers.remove(id) }?.resume(returning: .cancelled)
        }
        switch result {
        case .payload(let payload): return payload
        case .end: return nil
        case .failed(let error): throw error
        case .cancelled:
            throw DtlsError(.cancelled, phase: .established, "the task was cancelled while it waited for a datagram")
        }
    }

    /// Waits for the end; `nil` when the task was cancelled before.
    func waitUntilClosed() async -> DtlsCloseReason? {
        let id = state.withLock { $0.closers.makeID() }
        return await waitInLine { continuation in
            state.withLock { state -> DtlsCloseReason?? in
                if let reason = state.closeReason { return reason }
                if Task.isCancelled { return .some(nil) }
                state.closers.add(id, continuation)
                return nil
            }
        } withdraw: {
            self.state.withLock { $0.closers.remove(id) }?.resume(returning: nil)
        }
    }
}
