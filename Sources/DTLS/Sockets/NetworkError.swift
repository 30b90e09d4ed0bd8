import CPosixUDP
import DTLSPrimitives

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// What the network, or the system itself, reports of a datagram that was sent earlier.
struct NetworkError: Sendable, Equatable {
    /// Where the datagram went. Port 0 stands for every port of the host.
    let peer: DtlsAddress
    /// The `errno`.
    let code: Int32
    /// Whether the system itself refused the datagram. Otherwise it was an ICMP message, which anyone may have sent who
    /// knows the addresses and ports.
    let isLocal: Bool
    /// For `EMSGSIZE`: how many bytes of UDP payload the path carries.
    let largestDatagram: Int?

    func concerns(_ address: DtlsAddress) -> Bool {
        peer.port == 0 ? peer.isSameHost(as: address) : peer == address
    }

    /// Whether the peer's host answered that nobody listens at the port.
    var isRefusal: Bool { code == ECONNREFUSED }

    /// Whether an `errno` of a send may be the report about an earlier datagram: all that Linux and Darwin make of ICMP
    /// messages.
    static func isReported(_ error: Int32) -> Bool {
        switch error {
        case ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EHOSTDOWN, ENETDOWN, EMSGSIZE, EPROTO, EACCES, ENOPROTOOPT,
            EOPNOTSUPP:
            return true
        default:
            #if os(Linux)
                return error == ENONET
            #else
                return false
            #endif
        }
    }
}

extension NetworkError {
    /// Reads a report of the error queue; nil when it has nothing to say.
    init?(_ report: CPosixUDP_Error) {
        guard report.error != 0 else { return nil }
        let peer = withUnsafeBytes(of: report.peer) { bytes in
            DtlsAddress(systemAddress: .init(rebasing: bytes.prefix(Int(report.peerLength))))
        }
        guard let peer else { return nil }
        let isLocal = report.isLocal != 0
        // Linux takes a forged message that quotes port 0 for one about this socket; it is about no datagram that was
        // sent.
        guard isLocal || peer.port != 0 else { return nil }
        self.init(
            peer: peer,
            code: report.error,
            isLocal: isLocal,
            largestDatagram: Self.largestDatagram(Int(report.pathMTU), isIPv4: peer.isIPv4, isLocal: isLocal)
        )
    }

    /// A forged ICMP message must not make datagrams ever smaller, so what it says counts down to what every path
    /// carries: 1280 bytes with IPv6 (RFC 8200 §5), and with IPv4 the 552 at which Linux stops too (`min_pmtu`). The
    /// system's own word about its interfaces is taken as it is.
    static func largestDatagram(_ pathMTU: Int, isIPv4: Bool, isLocal: Bool) -> Int? {
        guard pathMTU > 0 else { return nil }
        let mtu = isLocal ? pathMTU : max(pathMTU, isIPv4 ? 552 : 1_280)
        return max(0, mtu - (isIPv4 ? 28 : 48))
    }
}

// MARK: - The socket's queue of reports

extension UDPSocket {
    /// How many reports wait to be taken. The oldest give way to what comes beyond.
    static let maximumNetworkErrors = 64

    /// Sets what is called, outside the lock and on the sender's thread, when a send has found reports, or that others
    /// have closed the descriptor (``loss``). Closing lets go of it.
    func setErrorHandler(_ handler: @escaping BacklogHandler) {
        let (callNow, _) = state.withLock { state -> (Bool, BacklogHandler?) in
            guard !isClosed else { return (false, nil) }
            defer { state.errorHandler = handler }
            return (state.loss != nil, state.errorHandler)
        }
        if callNow { handler() }
    }

    /// Takes what the network has reported since the last time, of the socket's peers.
    ///
    /// Where there is no error queue (Darwin) nothing is known of the peers of an unconnected socket, and only refusals
    /// of a connected one's.
    func takeNetworkErrors() -> [NetworkError] {
        state.withLock { state in
            guard isUsable(state) else { return [] }
            collectNetworkErrors(&state)
            defer { state.networkErrors = [] }
            return state.networkErrors
        }
    }

    /// Takes note of an error that a call on the socket itself returned. Where there is an error queue it says the
    /// same, and more.
    func note(_ error: Int32, _ state: inout State) {
        #if !os(Linux)
            guard let connectedPeer, NetworkError.isReported(error) else { return }
            state.add(NetworkError(peer: connectedPeer, code: error, isLocal: false, largestDatagram: nil))
        #endif
    }

    /// Empties the system's queue into the socket's own. Called with the lock held, and not on a closed socket.
    func collectNetworkErrors(_ state: inout State) {
        guard systemSend == nil else { return }
        // Bounded, as reports may go on coming; what is left makes the socket readable again.
        for _ in 0..<Self.maximumNetworkErrors {
            var report = CPosixUDP_Error()
            guard CPosixUDP_receiveError(descriptor, &report) == 1 else { return }
            if let error = NetworkError(report) { state.add(error) }
        }
    }
}

extension UDPSocket.State {
    mutating func add(_ error: NetworkError) {
        if networkErrors.count == UDPSocket.maximumNetworkErrors { networkErrors.removeFirst() }
        networkErrors.append(error)
    }
}
