package import DTLSPrimitives

/// One DTLS association without any input or output: datagrams and the time go in; datagrams, events and the next
/// deadline come out.
///
/// The inputs are ``start(now:)``, ``receive(_:now:)``, ``send(_:)``, ``handleTimeout(now:)``, the answers to
/// ``DtlsEvent/preSharedKeyRequested(_:)``, and ``close()``. After each of them:
///
/// 1. call ``drainOutbound(_:)`` and send what it hands out, each piece as one datagram;
/// 2. call ``nextEvent()`` until it returns `nil` (and ``drainApplicationData(_:)`` at ``DtlsEvent/applicationData``);
/// 3. read ``nextDeadline`` and call ``handleTimeout(now:)`` when it has come. A spurious call is harmless.
///
/// Bad, repeated, foreign or forged datagrams are no errors: they are dropped and counted in ``statistics``. Every
/// failure that ends the association comes as ``DtlsEvent/closed(_:)``.
///
/// An engine may be moved between threads but belongs to one at a time. Its deadlines are on the monotonic clock.
/// OpenSSL's own retransmission timer reads the wall clock: one that jumps ahead brings a retransmission early, and one
/// that is set back brings it after twice the wait at the latest, from the engine itself.
///
/// An association has two lives: its handshake is OpenSSL's (`AttachedAssociation`), and what follows is this library's
/// (`DetachedAssociation`), unless ``DtlsConfiguration/recordLayer`` or the suite leave it with OpenSSL.
public final class DtlsEngine {
    private enum Stage {
        case attached(AttachedAssociation)
        case detached(DetachedAssociation)
    }

    private var stage: Stage

    let context: DtlsEngineContext

    /// The life that it is in.
    var life: any AssociationLife {
        switch stage {
        case .attached(let attached): attached
        case .detached(let detached): detached
        }
    }

    /// The first life, for as long as it lasts.
    var attached: AttachedAssociation? {
        if case .attached(let attached) = stage { attached } else { nil }
    }

    /// The second life, once it has begun.
    var detached: DetachedAssociation? {
        if case .detached(let detached) = stage { detached } else { nil }
    }

    /// Makes a client's engine.
    ///
    /// - Parameters:
    ///   - context: A context of the role client.
    ///   - serverName: The DNS name or IP address that the server's certificate must carry. A DNS name is also sent to
    ///     the server (RFC 6066 §3). Needed where ``DtlsServerVerification/chainAndName`` applies and certificates are
    ///     offered.
    ///   - preSharedKey: The key to use, whatever the server's hint. Without it a context that uses pre-shared keys
    ///     asks by ``DtlsEvent/preSharedKeyRequested(_:)``.
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
        try self.init(
            context,
            role: .client,
            hello: nil,
            connectionID: context.configuration.connectionIDs.make(for: .client),
            usesIPv6: usesIPv6
        )
        try attached?.prepareClient(serverName: serverName, preSharedKey: preSharedKey)
    }

    /// Makes a server's engine for one client.
    ///
    /// - Parameters:
    ///   - context: A context of the role server.
    ///   - hello: The ClientHello that passed a ``DtlsHelloGate``. `nil` only where something else keeps strangers off
    ///     (an ICE agent, a connected link): the first ClientHello is then answered at once, without a cookie.
    ///   - usesIPv6: Whether the path is IPv6.
    /// - Throws: ``DtlsError/Code-swift.struct/invalidConfiguration`` for a context of the other role or a Connection
    ///   ID of another length than announced, ``DtlsError/Code-swift.struct/internalFailure`` when OpenSSL has no
    ///   memory.
    public convenience init(
        server context: DtlsEngineContext,
        hello: DtlsClientHello? = nil,
        usesIPv6: Bool = false
    ) throws(DtlsError) {
        try self.init(server: context, hello: hello, usesIPv6: usesIPv6, residue: nil)
    }

    /// As ``init(server:hello:usesIPv6:)``.
    ///
    /// - Parameter residue: What can be read in the first byte of its Connection ID, if that is made here.
    package convenience init(
        server context: DtlsEngineContext,
        hello: DtlsClientHello?,
        usesIPv6: Bool,
        residue: ConnectionIDResidue?
    ) throws(DtlsError) {
        // Nobody needs one for a client that knows none.
        let mayHaveID = hello.map { $0.hasExtension(ConnectionIDExtension.number) } ?? true
        try self.init(
            context,
            role: .server,
            hello: hello,
            connectionID: mayHaveID ? context.configuration.connectionIDs.make(for: .server, residue: residue) : nil,
            usesIPv6: usesIPv6
        )
    }

    private init(
        _ context: DtlsEngineContext,
        role: DtlsRole,
        hello: DtlsClientHello?,
        connectionID: [UInt8]?,
        usesIPv6: Bool
    ) throws(DtlsError) {
        guard context.role == role else {
            throw DtlsError(.invalidConfiguration, phase: .handshake, "the context was made for the other role")
        }
        let attached = try AttachedAssociation(
            context: context,
            hello: hello,
            connectionID: connectionID,
            usesIPv6: usesIPv6
        )
        self.context = context
        stage = .attached(attached)
    }

    /// Begins in the second life.
    init(_ context: DtlsEngineContext, _ detached: DetachedAssociation) {
        self.context = context
        stage = .detached(detached)
    }

    /// Begins the second life, if the handshake has come to its end and allows it.
    func graduate(now: Moment) {
        guard let attached, let graduation = attached.takeGraduation(),
            let detached = DetachedAssociation(graduation, of: attached, now: now)
        else { return }
        stage = .detached(detached)
        detached.receiveEarly(graduation)
    }

    // MARK: Inputs

    /// How long the handshake may take, on the monotonic clock. Read by ``start(now:)``. Default: the configuration's
    /// ``DtlsConfiguration/handshakeTimeout``.
    public var handshakeTimeout: Duration {
        get { attached?.handshakeTimeout ?? context.configuration.handshakeTimeout }
        set { attached?.handshakeTimeout = newValue }
    }

    /// The addresses that a ``DtlsConfiguration/capture`` shows; `nil` where there is none. Placeholders by default.
    public var flow: (own: DtlsEndpointName, peer: DtlsEndpointName)? {
        get { life.flow }
        set {
            // Nobody else asks for it.
            if context.configuration.capture != nil { life.flow = newValue }
        }
    }

    /// Starts the handshake and its time: a client sends its ClientHello, a server answers the hello that it was made
    /// with or waits for one. A second call does nothing.
    public func start(now: ContinuousClock.Instant = .now) {
        start(at: Moment(now))
    }

    /// Takes a datagram from the peer, whatever it holds.
    ///
    /// Ignored before ``start(now:)`` and after the end.
    ///
    /// - Returns: Whether it was the peer's. An association with a Connection ID survives a change of the peer's
    ///   address: send to the address from which a datagram came that was ``DtlsReceipt/newest``, and to no other.
    @discardableResult
    public func receive(_ datagram: RawSpan, now: ContinuousClock.Instant = .now) -> DtlsReceipt {
        datagram.withUnsafeBytes { receive($0, at: Moment(now)) }
    }

    /// Seals a payload into one datagram.
    ///
    /// - Parameter payload: 1 to ``maximumPayloadSize`` bytes.
    /// - Throws: ``DtlsError/Code-swift.struct/payloadTooLarge`` and, for an empty payload,
    ///   ``DtlsError/Code-swift.struct/unsupported``, which leave the association unharmed;
    ///   ``DtlsError/Code-swift.struct/keysUsedUp``, which ends it with close_notify; or
    ///   ``DtlsError/Code-swift.struct/connectionClosed`` before the handshake is finished and after the end.
    public func send(_ payload: RawSpan) throws(DtlsError) {
        try payload.withUnsafeBytes { bytes throws(DtlsError) in try life.send(bytes) }
    }

    package func send(_ payload: UnsafeRawBufferPointer) throws(DtlsError) {
        try life.send(payload)
    }

    /// Opens a datagram of application data into memory of the caller, without a queue and without an event.
    ///
    /// It is ``receive(_:now:)`` for the case that is nearly all of them: a detached association that is open, of which
    /// nothing is to be drained, and a datagram that is one record that may be application data. In every other case
    /// nothing is changed. What is counted and captured is the same.
    ///
    /// - Parameters:
    ///   - datagram: What came from the peer.
    ///   - buffer: Room for as many bytes as the datagram has, elsewhere. Only the payload may be looked at afterwards,
    ///     if there is one.
    ///   - now: The time.
    package func openApplicationData(
        _ datagram: UnsafeRawBufferPointer,
        into buffer: UnsafeMutableRawBufferPointer,
        now: Moment
    ) -> ApplicationDataOpening {
        detached?.openApplicationData(datagram, into: buffer, now: now) ?? .notTaken
    }

    /// Seals a payload into memory of the caller, who sends it as one datagram.
    ///
    /// It is ``send(_:)`` and ``drainOutbound(_:)`` in one, for a detached association of which nothing else is to be
    /// drained. What is counted and captured is the same.
    ///
    /// - Parameters:
    ///   - payload: 1 to ``maximumPayloadSize`` bytes, elsewhere than the buffer.
    ///   - buffer: Room for ``mtu`` bytes.
    /// - Returns: How many bytes the datagram has; `nil`, and nothing was changed, when it is to be sealed with
    ///   ``send(_:)``.
    /// - Throws: As ``send(_:)`` does. Then drain as after it.
    package func sealApplicationData(
        _ payload: UnsafeRawBufferPointer,
        into buffer: UnsafeMutableRawBufferPointer
    ) throws(DtlsError) -> Int? {
        try detached?.sealApplicationData(payload, into: buffer) ?? nil
    }

    /// Sends what is due: a flight again, or the end of a handshake that took too long.
    public func handleTimeout(now: ContinuousClock.Instant = .now) {
        handleTimeout(at: Moment(now))
    }

    /// Ends the association: an open one with close_notify, of which ``drainOutbound(_:)`` hands out the datagram.
    public func close() {
        close(as: .closedLocally)
    }

    /// Ends the association for a reason of this side's own.
    package func close(as reason: DtlsCloseReason) {
        life.close(as: reason)
    }

    /// Ends the association without telling the peer, because its new association has taken the place.
    package func abandon() {
        life.abandon()
    }

    /// Whether a datagram is authentic, and its first record newer than all that came before. Nothing is taken, and
    /// nothing counted.
    package func recognizes(_ datagram: UnsafeRawBufferPointer) -> Bool {
        isOpen && detached?.recognizes(datagram) ?? false
    }

    // MARK: Outputs

    /// Hands out the datagrams to send, in order, and forgets them. The bytes are valid only until `body` returns.
    public func drainOutbound(_ body: (RawSpan) -> Void) {
        life.drainOutboundBytes { body($0.bytes) }
    }

    package func drainOutboundBytes(_ body: (UnsafeRawBufferPointer) -> Void) {
        life.drainOutboundBytes(body)
    }

    /// The next event, oldest first.
    public func nextEvent() -> DtlsEvent? {
        life.nextEvent()
    }

    /// Hands out the payloads that came, each as its record had it, in order, and forgets them. The bytes are valid
    /// only until `body` returns.
    public func drainApplicationData(_ body: (RawSpan) -> Void) {
        life.drainApplicationDataBytes { body($0.bytes) }
    }

    package func drainApplicationDataBytes(_ body: (UnsafeRawBufferPointer) -> Void) {
        life.drainApplicationDataBytes(body)
    }

    /// When to call ``handleTimeout(now:)``; `nil` when time does not matter, as in an open association.
    public var nextDeadline: ContinuousClock.Instant? { deadline?.instant }

    /// Whether the handshake is finished and the association has not ended.
    public var isOpen: Bool { life.isOpen }

    /// Why the association has ended; `nil` while it has not.
    public var closeReason: DtlsCloseReason? { life.closeReason }

    /// What was counted since the engine was made.
    public var statistics: DtlsStatistics { life.statistics }

    /// What the handshake has settled; `nil` before it is finished.
    public var negotiated: DtlsNegotiated? { life.negotiated }

    /// The most bytes that ``send(_:)`` takes: the ``mtu`` without what the record adds. 0 before the handshake is
    /// finished.
    public var maximumPayloadSize: Int { life.maximumPayloadSize }

    /// The Connection ID that the peer is to put into its records, or would be if it knew how; empty or `nil` when
    /// there is none.
    package var ownConnectionID: [UInt8]? {
        guard let attached else { return negotiated?.connectionIDs?.own }
        return attached.callbacks.ownConnectionID
    }

    /// Whether a datagram begins with a record that carries a Connection ID.
    package static func startsWithConnectionID(_ datagram: UnsafeRawBufferPointer) -> Bool {
        datagram.count > RecordHeader.size && datagram[0] == ContentType.connectionID && datagram[1] == 0xFE
    }

    /// Whether the association has left OpenSSL's `SSL` (``DtlsRecordLayer/detached``).
    package var isDetached: Bool { attached == nil }

    // MARK: Answers

    /// Answers ``DtlsEvent/preSharedKeyRequested(_:)``. Does nothing when that is not the question.
    public func answer(_ answer: DtlsPreSharedKeyAnswer, now: ContinuousClock.Instant = .now) {
        self.answer(answer, at: Moment(now))
    }

    /// Answers ``DtlsEvent/certificatesPresented(_:)``. Does nothing when that is not the question.
    ///
    /// - Parameter accepted: Whether the association may be opened. A client's handshake goes on with it or ends with
    ///   the alert `bad_certificate`; a server's, which is finished but not exposed, opens or ends with close_notify.
    public func answer(accepted: Bool, now: ContinuousClock.Instant = .now) {
        answer(accepted: accepted, at: Moment(now))
    }

    /// Answers ``DtlsEvent/helloReceived(_:)``. Does nothing when that is not the question.
    ///
    /// - Parameters:
    ///   - identity: The certificate chain and key for this client; `nil` for the configuration's.
    ///   - session: What the application's store has under ``DtlsClientOffer/sessionID``, if anything.
    ///   - now: The time.
    public func answer(
        identity: DtlsIdentity?,
        session: DtlsStoredSession? = nil,
        now: ContinuousClock.Instant = .now
    ) {
        answer(identity: identity, session: session, at: Moment(now))
    }
}

// MARK: - The path

extension DtlsEngine {
    /// How long the path takes there and back, as far as it is known: what was set before ``start(now:)``, until the
    /// handshake has shown it.
    ///
    /// Set it where the transport knows it (an ICE agent does, and a server whose clients are known), and the waits for
    /// lost flights fit the path from the first one on; see ``DtlsRetransmissionPolicy/adaptsToRoundTrip``. A client
    /// measures it in the cookie exchange, or up to the ServerHello where there is none, a server from its own flight
    /// to the client's answer, computing on both sides included. `nil`, the default, where nothing was set or measured.
    public var roundTrip: Duration? {
        get { life.roundTrip }
        set { life.roundTrip = newValue }
    }

    /// The least that ``lowerMTU(to:)`` goes down to, in bytes of UDP payload.
    public static let minimumMTU = 256

    /// UDP payload bytes of the largest datagram that the engine sends: the configuration's ``DtlsConfiguration/mtu``,
    /// or what ``lowerMTU(to:)`` has made of it.
    public var mtu: Int { life.mtu }

    /// Makes the datagrams smaller, because the path turned out to carry less than the configuration says (`EMSGSIZE`,
    /// an ICMP message "packet too big").
    ///
    /// What was sent already is not sent again: in a handshake the next retransmission fits, later the application
    /// decides. ``maximumPayloadSize`` follows. The MTU never rises again in this association, and a value that is not
    /// lower than ``mtu`` does nothing.
    ///
    /// - Parameter bytes: The new MTU in bytes of UDP payload, without the IP and UDP headers (28 bytes with IPv4, 48
    ///   with IPv6). Less than ``minimumMTU`` counts as that.
    public func lowerMTU(to bytes: Int) {
        life.lowerMTU(to: bytes)
    }

    /// Whether both sides know return routability checks (RFC 9853; ``DtlsConnectionIDs/checksPaths``).
    public var checksPaths: Bool { life.checksPaths }

    /// Asks the peer to show that it receives what is sent to the address where it seems to be now (RFC 9853 §5.1): the
    /// datagram that ``drainOutbound(_:)`` hands out next is to go there.
    ///
    /// Call it when a datagram that was ``DtlsReceipt/newest`` came from another address than before, again after a
    /// while when nothing came of it, and send no more than three times what has come from there until
    /// ``isPathChallenged`` is `false` again. After a second, or three round trips, without an answer the peer is not
    /// there.
    ///
    /// - Parameter again: Whether it goes to the same address as the challenge before, whose answer is good, too, then.
    /// - Returns: `false`, and nothing was sent, when ``checksPaths`` is.
    public func challengePath(again: Bool = false) -> Bool { life.challengePath(again: again) }

    /// Whether the last ``challengePath(again:)`` has not been answered.
    public var isPathChallenged: Bool { life.isPathChallenged }

    /// Takes note that the peer cannot be reached, in the words of the network or the system.
    ///
    /// Only a client's handshake cares, and only until the peer has answered: an ICMP message can be forged and a route
    /// can come back, so no association ends by it, nor the handshake of a server, whose client has shown that it is
    /// there.
    ///
    /// - Parameters:
    ///   - error: What to end with.
    ///   - isFinal: Whether to end at once. Otherwise it becomes the reason when the handshake's time is over.
    package func noteUnreachable(_ error: DtlsError, isFinal: Bool, at now: Moment) {
        attached?.noteUnreachable(error, isFinal: isFinal, now: now)
    }
}
