/// What went through an association, a client or a server, in counts since it began.
///
/// Of a client or a server they are the sums over its associations, those that have ended included, and over what
/// belonged to none.
public struct DtlsStatistics: Sendable, Hashable {
    // MARK: Traffic

    /// Datagrams that came in, whatever became of them.
    public var datagramsReceived = 0

    /// Their bytes, without the headers of UDP and IP.
    public var bytesReceived = 0

    /// Datagrams that were handed out to be sent, those included that the socket then dropped or refused (``drops``,
    /// ``sendFailures``).
    public var datagramsSent = 0

    /// Their bytes, without the headers of UDP and IP.
    public var bytesSent = 0

    /// Payloads that were opened, those included that nobody read in time (``payloadsDropped``).
    public var payloadsReceived = 0

    /// Payloads that were sealed.
    public var payloadsSent = 0

    // MARK: Handshakes

    /// Handshakes that began. Behind a ``DtlsHelloGate``: with a valid cookie.
    public var handshakesStarted = 0

    /// Handshakes that were finished, and whose checks have passed.
    public var handshakesCompleted = 0

    /// Those of them that resumed a session.
    public var handshakesResumed = 0

    /// Handshakes that failed, by the code of the error. Those that were closed, replaced or evicted before they were
    /// finished count as ``DtlsError/Code-swift.struct/connectionClosed``.
    public var handshakesFailed: [DtlsError.Code: Int] = [:]

    /// How often a flight of the handshake was sent again.
    public var retransmissions = 0

    /// How long the path takes there and back, as the handshake has shown it; `nil` where it is not known, and for
    /// servers and clients as a whole.
    public var roundTrip: Duration?

    /// Cookies that a server sent to strangers.
    public var cookiesSent = 0

    // MARK: Losses

    /// What was dropped, by reason.
    public var drops = DtlsDrops()

    /// Datagrams that the system refused to send: no route, a firewall, too large for the path. Engines, which have no
    /// socket, count none.
    public var sendFailures = 0

    // MARK: Addresses

    /// How often a peer was found at another address than before (RFC 9146 §6), and how often datagrams went back to
    /// the former one because it did not answer at the new one (RFC 9853).
    public var peerMoves = 0

    // MARK: Connections of a server or client, now

    /// Handshakes that are under way.
    public var connectionsHandshaking = 0

    /// Connections that are open.
    public var connectionsOpen = 0

    /// Connections and handshakes that were ended to make room for others, or found none (``DtlsCloseReason/evicted``).
    public var connectionsEvicted = 0

    /// Connections that were ended because they were idle (``DtlsCloseReason/idle``).
    public var connectionsIdledOut = 0

    /// How often a client's association was made anew because the server had fallen silent (`DtlsReconnection`).
    public var reconnections = 0

    // MARK: High-water marks

    /// The most connections, handshakes under way included, that there were at once.
    public var mostConnections = 0

    /// The most handshakes of a server that were under way at once.
    public var mostHandshakes = 0

    /// The most payloads of one connection that waited to be read.
    public var mostQueuedPayloads = 0

    /// The most datagrams that waited for one socket.
    public var mostQueuedDatagrams = 0

    /// Makes a value with all counts at zero and no ``roundTrip``.
    public init() {}

    // MARK: Sums

    /// Records that were dropped before a cipher saw them: junk, forgeries, or not fitting the state.
    public var recordsDropped: Int { drops.records }

    /// Payloads that were dropped because nobody read them in time (``DtlsDropReason/receiveQueueFull``).
    public var payloadsDropped: Int { drops[.receiveQueueFull] }

    /// Datagrams that came while the handshake waited for an answer of the application, more than are kept
    /// (``DtlsDropReason/waitingForApplication``).
    public var datagramsDroppedWhileWaiting: Int { drops[.waitingForApplication] }

    /// Adds what `other` counted; of high-water marks the larger one stays, and ``roundTrip`` stays what it is.
    public mutating func add(_ other: DtlsStatistics) {
        datagramsReceived += other.datagramsReceived
        bytesReceived += other.bytesReceived
        datagramsSent += other.datagramsSent
        bytesSent += other.bytesSent
        payloadsReceived += other.payloadsReceived
        payloadsSent += other.payloadsSent
        handshakesStarted += other.handshakesStarted
        handshakesCompleted += other.handshakesCompleted
        handshakesResumed += other.handshakesResumed
        handshakesFailed.merge(other.handshakesFailed, uniquingKeysWith: +)
        retransmissions += other.retransmissions
        cookiesSent += other.cookiesSent
        drops.add(other.drops)
        sendFailures += other.sendFailures
        peerMoves += other.peerMoves
        connectionsHandshaking += other.connectionsHandshaking
        connectionsOpen += other.connectionsOpen
        connectionsEvicted += other.connectionsEvicted
        connectionsIdledOut += other.connectionsIdledOut
        reconnections += other.reconnections
        mostConnections = Swift.max(mostConnections, other.mostConnections)
        mostHandshakes = Swift.max(mostHandshakes, other.mostHandshakes)
        mostQueuedPayloads = Swift.max(mostQueuedPayloads, other.mostQueuedPayloads)
        mostQueuedDatagrams = Swift.max(mostQueuedDatagrams, other.mostQueuedDatagrams)
    }
}
