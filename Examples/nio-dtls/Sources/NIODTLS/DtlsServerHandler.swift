public import DTLSCore
public import NIOCore

/// The DTLS associations of a server with all of its peers, in the pipeline of one bound `DatagramChannel`.
///
/// It stands next to the channel; handlers behind it read and write payloads where the network has records, both as
/// `AddressedEnvelope<ByteBuffer>` with the peer's address.
///
/// ```swift
/// let bootstrap = DatagramBootstrap(group: group).channelInitializer { channel in
///     channel.eventLoop.makeCompletedFuture {
///         let dtls = try DtlsServerHandler(context: context, answers: DtlsAnswers(preSharedKeys: keys))
///         try channel.pipeline.syncOperations.addHandlers(dtls, YourHandler())
///     }
/// }
/// ```
///
/// * Strangers get a cookie, and nothing is kept of them until they bring it back.
/// * ``DtlsPeerEvent`` tells of peers that come, move and go, and of those who do not get in. None of that is an error
///   in the pipeline: what one peer does must not end the channel of all.
/// * A promise of a write succeeds when the channel has sent the record, and fails with the `DtlsError` of
///   `DtlsEngine.send(_:)`, a ``DtlsHandlerError`` (nobody is at that address), or the channel's error.
/// * ``DtlsClosePeer`` closes one association, closing the channel closes all, with close_notify.
/// * While the channel is not writable, handshakes and strangers get no answers; payloads are the application's to hold
///   back, as with any channel.
public final class DtlsServerHandler: ChannelDuplexHandler, RemovableChannelHandler {
    public typealias InboundIn = AddressedEnvelope<ByteBuffer>
    public typealias InboundOut = AddressedEnvelope<ByteBuffer>
    public typealias OutboundIn = AddressedEnvelope<ByteBuffer>
    public typealias OutboundOut = AddressedEnvelope<ByteBuffer>

    private let engineContext: DtlsEngineContext
    private let answers: DtlsAnswers
    private let limits: DtlsServerHandlerLimits

    private var gate: DtlsHelloGate
    private var peers = PeerTable()
    private var counts = DtlsStatistics()

    private var context: ChannelHandlerContext?
    private var clock: LoopClock?
    private var housekeeping: RepeatedTask?
    private var isReading = false
    private var needsFlush = false

    /// Makes a handler.
    ///
    /// - Parameters:
    ///   - context: A context of servers.
    ///   - answers: Asked where the context says so; about pre-shared keys in any case.
    ///   - limits: How much peers may take.
    ///   - cookieSecrets: Secrets of the hello exchange that hosts share; `nil`, the default, for one of its own.
    /// - Throws: `DtlsError.Code.invalidConfiguration` for a context of clients, `internalFailure` when the system has
    ///   no randomness or OpenSSL no memory.
    public init(
        context: DtlsEngineContext,
        answers: DtlsAnswers = DtlsAnswers(),
        limits: DtlsServerHandlerLimits = DtlsServerHandlerLimits(),
        cookieSecrets: DtlsCookieSecrets? = nil
    ) throws(DtlsError) {
        // One that is of no use shows here and not with the first peer.
        _ = try DtlsEngine(server: context)
        engineContext = context
        self.answers = answers
        self.limits = limits
        gate = try DtlsHelloGate(secrets: cookieSecrets)
    }

    /// What was counted, over all peers, those that have gone included. On the event loop only, as all that follows.
    public var statistics: DtlsStatistics {
        var whole = counts
        for association in peers.all { whole.add(withoutReceived: association.engine.statistics) }
        whole.connectionsOpen = peers.openCount
        whole.connectionsHandshaking = peers.handshakeCount
        return whole
    }

    /// What the handshake with the peer at an address has settled; `nil` when there is no open association.
    public func negotiated(with peer: SocketAddress) -> DtlsNegotiated? {
        openAssociation(at: peer)?.engine.negotiated
    }

    /// The most bytes that a write to a peer takes; 0 when there is no open association.
    public func maximumPayloadSize(to peer: SocketAddress) -> Int {
        openAssociation(at: peer)?.engine.maximumPayloadSize ?? 0
    }

    private func openAssociation(at address: SocketAddress) -> LoopAssociation? {
        guard let association = peers[address]?.current, association.engine.isOpen else { return nil }
        return association
    }

    // MARK: Life

    public func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        clock = LoopClock(context.eventLoop)
        // Of all associations of the process, and quick where there is nothing to do.
        housekeeping = context.eventLoop.scheduleRepeatedTask(initialDelay: .seconds(15), delay: .seconds(15)) { _ in
            DtlsEngineContext.releaseIdleCiphers()
        }
    }

    public func channelInactive(context: ChannelHandlerContext) {
        closeAll()
        context.fireChannelInactive()
    }

    public func handlerRemoved(context: ChannelHandlerContext) {
        closeAll()
        housekeeping?.cancel()
        housekeeping = nil
        self.context = nil
    }

    public func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        if mode == .all { closeAll() }
        context.close(mode: mode, promise: promise)
    }

    /// All there are, handshakes included.
    var associations: [LoopAssociation] { peers.all }

    private func closeAll() {
        for association in associations { association.close() }
        // The end of a read, where it would happen otherwise, may not come any more.
        isReading = false
        flushIfNeeded()
    }

    public func triggerUserOutboundEvent(
        context: ChannelHandlerContext,
        event: Any,
        promise: EventLoopPromise<Void>?
    ) {
        guard let event = event as? DtlsClosePeer else {
            context.triggerUserOutboundEvent(event, promise: promise)
            return
        }
        guard let association = openAssociation(at: event.peer) else {
            promise?.fail(DtlsHandlerError.unknownPeer)
            return
        }
        association.close()
        promise?.succeed()
    }

    // MARK: Datagrams

    public func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        isReading = true
        let envelope = unwrapInboundIn(data)
        let source = envelope.remoteAddress
        counts.datagramsReceived += 1
        counts.bytesReceived += envelope.data.readableBytes
        // Nobody can be answered there: the system refuses it, and NIO closes everybody's channel for that.
        guard source.port != 0 else {
            counts.drops[.unknownPeer] += 1
            return
        }
        // Before the address: another peer may have been there before.
        if let owner = peers.owner(ofConnectionIDIn: envelope) {
            return owner.receive(envelope.data, from: source)
        }
        if DtlsHelloGate.startsWithClientHello(envelope.data.readableBytesSpan) {
            return greet(envelope)
        }
        guard let entry = peers[source] else {
            counts.drops[.unknownPeer] += 1
            return
        }
        // Of a peer that starts anew: what is in clear concerns the new association alone, which the engines see to,
        // and what is sealed opens in one of them only.
        entry.current.receive(envelope.data, from: source)
        entry.candidate?.receive(envelope.data, from: source)
    }

    public func channelReadComplete(context: ChannelHandlerContext) {
        isReading = false
        flushIfNeeded()
        context.fireChannelReadComplete()
    }

    public func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let envelope = unwrapOutboundIn(data)
        guard let association = openAssociation(at: envelope.remoteAddress) else {
            promise?.fail(DtlsHandlerError.unknownPeer)
            return
        }
        association.send(envelope.data, promise: promise)
    }

    private func flushIfNeeded() {
        guard needsFlush, !isReading else { return }
        needsFlush = false
        context?.flush()
    }

    /// Sends something that may be lost, and is when the channel has no room.
    private func sendIfWritable(_ datagram: AddressedEnvelope<ByteBuffer>) -> Bool {
        guard let context, context.channel.isWritable else {
            counts.drops[.sendQueueFull] += 1
            return false
        }
        needsFlush = true
        context.write(wrapOutboundOut(datagram), promise: nil)
        return true
    }

    // MARK: Strangers

    private func greet(_ datagram: AddressedEnvelope<ByteBuffer>) {
        guard let context, let clock else { return }
        let source = datagram.remoteAddress
        switch gate.judge(datagram.data.readableBytesSpan, from: source.bytes, now: clock.now) {
        case .ignore:
            counts.drops[.unusableHello] += 1
        case .reply(let reply):
            let answer = AddressedEnvelope(remoteAddress: source, data: context.channel.allocator.buffer(bytes: reply))
            guard sendIfWritable(answer) else { return }
            counts.cookiesSent += 1
            counts.datagramsSent += 1
            counts.bytesSent += reply.count
        case .accept(let hello):
            let entry = peers[source]
            if let known = entry?.first(where: { $0.hello?.isRepetition(of: hello) == true }) {
                // It came again: the answer may have been lost. An open association need not see it.
                if known.hasOpened {
                    counts.drops[.repeatedHello] += 1
                } else {
                    known.receive(datagram.data, from: source)
                }
            } else if entry == nil, peers.openCount >= limits.peers {
                counts.drops[.connectionLimit] += 1
            } else {
                admit(hello, from: source, context, clock)
            }
        }
    }

    private func admit(
        _ hello: DtlsClientHello,
        from source: SocketAddress,
        _ context: ChannelHandlerContext,
        _ clock: LoopClock
    ) {
        let engine: DtlsEngine
        do throws(DtlsError) {
            engine = try DtlsEngine(server: engineContext, hello: hello, usesIPv6: source.protocol == .inet6)
        } catch {
            // Not the peer's fault: OpenSSL has no memory, or the context is no server's.
            context.fireErrorCaught(error)
            return
        }
        let association = LoopAssociation(
            engine,
            hello: hello,
            peer: source,
            channel: context.channel,
            clock: clock,
            answers: answers,
            idleTimeout: limits.idleTimeout,
            owner: self
        )
        if peers.handshakeCount >= limits.handshakes { peers.oldestHandshake()?.close(as: .evicted) }
        if let displaced = peers.insert(association, at: source) {
            // The peer gave its first attempt up.
            counts.add(withoutReceived: displaced.engine.statistics)
            displaced.drop()
        }
        association.start()
    }
}

extension DtlsServerHandler: LoopAssociationOwner {
    func association(
        _ association: LoopAssociation,
        sends datagram: AddressedEnvelope<ByteBuffer>,
        isPayload: Bool,
        promise: EventLoopPromise<Void>?
    ) {
        if isPayload {
            context?.write(wrapOutboundOut(datagram), promise: promise)
        } else {
            _ = sendIfWritable(datagram)
        }
    }

    func association(_ association: LoopAssociation, received payload: ByteBuffer) {
        let envelope = AddressedEnvelope(remoteAddress: association.peer, data: payload)
        context?.fireChannelRead(wrapInboundOut(envelope))
    }

    func association(_ association: LoopAssociation, mayMoveTo address: SocketAddress) -> Bool {
        peers[address] == nil
    }

    func associationMoved(_ association: LoopAssociation, from former: SocketAddress) {
        counts.peerMoves += 1
        peers.move(association, from: former)
        context?.fireUserInboundEventTriggered(DtlsPeerEvent.moved(from: former, to: association.peer))
    }

    func associationOpened(_ association: LoopAssociation, _ negotiated: DtlsNegotiated) {
        if let former = peers.open(association) {
            // No word to the peer, who has forgotten it: the new one would get the alert.
            peers.remove(former)
            counts.add(withoutReceived: former.engine.statistics)
            former.drop()
            context?.fireUserInboundEventTriggered(DtlsPeerEvent.closed(former.peer, .replacedByPeer))
        }
        context?.fireUserInboundEventTriggered(DtlsPeerEvent.opened(association.peer, negotiated))
        // More handshakes may have been under way than there was room for.
        if peers.openCount > limits.peers { association.close(as: .evicted) }
    }

    func associationClosed(_ association: LoopAssociation, _ reason: DtlsCloseReason) {
        peers.remove(association)
        counts.add(withoutReceived: association.engine.statistics)
        switch reason {
        case .idle: counts.connectionsIdledOut += 1
        case .evicted: counts.connectionsEvicted += 1
        default: break
        }
        if association.hasOpened {
            context?.fireUserInboundEventTriggered(DtlsPeerEvent.closed(association.peer, reason))
        } else if case .failed(let error) = reason {
            context?.fireUserInboundEventTriggered(DtlsPeerEvent.handshakeFailed(association.peer, error))
        }
    }

    func associationIsDone(_ association: LoopAssociation) { flushIfNeeded() }
}

extension DtlsStatistics {
    /// Adds what an association has counted, but for what came, which the handler counts before it knows whose it is.
    fileprivate mutating func add(withoutReceived statistics: DtlsStatistics) {
        var others = statistics
        others.datagramsReceived = 0
        others.bytesReceived = 0
        add(others)
    }
}

extension SocketAddress {
    /// What tells a peer from others, for the gate: the system's form of the address, the port in it.
    fileprivate var bytes: [UInt8] {
        withSockAddr { address, size in Array(UnsafeRawBufferPointer(start: address, count: size)) }
    }
}

@available(*, unavailable)
extension DtlsServerHandler: Sendable {}
