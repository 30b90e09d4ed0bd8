public import DTLSCore
public import NIOCore

/// One DTLS association of a client in the pipeline of a `DatagramChannel`, bound or connected.
///
/// It stands next to the channel; handlers behind it read and write payloads where the network has records, both as
/// `AddressedEnvelope<ByteBuffer>` with the server's address.
///
/// ```swift
/// let bootstrap = DatagramBootstrap(group: group).channelInitializer { channel in
///     channel.eventLoop.makeCompletedFuture {
///         let dtls = try DtlsClientHandler(context: context, serverAddress: address, serverName: "gadget.local")
///         try channel.pipeline.syncOperations.addHandlers(dtls, YourHandler())
///     }
/// }
/// ```
///
/// * The handshake begins when the channel is active. ``DtlsPeerEvent/opened(_:_:)`` tells when it is finished. What is
///   written before waits, up to ``maximumPendingWrites`` datagrams.
/// * A promise of a write succeeds when the channel has sent the record, and fails with the `DtlsError` of
///   `DtlsEngine.send(_:)`, a ``DtlsHandlerError``, or the channel's error. A payload that is too large or empty harms
///   nothing else.
/// * When the association fails, its `DtlsError` is fired as an error; when it ends for whatever reason after it was
///   open, ``DtlsPeerEvent/closed(_:_:)`` is. Then the channel is closed.
/// * Closing the channel sends close_notify first.
/// * What comes from other addresses than the server's, and whatever is no record of it, is dropped.
public final class DtlsClientHandler: ChannelDuplexHandler, RemovableChannelHandler {
    public typealias InboundIn = AddressedEnvelope<ByteBuffer>
    public typealias InboundOut = AddressedEnvelope<ByteBuffer>
    public typealias OutboundIn = AddressedEnvelope<ByteBuffer>
    public typealias OutboundOut = AddressedEnvelope<ByteBuffer>

    private enum State {
        case waiting
        case open
        case ended
    }

    private let engine: DtlsEngine
    private let serverAddress: SocketAddress
    private let answers: DtlsAnswers
    private let maximumPendingWrites: Int

    private var context: ChannelHandlerContext?
    private var association: LoopAssociation?
    private var state = State.waiting
    private var pendingWrites = CircularBuffer<(payload: ByteBuffer, promise: EventLoopPromise<Void>?)>()
    private var flushesPendingWrites = false
    private var isReading = false
    private var needsFlush = false
    private var isClosing = false

    /// Makes a handler for one association.
    ///
    /// - Parameters:
    ///   - context: A context of clients.
    ///   - serverAddress: Where the server is; the address of the channel's peer if that is connected.
    ///   - serverName: The DNS name or IP address that the server's certificate must carry.
    ///   - preSharedKey: The pre-shared key, whatever the server's hint.
    ///   - session: A session to resume, of ``session``.
    ///   - answers: Asked where the context says so.
    ///   - maximumPendingWrites: How many datagrams may wait for the end of the handshake. Default: 64.
    /// - Throws: What `DtlsEngine.init(client:serverName:preSharedKey:usesIPv6:)` throws.
    public init(
        context: DtlsEngineContext,
        serverAddress: SocketAddress,
        serverName: String? = nil,
        preSharedKey: DtlsPreSharedKey? = nil,
        session: DtlsSession? = nil,
        answers: DtlsAnswers = DtlsAnswers(),
        maximumPendingWrites: Int = 64
    ) throws(DtlsError) {
        engine = try DtlsEngine(
            client: context,
            serverName: serverName,
            preSharedKey: preSharedKey,
            usesIPv6: serverAddress.protocol == .inet6
        )
        if let session { _ = try engine.resume(session) }
        self.serverAddress = serverAddress
        self.answers = answers
        self.maximumPendingWrites = maximumPendingWrites
    }

    /// The most bytes that a write takes; 0 before the handshake is finished. On the event loop only, as all that
    /// follows.
    public var maximumPayloadSize: Int { engine.maximumPayloadSize }

    /// What the handshake has settled; `nil` before.
    public var negotiated: DtlsNegotiated? { engine.negotiated }

    /// The session, to be resumed by a later handler; `nil` before the handshake is finished, and where the server
    /// resumes none.
    public var session: DtlsSession? { engine.session }

    /// What was counted so far.
    public var statistics: DtlsStatistics { engine.statistics }

    // MARK: Life

    public func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        association = LoopAssociation(
            engine,
            peer: serverAddress,
            channel: context.channel,
            clock: LoopClock(context.eventLoop),
            answers: answers,
            owner: self
        )
        if context.channel.isActive { association?.start() }
    }

    public func channelActive(context: ChannelHandlerContext) {
        association?.start()
        context.fireChannelActive()
    }

    public func channelInactive(context: ChannelHandlerContext) {
        end()
        context.fireChannelInactive()
    }

    public func handlerRemoved(context: ChannelHandlerContext) {
        end()
        association?.drop()
        association = nil
        self.context = nil
    }

    public func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        if mode == .all { end() }
        context.close(mode: mode, promise: promise)
    }

    /// Ends the association because the channel ends.
    private func end() {
        isClosing = true
        association?.close()
        // The end of a read, where it would happen otherwise, may not come any more.
        isReading = false
        flushIfNeeded()
        // One that had not begun has nothing to say of its end.
        state = .ended
        sendPendingWrites()
    }

    // MARK: Datagrams

    public func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let envelope = unwrapInboundIn(data)
        guard envelope.remoteAddress == serverAddress else { return }
        isReading = true
        association?.receive(envelope.data, from: envelope.remoteAddress)
    }

    public func channelReadComplete(context: ChannelHandlerContext) {
        isReading = false
        flushIfNeeded()
        context.fireChannelReadComplete()
    }

    public func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let envelope = unwrapOutboundIn(data)
        guard envelope.remoteAddress == serverAddress else {
            promise?.fail(DtlsHandlerError.unknownPeer)
            return
        }
        guard state == .waiting else {
            // One that has ended says so.
            send(envelope.data, promise)
            return
        }
        guard pendingWrites.count < maximumPendingWrites else {
            promise?.fail(DtlsHandlerError.tooManyPendingWrites)
            return
        }
        pendingWrites.append((envelope.data, promise))
    }

    public func flush(context: ChannelHandlerContext) {
        if state == .waiting { flushesPendingWrites = !pendingWrites.isEmpty }
        context.flush()
    }

    private func send(_ payload: ByteBuffer, _ promise: EventLoopPromise<Void>?) {
        guard let association else {
            promise?.fail(ChannelError.ioOnClosedChannel)
            return
        }
        association.send(payload, promise: promise)
    }

    private func sendPendingWrites() {
        while let (payload, promise) = pendingWrites.popFirst() { send(payload, promise) }
        if flushesPendingWrites { needsFlush = true }
        flushesPendingWrites = false
    }

    private func flushIfNeeded() {
        guard needsFlush, !isReading else { return }
        needsFlush = false
        context?.flush()
    }
}

extension DtlsClientHandler: LoopAssociationOwner {
    func association(
        _ association: LoopAssociation,
        sends datagram: AddressedEnvelope<ByteBuffer>,
        isPayload: Bool,
        promise: EventLoopPromise<Void>?
    ) {
        if !isPayload { needsFlush = true }
        context?.write(wrapOutboundOut(datagram), promise: promise)
    }

    func association(_ association: LoopAssociation, received payload: ByteBuffer) {
        context?.fireChannelRead(wrapInboundOut(AddressedEnvelope(remoteAddress: serverAddress, data: payload)))
    }

    func association(_ association: LoopAssociation, mayMoveTo address: SocketAddress) -> Bool { false }

    func associationMoved(_ association: LoopAssociation, from former: SocketAddress) {}

    func associationOpened(_ association: LoopAssociation, _ negotiated: DtlsNegotiated) {
        state = .open
        // Before whatever is written because of the event.
        sendPendingWrites()
        context?.fireUserInboundEventTriggered(DtlsPeerEvent.opened(serverAddress, negotiated))
    }

    func associationClosed(_ association: LoopAssociation, _ reason: DtlsCloseReason) {
        state = .ended
        sendPendingWrites()
        // What there is to say to the server is said before the channel is closed.
        isReading = false
        flushIfNeeded()
        if association.hasOpened { context?.fireUserInboundEventTriggered(DtlsPeerEvent.closed(serverAddress, reason)) }
        if case .failed(let error) = reason { context?.fireErrorCaught(error) }
        if !isClosing {
            isClosing = true
            context?.close(promise: nil)
        }
    }

    func associationIsDone(_ association: LoopAssociation) { flushIfNeeded() }
}

@available(*, unavailable)
extension DtlsClientHandler: Sendable {}
