public import Logging

/// A UDP socket with any number of DTLS connections to servers.
///
/// ```swift
/// let client = try await DtlsClient.bind()
/// let connection = try await client.connect(to: "gadget.local", port: 5684, context: context)
/// try await connection.send("hello")
/// ```
///
/// Everything may be called from any thread or task; what waits does not block a thread. A client that nobody holds any
/// more, and none of whose connections anybody holds, is closed.
///
/// One client can have any number of connections, and is what many are best made from. Of more than 32 clients at once
/// some share a thread, as connections of one client do; so what a handler of one does for long
/// (``DtlsConnection/handleDatagrams(with:closed:)``), others may have to wait for.
public final class DtlsClient: Sendable {
    private let endpoint: ClientEndpoint

    private init(_ socket: UDPSocket, _ queue: DtlsQueueLimits, _ logger: Logger?) {
        endpoint = ClientEndpoint(socket: socket, queue: queue, logger: logger)
    }

    /// Binds a socket.
    ///
    /// - Parameters:
    ///   - host: The local address or name. The default, `::`, reaches IPv6 and IPv4 peers; where the system has no
    ///     IPv6 it stands for `0.0.0.0`.
    ///   - port: The local port. The default, 0, lets the system pick one.
    ///   - options: The socket's options.
    ///   - queue: How much of what a peer sent waits to be read, for each connection.
    ///   - logger: Where to log, at `debug` and above. Silent by default; never a key in it.
    /// - Throws: ``/DTLSCore/DtlsError/Code-swift.struct/addressInUse``;
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/nameResolutionFailed``;
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/socketFailed``;
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/invalidConfiguration`` for options or limits out of their range, and
    ///   for an IPv6 zone that this machine does not have; ``/DTLSCore/DtlsError/Code-swift.struct/cancelled`` when the
    ///   task is cancelled while a name is looked up.
    public static func bind(
        host: String = "::",
        port: UInt16 = 0,
        options: DtlsSocketOptions = DtlsSocketOptions(),
        queue: DtlsQueueLimits = DtlsQueueLimits(),
        logger: Logger? = nil
    ) async throws(DtlsError) -> DtlsClient {
        try queue.validate()
        return DtlsClient(try await UDPSocket.bind(host: host, port: port, options: options), queue, logger)
    }

    /// Uses a socket of the caller, whose descriptor's flags stay as they are. What is set on it, and taken back at the
    /// end, see ``DtlsSocketOptions``.
    ///
    /// - Parameters:
    ///   - descriptor: A UDP socket of IPv4 or IPv6. One that is not bound is bound to a free port; one that is
    ///     connected reaches its peer alone. Nobody else may read from it while the client lives.
    ///   - takesOwnership: Whether the descriptor is closed with the client. Default: it is left open.
    ///   - queue: As in ``bind(host:port:options:queue:logger:)``.
    ///   - logger: As in ``bind(host:port:options:queue:logger:)``.
    /// - Throws: ``/DTLSCore/DtlsError/Code-swift.struct/invalidConfiguration`` when it is no such socket or limits are
    ///   out of their range, ``/DTLSCore/DtlsError/Code-swift.struct/socketFailed`` when the system refuses it. The
    ///   descriptor is the caller's then.
    public init(
        socket descriptor: Int32,
        takesOwnership: Bool = false,
        queue: DtlsQueueLimits = DtlsQueueLimits(),
        logger: Logger? = nil
    ) throws(DtlsError) {
        try queue.validate()
        let socket = try UDPSocket.adopt(descriptor: descriptor, takesOwnership: takesOwnership)
        endpoint = ClientEndpoint(socket: socket, queue: queue, logger: logger)
    }

    deinit {
        endpoint.close()
    }

    /// Goes on with another socket: from another port, another interface or another network.
    ///
    /// Connections whose handshake has negotiated a Connection ID for the server
    /// (``/DTLSCore/DtlsNegotiated/connectionIDs``) go on, and lose nothing but what was on its way: the server follows
    /// as soon as it gets a datagram from here, so send one. To servers without Connection IDs, and in handshakes that
    /// are under way, this client is somebody new, whom they do not know.
    ///
    /// The former socket is closed, or given back if it was the caller's.
    ///
    /// - Parameters:
    ///   - host: The local address or name, as in ``bind(host:port:options:queue:logger:)``.
    ///   - port: The local port. The default, 0, lets the system pick one.
    ///   - options: The new socket's options.
    /// - Throws: What ``bind(host:port:options:queue:logger:)`` throws, after which the client goes on with the socket
    ///   that it has; ``/DTLSCore/DtlsError/Code-swift.struct/connectionClosed`` when the client is closed, or the
    ///   error with which its socket has failed.
    public func rebind(
        host: String = "::",
        port: UInt16 = 0,
        options: DtlsSocketOptions = DtlsSocketOptions()
    ) async throws(DtlsError) {
        try endpoint.rebind(try await UDPSocket.bind(host: host, port: port, options: options))
    }

    /// The address that the socket is bound to, with the port that the system has picked; another one after
    /// ``rebind(host:port:options:)``.
    public var localAddress: DtlsAddress { endpoint.loop.socket.localAddress }

    /// What went through the client so far, over all of its connections, those that have ended included, and over what
    /// belonged to none. Each live connection is asked.
    public var statistics: DtlsStatistics { endpoint.statistics }

    /// Connects to a server by name or address.
    ///
    /// The name is looked up (`getaddrinfo(3)`, which blocks a thread of Dispatch's); when it has several addresses,
    /// the next one is tried along with the ones before after 300 milliseconds, or at once when one before has failed
    /// (in the manner of RFC 8305), and the first whose handshake is finished wins. When all fail, the first address's
    /// error is thrown.
    ///
    /// A second call for the same peer, context and server name returns the connection that is there, or joins its
    /// handshake; of its other arguments nothing counts then.
    ///
    /// - Parameters:
    ///   - host: The server's DNS name, of up to 255 bytes, or IP address.
    ///   - port: The server's port: 1...65,535.
    ///   - context: Credentials and demands. One client may use several side by side, for different peers.
    ///   - serverName: The name or IP address that the server's certificate must carry. A name has labels of up to 63
    ///     ASCII letters, digits, hyphens and underscores, with single dots between them: an international one stands
    ///     in punycode (`xn--…`), and neither a port nor a scheme belongs to it. Where no name is verified any text
    ///     will do; what is no such name is not sent then. Default: `host`.
    ///   - timeout: How long the handshake with one address may take, the look-up not counted: above zero, up to one
    ///     day. Default: the configuration's ``/DTLSCore/DtlsConfiguration/handshakeTimeout``.
    ///   - session: A session of an earlier connection to this server (``DtlsConnection/session``), to be resumed. When
    ///     it is expired, was made under other demands or credentials, or the server does not know it any more, the
    ///     handshake is a full one; ``/DTLSCore/DtlsNegotiated/isResumed`` tells.
    ///   - reconnection: What to do when the server answers nothing any more. Default: nothing.
    /// - Returns: The connection, open. Hold it: it is closed when nobody does.
    /// - Throws: ``/DTLSCore/DtlsError/Code-swift.struct/nameResolutionFailed``;
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/handshakeTimedOut``;
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/peerUnreachable`` when nobody listens at the port (at once; where the
    ///   system tells, which is Linux, and connected sockets elsewhere), or there is no route to the host (at once when
    ///   this machine has none, else when the time is over);
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/certificateRejected``;
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/authenticationFailed`` when the pre-shared keys differ;
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/handshakeFailed``;
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/noApplicationProtocol``;
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/missingServerName`` for an empty `serverName` where names are
    ///   verified; ``/DTLSCore/DtlsError/Code-swift.struct/invalidConfiguration`` for a server name that is none, port
    ///   0, a timeout or silence out of its range, and a Connection ID that is in use or of a wrong length;
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/peerAlreadyConnected``;
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/connectionClosed`` when the client is closed meanwhile, or the error
    ///   with which its socket has failed; ``/DTLSCore/DtlsError/Code-swift.struct/internalFailure``;
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/cancelled`` when the task is cancelled, which gives the handshake up
    ///   unless another call waits for it.
    public func connect(
        to host: String,
        port: UInt16,
        context: DtlsClientContext,
        serverName: String? = nil,
        timeout: Duration? = nil,
        session: DtlsSession? = nil,
        reconnection: DtlsReconnection = .never
    ) async throws(DtlsError) -> DtlsConnection {
        try Self.requireReachable(port: port)
        let addresses = try await NameResolution.resolve(host: host, port: port, reach: endpoint.loop.socket.reach)
        return try await AddressRace(addresses).run { address throws(DtlsError) in
            try await self.connect(
                to: address,
                context: context,
                serverName: serverName ?? host,
                timeout: timeout,
                session: session,
                reconnection: reconnection
            )
        }
    }

    /// Connects to a server by address, as ``connect(to:port:context:serverName:timeout:session:reconnection:)`` does
    /// by name.
    ///
    /// - Parameters:
    ///   - address: The server's address, which must be of a family that the socket reaches, with a port of
    ///     1...65,535.
    ///   - context: As in ``connect(to:port:context:serverName:timeout:session:reconnection:)``.
    ///   - serverName: As in ``connect(to:port:context:serverName:timeout:session:reconnection:)``. Default: the
    ///     address.
    ///   - timeout: As in ``connect(to:port:context:serverName:timeout:session:reconnection:)``: above zero, up to one
    ///     day.
    ///   - session: As in ``connect(to:port:context:serverName:timeout:session:reconnection:)``.
    ///   - reconnection: As in ``connect(to:port:context:serverName:timeout:session:reconnection:)``.
    /// - Returns: As ``connect(to:port:context:serverName:timeout:session:reconnection:)`` does.
    /// - Throws: As ``connect(to:port:context:serverName:timeout:session:reconnection:)`` does;
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/nameResolutionFailed`` when the socket does not reach the address's
    ///   family.
    public func connect(
        to address: DtlsAddress,
        context: DtlsClientContext,
        serverName: String? = nil,
        timeout: Duration? = nil,
        session: DtlsSession? = nil,
        reconnection: DtlsReconnection = .never
    ) async throws(DtlsError) -> DtlsConnection {
        try Self.requireReachable(port: address.port)
        guard endpoint.loop.socket.reach.includes(address) else {
            let message = "\(address) cannot be reached from a socket bound to \(localAddress)"
            throw DtlsError(.nameResolutionFailed, phase: .resolution, message, hint: "bind the client to ::")
        }
        if let timeout, timeout <= .zero || timeout > .seconds(86_400) {
            let message = "a timeout of \(timeout) is not above zero and at most one day"
            throw DtlsError(.invalidConfiguration, phase: .handshake, message)
        }
        try reconnection.validate()
        let target = ConnectTarget(context: context, serverName: serverName ?? address.host)
        let association = try endpoint.association(
            with: address,
            target: target,
            timeout: timeout,
            session: session,
            reconnection: reconnection
        )
        // The connection has a hold of its own; a connect that fails or is cancelled gives the last one up.
        defer { association.release() }
        try await association.waitUntilOpen()
        guard let connection = association.connection(keepingAlive: self) else {
            throw Association.closedError(association.closeReason)
        }
        return connection
    }

    /// Throws for port 0, at which nobody can be: the system would refuse every datagram until the time is over.
    private static func requireReachable(port: UInt16) throws(DtlsError) {
        guard port == 0 else { return }
        throw DtlsError(
            .invalidConfiguration,
            phase: .handshake,
            "port 0 cannot be connected to",
            hint: "use the server's port, 1...65535; localAddress says which one the system has picked"
        )
    }

    /// Closes every connection with close_notify, ends the connects under way with
    /// ``/DTLSCore/DtlsError/Code-swift.struct/connectionClosed``, and closes the socket or gives it back.
    ///
    /// Returns when that is done, also in a task that was cancelled. May be called any number of times.
    public func close() async {
        endpoint.close()
        await endpoint.loop.waitUntilEnded()
    }
}
