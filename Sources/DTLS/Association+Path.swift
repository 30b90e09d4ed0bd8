import DTLSCore
import DTLSPrimitives

// A peer that is elsewhere: whether that is so, and what may be sent there until it has shown it (RFC 9146 §6, RFC
// 9853).

extension Association {
    /// An address at which the peer has not yet shown that it receives anything.
    final class UnprovenPath {
        /// Where it was before, and has shown to be.
        let former: DtlsAddress
        /// Bytes of authentic datagrams from the new address, and bytes that were sent there.
        var received: Int
        var sent = 0
        var challenges = 1
        var deadline: Moment

        /// RFC 9853 §5.4: a second where nothing is known of the path. Three challenges fit into it.
        static let challengeInterval = Duration.milliseconds(334)
        static let maximumChallenges = 3

        private let interval: Duration

        /// - Parameter roundTrip: How long the path took in the handshake; the new one may be as long.
        init(former: DtlsAddress, received: Int, roundTrip: Duration?, now: Moment) {
            self.former = former
            self.received = received
            interval = Swift.max(Self.challengeInterval, roundTrip ?? .zero)
            deadline = now + interval
        }

        /// Waits for the answer to another challenge; for that to the last one, as long as for three.
        func waitAgain(now: Moment) {
            challenges += 1
            deadline = now + (challenges < Self.maximumChallenges ? interval : interval * 3)
        }

        /// How many bytes may still be sent.
        var allowance: Int { Swift.max(0, 3 * received - sent) }
    }

    /// Takes note of where the peer is, and at which address of this machine it was heard. Returns where it was if it
    /// has moved.
    ///
    /// Only what is authentic counts: anybody can send a datagram in the peer's name to another of the addresses. And
    /// to another address of the peer only what is newer than all before, or a copy that somebody sends later would
    /// lead away from it.
    func follow(
        _ source: DtlsAddress,
        _ local: DtlsAddress?,
        _ receipt: DtlsReceipt,
        bytes: Int,
        _ state: inout State,
        now: Moment
    ) -> DtlsAddress? {
        guard receipt >= .authentic, let engine = state.engine, engine.isOpen else { return nil }
        // A capture goes on under the name that it began with, or its readers would take it for another conversation.
        if let local { state.local = local }
        guard source != state.peer else {
            if !engine.isPathChallenged { state.path = nil }
            state.path?.received += bytes
            return nil
        }
        guard receipt == .newest else { return nil }
        let former = state.peer
        state.peer = source
        state.moves += 1
        let proven = state.path?.former ?? former
        state.path = nil
        // Where it was, it need not show anything.
        if source != proven, engine.challengePath() {
            state.path = UnprovenPath(
                former: proven,
                received: bytes,
                roundTrip: engine.roundTrip,
                now: now
            )
        }
        return former
    }

    /// Challenges again, or goes back to where the peer was. Returns the address that it has left, if so.
    func pathTimedOut(_ state: inout State, now: Moment) -> DtlsAddress? {
        guard let path = state.path, now >= path.deadline, let engine = state.engine else { return nil }
        guard path.challenges < UnprovenPath.maximumChallenges, engine.challengePath(again: true) else {
            let left = state.peer
            state.peer = path.former
            state.path = nil
            state.moves += 1
            return left
        }
        path.waitAgain(now: now)
        return nil
    }
}
