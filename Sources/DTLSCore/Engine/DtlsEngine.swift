package import DTLSPrimitives

/// One DTLS association without any input or output: datagrams and the time go in; datagrams, events and the next
/// deadline come out.
///
/// The inputs are ``start(now:)``, ``receive(_:now:)``, ``send(_:)``, ``handleTimeout(now:)``, the answers to the
/// questions among its events, ``challengePath(again:)`` and ``close()``. After each of them, whether it throws or not:
///
/// 1. call ``drainOutbound(_:)`` and send what it hands out, each piece as one datagram;
/// 2. call ``nextEvent()`` until it returns `nil` (and ``drainApplicationData(_:)`` at ``DtlsEvent/applicationData``);
/// 3. read ``nextDeadline`` and call ``handleTimeout(now:)`` when it has come. A spurious call is harmless.
///
/// Bad, repeated, foreign or forged datagrams are no errors: they are dropped and counted in ``statistics``. Every
/// failure that ends the association comes as ``DtlsEvent/closed(_:)``.
///
/// An engine may be moved between threads but belongs to one at a time. It calls nobody but the closures that it is
/// given, on the caller's thread; none of them may call the engine. Its deadlines are on the monotonic clock. OpenSSL's
/// own retransmission timer reads the wall clock: one that jumps ahead brings a retransmission early, and one that is
/// set back brings it late, from the engine itself: after twice the wait, or half a second more than it.
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
    ///   - serverName: The DNS name, of up to 255 bytes, or IP address that the server's certificate must carry. A name
    ///     has labels of up to 63 ASCII letters, digits, hyphens and underscores, with single dots between them: an
    ///     international one stands in punycode (`xn--…`), and neither a port nor a scheme belongs to it. A DNS name is
    ///     also sent to the server (RFC 6066 §3). Where no name is verified any text will do; what is no such name is
    ///     not sent then. Needed where ``DtlsServerVerification/chainAndName`` applies, certificates are offered, and
    ///     no pins stand in place of names.
    ///   - preSharedKey: The key to use, whatever the server's hint. Without it a context that uses pre-shared keys
    ///     asks by ``DtlsEvent/preSharedKeyRequested(_:)``; other contexts do not use it. Default: `nil`.
    ///   - usesIPv6: Whether the path is IPv6, which has larger headers and a larger smallest MTU. Default: `false`.
    /// - Throws: ``DtlsError/Code-swift.struct/missingServerName`` where a name is needed and `nil` or empty,
    ///   ``DtlsError/Code-swift.struct/invalidConfiguration`` for a context of the other role, a name that is none or a
    ///   Connection ID of another length than announced, ``DtlsError/Code-swift.struct/internalFailure`` when OpenSSL
    ///   has no memory.
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
    ///     (an ICE agent, a connected link): the first ClientHello is then answered at once, without a cookie, and
    ///     ``DtlsEvent/helloReceived(_:)`` never comes. Default: `nil`.
    ///   - usesIPv6: Whether the path is IPv6. Default: `false`.
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

    /// How long the handshake may take, on the monotonic clock: zero, which ends it at the next
    /// ``handleTimeout(now:)``, to one day. What is less or more becomes the nearer of the two. Read by
    /// ``start(now:)``; later changes mean nothing. Default: the configuration's
    /// ``DtlsConfiguration/handshakeTimeout``.
    public var handshakeTimeout: Duration {
        get { attached?.handshakeTimeout ?? context.configuration.handshakeTimeout }
        set { attached?.handshakeTimeout = min(max(newValue, .zero), .seconds(86_400)) }
    }

    /// The addresses that a ``DtlsConfiguration/capture`` shows. `nil`, the default, stands for made-up ones (10.0.0.1
    /// and 10.0.0.2). Without a capture it stays `nil`, whatever is set.
    public var flow: (own: DtlsEndpointName, peer: DtlsEndpointName)? {
        get { life.flow }
        set {
            // Nobody else asks for it.
            if context.configuration.capture != nil { life.flow = newValue }
        }
    }

    /// Starts the handshake and its time: a client sends its ClientHello, a server answers the hello that it was made
    /// with or waits for one. A second call does nothing, nor does one after ``close()``.
    public func start(now: ContinuousClock.Instant = .now) {
        start(at: Moment(now))
    }

    /// Takes a datagram from the peer, whatever it holds.
    ///
    /// Ignored before ``start(now:)`` and after the end, but for the count.
    ///
    /// - Parameters:
    ///   - datagram: The UDP payload.
    ///   - now: The time.
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
    ///   ``DtlsError/Code-swift.struct/keysUsedUp``, which ends it with close_notify;
    ///   ``DtlsError/Code-swift.struct/connectionClosed`` before the handshake is finished, after the end, and when
    ///   OpenSSL cannot seal, which ends it; or the error with which the association has failed.
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

    /// Does what is due: sends a flight again, or ends a handshake that took too long.
    ///
    /// - Parameter now: The time. Before ``nextDeadline`` nothing happens.
    public func handleTimeout(now: ContinuousClock.Instant = .now) {
        handleTimeout(at: Moment(now))
    }

    /// Ends the association: an open one with close_notify, of which ``drainOutbound(_:)`` hands out the datagram. One
    /// in its handshake ends without a word, unless it is a server's that waits for the verdict over certificates. A
    /// second call does nothing.
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

    /// Hands out the datagrams to send, in order, and forgets them.
    ///
    /// - Parameter body: Called before this returns, once for each datagram; the bytes are valid only until it returns.
    ///   It must not call the engine.
    public func drainOutbound(_ body: (RawSpan) -> Void) {
        life.drainOutboundBytes { body($0.bytes) }
    }

    package func drainOutboundBytes(_ body: (UnsafeRawBufferPointer) -> Void) {
        life.drainOutboundBytes(body)
    }

    /// The next event, oldest first; `nil` when there is none.
    public func nextEvent() -> DtlsEvent? {
        life.nextEvent()
    }

    /// Hands out the payloads that came, each as its record had it, in order, and forgets them. Until then they are
    /// kept, however many there are.
    ///
    /// - Parameter body: Called before this returns, once for each payload of 1 to 16,384 bytes; the bytes are valid
    ///   only until it returns. It must not call the engine.
    public func drainApplicationData(_ body: (RawSpan) -> Void) {
        life.drainApplicationDataBytes { body($0.bytes) }
    }

    package func drainApplicationDataBytes(_ body: (UnsafeRawBufferPointer) -> Void) {
        life.drainApplicationDataBytes(body)
    }

    /// When to call ``handleTimeout(now:)``; `nil` when time does not matter: in an open association, before
    /// ``start(now:)`` and after the end.
    public var nextDeadline: ContinuousClock.Instant? { deadline?.instant }

    /// Whether the handshake is finished and the association has not ended.
    public var isOpen: Bool { life.isOpen }

    /// Why the association has ended; `nil` while it has not.
    public var closeReason: DtlsCloseReason? { life.closeReason }

    /// What was counted since the engine was made. Of one that was taken over: since then.
    public var statistics: DtlsStatistics { life.statistics }

    /// What the handshake has settled; `nil` before it is finished. It stays after the end.
    public var negotiated: DtlsNegotiated? { life.negotiated }

    /// The most bytes that ``send(_:)`` takes: the ``mtu`` without what the record adds, but no more than 16,384 or
    /// what a client has asked for (RFC 6066 §4). 0 before the handshake is finished.
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
    ///
    /// - Parameters:
    ///   - answer: The key, if there is one. What is meant for the other role counts as
    ///     ``DtlsPreSharedKeyAnswer/unknown``, which ends a client's handshake with
    ///     ``DtlsError/Code-swift.struct/authenticationFailed``.
    ///   - now: The time.
    public func answer(_ answer: DtlsPreSharedKeyAnswer, now: ContinuousClock.Instant = .now) {
        self.answer(answer, at: Moment(now))
    }

    /// Answers ``DtlsEvent/certificatesPresented(_:)``. Does nothing when that is not the question.
    ///
    /// - Parameters:
    ///   - accepted: Whether the association may be opened. A client's handshake goes on with it or ends with the alert
    ///     `bad_certificate`; a server's, which is finished but not exposed, opens or ends with close_notify. The
    ///     error is ``DtlsError/Code-swift.struct/certificateRejected``.
    ///   - now: The time.
    public func answer(accepted: Bool, now: ContinuousClock.Instant = .now) {
        answer(accepted: accepted, at: Moment(now))
    }

    /// Answers ``DtlsEvent/helloReceived(_:)``. Does nothing when that is not the question.
    ///
    /// - Parameters:
    ///   - identity: The certificate chain and key for this client; `nil` for the configuration's. One that OpenSSL
    ///     does not take ends the handshake with ``DtlsError/Code-swift.struct/invalidConfiguration``.
    ///   - session: What the application's store has under ``DtlsClientOffer/sessionID``, if anything. One of another
    ///     ID, or that is damaged, is not resumed. Default: `nil`.
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
    /// Setting it after the handshake is of no use.
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
    /// lower than ``mtu`` does nothing, nor does any after the end.
    ///
    /// - Parameter bytes: The new MTU in bytes of UDP payload, without the IP and UDP headers (28 bytes with IPv4, 48
    ///   with IPv6). Less than ``minimumMTU`` counts as that.
    public func lowerMTU(to bytes: Int) {
        life.lowerMTU(to: bytes)
    }

    /// Whether both sides know return routability checks (RFC 9853; ``DtlsConnectionIDs/checksPaths``). `false` before
    /// the handshake is finished.
    public var checksPaths: Bool { life.checksPaths }

    /// Asks the peer to show that it receives what is sent to the address where it seems to be now (RFC 9853 §5.1): the
    /// datagram that ``drainOutbound(_:)`` hands out next is to go there.
    ///
    /// Call it when a datagram that was ``DtlsReceipt/newest`` came from another address than before, again after a
    /// while when nothing came of it, and send no more than three times what has come from there until
    /// ``isPathChallenged`` is `false` again. After a second, or three round trips, without an answer the peer is not
    /// there.
    ///
    /// - Parameter again: Whether it goes to the same address as the challenges before, of which the last four are
    ///   good, too, then. Default: `false`.
    /// - Returns: `false`, and nothing was sent, when ``checksPaths`` is, when the association is not open, and when
    ///   there is no randomness or no number left for a record.
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
