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
/// An engine may be moved between threads but belongs to one at a time. Its deadlines are on the monotonic clock. OpenSSL's own
/// retransmission timer reads the wall clock: one that jumps ahead brings a retransmission early, and one that is set back brings it after
/// twice the wait at the latest, from the engine itself.
public final class DtlsEngine {
    let context: DtlsEngineContext
    let callbacks: CallbackState
    let bio: DatagramBIO
    let records: AttachedRecords
    let hello: DtlsClientHello?
    var lifecycle = Lifecycle()
    var filter: RecordFilter
    /// Of the handshake's messages in clear; nil when there is none, or in DTLS 1.3.
    var reassembly: MessageReassembly?
    var watch: PreSharedKeyWatch
    /// What the handshake waits for the application to say.
    var question: Question?
    var requestedIdentity: [UInt8]?
    var serverName: String?
    var sessionFingerprint: [UInt8] = []
    var heldDatagrams: [HeldDatagram] = []
    /// Sealed records that came when a pre-shared key was in use and a server's handshake needed one, and that it could not open.
    var unusableSealedRecords = 0
    /// How many of them there were when the timer expired last, and in how many waits there were any.
    var waitsWithUnusableRecords = (counted: 0, waits: 0)
    /// Sealed records that held nothing but were opened.
    var emptyRecords = 0
    /// The last that was said of a peer that has not answered yet.
    var unreachable: DtlsError?
    var meter: RoundTripMeter
    /// How many of the timer's expiries were looked at.
    var countedTimeouts = 0
    /// How many of this side's flights were looked at.
    private var countedFlights = 0
    /// The hello of a server's client, the last time it came.
    var latestHello: (random: [UInt8], sequenceNumber: UInt64)?
    /// How often a hello that came again was answered.
    var answeredHellos = 0
    var alertDeadline: ContinuousClock.Instant?
    var handshakeDeadline: ContinuousClock.Instant?
    var retransmissionDeadline: ContinuousClock.Instant?
    /// When OpenSSL's timer must have expired, whatever the wall clock says.
    var overdueDeadline: ContinuousClock.Instant?
    /// The wait of OpenSSL's timer that ``overdueDeadline`` is for.
    var timedWait = 0
    var slices: RecordFilter.Slices = []
    var arranged: [UInt8] = []
    var inbound = DatagramQueue()
    var events = Deque<DtlsEvent>()

    /// What was counted since the engine was made.
    public internal(set) var statistics = DtlsStatistics()

    /// What the handshake has settled; `nil` before it is finished.
    public internal(set) var negotiated: DtlsNegotiated?

    /// The most bytes that ``send(_:)`` takes: the ``mtu`` without what the record adds. 0 before the handshake is finished.
    public internal(set) var maximumPayloadSize = 0

    /// The addresses that a ``DtlsConfiguration/capture`` shows. Placeholders by default.
    public var flow: (own: DtlsEndpointName, peer: DtlsEndpointName)?

    /// How long the handshake may take, on the monotonic clock. Read by ``start(now:)``. Default: the configuration's
    /// ``DtlsConfiguration/handshakeTimeout``.
    public var handshakeTimeout: Duration

    enum Question {
        case hello
        case preSharedKey
        case certificates
    }

    /// How many datagrams are kept while the application is asked.
    static let maximumHeldDatagrams = 8

    /// No honest datagram of a handshake is larger.
    static let maximumHeldBytes = 8_192

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
        sessionFingerprint = SessionFingerprint.ofClient(context, serverName: serverName, preSharedKey: preSharedKey)
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
        callbacks = CallbackState(context: context)
        watch = PreSharedKeyWatch(role: context.role)
        meter = RoundTripMeter(role: context.role)
        latestHello = hello.map { ($0.random, $0.recordSequenceNumber) }
        filter = RecordFilter(
            role: context.role,
            takesCertificates: context.role == .client || context.settings.clientCertificates != .none
        )
        // DTLS 1.3 has other record headers (RFC 9147 §4), and acknowledgements that name records; only OpenSSL can read it.
        let leavesRecordsAlone = context.configuration.maximumVersion >= .v1_3
        if !leavesRecordsAlone {
            reassembly = MessageReassembly(
                maximumBytes: filter.maximumReassembly,
                first: (hello?.messageSequence).map { $0 &+ 1 } ?? 0
            )
        }
        bio = DatagramBIO(
            mtu: context.configuration.mtu,
            isIPv6: usesIPv6,
            numbersInbound: !leavesRecordsAlone,
            inboundVersion: leavesRecordsAlone || context.configuration.minimumVersion < .v1_2 ? nil : 0xFD
        )
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
        statistics.handshakesStarted = 1
        handshakeDeadline = now + handshakeTimeout
        if let hello {
            if asksBeforeHello(hello) {
                question = .hello
                events.append(.helloReceived(hello.offer))
            } else {
                acceptHello(hello)
            }
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
        statistics.bytesReceived += datagram.count
        guard lifecycle.isHandshaking || lifecycle.isOpen else { return }
        if lifecycle.isHandshaking { measureRoundTrip(datagram, now: now) }
        let isHeld = question != nil ? hold(datagram) : process(datagram, now: now)
        if lifecycle.isHandshaking, question == nil { answerRepeatedHello(datagram, now: now) }
        finishInput(now: now)
        if !isHeld { capture(datagram) }
    }

    /// Seals a payload into one datagram.
    ///
    /// - Parameter payload: 1 to ``maximumPayloadSize`` bytes.
    /// - Throws: ``DtlsError/Code-swift.struct/payloadTooLarge`` and, for an empty payload, ``DtlsError/Code-swift.struct/unsupported``,
    ///   which leave the association unharmed, or
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
                hint: mtu < context.configuration.mtu
                    ? "split it: the path carries no more"
                    : "split it, or raise the configuration's mtu if the path carries more"
            )
        }
        guard !payload.isEmpty else {
            throw DtlsError(.unsupported, phase: .established, "OpenSSL sends no empty records")
        }
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
        } else if let deadline = alertDeadline, question == nil, now >= deadline {
            failByHeldAlert()
        } else if let deadline = retransmissionDeadline, now >= deadline {
            retransmit(now: now)
        }
        finishInput(now: now)
    }

    /// Ends the association: an open one with close_notify, of which ``drainOutbound(_:)`` hands out the datagram.
    public func close() {
        close(as: .closedLocally)
    }

    /// Ends the association for a reason of this side's own.
    package func close(as reason: DtlsCloseReason) {
        if lifecycle.isOpen { _ = records.perform(.shutdown) }
        tellPeerOfUnexposedEnd()
        bio.endFlight()
        end(reason)
    }

    /// A client whose certificates the application has not judged yet believes itself connected.
    func tellPeerOfUnexposedEnd() {
        guard case .certificates? = question, context.role == .server else { return }
        _ = records.perform(.shutdown)
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
        statistics.bytesSent += bio.outbound.byteCount
        if let capture = context.configuration.capture {
            bio.outbound.drain { datagram in
                capture.record(datagram, from: ownName, to: peerName)
                body(datagram)
            }
        } else {
            bio.outbound.drain(body)
        }
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
        return [handshakeDeadline, retransmissionDeadline, question == nil ? alertDeadline : nil].compactMap { $0 }
            .min()
    }

    /// Whether the handshake is finished and the association has not ended.
    public var isOpen: Bool { lifecycle.isOpen }

    /// Why the association has ended; `nil` while it has not.
    public var closeReason: DtlsCloseReason? { lifecycle.closeReason }
}

// MARK: - Common to all inputs

extension DtlsEngine {
    /// Records a datagram that came, after what it brought about, so that the secrets that decrypt it stand before it.
    func capture(_ datagram: UnsafeRawBufferPointer) {
        context.configuration.capture?.record(datagram, from: peerName, to: ownName)
    }

    func finishInput(now: ContinuousClock.Instant) {
        if callbacks.flights != countedFlights {
            countedFlights = callbacks.flights
            reassembly?.flightAnswered()
        }
        countRetransmissions()
        if bio.hasWritten, let last = bio.highestSequenceNumber { meter.sent(upTo: last, at: now) }
        bio.endFlight()
        collectFromCallbacks()
        scheduleRetransmission(now: now)
    }

    /// Ends the association, once.
    func end(_ reason: DtlsCloseReason) {
        collectFromCallbacks()
        let wasHandshaking = lifecycle.isHandshaking
        guard lifecycle.end(reason) else { return }
        if wasHandshaking {
            var code = DtlsError.Code.connectionClosed
            if case .failed(let error) = reason { code = error.code }
            statistics.handshakesFailed[code, default: 0] += 1
        }
        heldDatagrams = []
        reassembly = nil
        arranged = []
        bio.keepsFlight = false
        question = nil
        retransmissionDeadline = nil
        alertDeadline = nil
        handshakeDeadline = nil
        events.append(.closed(reason))
    }

    /// Takes what the callbacks have left for the application.
    func collectFromCallbacks() {
        if !callbacks.keyLogLines.isEmpty {
            for line in callbacks.keyLogLines {
                context.configuration.keyLog?.write(line)
                context.configuration.capture?.recordSecret(line)
            }
            callbacks.keyLogLines = []
        }
        if !callbacks.establishedSessions.isEmpty {
            for session in callbacks.establishedSessions { events.append(.sessionEstablished(session)) }
            callbacks.establishedSessions = []
        }
    }

    private var ownName: DtlsEndpointName { flow?.own ?? .placeholder(context.role) }
    private var peerName: DtlsEndpointName { flow?.peer ?? .placeholder(context.role == .client ? .server : .client) }

    var notOpen: DtlsError {
        guard let reason = lifecycle.closeReason else {
            return DtlsError(.connectionClosed, phase: .handshake, "the handshake is not finished")
        }
        if case .failed(let error) = reason { return error }
        return DtlsError(.connectionClosed, phase: .established, "the connection was \(reason)")
    }
}
