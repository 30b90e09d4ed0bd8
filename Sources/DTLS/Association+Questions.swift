import DTLSCore
import DTLSPrimitives

// What an association says of itself.

extension Association {
    var connectionState: DtlsConnectionState {
        state.withLock { state in
            if state.closeReason != nil { return .closed }
            return state.negotiated == nil ? .handshaking : .open
        }
    }

    var hasEnded: Bool { closeReason != nil }

    var closeReason: DtlsCloseReason? { state.withLock { $0.closeReason } }

    /// Whether the peer puts a Connection ID into its records.
    var usesConnectionID: Bool { negotiated?.connectionIDs.map { !$0.own.isEmpty } ?? false }

    /// Whether a datagram is the peer's, and newer than all that came before.
    func recognizes(_ datagram: UnsafeRawBufferPointer) -> Bool {
        state.withLock { $0.engine?.recognizes(datagram) ?? false }
    }
    var peer: DtlsAddress { state.withLock { $0.peer } }
    var localAddress: DtlsAddress { state.withLock { $0.local } ?? owner.loop.socket.localAddress }
    var negotiated: DtlsNegotiated? { state.withLock { $0.negotiated } }
    var maximumPayloadSize: Int { state.withLock { $0.maximumPayloadSize } }
    var lastActivity: Moment { state.withLock { $0.lastActivity } }

    var statistics: DtlsStatistics {
        state.withLock { state in
            var statistics = state.past?.statistics ?? DtlsStatistics()
            if let engine = state.engine {
                statistics.add(engine.statistics)
                statistics.roundTrip = engine.statistics.roundTrip
            }
            statistics.drops[.receiveQueueFull] = state.inbox.dropped
            statistics.drops[.sendQueueFull] = state.sendsDropped
            statistics.drops[.unprovenPath] = state.unprovenDrops
            statistics.sendFailures = state.sendFailures
            statistics.peerMoves = state.moves
            statistics.mostQueuedPayloads = state.inbox.highWater
            if state.closeReason == nil {
                if state.negotiated == nil {
                    statistics.connectionsHandshaking = 1
                } else {
                    statistics.connectionsOpen = 1
                }
            }
            return statistics
        }
    }

    /// The user's connection, the same one for as long as someone holds it.
    ///
    /// Nil when the handshake is not finished.
    func connection(keepingAlive endpoint: (any AnyObject & Sendable)?) -> DtlsConnection? {
        state.withLock { state in
            if let handle = state.handle { return handle }
            guard let negotiated = state.negotiated else { return nil }
            let handle = DtlsConnection(self, negotiated, keepingAlive: endpoint)
            // A server asks once; what a weak reference needs would be a part of an idle connection.
            if target != nil { state.handle = handle }
            state.holds += 1
            return handle
        }
    }
}
