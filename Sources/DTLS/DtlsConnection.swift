/// Where a connection stands.
public enum DtlsConnectionState: Sendable, Hashable {
    /// The peers are authenticating each other. Connections that users get are beyond it.
    case handshaking
    /// Datagrams can be sent and received.
    case open
    /// The association has ended; ``DtlsConnection/closeReason`` says why.
    case closed
}

/// A DTLS association with one peer, its handshake finished and every check of its context passed.
///
/// It is an asynchronous sequence of the datagrams that the peer sends:
///
/// ```swift
/// for try await datagram in connection {
///     try await connection.send(datagram)
/// }
/// ```
///
/// The sequence ends when the connection does, and ``closeReason`` says why: the peer's close_notify, ``close()``, a
/// peer that has started anew, a server that has handed it over, needed its place for another peer, or found it idle
/// for too long. It throws the ``/DTLSCore/DtlsError`` with which the association failed. What came before the end can
/// still be read, unless this side has closed. Several tasks may iterate: each datagram goes to one of them. As many
/// datagrams as ``DtlsQueueLimits`` says (by default 1,024 and 1 MiB) wait for a reader; what comes beyond is dropped
/// and counted in ``statistics``, as UDP would. ``handleDatagrams(with:closed:)`` needs no task.
///
/// Everything may be called from any thread or task. A connection that nobody holds any more is closed.
public final class DtlsConnection: Sendable {
    let association: Association
    private let settled: DtlsNegotiated
    // A client lives as long as one of its connections; a server does not depend on them.
    private let endpoint: (any AnyObject & Sendable)?

    init(_ association: Association, _ negotiated: DtlsNegotiated, keepingAlive endpoint: (any AnyObject & Sendable)?) {
        self.association = association
        settled = negotiated
        self.endpoint = endpoint
    }

    deinit {
        association.release()
    }

    /// Where the connection stands: ``DtlsConnectionState/open`` until it has ended.
    public var state: DtlsConnectionState { association.connectionState }

    /// Why it has ended; `nil` while it has not.
    public var closeReason: DtlsCloseReason? { association.closeReason }

    /// The address at which the peer is, as far as the newest authentic datagram shows.
    ///
    /// It changes where the handshake has negotiated a Connection ID for this side
    /// (``/DTLSCore/DtlsNegotiated/connectionIDs``), and on servers that find peers without one by their keys
    /// (``DtlsServerLimits/movedPeerTrials``): then the peer may go to another address or port, and datagrams follow
    /// it. See ``peerAddress(otherThan:)``.
    public var peerAddress: DtlsAddress { association.peer }

    /// Waits until the peer is at another address than `address`, and returns it; `nil` at the end of the connection,
    /// and when the task was cancelled.
    ///
    /// ```swift
    /// var address = connection.peerAddress
    /// while let next = await connection.peerAddress(otherThan: address) { address = next }
    /// ```
    public func peerAddress(otherThan address: DtlsAddress) async -> DtlsAddress? {
        await association.waitUntilPeer(isNotAt: address)
    }

    /// The address of this machine at which the newest authentic datagram of the peer came in, and from which datagrams
    /// to it leave.
    ///
    /// On a socket that is bound to one address it is that one. On a socket that is bound to a wildcard (`::`) it is
    /// the wildcard until the first such datagram, and where the system does not tell (a connected or exotic socket of
    /// the caller's).
    public var localAddress: DtlsAddress { association.localAddress }

    /// What the handshake has settled: version, suite, group, the peer's certificates or pre-shared-key identity. It
    /// stays after the end. Another one after a reconnection (``DtlsReconnection``).
    public var negotiated: DtlsNegotiated { association.negotiated ?? settled }

    /// The most bytes that ``send(_:)-([UInt8])`` takes: the configuration's MTU without what a record adds, but no
    /// more than 16,384 or what a client has asked for (RFC 6066 §4).
    ///
    /// It becomes less when the path to the peer turns out to carry less (`EMSGSIZE`, ICMP messages), and does not rise
    /// again.
    public var maximumPayloadSize: Int { association.maximumPayloadSize }

    /// What went through the connection so far, over all of its associations (``DtlsReconnection``).
    public var statistics: DtlsStatistics { association.statistics }

    /// Sends a datagram; waits only while the socket's buffer is full.
    ///
    /// A task on a connection's ``executor`` that sends without end waits now and then, for others to have their turn.
    /// What is sent there, or by a handler, leaves at the end of the loop's turn: what the system refuses then is
    /// counted (``/DTLSCore/DtlsStatistics/sendFailures`` of the server or client), and throws nothing.
    ///
    /// Like all datagrams it may be lost on its way, and nobody tells. That is so, too, when the interface's queue is
    /// full (`ENOBUFS`) and when the peer's port is closed for a while: an association that is open never ends by what
    /// the network says.
    ///
    /// - Parameter payload: 1 to ``maximumPayloadSize`` bytes.
    /// - Throws: ``/DTLSCore/DtlsError/Code-swift.struct/payloadTooLarge``, also when the path carries less than
    ///   ``maximumPayloadSize`` said, which has changed then and is in the error's hint, or, for an empty payload,
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/unsupported``, after which the connection lives on;
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/keysUsedUp``, with which it ends;
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/connectionClosed`` or the error with which it failed once it has
    ///   ended; ``/DTLSCore/DtlsError/Code-swift.struct/socketFailed`` when the system refuses the datagram (no route
    ///   to the peer, a firewall on this machine), after which the connection lives on;
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/cancelled`` when the task was cancelled while it waited, or before it
    ///   would have. Nothing was sent then.
    @inlinable
    public func send(_ payload: [UInt8]) async throws(DtlsError) {
        // Inlined, as the iterator's `next(isolation:)` is, and for the same reason.
        if try sendAtOnce(payload) { return }
        try await sendInTurn(payload)
    }

    /// Sends the UTF-8 bytes of `text`, as ``send(_:)-([UInt8])`` does, with the same errors.
    public func send(_ text: String) async throws(DtlsError) {
        try await send(Array(text.utf8))
    }

    /// Sends a datagram if the socket takes it at once. Never waits: a task on a connection's ``executor`` that calls
    /// it without end keeps others from having their turn.
    ///
    /// - Parameter payload: 1 to ``maximumPayloadSize`` bytes.
    /// - Returns: `false` when the socket's buffer is full; nothing was sent then.
    /// - Throws: What ``send(_:)-([UInt8])`` throws, without `cancelled`.
    public func trySend(_ payload: [UInt8]) throws(DtlsError) -> Bool {
        var result = Result<Bool, DtlsError>.success(false)
        payload.withUnsafeBytes { bytes in
            do throws(DtlsError) {
                result = .success(try association.trySend(bytes))
            } catch {
                result = .failure(error)
            }
        }
        return try result.get()
    }

    /// The session, to be resumed by a later connect; `nil` on servers, when the server does not resume sessions, and
    /// after the end: take it before.
    public var session: DtlsSession? {
        (try? association.ask { engine throws(DtlsError) in engine.session }) ?? nil
    }

    /// Derives secret bytes that both sides, and nobody else, can derive (RFC 5705, `SSL_export_keying_material(3)`).
    ///
    /// - Parameters:
    ///   - label: What they are for, from the IANA registry "TLS Exporter Labels" or starting with `EXPERIMENTAL`.
    ///   - context: What they are bound to; `nil` and empty are different. Label and context have 958 bytes together at
    ///     the most.
    ///   - count: How many: 1 to 16,384.
    /// - Throws: ``/DTLSCore/DtlsError/Code-swift.struct/connectionClosed`` after the end, or the error with which it
    ///   failed; ``/DTLSCore/DtlsError/Code-swift.struct/invalidConfiguration`` for a count, label or context that is
    ///   not possible, and for the labels of TLS itself (RFC 5705 §4).
    public func exportKeyingMaterial(
        label: String,
        context: [UInt8]? = nil,
        count: Int
    ) throws(DtlsError) -> DtlsSecretBytes {
        try association.ask { engine throws(DtlsError) in
            try engine.exportKeyingMaterial(label: label, context: context, count: count)
        }
    }

    /// The keys of SRTP (RFC 5764 §4.2), the same ones at each call.
    ///
    /// - Throws: ``/DTLSCore/DtlsError/Code-swift.struct/connectionClosed`` after the end, or the error with which it
    ///   failed; ``/DTLSCore/DtlsError/Code-swift.struct/unsupported`` when no profile was negotiated
    ///   (``/DTLSCore/DtlsConfiguration/srtpProfiles``).
    public func srtpKeys() throws(DtlsError) -> DtlsSRTPKeys {
        try association.ask { engine throws(DtlsError) in try engine.srtpKeys() }
    }

    /// Ends the connection: sends close_notify once, which may be lost, ends every reader, and forgets the association
    /// and what nobody has read.
    ///
    /// Does nothing when it has ended already. It does not wait.
    public func close() {
        association.close()
    }

    /// Waits for the end of the connection and says why it came, or ``/DTLSCore/DtlsCloseReason/closedLocally`` when
    /// the waiting task was cancelled before.
    public func waitUntilClosed() async -> DtlsCloseReason {
        await association.waitUntilClosed() ?? .closedLocally
    }
}

// What is called from code that is inlined into its users'.
extension DtlsConnection {
    /// Takes a datagram that is there.
    @usableFromInline func takePayload() -> [UInt8]? { association.takePayload() }

    /// Takes a datagram, or waits for one. Leaves the caller's actor meanwhile.
    @usableFromInline func nextPayload() async throws(DtlsError) -> [UInt8]? {
        try await association.nextPayload()
    }

    /// Sends a datagram if the socket takes it at once and others need not go on first.
    @usableFromInline func sendAtOnce(_ payload: [UInt8]) throws(DtlsError) -> Bool {
        // Before it can fail: who tries again and again is to let others go on, too.
        if LoopExecutor.countSend() { return false }
        return try trySend(payload)
    }

    /// Sends a datagram that was counted, but not sent at once.
    @usableFromInline func sendInTurn(_ payload: [UInt8]) async throws(DtlsError) {
        if LoopExecutor.hasSentEnough { await Task.yield() }
        while !(try trySend(payload)) {
            guard await association.owner.loop.waitForRoom() else {
                throw DtlsError(.cancelled, phase: .established, "the task was cancelled while it waited to send")
            }
        }
    }
}

extension DtlsConnection: AsyncSequence {
    /// Makes an iterator over the datagrams that come. Several may be in use: each datagram goes to one of them.
    public func makeAsyncIterator() -> Iterator {
        Iterator(connection: self)
    }

    /// Iterates over the datagrams of a connection.
    public struct Iterator: AsyncIteratorProtocol {
        @usableFromInline let connection: DtlsConnection

        /// How many datagrams were taken one after the other without leaving the caller's actor.
        @usableFromInline var inARow = 0

        init(connection: DtlsConnection) {
            self.connection = connection
        }

        /// Waits for the next datagram, of 1 to 16,384 bytes; `nil` at the end.
        ///
        /// - Throws: The error with which the association failed, or
        ///   ``/DTLSCore/DtlsError/Code-swift.struct/cancelled`` when the task was cancelled; what has come by then is
        ///   left to other readers.
        public mutating func next() async throws(DtlsError) -> [UInt8]? {
            try await next(isolation: nil)
        }

        /// As ``next()``, whatever the caller's actor.
        @inlinable
        public mutating func next(isolation actor: isolated (any Actor)?) async throws(DtlsError) -> [UInt8]? {
            // Inlined, so that a loop over datagrams that are there calls nothing asynchronous: for each such call a
            // task that prefers an executor looks that up under a lock, there and back, which was half of what it took
            // to take a datagram. Now and then it is called nevertheless, for others to have their turn on an actor.
            // Not the wait: with that inlined the optimizer of Swift 6.3 has crashed on code of users'.
            if inARow < 64, let payload = connection.takePayload() {
                inARow += 1
                return payload
            }
            inARow = 0
            return try await connection.nextPayload()
        }
    }
}
