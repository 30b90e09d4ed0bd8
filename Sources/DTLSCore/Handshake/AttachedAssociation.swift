import COpenSSL
import DTLSPrimitives
import DequeModule

/// An association in OpenSSL's `SSL`: its handshake, and all of its life where the suite or the configuration leave it
/// there.
///
/// What each input and output means stands at ``DtlsEngine``, which hands them on.
final class AttachedAssociation: AssociationLife {
    let context: DtlsEngineContext
    let callbacks: CallbackState
    let bio: DatagramBIO
    let records: AttachedRecords
    let hello: DtlsClientHello?
    /// What is in it, read once.
    let offer: DtlsClientOffer?
    var lifecycle = Lifecycle()
    // What is `unchecked` is not checked at run time for accesses that overlap: there were more than a hundred such
    // checks in a handshake. There can be none: an engine is of one thread at a time, and nothing that is called while
    // one of these is changed knows this object. What is drained into what the caller gives is checked.
    @exclusivity(unchecked) var filter: RecordFilter
    /// Of the handshake's messages in clear; nil when there is none, or in DTLS 1.3.
    @exclusivity(unchecked) var reassembly: MessageReassembly?
    @exclusivity(unchecked) var watch: PreSharedKeyWatch
    /// What the handshake waits for the application to say.
    var question: Question?
    var requestedIdentity: [UInt8]?
    var serverName: String?
    var sessionFingerprint: [UInt8] = []
    var heldDatagrams: [HeldDatagram] = []
    /// Sealed records that came when a pre-shared key was in use and a server's handshake needed one, and that it could
    /// not open.
    var unusableSealedRecords = 0
    /// How many of them there were when the timer expired last, and in how many waits there were any.
    var waitsWithUnusableRecords = (counted: 0, waits: 0)
    /// Sealed records that held nothing but were opened.
    var emptyRecords = 0
    /// The last that was said of a peer that has not answered yet.
    var unreachable: DtlsError?
    @exclusivity(unchecked) var meter: RoundTripMeter
    /// How many of the timer's expiries were looked at.
    var countedTimeouts = 0
    /// How many of this side's flights were looked at.
    private var countedFlights = 0
    /// The hello of a server's client, the last time it came.
    var latestHello: (random: [UInt8], sequenceNumber: UInt64)?
    /// How often a hello that came again was answered.
    var answeredHellos = 0
    var alertDeadline: Moment?
    var handshakeDeadline: Moment?
    var retransmissionDeadline: Moment?
    /// When OpenSSL's timer must have expired, whatever the wall clock says.
    var overdueDeadline: Moment?
    /// The wait of OpenSSL's timer that ``overdueDeadline`` is for.
    var timedWait = 0
    @exclusivity(unchecked) var slices: RecordFilter.Slices = []
    @exclusivity(unchecked) var arranged: [UInt8] = []
    var inbound = DatagramQueue()
    @exclusivity(unchecked) var events = Deque<DtlsEvent>()
    /// Sealed records that came during the handshake and are not OpenSSL's to open, or not as they are.
    @exclusivity(unchecked) var early = EarlyRecords()
    /// The keys, once OpenSSL has some, where records carry Connection IDs.
    @exclusivity(unchecked) var detachedRecords: DetachedRecords?
    /// What was opened with them and is not OpenSSL's, oldest first.
    var openedEarly: [(contentType: UInt8, content: [UInt8])] = []
    /// How many early records did not open.
    var unopenedEarly = 0
    /// What is needed to leave OpenSSL, once the handshake is finished and allows it.
    var graduation: Graduation?

    /// What was counted since the engine was made.
    @exclusivity(unchecked) var statistics = DtlsStatistics()

    /// What the handshake has settled; `nil` before it is finished.
    var negotiated: DtlsNegotiated?

    var maximumPayloadSize = 0

    /// The addresses that a ``DtlsConfiguration/capture`` shows. Placeholders by default.
    var flow: Flow?

    /// How long the handshake may take, on the monotonic clock. Read by ``start(now:)``. Default: the configuration's
    /// ``DtlsConfiguration/handshakeTimeout``.
    var handshakeTimeout: Duration

    enum Question {
        case hello
        case preSharedKey
        case certificates
    }

    /// How many datagrams are kept while the application is asked.
    static let maximumHeldDatagrams = 8

    /// No honest datagram of a handshake is larger.
    static let maximumHeldBytes = 8_192

    init(
        context: DtlsEngineContext,
        hello: DtlsClientHello?,
        connectionID: [UInt8]?,
        usesIPv6: Bool
    ) throws(DtlsError) {
        self.context = context
        self.hello = hello
        offer = hello?.offer
        handshakeTimeout = context.configuration.handshakeTimeout
        callbacks = CallbackState(context: context)
        if context.offersConnectionIDs { callbacks.ownConnectionID = connectionID }
        watch = PreSharedKeyWatch(role: context.role)
        meter = RoundTripMeter(role: context.role)
        latestHello = hello.map { ($0.random, $0.recordSequenceNumber) }
        filter = RecordFilter(
            role: context.role,
            takesCertificates: context.role == .client || context.settings.clientCertificates != .none,
            keepsSealed: context.configuration.maximumVersion < .v1_3,
            connectionID: callbacks.ownConnectionID ?? []
        )
        // DTLS 1.3 has other record headers (RFC 9147 §4), and acknowledgements that name records; only OpenSSL can
        // read it.
        let leavesRecordsAlone = context.configuration.maximumVersion >= .v1_3
        if !leavesRecordsAlone {
            reassembly = MessageReassembly(
                maximumBytes: filter.maximumReassembly,
                first: hello.map { $0.messageSequence &+ 1 } ?? 0
            )
        }
        bio = DatagramBIO(
            mtu: context.configuration.mtu,
            isIPv6: usesIPv6,
            numbersInbound: !leavesRecordsAlone,
            inboundVersion: leavesRecordsAlone || context.configuration.minimumVersion < .v1_2 ? nil : 0xFD
        )
        bio.firstSequenceNumber = hello?.recordSequenceNumber
        bio.equip(from: context.queues)
        records = try AttachedRecords(try context.makeSSL(), bio: bio, callbacks: callbacks)
        if callbacks.ownConnectionID != nil {
            // It must not keep this object alive.
            bio.readdress = { [weak self] in self?.readdress($0) }
        }
    }

    /// What a client knows of its server.
    func prepareClient(serverName: String?, preSharedKey: DtlsPreSharedKey?) throws(DtlsError) {
        try setServerName(serverName)
        sessionFingerprint = SessionFingerprint.ofClient(
            context.sessionDemands,
            serverName: serverName,
            preSharedKey: preSharedKey
        )
        if let preSharedKey { callbacks.preSharedKey = .key(preSharedKey) }
    }
}

// MARK: - Inputs

extension AttachedAssociation {
    /// Starts the handshake and its time: a client sends its ClientHello, a server answers the hello that it was made
    /// with or waits for one. A second call does nothing.
    func start(now: Moment = .now) {
        guard lifecycle.start() else { return }
        statistics.handshakesStarted = 1
        handshakeDeadline = now + handshakeTimeout
        if let hello, let offer {
            if asksBeforeHello(offer) {
                question = .hello
                events.append(.helloReceived(offer))
            } else {
                acceptHello(hello)
            }
        } else if context.role == .client {
            advance()
        }
        finishInput(now: now)
    }

    func receive(_ datagram: UnsafeRawBufferPointer, now: Moment) -> DtlsReceipt {
        statistics.datagramsReceived += 1
        statistics.bytesReceived += datagram.count
        guard lifecycle.isHandshaking || lifecycle.isOpen else { return .unknown }
        let before = (lifecycle.isOpen, statistics.payloadsReceived)
        if lifecycle.isHandshaking { measureRoundTrip(datagram, now: now) }
        let isHeld = question != nil ? hold(datagram) : process(datagram, now: now)
        if lifecycle.isHandshaking, question == nil { answerRepeatedHello(datagram, now: now) }
        finishInput(now: now)
        if !isHeld { capture(datagram) }
        return lifecycle.isOpen && before != (true, statistics.payloadsReceived) ? .authentic : .unknown
    }

    func send(_ payload: UnsafeRawBufferPointer) throws(DtlsError) {
        try require(payload, configuredMTU: context.configuration.mtu)
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
    func handleTimeout(now: Moment = .now) {
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

    /// Ends the association for a reason of this side's own.
    func close(as reason: DtlsCloseReason) {
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
    func abandon() {
        // Who begins anew before the time in which a wrong key shows has one all the same.
        if lifecycle.isHandshaking, unusableSealedRecords > 0 { return end(.failed(wrongKey(alertSent: nil))) }
        end(.replacedByPeer)
    }
}

// MARK: - Outputs

extension AttachedAssociation {
    func drainOutboundBytes(_ body: (UnsafeRawBufferPointer) -> Void) {
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
    func nextEvent() -> DtlsEvent? {
        events.popFirst()
    }

    func drainApplicationDataBytes(_ body: (UnsafeRawBufferPointer) -> Void) {
        inbound.drain(body)
    }

    /// When to call ``handleTimeout(now:)``; `nil` when time does not matter, as in an open association.
    var nextDeadline: Moment? {
        guard lifecycle.isHandshaking else { return nil }
        var deadline = handshakeDeadline
        if let other = retransmissionDeadline { deadline = deadline.map { Swift.min($0, other) } ?? other }
        if question == nil, let other = alertDeadline { deadline = deadline.map { Swift.min($0, other) } ?? other }
        return deadline
    }

    /// Whether the handshake is finished and the association has not ended.
    var isOpen: Bool { lifecycle.isOpen }

    /// Why the association has ended; `nil` while it has not.
    var closeReason: DtlsCloseReason? { lifecycle.closeReason }
}

// MARK: - Common to all inputs

extension AttachedAssociation {
    /// Records a datagram that came, after what it brought about, so that the secrets that decrypt it stand before it.
    func capture(_ datagram: UnsafeRawBufferPointer) {
        context.configuration.capture?.record(datagram, from: peerName, to: ownName)
    }

    func finishInput(now: Moment) {
        deliverFinished()
        if lifecycle.isOpen, graduation == nil { deliverEarly() }
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
        early = EarlyRecords()
        openedEarly = []
        detachedRecords = nil
        graduation = nil
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
}
