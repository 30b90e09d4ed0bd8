import DTLS
import ExampleSupport
import Synchronization

/// A plain client and its connection to the DTLS server, which is made anew when it was lost and there is something to
/// send.
final class TunnelPeer: Sendable {
    private enum Phase {
        case unconnected
        case connecting(Task<Void, Never>)
        case open(DtlsConnection)
        case over
    }

    private struct State {
        var phase = Phase.unconnected
        var pending: PendingDatagrams
        var fromPeer = 0
        var fromServer = 0
        /// Why this side has closed the connection.
        var farewell: String?
    }

    let address: PlainAddress
    private let tunnel: ClientTunnel
    private let state: Guarded<State>
    private let activity = Atomic(MonotonicTime.now.nanoseconds)

    init(_ address: PlainAddress, of tunnel: ClientTunnel, pendingUpTo count: Int) {
        self.address = address
        self.tunnel = tunnel
        state = Guarded(State(pending: PendingDatagrams(upTo: count)))
    }

    /// When something came or went last.
    var lastActivity: MonotonicTime { MonotonicTime(nanoseconds: activity.load(ordering: .relaxed)) }

    private func noteActivity() {
        activity.store(MonotonicTime.now.nanoseconds, ordering: .relaxed)
    }

    // MARK: From the peer, on the plain loop

    /// Sends to the server, or keeps the datagram until there is a connection.
    func forward(_ datagram: UnsafeRawBufferPointer) {
        noteActivity()
        let connection = state.withLock { state -> DtlsConnection? in
            if case .open(let connection) = state.phase { return connection }
            return nil
        }
        if let connection {
            switch tunnel.sender.send(datagram, through: connection) {
            case .sent: return state.withLock { $0.fromPeer += 1 }
            case .notSent: return
            case .closed: break
            }
        }
        let drop = state.withLock { state in keep(datagram, insteadOf: connection, &state) }
        if let drop { tunnel.tally.dropped(drop) }
    }

    /// Keeps a datagram for the connection that is being made, or now begins to be. Returns why it was not kept.
    private func keep(
        _ datagram: UnsafeRawBufferPointer,
        insteadOf ended: DtlsConnection?,
        _ state: inout State
    ) -> TunnelDrop? {
        switch state.phase {
        case .connecting: break
        case .unconnected:
            guard tunnel.link.reserve() else { return .noServer }
            state.phase = .connecting(Task { await self.connect() })
        case .open(let connection):
            // It has ended, and nobody has been told yet.
            guard connection === ended, tunnel.link.reserve() else { return .noServer }
            state.phase = .connecting(Task { await self.connect() })
        case .over: return .noServer
        }
        return state.pending.add(datagram) ? nil : .handshakeQueueFull
    }

    // MARK: The connection

    private func connect() async {
        do {
            let (client, connection) = try await tunnel.link.connect()
            await adopt(connection, of: client)
        } catch {
            let (lost, isOver) = state.withLock { state in
                let isOver = if case .over = state.phase { true } else { false }
                if !isOver { state.phase = .unconnected }
                return (state.pending.takeAll().count, isOver)
            }
            tunnel.tally.dropped(.noServer, lost)
            if !isOver { tunnel.sayFailed(address, error) }
        }
    }

    private func adopt(_ connection: DtlsConnection, of client: DtlsClient) async {
        let sender = tunnel.sender
        let isWanted = state.withLock { state in
            guard case .connecting = state.phase else { return false }
            state.fromPeer = 0
            state.fromServer = 0
            // Before anything that comes later.
            for datagram in state.pending.takeAll() {
                let outcome = datagram.withUnsafeBytes { sender.send($0, through: connection) }
                switch outcome {
                case .sent: state.fromPeer += 1
                case .notSent: break
                case .closed: tunnel.tally.dropped(.noServer)
                }
            }
            state.phase = .open(connection)
            return true
        }
        guard isWanted else { return await tunnel.link.release(client) }
        let negotiated = connection.negotiated
        tunnel.journal.say(
            "opened \(address) to \(connection.peerAddress): \(negotiated.summary), \(negotiated.peerSummary)"
        )
        connection.handleDatagrams { _, datagram in
            self.received(datagram)
        } closed: { connection, reason in
            self.closed(connection, reason)
            Task { await self.tunnel.link.release(client) }
        }
    }

    private func closed(_ connection: DtlsConnection, _ reason: DtlsCloseReason) {
        let (farewell, sent, received) = state.withLock { state in
            if case .open(let current) = state.phase, current === connection { state.phase = .unconnected }
            return (state.farewell, state.fromPeer, state.fromServer)
        }
        tunnel.journal.say(
            "closed \(address): \(farewell ?? reason.summary), after \(sent) to the server and \(received) back"
        )
    }

    /// Forgets the connection, with close_notify, and takes nothing any more.
    func letGo(_ farewell: String) {
        let (former, lost) = state.withLock { state in
            let former = state.phase
            state.phase = .over
            state.farewell = farewell
            return (former, state.pending.takeAll().count)
        }
        tunnel.tally.dropped(.noServer, lost)
        switch former {
        case .connecting(let task): task.cancel()
        case .open(let connection): connection.close()
        case .unconnected, .over: break
        }
    }

    // MARK: From the server, on the connection's loop

    private func received(_ datagram: RawSpan) {
        noteActivity()
        let isSent = datagram.withUnsafeBytes { tunnel.deliver($0, to: address) }
        if isSent { state.withLock { $0.fromServer += 1 } }
    }
}
