import DTLS
import Dispatch
import ExampleSupport

/// The client's end: a plain socket for all peers, and a DTLS connection for each of them.
///
/// `@unchecked Sendable`: what changes is touched on the queue of `loop` alone.
final class ClientTunnel: @unchecked Sendable {
    /// How long a peer must have been silent to make room for another one.
    private static let secondsBeforeMakingRoom = 10.0

    struct Limits: Sendable {
        let peers: Int
        /// How many datagrams of a peer wait for its handshake.
        let pending: Int
        /// Nil for ever.
        let idle: Double?
    }

    let link: ServerLink
    let tally = Tally()
    let journal: Journal
    let sender: DtlsSender
    private let advice: @Sendable (any Error) -> String
    private let limits: Limits
    private let listener: PlainSocket
    private let loop = PlainLoop(label: "dtls-tunnel.plain")

    private var peers: [PlainAddress: TunnelPeer] = [:]
    private var watch: PlainWatch?
    private var sweeper: (any DispatchSourceTimer)?
    private var isClosedToNewcomers = false
    /// Before that there is nobody who could make room.
    private var nextRoom = MonotonicTime.now

    init(
        from listener: PlainSocket,
        through link: ServerLink,
        limits: Limits,
        journal: Journal,
        advice: @escaping @Sendable (any Error) -> String
    ) {
        self.listener = listener
        self.link = link
        self.limits = limits
        self.journal = journal
        self.advice = advice
        sender = DtlsSender(tally: tally, journal: journal)
    }

    func start() throws(PlainSocketError) {
        let watch = try loop.watch(listener, for: self)
        loop.queue.async {
            self.watch = watch
            guard let idle = self.limits.idle else { return }
            let sweeper = DispatchSource.makeTimerSource(queue: self.loop.queue)
            let interval = DispatchTimeInterval.milliseconds(Int(max(50, min(idle * 250, 5_000))))
            sweeper.schedule(deadline: .now() + interval, repeating: interval, leeway: .milliseconds(50))
            sweeper.setEventHandler { self.letIdlePeersGo(after: idle) }
            sweeper.activate()
            self.sweeper = sweeper
        }
    }

    /// Lets nobody new in, and waits until the peers are gone, the time is over, or the task is cancelled.
    func drain(for seconds: Double) async {
        loop.queue.async { self.isClosedToNewcomers = true }
        let end = MonotonicTime.now + seconds
        while tally.peers > 0, MonotonicTime.now < end, !Task.isCancelled {
            try? await Task.sleep(for: .milliseconds(50), clock: .continuous)
        }
    }

    /// Ends everything, with close_notify to the server.
    func close() async {
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            loop.queue.async {
                self.watch?.end()
                self.watch = nil
                self.sweeper?.cancel()
                self.sweeper = nil
                for peer in self.peers.values { self.letGo(peer, "by this side") }
                continuation.resume()
            }
        }
        await link.close()
    }

    /// The statistics of all connections.
    var statistics: DtlsStatistics {
        var statistics = link.statistics
        // Each socket counts one.
        statistics.mostConnections = max(statistics.mostConnections, tally.mostPeers)
        return statistics
    }

    func sayFailed(_ address: PlainAddress, _ error: any Error) {
        let pause = "tried again when something comes in \(link.holdOff) s or later"
        journal.say("failed \(address): \(advice(error)); \(pause)")
    }

    /// Sends to a plain peer. Returns whether it has left.
    func deliver(_ datagram: UnsafeRawBufferPointer, to address: PlainAddress) -> Bool {
        switch listener.transmit(datagram, to: address) {
        case .sent:
            tally.carriedOutOfDtls(datagram.count)
            return true
        case .full: tally.dropped(.socketFull)
        case .tooLarge:
            tally.dropped(.tooLargeForPlain)
            journal.remark(.tooLargeForPlain, "dropped \(datagram.count) bytes, too large for the way to \(address)")
        case .refused: tally.dropped(.refused)
        case .failed(let code):
            tally.dropped(.socketFull)
            journal.remark(.socketFailed, "datagrams to \(address) are dropped: \(PlainSocketError(code: code))")
        }
        return false
    }

    // MARK: Peers, on the queue of the loop

    private func peer(at address: PlainAddress) -> TunnelPeer? {
        if let peer = peers[address] { return peer }
        guard !isOwn(address) else {
            tally.dropped(.ownAddress)
            return nil
        }
        // Nothing is kept of somebody who could not be served.
        guard link.mayConnect, !isClosedToNewcomers else {
            tally.dropped(.noServer)
            return nil
        }
        guard peers.count < limits.peers || makesRoom() else {
            tally.dropped(.tooManyPeers)
            journal.remark(
                .tooManyPeers,
                "\(address) is not served, as there are \(limits.peers) peers (--max-peers says how many there may be)"
            )
            return nil
        }
        let peer = TunnelPeer(address, of: self, pendingUpTo: limits.pending)
        peers[address] = peer
        tally.peerCame()
        return peer
    }

    /// Whether an answer to the address would come in here again, to be sent on once more, and so on for ever. Only a
    /// forged datagram has such a source.
    private func isOwn(_ address: PlainAddress) -> Bool {
        let own = listener.localAddress
        guard address.hasPort(of: own) else { return false }
        return own.isWildcard ? address.isOfThisMachine : address == own
    }

    /// Lets the peer go that has been silent longest, if that is long enough.
    private func makesRoom() -> Bool {
        let now = MonotonicTime.now
        guard now >= nextRoom, let stalest = peers.values.min(by: { $0.lastActivity < $1.lastActivity }) else {
            return false
        }
        nextRoom = stalest.lastActivity + Self.secondsBeforeMakingRoom
        guard now >= nextRoom else { return false }
        letGo(stalest, "to make room for others")
        return true
    }

    private func letIdlePeersGo(after seconds: Double) {
        let now = MonotonicTime.now
        for peer in peers.values where now >= peer.lastActivity + seconds {
            letGo(peer, "because nothing came or went for too long")
        }
    }

    private func letGo(_ peer: TunnelPeer, _ farewell: String) {
        peers[peer.address] = nil
        peer.letGo(farewell)
        tally.peerWent()
    }
}

// MARK: On the loop

extension ClientTunnel: PlainReceiver {
    func received(_ datagram: UnsafeRawBufferPointer, from source: PlainAddress?, at socket: PlainSocket) {
        guard !datagram.isEmpty, let source else { return tally.dropped(.empty) }
        peer(at: source)?.forward(datagram)
    }

    func refused(at socket: PlainSocket) {
        // A peer that is gone; its place is given back when it has been idle.
    }

    func receivingFailed(_ error: PlainSocketError) {
        journal.remark(.socketFailed, "the plain socket failed: \(error)")
    }
}
