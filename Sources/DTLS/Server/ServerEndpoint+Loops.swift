import DTLSCore
import DTLSPrimitives

// A server's loops among each other.
//
// The kernel finds the loop of a datagram by its Connection ID, where it has learned that
// (``UDPSocket/steerByConnectionID(among:)``), and otherwise by a hash of the addresses, both sides'. So a peer that is
// elsewhere, or uses another address of this machine, may come to another loop than its association's: whatever a loop
// does not know is looked for at the others, and handed over.

extension ServerEndpoint {
    /// A datagram that came to another loop than its association's.
    struct Stray: Sendable {
        let datagram: [UInt8]
        let source: DtlsAddress
        let local: DtlsAddress?
        let association: Association
        let candidate: Association?
    }

    /// Those that are on their way to a loop.
    struct Strays {
        var waiting: [Stray] = []
        var bytes = 0
        /// How many there were.
        var count = 0
    }

    /// How many wait for a loop, of how many bytes together.
    static let maximumStrays = 1_024
    static let maximumStrayBytes = 1 << 20

    func others(among loops: [ServerEndpoint]) -> [ServerEndpoint] { loops.filter { $0 !== self } }

    /// Makes loops those of one server.
    static func join(_ loops: [ServerEndpoint]) {
        guard loops.count > 1 else { return }
        for loop in loops { loop.state.withLock { $0.loops = loops } }
    }

    // MARK: Looking for an association

    /// Whose a datagram is that this loop does not know; nil where it is nobody's.
    func routeToOther(
        _ loops: [ServerEndpoint],
        _ datagram: UnsafeRawBufferPointer,
        from source: DtlsAddress,
        now: Moment
    ) -> Route? {
        // What is in clear is of a handshake, and those stay at their loop; junk is not worth the question.
        guard datagram.count > 13, datagram[1] == 0xFE, datagram[3] != 0 || datagram[4] != 0 else { return nil }
        let others = others(among: loops)
        if DtlsEngine.startsWithConnectionID(datagram) {
            // Where it is, if the ID was made here.
            let likely = loops[Int(datagram[11]) % loops.count]
            for other in [likely] + others where other !== self {
                if let owner = other.state.withLock({ $0.table.owner(ofConnectionIDIn: datagram) }) {
                    return .deliver(owner, also: nil)
                }
            }
        }
        // Nobody else's at this address, if it is this loop's.
        let entries = ([self] + others).lazy.compactMap { loop in loop.state.withLock { $0.table[source] } }
        if let entry = entries.first { return .deliver(entry) }
        guard limits.movedPeerTrials > 0 else { return nil }
        let candidates = ([self] + others).flatMap { loop in
            loop.state.withLock { $0.search?.candidates(for: datagram, from: source, now: now) ?? [] }
        }
        return candidates.isEmpty ? nil : .trial(Array(candidates.prefix(limits.movedPeerTrials)))
    }

    /// Hands a datagram to the loop of its association, where it is received as if it had come there.
    func hand(
        _ datagram: UnsafeRawBufferPointer,
        to association: Association,
        also candidate: Association?,
        from source: DtlsAddress,
        to local: DtlsAddress?
    ) {
        guard let owner = association.owner as? ServerEndpoint else { return }
        let stray = Stray(
            datagram: Array(datagram),
            source: source,
            local: local,
            association: association,
            candidate: candidate
        )
        if !owner.take(stray) { _ = drop(.loopQueueFull) }
    }

    /// From any loop. `false`: too many wait.
    private func take(_ stray: Stray) -> Bool {
        let count = strays.withLock { strays -> Int? in
            guard strays.waiting.count < Self.maximumStrays,
                strays.bytes + stray.datagram.count <= Self.maximumStrayBytes
            else { return nil }
            strays.waiting.append(stray)
            strays.bytes += stray.datagram.count
            strays.count += 1
            return strays.waiting.count
        }
        if count == 1 { loop.perform { self.receiveStrays() } }
        return count != nil
    }

    private func receiveStrays() {
        let all = strays.withLock { strays in
            defer {
                strays.waiting = []
                strays.bytes = 0
            }
            return strays.waiting
        }
        let now = Moment.now
        for stray in all {
            stray.datagram.withUnsafeBytes { datagram in
                for association in [stray.association, stray.candidate] {
                    association?.receive(datagram, from: stray.source, to: stray.local, on: loop, now: now)
                }
            }
        }
    }

    // MARK: What concerns all loops

    /// Ends what another loop has at an address where a peer has begun anew. It is told nothing, as when this loop has
    /// both.
    func abandonAssociation(at peer: DtlsAddress) {
        let association = state.withLock { $0.table[peer]?.current }
        association?.abandon()
    }

    /// Whom a report of the network is about. The datagram may have left by another loop's socket.
    func associations(concernedBy error: NetworkError) -> [Association] {
        let (own, loops) = state.withLock { ($0.table.associations(concernedBy: error), $0.loops) }
        guard own.isEmpty || error.peer.port == 0 else { return own }
        return own
            + others(among: loops).flatMap { loop in
                loop.state.withLock { $0.table.associations(concernedBy: error) }
            }
    }
}
