import DTLS
import ExampleSupport

/// A client of the DTLS side and its socket to the plain service, which knows the client by that socket's port.
final class ServedClient: Sendable {
    private struct State {
        var socket: PlainSocket?
        var address: PlainAddress?
        var watch: PlainWatch?
        /// Whether nobody listened at the address when something was sent last.
        var isRefused = false
        /// When the socket may be replaced, which costs descriptors: refusals come as fast as the client sends.
        var nextReplacement = MonotonicTime.now
        /// Whether nothing has come since that happened anywhere.
        var awaitsAnswer = false
        var isOver = false
        var fromClient = 0
        var fromService = 0
        var peer: DtlsAddress
    }

    private static let secondsBetweenReplacements = 0.5

    private let connection: DtlsConnection
    private let tunnel: ServerTunnel
    private let loop: PlainLoop
    private let state: Guarded<State>

    init(_ connection: DtlsConnection, of tunnel: ServerTunnel, on loop: PlainLoop) {
        self.connection = connection
        self.tunnel = tunnel
        self.loop = loop
        state = Guarded(State(peer: connection.peerAddress))
        let negotiated = connection.negotiated
        tunnel.journal.say("opened \(connection.peerAddress): \(negotiated.summary), \(negotiated.peerSummary)")
    }

    // MARK: From the client, on the server's loop

    func received(_ datagram: RawSpan) {
        noteMove()
        datagram.withUnsafeBytes { bytes in
            // The refusal of an earlier datagram comes in place of this one's being sent.
            if isRefused(passing: bytes), isRefused(passing: bytes) { tunnel.tally.dropped(.noService) }
        }
    }

    /// Sends to the service. Returns whether it heard of a refusal instead.
    private func isRefused(passing bytes: UnsafeRawBufferPointer) -> Bool {
        guard let socket = socket() else {
            tunnel.tally.dropped(.noService)
            return false
        }
        switch socket.transmit(bytes) {
        case .sent:
            tunnel.tally.carriedOutOfDtls(bytes.count)
            state.withLock { $0.fromClient += 1 }
        case .full: tunnel.tally.dropped(.socketFull)
        case .tooLarge:
            tunnel.tally.dropped(.tooLargeForPlain)
            tunnel.journal.remark(
                .tooLargeForPlain,
                "dropped \(bytes.count) bytes, too large for the way to \(tunnel.service.target)"
            )
        case .refused:
            refused(at: socket)
            return true
        case .failed(let code):
            tunnel.tally.dropped(.noService)
            let reason = PlainSocketError(code: code)
            tunnel.journal.remark(.noService, "datagrams to \(tunnel.service.target) are dropped: \(reason)")
        }
        return false
    }

    /// The socket to the service, made when there is something to send, or when the service is elsewhere than before.
    private func socket() -> PlainSocket? {
        guard let address = tunnel.service.address else {
            tunnel.journal.remark(.noService, "datagrams are dropped: \(tunnel.service.failure)")
            return nil
        }
        do {
            return try state.withLock { state -> PlainSocket? in
                if let socket = state.socket {
                    let now = MonotonicTime.now
                    guard state.isRefused, state.address != address, now >= state.nextReplacement else { return socket }
                    state.nextReplacement = now + Self.secondsBetweenReplacements
                }
                guard !state.isOver else { return nil }
                let socket = try PlainSocket(connectedTo: address)
                // Where there is none, the former socket is still read.
                let watch = try loop.watch(socket, for: self)
                state.watch?.end()
                state.watch = watch
                state.socket = socket
                state.address = address
                state.isRefused = false
                return socket
            }
        } catch {
            tunnel.journal.remark(.noService, "datagrams to \(tunnel.service.target) are dropped: \(error)")
            return nil
        }
    }

    func closed(_ reason: DtlsCloseReason) {
        let last = state.withLock { state in
            state.isOver = true
            state.watch?.end()
            state.watch = nil
            state.socket = nil
            return (state.fromClient, state.fromService)
        }
        let counts = "\(last.0) to the service and \(last.1) back"
        tunnel.journal.say("closed \(connection.peerAddress): \(reason.summary), after \(counts)")
        tunnel.tally.peerWent()
    }

    /// Says where the client goes to.
    private func noteMove() {
        guard !tunnel.journal.isQuiet else { return }
        let address = connection.peerAddress
        let former = state.withLock { state -> DtlsAddress? in
            guard state.peer != address else { return nil }
            defer { state.peer = address }
            return state.peer
        }
        if let former { tunnel.journal.say("moved \(former) -> \(address)") }
    }
}

// MARK: From the service, on the plain loop

extension ServedClient: PlainReceiver {
    func received(_ datagram: UnsafeRawBufferPointer, from source: PlainAddress?, at socket: PlainSocket) {
        let wasRefused = state.withLock { state in
            // A former socket says nothing of the present one.
            guard socket === state.socket else { return false }
            defer { (state.isRefused, state.awaitsAnswer) = (false, false) }
            return state.awaitsAnswer
        }
        if wasRefused { tunnel.journal.over(.refused, "\(tunnel.service.target) answers") }
        switch tunnel.sender.send(datagram, through: connection) {
        case .sent: state.withLock { $0.fromService += 1 }
        case .notSent, .closed: break
        }
    }

    func refused(at socket: PlainSocket) {
        tunnel.tally.dropped(.refused)
        let address = state.withLock { state -> PlainAddress? in
            guard socket === state.socket else { return nil }
            (state.isRefused, state.awaitsAnswer) = (true, true)
            return state.address
        }
        guard let address else { return }
        tunnel.service.refused(address)
        tunnel.journal.remark(
            .refused,
            "nobody listens at \(tunnel.service.target): datagrams are lost until the service is there"
        )
    }

    func receivingFailed(_ error: PlainSocketError) {
        tunnel.journal.remark(.socketFailed, "a socket to \(tunnel.service.target) failed: \(error)")
    }
}
