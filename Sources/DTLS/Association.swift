import DTLSPrimitives
import DequeModule

/// Who runs associations: a client's or a server's endpoint. Called without any lock held.
protocol AssociationOwner: AnyObject, Sendable {
    var loop: SocketLoop { get }

    /// The handshake waits for an answer of the application, which is to be given to the same asker: a client's
    /// association may have another handshake by then.
    func association(_ association: Association, asks question: AssociationQuestion, as asker: Int)

    /// A server's session is to be stored.
    func association(_ association: Association, established session: DtlsStoredSession)

    /// The handshake is finished.
    ///
    /// - Parameter address: Where the peer was when it was: that it is there has been shown by a cookie. It may seem to
    ///   be elsewhere since.
    func associationOpened(_ association: Association, at address: DtlsAddress)

    /// A client's second handshake is finished, and its association has taken the place.
    func associationRenewed(_ association: Association)

    /// The peer is at another address than before.
    func associationMoved(_ association: Association, from former: DtlsAddress)

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
/// The engine sits behind a lock that is held for one input and the non-blocking sends that come of it; continuations,
/// the owner and user's closures are called after it is released. Payloads reach the socket in the order of their
/// sequence numbers, whichever tasks send them. What leaves stands in `Association+Sending.swift`, what waits in
/// `Association+Waiting.swift`, what a client does when its server falls silent in `Association+Renewal.swift`.
final class Association: DeadlineOwner {
    let owner: any AssociationOwner
    /// What tells a repetition of a server's client's hello from another one.
    let clientHello: DtlsClientHello.Identity?
    /// What only clients have.
    private let clientPart: ClientPart?
    /// A server's context, which may have been replaced since.
    let serverContext: DtlsServerContext?
    /// What the peer is to put into its records, if it knows how; a client's second handshake settles another one.
    let connectionID: [UInt8]?
    /// How long it may be silent in both directions before it is closed.
    let idleTimeout: Duration?
    /// What tells a client's second connect to the same peer apart from another one.
    var target: ConnectTarget? { clientPart?.target }
    /// How a client begins anew when its server has fallen silent.
    var renewal: Renewal? { clientPart?.renewal }

    /// In one place, so that a hundred thousand associations of a server have room for none of it.
    private final class ClientPart: Sendable {
        let target: ConnectTarget?
        let renewal: Renewal?

        init(_ target: ConnectTarget?, _ renewal: Renewal?) {
            self.target = target
            self.renewal = renewal
        }
    }

    struct Renewal: Sendable {
        let silence: Duration
        let makeEngine: @Sendable (DtlsSession?) throws(DtlsError) -> sending DtlsEngine
    }

    let state: Lock<State>

    struct State: ~Copyable {
        /// Where the peer was last heard of.
        var peer: DtlsAddress
        // Nil once the association has ended, which frees what OpenSSL keeps for it.
        var engine: DtlsEngine?
        /// Of a client that begins anew when its server falls silent; nil of all others.
        var renewing: Renewing?
        var closeReason: DtlsCloseReason?
        var negotiated: DtlsNegotiated?
        var maximumPayloadSize = 0
        /// Of engines that have gone; nil while the first is there.
        var past: PastStatistics?
        var sendFailures = 0
        var sendsDropped = 0
        /// How often the peer has changed its address.
        var moves = 0
        /// Where the peer seems to be, until it has shown it.
        var path: UnprovenPath?
        var unprovenDrops = 0
        var inbox: Inbox
        /// Who is handed the payloads on the loop, instead of those who iterate.
        var receiver: Receiver?
        /// When the last authentic payload came, or the last one went.
        var lastActivity: Moment
        /// Who waits for something else than a payload; nil until somebody does.
        var waiting: Waiting?
        var scheduledDeadline: Moment?
        /// The next one after it that the loop has.
        var laterDeadline: Moment?
        weak var handle: DtlsConnection?
        /// Connects under way and connections that someone holds. When the last one goes, the association is closed.
        var holds = 0
        /// Whether the last one has gone.
        var isLetGo = false
        /// The address of this machine at which the peer was last heard of, and from which datagrams to it leave. Nil
        /// where the system picks it.
        var local: DtlsAddress?
        /// Whether the socket has taken a datagram.
        var hasSent = false

        // Of associations without a second handshake they are what they begin as.
        var successor: DtlsEngine? {
            get { renewing?.successor }
            set { renewing?.successor = newValue }
        }
        var generation: Int {
            get { renewing?.generation ?? 0 }
            set { renewing?.generation = newValue }
        }
        var failedRenewals: Int {
            get { renewing?.failedRenewals ?? 0 }
            set { renewing?.failedRenewals = newValue }
        }
        var awaitedSince: Moment? {
            get { renewing?.awaitedSince }
            set { renewing?.awaitedSince = newValue }
        }

        /// Makes room for those who wait.
        mutating func makeWaiting() -> Waiting {
            let waiting = self.waiting ?? Waiting()
            self.waiting = waiting
            return waiting
        }

        mutating func addToPast(_ change: (inout DtlsStatistics) -> Void) {
            let past = self.past ?? PastStatistics()
            change(&past.statistics)
            self.past = past
        }
    }

    /// A client's second handshake with a server that has fallen silent.
    final class Renewing {
        /// What takes the engine's place once its handshake is finished.
        var successor: DtlsEngine?
        /// How many there were: the number of the handshake that may ask.
        var generation = 0
        /// How many in a row failed.
        var failedRenewals = 0
        /// When the first payload went to which nothing has come yet.
        var awaitedSince: Moment?
    }

    /// Those who wait for something else than a payload. Once there it stays, as they are told apart by their numbers.
    final class Waiting {
        var openers = Waiters<Result<Void, DtlsError>>()
        var closers = Waiters<DtlsCloseReason?>()
        /// Those who wait for the peer to be elsewhere.
        var movers = Waiters<DtlsAddress?>()
    }

    /// What is rarely there, and large.
    final class PastStatistics {
        var statistics = DtlsStatistics()
    }

    /// What an input brought about, to be carried out after the lock is released.
    struct Effects: Sendable {
        var question: AssociationQuestion?
        /// The number of the handshake that asks.
        var asker = 0
        var sessions: [DtlsStoredSession] = []
        /// Where the peer was when the handshake was finished, if it was.
        var openedAt: DtlsAddress?
        var hasOpened: Bool { openedAt != nil }
        var closeReason: DtlsCloseReason?
        var deadline: Moment?
        var deliveries: [Inbox.Delivery] = []
        var openers: [UnsafeContinuation<Result<Void, DtlsError>, Never>] = []
        var closers: [UnsafeContinuation<DtlsCloseReason?, Never>] = []
        var isRenewed = false
        /// Where the peer was before.
        var movedFrom: DtlsAddress?
        var movers: [UnsafeContinuation<DtlsAddress?, Never>] = []
        /// Whether something waits for the receiver.
        var hasHandled = false
        /// Who has to be told of the end.
        var receiver: Receiver?

        /// Adds what came of a second input under the same lock.
        mutating func merge(_ other: Effects) {
            if let asked = other.question {
                question = asked
                asker = other.asker
            }
            sessions += other.sessions
            openedAt = openedAt ?? other.openedAt
            closeReason = other.closeReason ?? closeReason
            deadline = other.deadline ?? deadline
            deliveries += other.deliveries
            openers += other.openers
            closers += other.closers
            isRenewed = isRenewed || other.isRenewed
            movedFrom = movedFrom ?? other.movedFrom
            movers += other.movers
            hasHandled = hasHandled || other.hasHandled
            receiver = other.receiver ?? receiver
        }
    }

    init(
        engine: sending DtlsEngine,
        peer: DtlsAddress,
        local: DtlsAddress? = nil,
        owner: any AssociationOwner,
        clientHello: DtlsClientHello.Identity? = nil,
        serverContext: DtlsServerContext? = nil,
        target: ConnectTarget? = nil,
        connectionID: [UInt8]? = nil,
        queue: DtlsQueueLimits = DtlsQueueLimits(),
        idleTimeout: Duration? = nil,
        renewal: Renewal? = nil
    ) {
        self.owner = owner
        self.clientHello = clientHello
        self.serverContext = serverContext
        self.connectionID = connectionID
        self.idleTimeout = idleTimeout
        clientPart = target == nil && renewal == nil ? nil : ClientPart(target, renewal)
        var initial = State(peer: peer, engine: engine, inbox: Inbox(limits: queue), lastActivity: .now, local: local)
        if renewal != nil { initial.renewing = Renewing() }
        state = Lock(initial)
    }

    // MARK: Inputs

    func start() {
        input { $0.start(at: .now) }
    }

    func handleTimeout(now: Moment) {
        let effects = state.withLock { state in
            // The entry that led here is used up, unless it is left from before.
            if let scheduled = state.scheduledDeadline, scheduled <= now {
                state.scheduledDeadline = state.laterDeadline.flatMap { $0 > now ? $0 : nil }
                state.laterDeadline = nil
            }
            if let idleTimeout, state.negotiated != nil, now >= state.lastActivity + idleTimeout {
                return collect(&state) { $0.close(as: .idle) }
            }
            var left: DtlsAddress?
            var effects = collect(&state, before: { left = self.pathTimedOut(&$0, now: now) }) {
                $0.handleTimeout(at: now)
            }
            if let left {
                effects.movedFrom = left
                effects.movers += state.waiting?.movers.removeAll() ?? []
            }
            if state.successor != nil {
                renew(&state, &effects) { $0.handleTimeout(at: now) }
            } else if let renewal, let since = state.awaitedSince, now >= since + renewal.silence {
                beginAnew(&state, &effects, renewal, now: now)
            }
            return effects
        }
        carryOut(effects)
    }

    func answer(_ answer: DtlsPreSharedKeyAnswer, to asker: Int) {
        reply(to: asker) { $0.answer(answer, at: .now) }
    }

    func answer(accepted: Bool, to asker: Int) {
        reply(to: asker) { $0.answer(accepted: accepted, at: .now) }
    }

    func answer(identity: DtlsIdentity?, session: DtlsStoredSession?, to asker: Int) {
        reply(to: asker) { $0.answer(identity: identity, session: session, at: .now) }
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

    func input(_ body: (DtlsEngine) -> Void) {
        carryOut(state.withLock { collect(&$0, body) })
    }

    /// Runs one input and follows the engine's contract: outbound datagrams, then events, then the deadline.
    ///
    /// - Parameter before: What to do between the input and the first of them.
    func collect(
        _ state: inout State,
        sendFailure: (DtlsError) -> Void = { _ in },
        before: (inout State) -> Void = { _ in },
        _ body: (DtlsEngine) -> Void
    ) -> Effects {
        var effects = Effects()
        guard let engine = state.engine else { return effects }
        body(engine)
        // What the input brought about leaves for where the peer is now.
        before(&state)
        transmit(engine, &state, sendFailure)
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
                effects.openedAt = state.peer
                effects.openers = state.waiting?.openers.removeAll() ?? []
            case .applicationData:
                state.lastActivity = .now
                state.awaitedSince = nil
                state.failedRenewals = 0
                // The server is there after all.
                dropSuccessor(&state)
                let isHandled = state.receiver != nil
                effects.hasHandled = effects.hasHandled || isHandled
                // Not the effects themselves: what a closure has changed is copied when it is returned.
                var deliveries: [Inbox.Delivery] = []
                engine.drainApplicationDataBytes { payload in
                    let delivery = state.inbox.add(payload, passesReaders: isHandled)
                    if let delivery { deliveries.append(delivery) }
                }
                effects.deliveries += deliveries
            case .closed(let reason):
                state.closeReason = reason
                effects.closeReason = reason
                effects.deliveries += state.inbox.finish(reason)
                effects.openers += state.waiting?.openers.removeAll() ?? []
                effects.closers = state.waiting?.closers.removeAll() ?? []
                effects.movers += state.waiting?.movers.removeAll() ?? []
                effects.receiver = state.receiver
                state.receiver = nil
            }
        }
        if state.closeReason != nil {
            let statistics = engine.statistics
            state.addToPast { past in
                past.add(statistics)
                past.roundTrip = statistics.roundTrip
            }
            state.engine = nil
            dropSuccessor(&state)
        } else {
            schedule(Self.earlier(engine.ownDeadline, silenceDeadline(state)), &state, &effects)
        }
        if engine.isOpen { state.maximumPayloadSize = engine.maximumPayloadSize }
        return effects
    }

    /// Takes its deadline to the owner's loop, which it has not been with before.
    func reschedule(forgetsLocalAddress: Bool) {
        let effects = state.withLock { state in
            var effects = Effects()
            state.scheduledDeadline = nil
            state.laterDeadline = nil
            if forgetsLocalAddress { state.local = nil }
            let engines = Self.earlier(state.engine?.ownDeadline, state.successor?.deadline)
            schedule(Self.earlier(engines, silenceDeadline(state)), &state, &effects)
            return effects
        }
        carryOut(effects)
    }

    private static func earlier(_ left: Moment?, _ right: Moment?) -> Moment? {
        guard let left, let right else { return left ?? right }
        return Swift.min(left, right)
    }

    func schedule(_ deadline: Moment?, _ state: inout State, _ effects: inout Effects) {
        guard let deadline else { return }
        if let scheduled = state.scheduledDeadline {
            if scheduled <= deadline { return }
            state.laterDeadline = Swift.min(state.laterDeadline ?? scheduled, scheduled)
        }
        state.scheduledDeadline = deadline
        effects.deadline = deadline
    }

    /// When an open association is to be looked at because it may have been silent for too long.
    func silenceDeadline(_ state: borrowing State) -> Moment? {
        guard state.negotiated != nil else { return nil }
        var idle = idleTimeout.map { state.lastActivity + $0 }
        if let path = state.path { idle = Swift.min(idle ?? path.deadline, path.deadline) }
        guard let renewal, state.successor == nil, let since = state.awaitedSince else { return idle }
        return Swift.min(idle ?? since + renewal.silence, since + renewal.silence)
    }

    func carryOut(_ effects: Effects) {
        if let deadline = effects.deadline { owner.loop.schedule(self, at: deadline) }
        if let question = effects.question { owner.association(self, asks: question, as: effects.asker) }
        for session in effects.sessions { owner.association(self, established: session) }
        if let address = effects.openedAt { owner.associationOpened(self, at: address) }
        for delivery in effects.deliveries { delivery.carryOut() }
        if effects.isRenewed { owner.associationRenewed(self) }
        if let former = effects.movedFrom { owner.associationMoved(self, from: former) }
        // Behind what the owner notes down: the receiver may close the association.
        if effects.hasHandled { handWaiting() }
        for mover in effects.movers { mover.resume(returning: effects.closeReason == nil ? peer : nil) }
        if let reason = effects.closeReason {
            owner.associationClosed(self, reason)
            if let receiver = effects.receiver { end(receiver, reason) }
            for closer in effects.closers { closer.resume(returning: reason) }
        }
        guard !effects.openers.isEmpty else { return }
        let result: Result<Void, DtlsError> =
            effects.hasOpened ? .success(()) : .failure(Self.handshakeError(effects.closeReason))
        for opener in effects.openers { opener.resume(returning: result) }
    }

    static func handshakeError(_ reason: DtlsCloseReason?) -> DtlsError {
        if case .failed(let error)? = reason { return error }
        return DtlsError(
            .connectionClosed,
            phase: .handshake,
            "the connection was closed before its handshake was finished"
        )
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
        let (isLast, unread) = state.withLock { state in
            state.holds -= 1
            state.isLetGo = state.holds == 0
            // Nobody can read them any more, and a deadline may keep this object for a while.
            let hasEnded = state.isLetGo && state.closeReason != nil
            return (state.isLetGo, hasEnded ? state.inbox.takeAll() : [])
        }
        _ = unread
        if isLast { close() }
    }
}
