public import Logging

/// A UDP socket that serves any number of DTLS clients.
///
/// It is an asynchronous sequence of connections whose handshakes are finished:
///
/// ```swift
/// let server = try await DtlsServer.bind(port: 5684, context: context)
/// for await connection in server {
///     Task.detached {
///         for try await datagram in connection { try await connection.send(datagram) }
///     }
/// }
/// ```
///
/// A plain `Task` would run on the caller's actor, which is the main actor in a `main.swift`, and so would all others.
/// ``serve(_:)`` makes tasks where the datagrams come in, at less cost.
///
/// A stranger's datagram is answered with a cookie at the most and costs nothing that outlives it (RFC 6347 §4.2.1).
/// One slow or silent client never delays another. As many finished connections as ``DtlsServerLimits`` says wait to be
/// taken; one more is closed.
///
/// Everything may be called from any thread or task; what waits does not block a thread. A server that nobody holds any
/// more is closed.
public final class DtlsServer: Sendable {
    /// One for each loop.
    let endpoints: [ServerEndpoint]
    let accepted: AcceptQueue
    private let steers: Bool

    init(_ sockets: [UDPSocket], _ plan: ServerPlan) {
        accepted = plan.accepted
        steers = plan.steers
        endpoints = sockets.enumerated().map { ServerEndpoint(socket: $1, plan: plan, index: $0) }
        ServerEndpoint.join(endpoints)
        steer(for: plan.context)
        // Before the first datagram is read.
        _ = adopt(plan.arrivals)
        for endpoint in endpoints { endpoint.start() }
    }

    /// Binds a socket, or one for each loop, and begins to serve.
    ///
    /// - Parameters:
    ///   - host: The local address or name. The default, `::`, serves IPv6 and IPv4 clients; where the system has no
    ///     IPv6 it stands for `0.0.0.0`.
    ///   - port: The local port; 0 lets the system pick one, which ``localAddress`` tells. CoAP has 5684.
    ///   - context: Credentials and demands, for handshakes that begin before ``replaceContext(_:)``.
    ///   - options: The sockets' options. With several loops `SO_REUSEPORT` is set in any case.
    ///   - loops: How many cores the server may use: 1 to 64. Each loop has a socket (`SO_REUSEPORT`) and a thread (or,
    ///     where there is no epoll, a serial queue) of its own; a connection belongs to one of them for life, and finds
    ///     it wherever its datagrams come from. More loops than cores bring nothing; with one core left to what the
    ///     application does besides, most programs do best. More than one need Linux. Default: 1.
    ///   - limits: How much of the server its peers may take. Default: ``DtlsServerLimits/init()``.
    ///   - cookieSecrets: Secrets of the hello exchange that several hosts share; `nil`, the default, for one of this
    ///     server's own.
    ///   - admitsAddress: Asked about the source of each hello of a stranger, and of each datagram of a peer that has
    ///     moved, before anything is computed but whose datagram it is. Called on the loop that it came to, on several
    ///     at once, without a lock held: it must be quick, and must not wait for this server. `false` drops the
    ///     datagram (``/DTLSCore/DtlsDropReason/refusedAddress``). Default: everyone may come. (Addresses can be
    ///     forged; after the cookie exchange they are not.)
    ///   - handshakeFailed: Told of each handshake that failed after its cookie, where its peer was, and why: for logs,
    ///     or to ban an address. Not of those that were closed, evicted or given up for a new one, unless what came
    ///     until then suggests that their client has a wrong pre-shared key. Called on a loop or wherever the failure
    ///     was noticed, without a lock held; it must be quick.
    ///   - logger: Where to log, at `debug` and above. Silent by default; never a key in it.
    ///   - associations: What another server has exported (``exportAssociations(under:lifetime:where:)``). It is
    ///     imported before the first datagram is read, so that nothing which waits in the socket is lost on strangers.
    ///     Where no server comes of it, it may be used again. Default: none.
    /// - Throws: ``/DTLSCore/DtlsError/Code-swift.struct/addressInUse``;
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/nameResolutionFailed``;
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/socketFailed``;
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/invalidConfiguration`` for options, limits or a number of loops out of
    ///   their range, and for an IPv6 zone that this machine does not have;
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/unsupported`` for more than one loop where the system does not spread
    ///   the peers; ``/DTLSCore/DtlsError/Code-swift.struct/handOverRefused`` for `associations`;
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/internalFailure`` when there is no randomness;
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/cancelled`` when the task is cancelled while a name is looked up.
    public static func bind(
        host: String = "::",
        port: UInt16,
        context: DtlsServerContext,
        options: DtlsSocketOptions = DtlsSocketOptions(),
        loops: Int = 1,
        limits: DtlsServerLimits = DtlsServerLimits(),
        cookieSecrets: DtlsCookieSecrets? = nil,
        admitsAddress: (@Sendable (DtlsAddress) -> Bool)? = nil,
        handshakeFailed: (@Sendable (DtlsAddress, DtlsError) -> Void)? = nil,
        logger: Logger? = nil,
        associations: DtlsSealedAssociations? = nil
    ) async throws(DtlsError) -> DtlsServer {
        let plan = try ServerPlan(
            context: context,
            loops: loops,
            limits: limits,
            cookieSecrets: cookieSecrets,
            admitsAddress: admitsAddress,
            handshakeFailed: handshakeFailed,
            logger: logger,
            associations: associations
        )
        do throws(DtlsError) {
            return DtlsServer(try await UDPSocket.bind(host: host, port: port, options: options, count: loops), plan)
        } catch {
            plan.giveBack(associations)
            throw error
        }
    }

    /// Serves on a socket of the caller, whose descriptor's flags stay as they are. What is set on it, and taken back
    /// at the end, see ``DtlsSocketOptions``.
    ///
    /// - Parameters:
    ///   - descriptor: A UDP socket of IPv4 or IPv6; one that is not bound is bound to a free port. Nobody else may
    ///     read from it while the server lives.
    ///   - takesOwnership: Whether the descriptor is closed with the server. Default: it is left open.
    ///   - context: Credentials and demands.
    ///   - limits: As for a server that binds its socket by itself, like those that follow.
    ///   - cookieSecrets: Secrets of the hello exchange that several hosts share.
    ///   - admitsAddress: Asked about the sources of strangers and of peers that have moved.
    ///   - handshakeFailed: Told of each handshake that failed after its cookie.
    ///   - logger: Where to log.
    ///   - associations: What another server has exported.
    /// - Throws: ``/DTLSCore/DtlsError/Code-swift.struct/invalidConfiguration`` when it is no such socket or limits are
    ///   out of their range, ``/DTLSCore/DtlsError/Code-swift.struct/socketFailed`` when the system refuses it,
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/handOverRefused`` for `associations`,
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/internalFailure`` when there is no randomness. The descriptor is the
    ///   caller's then.
    public convenience init(
        socket descriptor: Int32,
        takesOwnership: Bool = false,
        context: DtlsServerContext,
        limits: DtlsServerLimits = DtlsServerLimits(),
        cookieSecrets: DtlsCookieSecrets? = nil,
        admitsAddress: (@Sendable (DtlsAddress) -> Bool)? = nil,
        handshakeFailed: (@Sendable (DtlsAddress, DtlsError) -> Void)? = nil,
        logger: Logger? = nil,
        associations: DtlsSealedAssociations? = nil
    ) throws(DtlsError) {
        try self.init(
            sockets: [descriptor],
            takesOwnership: takesOwnership,
            context: context,
            limits: limits,
            cookieSecrets: cookieSecrets,
            admitsAddress: admitsAddress,
            handshakeFailed: handshakeFailed,
            logger: logger,
            associations: associations
        )
    }

    /// Serves on several sockets of the caller, with a loop for each.
    ///
    /// - Parameters:
    ///   - descriptors: All sockets of one port, in the order in which they were bound, each with `SO_REUSEPORT`; those
    ///     that ``handOverSockets()`` has returned, for instance.
    ///   - takesOwnership: Whether the descriptors are closed with the server. Default: they are left open.
    ///   - context: Credentials and demands.
    ///   - limits: As for a server that binds its socket by itself, like those that follow.
    ///   - cookieSecrets: Secrets of the hello exchange that several hosts share.
    ///   - admitsAddress: Asked about the sources of strangers and of peers that have moved.
    ///   - handshakeFailed: Told of each handshake that failed after its cookie.
    ///   - logger: Where to log.
    ///   - associations: What another server has exported.
    /// - Throws: As for a single socket; ``/DTLSCore/DtlsError/Code-swift.struct/invalidConfiguration`` also when they
    ///   do not share a port or are not 1 to 64, ``/DTLSCore/DtlsError/Code-swift.struct/unsupported`` for several
    ///   where the system does not spread the peers.
    public convenience init(
        sockets descriptors: [Int32],
        takesOwnership: Bool = false,
        context: DtlsServerContext,
        limits: DtlsServerLimits = DtlsServerLimits(),
        cookieSecrets: DtlsCookieSecrets? = nil,
        admitsAddress: (@Sendable (DtlsAddress) -> Bool)? = nil,
        handshakeFailed: (@Sendable (DtlsAddress, DtlsError) -> Void)? = nil,
        logger: Logger? = nil,
        associations: DtlsSealedAssociations? = nil
    ) throws(DtlsError) {
        let plan = try ServerPlan(
            context: context,
            loops: descriptors.count,
            limits: limits,
            cookieSecrets: cookieSecrets,
            admitsAddress: admitsAddress,
            handshakeFailed: handshakeFailed,
            logger: logger,
            associations: associations
        )
        do throws(DtlsError) {
            self.init(try UDPSocket.adopt(descriptors: descriptors, takesOwnership: takesOwnership), plan)
        } catch {
            plan.giveBack(associations)
            throw error
        }
    }

    deinit {
        for endpoint in endpoints { endpoint.close() }
    }

    /// The address that the server is bound to, with the port that the system has picked.
    public var localAddress: DtlsAddress { endpoints[0].loop.socket.localAddress }

    /// Why the server has ended by itself: its socket cannot be used any more, which ends the sequence and every
    /// connection. `nil` while it serves, and when ``close()``, ``drain(for:)`` or the last reference to it has ended
    /// it.
    ///
    /// That is so when reading fails with an error that lasts, when the system refuses to wait for the socket, and when
    /// others have closed its descriptor. The last is noticed when something is sent: until then there is nothing that
    /// would tell. An interface that goes away is no failure; nothing comes from there then.
    ///
    /// ```swift
    /// for await connection in server { … }
    /// if let failure = server.failure { throw failure }
    /// ```
    public var failure: DtlsError? { accepted.failure }

    /// How many loops it has: 1 to 64.
    public var loops: Int { endpoints.count }

    /// What the server limits its peers to, over all loops.
    public var limits: DtlsServerLimits { endpoints[0].limits }

    /// What went through the server so far, over all of its connections, those that have ended included, and over what
    /// belonged to none.
    ///
    /// Each live connection is asked, so the call takes the longer the more there are: some hundred nanoseconds for
    /// each.
    public var statistics: DtlsStatistics {
        endpoints.reduce(into: DtlsStatistics()) { $0.add($1.statistics) }
    }

    /// Lets nobody new in, waits until every connection has ended by itself or the time is over, and closes the server.
    ///
    /// Handshakes under way are finished and come out of the sequence as ever; what waits there counts as a connection.
    /// Hellos are dropped and counted as ``/DTLSCore/DtlsDropReason/draining``, so that clients try another host. Tell
    /// the peers in your own protocol that they should go: whoever serves a connection, by ``serve(_:)`` for instance,
    /// is not told.
    ///
    /// - Parameter timeout: How long to wait, up to 100 years. When the task is cancelled the wait ends early, and the
    ///   server is closed.
    /// - Returns: How many connections, handshakes under way included, had to be closed.
    @discardableResult
    public func drain(for timeout: Duration) async -> Int {
        await withTaskGroup(of: Void.self) { group in
            for endpoint in self.endpoints { endpoint.refuseHellos() }
            group.addTask { for endpoint in self.endpoints { _ = await endpoint.drain() } }
            let timeout = Swift.min(timeout, DtlsServerLimits.longest)
            group.addTask { try? await Task.sleep(for: timeout, clock: .continuous) }
            await group.next()
            group.cancelAll()
        }
        let remaining = endpoints.reduce(0) { $0 + $1.connectionCount }
        await close()
        return remaining
    }

    /// Uses another context (certificates, pre-shared keys, ticket keys) for handshakes that begin from now on.
    /// Connections and handshakes under way are not concerned: call ``closeConnections(where:)`` again a handshake's
    /// time later, or change the ticket keys as well, where someone is to be kept out.
    public func replaceContext(_ context: DtlsServerContext) {
        for endpoint in endpoints { endpoint.replaceContext(context) }
        steer(for: context)
    }

    /// Closes, with close_notify, every connection for which `shouldClose` is true: those of a revoked certificate or a
    /// pre-shared-key identity that is not welcome any more. Replace the context as well, or they come back.
    ///
    /// - Parameter shouldClose: Called before this returns, on the caller's thread and without a lock held, once for
    ///   each connection that is open; handshakes under way are not asked about.
    /// - Returns: How many were closed.
    @discardableResult
    public func closeConnections(where shouldClose: (DtlsNegotiated) -> Bool) -> Int {
        endpoints.reduce(0) { $0 + $1.closeConnections(where: shouldClose) }
    }

    /// Ends the sequence, closes every connection with close_notify, those that wait to be taken included, and closes
    /// the socket or gives it back.
    ///
    /// Returns when that is done, also in a task that was cancelled. May be called any number of times.
    public func close() async {
        for endpoint in endpoints { endpoint.close() }
        for endpoint in endpoints { await endpoint.loop.waitUntilEnded() }
    }

    /// Has the kernel look at Connection IDs, unless they are such that they do not tell a loop.
    private func steer(for context: DtlsServerContext) {
        guard endpoints.count > 1 else { return }
        endpoints[0].loop.socket.steerByConnectionID(among: steers(context) ? endpoints.count : nil)
    }

    /// Whether it does.
    func steers(_ context: DtlsServerContext) -> Bool { steers && context.configuration.connectionIDs.areMadeHere }
}

extension DtlsServer: AsyncSequence {
    /// Makes an iterator over the connections that come. Several tasks may iterate: each connection goes to one of
    /// them.
    public func makeAsyncIterator() -> Iterator {
        Iterator(server: self)
    }

    /// Iterates over the connections of a server.
    public struct Iterator: AsyncIteratorProtocol {
        let server: DtlsServer

        /// Waits for the next connection; `nil` once the server is closed or has failed (``DtlsServer/failure``), and
        /// when the task is cancelled.
        public mutating func next() async -> DtlsConnection? {
            await server.accepted.next()
        }

        /// As ``next()``, whatever the caller's actor.
        public mutating func next(isolation actor: isolated (any Actor)?) async throws(Never) -> DtlsConnection? {
            await server.accepted.next()
        }
    }
}
