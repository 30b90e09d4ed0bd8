import COpenSSL
import DequeModule

/// One DTLS association without any input or output: datagrams and the time go in; datagrams, events and the next deadline
/// come out.
///
/// The inputs are ``start(now:)``, ``receive(_:now:)``, ``send(_:)``, ``handleTimeout(now:)``, the answers to
/// ``DtlsEvent/preSharedKeyRequested(_:)``, and ``close()``. After each of them:
///
/// 1. call ``drainOutbound(_:)`` and send what it hands out, each piece as one datagram;
/// 2. call ``nextEvent()`` until it returns `nil` (and ``drainApplicationData(_:)`` at ``DtlsEvent/applicationData``);
/// 3. read ``nextDeadline`` and call ``handleTimeout(now:)`` when it has come. A spurious call is harmless.
///
/// Bad, repeated, foreign or forged datagrams are no errors: they are dropped and counted in ``statistics``. Every failure that
/// ends the association comes as ``DtlsEvent/closed(_:)``.
///
/// An engine may be moved between threads but belongs to one at a time. Its deadlines are on the monotonic clock; OpenSSL's own
/// retransmission timer reads the wall clock, so a clock that jumps can delay a retransmission but never the handshake's
/// deadline.
public final class DtlsEngine {
    let context: DtlsEngineContext
    let callbacks: CallbackState
    let bio: DatagramBIO
    let records: AttachedRecords
    let hello: DtlsClientHello?
    var lifecycle = Lifecycle()
    var filter: RecordFilter
    var watch: PreSharedKeyWatch
    var isWaitingForKey = false
    var requestedIdentity: [UInt8]?
    var heldDatagrams: [[UInt8]] = []
    /// Sealed records that came when a pre-shared key was in use and a server's handshake needed one, and that it could not open.
    var unusableSealedRecords = 0
    var alertDeadline: ContinuousClock.Instant?
    var handshakeDeadline: ContinuousClock.Instant?
    var retransmissionDeadline: ContinuousClock.Instant?
    private var slices: RecordFilter.Slices = []
    var inbound = DatagramQueue()
    var events = Deque<DtlsEvent>()

    /// What was counted since the engine was made.
    public internal(set) var statistics = DtlsStatistics()

    /// What the handshake has settled; `nil` before it is finished.
    public internal(set) var negotiated: DtlsNegotiated?

    /// The most bytes that ``send(_:)`` takes: the MTU without what the record adds. 0 before the handshake is finished.
    public internal(set) var maximumPayloadSize = 0

    /// How long the handshake may take, on the monotonic clock. Read by ``start(now:)``. Default: the configuration's
    /// ``DtlsConfiguration/handshakeTimeout``.
    public var handshakeTimeout: Duration

    /// How many datagrams are kept while the application is asked for a key.
    static let maximumHeldDatagrams = 8

    /// Makes a client's engine.
    ///
    /// - Parameters:
    ///   - context: A context of the role client.
    ///   - serverName: The DNS name or IP address that the server's certificate must carry. A DNS name is also sent to the server
    ///     (RFC 6066 §3). Needed where ``DtlsServerVerification/chainAndName`` applies and certificates are offered.
    ///   - preSharedKey: The key to use, whatever the server's hint. Without it a context that uses pre-shared keys asks by
    ///     ``DtlsEvent/preSharedKeyRequested(_:)``.
    ///   - usesIPv6: Whether the path is IPv6, which has a larger smallest MTU.
    /// - Throws: ``DtlsError/Code-swift.struct/missingServerName``,
    ///   ``DtlsError/Code-swift.struct/invalidConfiguration`` for a context of the other role or a name that is none,
    ///   ``DtlsError/Code-swift.struct/internalFailure`` when OpenSSL has no memory.
    public convenience init(
        client context: DtlsEngineContext,
        serverName: String?,
        preSharedKey: DtlsPreSharedKey? = nil,
        usesIPv6: Bool = false
    ) throws(DtlsError) {
        guard context.role == .client else { throw Self.wrongRole }
        try self.init(context: context, hello: nil, usesIPv6: usesIPv6)
        try setServerName(serverName)
        if let preSharedKey { callbacks.preSharedKey = .key(preSharedKey) }
    }

    /// Makes a server's engine for one client.
    ///
    /// - Parameters:
    ///   - context: A context of the role server.
    ///   - hello: The ClientHello that passed a ``DtlsHelloGate``. `nil` only where something else keeps strangers off (an ICE
    ///     agent, a connected link): the first ClientHello is then answered at once, without a cookie.
    ///   - usesIPv6: Whether the path is IPv6.
    /// - Throws: ``DtlsError/Code-swift.struct/invalidConfiguration`` for a context of the other role,
    ///   ``DtlsError/Code-swift.struct/internalFailure`` when OpenSSL has no memory.
    public convenience init(
        server context: DtlsEngineContext,
        hello: DtlsClientHello? = nil,
        usesIPv6: Bool = false
    ) throws(DtlsError) {
        guard context.role == .server else { throw Self.wrongRole }
        try self.init(context: context, hello: hello, usesIPv6: usesIPv6)
    }

    private init(context: DtlsEngineContext, hello: DtlsClientHello?, usesIPv6: Bool) throws(DtlsError) {
        self.context = context
        self.hello = hello
        handshakeTimeout = context.configuration.handshakeTimeout
        callbacks = CallbackState(
            role: context.role,
            retransmission: context.configuration.retransmission,
            unknownIdentity: context.unknownIdentity
        )
        watch = PreSharedKeyWatch(role: context.role)
        filter = RecordFilter(role: context.role)
        bio = DatagramBIO(mtu: context.configuration.mtu, isIPv6: usesIPv6)
        bio.firstSequenceNumber = hello?.recordSequenceNumber
        records = try AttachedRecords(try context.makeSSL(), bio: bio, callbacks: callbacks)
    }

    private static var wrongRole: DtlsError {
        DtlsError(.invalidConfiguration, phase: .handshake, "the context was made for the other role")
    }
}

// MARK: - Inputs

extension DtlsEngine {
    /// Starts the handshake and its time: a client sends its ClientHello, a server answers the hello that it was made with or
    /// waits for one. A second call does nothing.
    public func start(now: ContinuousClock.Instant = .now) {
        guard lifecycle.start() else { return }
        handshakeDeadline = now + handshakeTimeout
        if let hello {
            acceptHello(hello)
        } else if context.role == .client {
            advance()
        }
        finishInput(now: now)
    }

    /// Takes a datagram from the peer, whatever it holds.
    ///
    /// Ignored before ``start(now:)`` and after the end.
    public func receive(_ datagram: RawSpan, now: ContinuousClock.Instant = .now) {
        datagram.withUnsafeBytes { receive($0, now: now) }
    }

    package func receive(_ datagram: UnsafeRawBufferPointer, now: ContinuousClock.Instant) {
        statistics.datagramsReceived += 1
        guard lifecycle.isHandshaking || lifecycle.isOpen else { return }
        if isWaitingForKey {
            hold(datagram)
        } else {
            process(datagram, now: now)
        }
        finishInput(now: now)
    }

    /// Seals a payload into one datagram.
    ///
    /// - Parameter payload: 1 to ``maximumPayloadSize`` bytes. An empty one is sent as nothing: OpenSSL has no empty records.
    /// - Throws: ``DtlsError/Code-swift.struct/payloadTooLarge``, which leaves the association unharmed, or
    ///   ``DtlsError/Code-swift.struct/connectionClosed`` before the handshake is finished and after the end.
    public func send(_ payload: RawSpan) throws(DtlsError) {
        try payload.withUnsafeBytes { bytes throws(DtlsError) in try send(bytes) }
    }

    package func send(_ payload: UnsafeRawBufferPointer) throws(DtlsError) {
        guard lifecycle.isOpen else { throw notOpen }
        guard payload.count <= maximumPayloadSize else {
            throw DtlsError(
                .payloadTooLarge,
                phase: .established,
                "a payload of \(payload.count) bytes is larger than \(maximumPayloadSize)",
                hint: "split it, or raise the configuration's mtu if the path carries more"
            )
        }
        guard !payload.isEmpty else { return }
        if case .failed(let errors) = records.perform(.write(payload)) {
            let error = DtlsError(
                .connectionClosed,
                phase: .established,
                "OpenSSL could not seal a payload",
                openSSLErrors: errors
            )
            end(.failed(error))
            throw error
        }
        statistics.payloadsSent += 1
        bio.endFlight()
    }

    /// Sends what is due: a flight again, or the end of a handshake that took too long.
    public func handleTimeout(now: ContinuousClock.Instant = .now) {
        guard lifecycle.isHandshaking else { return }
        if let deadline = handshakeDeadline, now >= deadline {
            failByTime()
        } else if let deadline = alertDeadline, now >= deadline {
            failByHeldAlert()
        } else if let deadline = retransmissionDeadline, now >= deadline {
            retransmit()
        }
        finishInput(now: now)
    }

    /// Ends the association: an open one with close_notify, of which ``drainOutbound(_:)`` hands out the datagram.
    public func close() {
        if lifecycle.isOpen { _ = records.perform(.shutdown) }
        bio.endFlight()
        end(.closedLocally)
    }

    /// Ends the association without telling the peer, because its new association has taken the place.
    package func abandon() {
        end(.replacedByPeer)
    }
}

// MARK: - Outputs

extension DtlsEngine {
    /// Hands out the datagrams to send, in order, and forgets them. The bytes are valid only until `body` returns.
    public func drainOutbound(_ body: (RawSpan) -> Void) {
        drainOutboundBytes { body($0.bytes) }
    }

    package func drainOutboundBytes(_ body: (UnsafeRawBufferPointer) -> Void) {
        statistics.datagramsSent += bio.outbound.count
        bio.outbound.drain(body)
    }

    /// The next event, oldest first.
    public func nextEvent() -> DtlsEvent? {
        events.popFirst()
    }

    /// Hands out the payloads that came, each as its record had it, in order, and forgets them. The bytes are valid only until
    /// `body` returns.
    public func drainApplicationData(_ body: (RawSpan) -> Void) {
        drainApplicationDataBytes { body($0.bytes) }
    }

    package func drainApplicationDataBytes(_ body: (UnsafeRawBufferPointer) -> Void) {
        inbound.drain(body)
    }

    /// When to call ``handleTimeout(now:)``; `nil` when time does not matter, as in an open association.
    public var nextDeadline: ContinuousClock.Instant? {
        guard lifecycle.isHandshaking else { return nil }
        return [handshakeDeadline, retransmissionDeadline, alertDeadline].compactMap { $0 }.min()
    }

    /// Whether the handshake is finished and the association has not ended.
    public var isOpen: Bool { lifecycle.isOpen }

    /// Why the association has ended; `nil` while it has not.
    public var closeReason: DtlsCloseReason? { lifecycle.closeReason }
}

// MARK: - Common to all inputs

extension DtlsEngine {
    /// Passes what the filter lets through to OpenSSL, and takes what comes of it.
    func process(_ datagram: UnsafeRawBufferPointer, now: ContinuousClock.Instant) {
        if lifecycle.isHandshaking, context.usesPreSharedKeys, asksForKey(datagram) { return hold(datagram) }
        let heldAlert = filter.heldAlert
        slices.removeAll(keepingCapacity: true)
        let findings = filter.sift(datagram, isOpen: lifecycle.isOpen, into: &slices)
        statistics.recordsDropped += findings.dropped
        if filter.heldAlert != nil, heldAlert == nil {
            alertDeadline = now + context.configuration.retransmission.initialTimeout
        }
        if findings.hasHandshake, heldAlert != nil {
            // Whoever goes on with the handshake has not ended it.
            filter.dismissHeldAlert()
            alertDeadline = nil
        }
        guard !slices.isEmpty else { return }
        bio.withInbound(datagram, slices) {
            if lifecycle.isHandshaking { advance() }
            if lifecycle.isOpen { readAll(largest: datagram.count) }
        }
        if findings.hasSealed, lifecycle.isHandshaking, context.role == .server, callbacks.preSharedKeyWasUsed {
            unusableSealedRecords += 1
        }
    }

    /// Reads until OpenSSL has no more: a datagram may hold several records, and each is a payload of its own.
    func readAll(largest: Int) {
        // Every pass consumes a record, of which a datagram holds a few thousand at the most.
        for _ in 0..<8_192 {
            var outcome = AttachedRecords.Outcome.waits
            let added = inbound.append(capacity: largest) { buffer in
                outcome = records.perform(.read(buffer))
                guard case .done(let count) = outcome else { return nil }
                return count
            }
            if added {
                statistics.payloadsReceived += 1
                if case .applicationData? = events.last {} else { events.append(.applicationData) }
                continue
            }
            switch outcome {
            case .emptyRecord, .done:
                continue
            case .waits:
                return
            case .closedByPeer:
                _ = records.perform(.shutdown)
                return end(.closedByPeer)
            case .failed(let errors):
                return failEstablished(errors)
            }
        }
    }

    func finishInput(now: ContinuousClock.Instant) {
        bio.endFlight()
        countRetransmissions()
        guard lifecycle.isHandshaking, !isWaitingForKey, let delay = records.retransmissionDelay else {
            retransmissionDeadline = nil
            return
        }
        // A wall clock that was set back would make OpenSSL wait for hours.
        let longest = Duration.seconds(60)
        retransmissionDeadline = now + Swift.min(delay, longest)
    }

    /// Ends the association, once.
    func end(_ reason: DtlsCloseReason) {
        guard lifecycle.end(reason) else { return }
        heldDatagrams = []
        isWaitingForKey = false
        retransmissionDeadline = nil
        alertDeadline = nil
        handshakeDeadline = nil
        events.append(.closed(reason))
    }

    var notOpen: DtlsError {
        guard let reason = lifecycle.closeReason else {
            return DtlsError(.connectionClosed, phase: .handshake, "the handshake is not finished")
        }
        if case .failed(let error) = reason { return error }
        return DtlsError(.connectionClosed, phase: .established, "the connection was \(reason)")
    }
}
