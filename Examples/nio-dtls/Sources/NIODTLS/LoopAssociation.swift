import DTLSCore
import NIOCore

/// What becomes of what an association has to say.
protocol LoopAssociationOwner: AnyObject {
    /// A datagram is to be sent.
    ///
    /// - Parameter isPayload: Whether the application has written it, and flushes it itself.
    func association(
        _ association: LoopAssociation,
        sends datagram: AddressedEnvelope<ByteBuffer>,
        isPayload: Bool,
        promise: EventLoopPromise<Void>?
    )
    func association(_ association: LoopAssociation, received payload: ByteBuffer)
    /// Whether the peer may be at another address from now on.
    func association(_ association: LoopAssociation, mayMoveTo address: SocketAddress) -> Bool
    func associationMoved(_ association: LoopAssociation, from former: SocketAddress)
    func associationOpened(_ association: LoopAssociation, _ negotiated: DtlsNegotiated)
    func associationClosed(_ association: LoopAssociation, _ reason: DtlsCloseReason)
    /// Everything that an input has led to is said.
    func associationIsDone(_ association: LoopAssociation)
}

/// One engine on an event loop, with its timer: the engine's contract (an input, then outbound datagrams, events and
/// the deadline) in one place. Everything happens on the loop.
final class LoopAssociation {
    let engine: DtlsEngine
    /// What a server's client began with.
    let hello: DtlsClientHello?
    /// Where the peer is.
    private(set) var peer: SocketAddress
    /// Whether the owner was told that it is open.
    private(set) var hasOpened = false
    private(set) var hasEnded = false
    /// What the peer's records carry once it is open; empty where there is nothing.
    private(set) var connectionID: [UInt8] = []

    private let clock: LoopClock
    private let loop: NIOIsolatedEventLoop
    private let allocator: ByteBufferAllocator
    private let answers: DtlsAnswers
    private let idleTimeout: Duration?
    private weak var owner: (any LoopAssociationOwner)?

    private var timer: Scheduled<Void>?
    private var timerDeadline: NIODeadline?
    private var lastPayload: ContinuousClock.Instant
    private var isTelling = false
    /// Why this side closes it, where the engine cannot know.
    private var closesAs: DtlsCloseReason?
    private var path: UnprovenPath?
    /// Memory for lists, used again.
    private var spare: [ByteBuffer] = []

    init(
        _ engine: DtlsEngine,
        hello: DtlsClientHello? = nil,
        peer: SocketAddress,
        channel: any Channel,
        clock: LoopClock,
        answers: DtlsAnswers,
        idleTimeout: Duration? = nil,
        owner: any LoopAssociationOwner
    ) {
        self.engine = engine
        self.hello = hello
        self.peer = peer
        self.clock = clock
        loop = channel.eventLoop.assumeIsolated()
        allocator = channel.allocator
        self.answers = answers
        self.idleTimeout = idleTimeout
        self.owner = owner
        lastPayload = clock.now
    }

    // MARK: Inputs

    func start() {
        engine.start(now: clock.now)
        tell()
    }

    func receive(_ datagram: ByteBuffer, from source: SocketAddress) {
        let receipt = engine.receive(datagram.readableBytesSpan, now: clock.now)
        // Before anything is sent: it is to go to where the peer is now.
        follow(source, receipt, bytes: datagram.readableBytes)
        tell()
    }

    func send(_ payload: ByteBuffer, promise: EventLoopPromise<Void>?) {
        do throws(DtlsError) {
            try engine.send(payload.readableBytesSpan)
        } catch {
            promise?.fail(error)
            return tell()
        }
        lastPayload = clock.now
        sendOutbound(isPayload: true, promise: promise)
        tell()
    }

    /// Ends it, with close_notify if it is open.
    func close(as reason: DtlsCloseReason = .closedLocally) {
        closesAs = reason
        engine.close()
        tell()
    }

    /// Forgets it, without a word to the peer or the owner.
    func drop() {
        hasEnded = true
        owner = nil
        setTimer(nil)
    }

    private func timerFired() {
        timer = nil
        timerDeadline = nil
        let now = clock.now
        if let deadline = engine.nextDeadline, deadline <= now { engine.handleTimeout(now: now) }
        pathTimedOut(now: now)
        if let idleDeadline, idleDeadline <= now {
            closesAs = .idle
            engine.close()
        }
        tell()
    }

    // MARK: Outputs

    /// Says everything that the last input has led to. Called again in the midst of that (somebody writes because of
    /// what he is told), it sends what is to be sent and leaves the rest to the call that is under way.
    private func tell() {
        sendOutbound(isPayload: false, promise: nil)
        guard !isTelling else { return }
        isTelling = true
        while !hasEnded, let event = engine.nextEvent() {
            tell(event)
            sendOutbound(isPayload: false, promise: nil)
        }
        isTelling = false
        setTimer(hasEnded ? nil : nextDeadline)
        owner?.associationIsDone(self)
    }

    private func tell(_ event: DtlsEvent) {
        switch event {
        case .helloReceived(let offer):
            ask(answers.identity?(offer, loop.nonisolated()), otherwise: nil) { $0.answer(identity: $1, now: $2) }
        case .preSharedKeyRequested(let request):
            ask(answers.preSharedKey?(request, loop.nonisolated()), otherwise: .unknown) { $0.answer($1, now: $2) }
        case .certificatesPresented(let certificates):
            ask(answers.acceptsCertificates?(certificates, loop.nonisolated()), otherwise: false) {
                $0.answer(accepted: $1, now: $2)
            }
        case .handshakeFinished(let negotiated):
            hasOpened = true
            connectionID = negotiated.connectionIDs?.own ?? []
            lastPayload = clock.now
            owner?.associationOpened(self, negotiated)
        case .sessionEstablished:
            // Sessions by ID are the application's to keep, and this adapter has no store. Tickets need none.
            break
        case .applicationData:
            lastPayload = clock.now
            takeList { list in
                engine.drainApplicationData { list.append(buffer($0)) }
                for payload in list where !hasEnded { owner?.association(self, received: payload) }
            }
        case .closed(let reason):
            hasEnded = true
            var reason = reason
            if reason == .closedLocally, let closesAs { reason = closesAs }
            owner?.associationClosed(self, reason)
        }
    }

    private func ask<Answer>(
        _ future: EventLoopFuture<Answer>?,
        otherwise fallback: Answer,
        _ answer: @escaping (DtlsEngine, Answer, ContinuousClock.Instant) -> Void
    ) where Answer: Sendable {
        guard let future else {
            answer(engine, fallback, clock.now)
            return
        }
        future.hop(to: loop.nonisolated()).assumeIsolated().whenComplete { [weak self] result in
            guard let self, !hasEnded else { return }
            answer(engine, (try? result.get()) ?? fallback, clock.now)
            tell()
        }
    }

    private func sendOutbound(isPayload: Bool, promise: EventLoopPromise<Void>?) {
        takeList { list in
            engine.drainOutbound { list.append(buffer($0)) }
            // Who writes one payload gets one datagram; a promise is for the last in any case.
            var promise = promise
            for (index, datagram) in list.enumerated() {
                let isLast = index == list.count - 1
                defer { if isLast { promise = nil } }
                guard path?.takes(datagram.readableBytes) != false else {
                    if isLast { promise?.fail(DtlsHandlerError.unprovenPath) }
                    continue
                }
                owner?.association(
                    self,
                    sends: AddressedEnvelope(remoteAddress: peer, data: datagram),
                    isPayload: isPayload,
                    promise: isLast ? promise : nil
                )
            }
            promise?.succeed()
        }
    }

    /// Calls `body` with an empty list, in memory of an earlier one. What `body` calls may come here again.
    private func takeList(_ body: (inout [ByteBuffer]) -> Void) {
        var list = spare
        spare = []
        body(&list)
        list.removeAll(keepingCapacity: list.capacity <= 64)
        spare = list
    }

    private func buffer(_ bytes: RawSpan) -> ByteBuffer {
        var buffer = allocator.buffer(capacity: bytes.byteCount)
        buffer.writeBytes(bytes)
        return buffer
    }

    // MARK: Time

    private var idleDeadline: ContinuousClock.Instant? {
        guard hasOpened, let idleTimeout else { return nil }
        return lastPayload + idleTimeout
    }

    private var nextDeadline: ContinuousClock.Instant? {
        var next = engine.nextDeadline
        for candidate in [path?.deadline, idleDeadline] {
            guard let candidate else { continue }
            next = next.map { min($0, candidate) } ?? candidate
        }
        return next
    }

    /// A timer that comes too early stays as it is: it looks again then, which is cheaper than to move it with each
    /// datagram.
    private func setTimer(_ instant: ContinuousClock.Instant?) {
        guard let deadline = instant.map(clock.deadline) else {
            timer?.cancel()
            timer = nil
            timerDeadline = nil
            return
        }
        if let timerDeadline, timerDeadline <= deadline { return }
        timer?.cancel()
        timerDeadline = deadline
        timer = loop.scheduleTask(deadline: deadline) { [weak self] in self?.timerFired() }
    }
}

// MARK: - A peer that is elsewhere

extension LoopAssociation {
    /// An address at which the peer has not shown yet that it receives anything (RFC 9146 §6, RFC 9853).
    private struct UnprovenPath {
        /// Where it was before, and has shown to be.
        let former: SocketAddress
        var received: Int
        var sent = 0
        var challenges = 1
        var deadline: ContinuousClock.Instant

        static let interval = Duration.milliseconds(334)
        static let maximumChallenges = 3

        /// Whether so many bytes may still be sent there, which they are then.
        mutating func takes(_ bytes: Int) -> Bool {
            guard sent + bytes <= 3 * received else { return false }
            sent += bytes
            return true
        }
    }

    /// Takes note of where the peer is: where its newest authentic datagram came from.
    private func follow(_ source: SocketAddress, _ receipt: DtlsReceipt, bytes: Int) {
        guard receipt >= .authentic, engine.isOpen else { return }
        guard source != peer else {
            if engine.isPathChallenged { path?.received += bytes } else { path = nil }
            return
        }
        guard receipt == .newest, owner?.association(self, mayMoveTo: source) == true else { return }
        let former = peer
        let proven = path?.former ?? former
        path = nil
        peer = source
        if source != proven, engine.challengePath() {
            path = UnprovenPath(former: proven, received: bytes, deadline: clock.now + UnprovenPath.interval)
        }
        owner?.associationMoved(self, from: former)
    }

    /// Challenges again, or goes back to where the peer was.
    private func pathTimedOut(now: ContinuousClock.Instant) {
        guard let path, path.deadline <= now else { return }
        if engine.isOpen, path.challenges < UnprovenPath.maximumChallenges, engine.challengePath(again: true) {
            self.path?.challenges += 1
            let isLast = path.challenges + 1 == UnprovenPath.maximumChallenges
            self.path?.deadline = now + UnprovenPath.interval * (isLast ? 3 : 1)
            return
        }
        guard owner?.association(self, mayMoveTo: path.former) == true else {
            // Somebody else is there: it stays, and gets no more than it may.
            self.path?.deadline = now + UnprovenPath.interval * 3
            return
        }
        let left = peer
        self.path = nil
        peer = path.former
        owner?.associationMoved(self, from: left)
    }
}
