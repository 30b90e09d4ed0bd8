public import DTLSCore
import Logging

/// Associations on their way to another server.
public struct DtlsHandOver: Sendable {
    /// What ``DtlsServer/importAssociations(_:under:)`` takes: sealed with AES-256-GCM under the key, and good for one
    /// server.
    public let bytes: [UInt8]

    /// How many associations are in it.
    public let count: Int

    /// How many of those that were meant are not in it and live on here: OpenSSL has them, or their handshake is not
    /// finished.
    public let remaining: Int
}

/// A ``DtlsHandOver`` on its way in, for a server that begins with it.
public struct DtlsSealedAssociations: Sendable {
    /// What ``DtlsHandOver/bytes`` were.
    public let bytes: [UInt8]

    /// The key under which they were sealed.
    public let key: DtlsHandOverKey

    /// Makes a value of both.
    public init(bytes: [UInt8], key: DtlsHandOverKey) {
        self.bytes = bytes
        self.key = key
    }
}

// A planned restart without a new handshake, a server that takes another one's place, a device that changes hosts.

extension DtlsServer {
    /// Seals open associations into bytes, with which another server goes on: in another process, or on another host to
    /// which the peers' datagrams will come.
    ///
    /// Here they have ended from that moment, with ``DtlsCloseReason/handedOver``; their peers are told nothing. What
    /// they had received and nobody has read goes along. What comes between is lost as datagrams are, unless this
    /// server was told before to read no more (``stopReading()``), hands over its socket, too (``handOverSocket()``),
    /// and the other server is made with both: then it waits there.
    ///
    /// The bytes must be imported once: two servers that go on with the same keys use nonces twice, which gives the
    /// keys' secrets away. Within a process a second import is refused; beyond it nobody but the caller can see to
    /// that.
    ///
    /// - Parameters:
    ///   - key: What the other server has, too.
    ///   - lifetime: For how long the bytes may be imported, by the clocks of both hosts: one second to one day.
    ///     Default: five minutes.
    ///   - isIncluded: Which associations are meant, by where the peer is and what the handshake has settled. It is
    ///     called on the caller's thread. Default: all.
    /// - Throws: ``DtlsError/Code-swift.struct/invalidConfiguration`` for a lifetime out of its range, before anything
    ///   was done.
    public func exportAssociations(
        under key: DtlsHandOverKey,
        lifetime: Duration = .seconds(300),
        where isIncluded: (_ peer: DtlsAddress, _ negotiated: DtlsNegotiated) -> Bool = { _, _ in true }
    ) throws(DtlsError) -> DtlsHandOver {
        try endpoint.exportAssociations(under: key, lifetime: lifetime, where: isIncluded)
    }

    /// Goes on with associations that ``exportAssociations(under:lifetime:where:)`` has taken out of another server.
    ///
    /// Their connections come out of this server's sequence, however many wait there, with all that
    /// ``DtlsConnection/negotiated`` told before but for the client's offer. The context's credentials and demands are
    /// not looked at again; the limits are: when there are too many connections, those that were silent longest make
    /// room.
    ///
    /// - Returns: How many go on. One that cannot be read (it may be of a cipher that this host's OpenSSL does not
    ///   have) is left out. Others, for which there is no place (their peer has connected anew, or another one
    ///   has their Connection ID), are closed with close_notify.
    /// - Throws: ``DtlsError/Code-swift.struct/handOverRefused`` when the bytes do not open under the key, have
    ///   expired, or were imported in this process before; ``DtlsError/Code-swift.struct/connectionClosed`` when the
    ///   server is closed. Nothing was imported then.
    @discardableResult
    public func importAssociations(_ bytes: [UInt8], under key: DtlsHandOverKey) throws(DtlsError) -> Int {
        try endpoint.importAssociations(DtlsSealedAssociations(bytes: bytes, key: key))
    }

    /// Reads no more datagrams, for good: what comes waits in the socket's buffer for a successor who gets the socket.
    ///
    /// Returns when everything that was read before has reached its connection. Connections stay open and can send;
    /// ``exportAssociations(under:lifetime:where:)`` and ``handOverSocket()`` are what to call next.
    public func stopReading() async {
        await endpoint.loop.stopReading()
    }

    /// Closes the server but keeps its socket, for a successor in this process or another one that is made with it:
    /// what comes meanwhile waits in the kernel's buffer.
    ///
    /// Connections that were not exported before are closed with close_notify.
    ///
    /// - Returns: A descriptor of the socket, without `FD_CLOEXEC`, so that a program that is started inherits it. It
    ///   is the caller's to close.
    /// - Throws: ``DtlsError/Code-swift.struct/socketFailed`` when there is no descriptor left, or the server was
    ///   closed before.
    public func handOverSocket() async throws(DtlsError) -> Int32 {
        let descriptor = try endpoint.loop.socket.duplicate()
        await close()
        return descriptor
    }
}

extension ServerEndpoint {
    private static let formatVersion: UInt8 = 1

    func exportAssociations(
        under key: DtlsHandOverKey,
        lifetime: Duration,
        where isIncluded: (DtlsAddress, DtlsNegotiated) -> Bool
    ) throws(DtlsError) -> DtlsHandOver {
        // What may fail comes before the first association has ended.
        try key.validate(lifetime)
        let nonce = try DtlsHandOverKey.makeNonce()
        let associations = state.withLock { $0.table.all }
        let entries = SecretWriter()
        var count = 0
        var remaining = 0
        for association in associations {
            guard let negotiated = association.negotiated else {
                remaining += 1
                continue
            }
            guard isIncluded(association.peer, negotiated) else { continue }
            let hasRoom = entries.count < DtlsHandOverKey.maximumContents
            if hasRoom, association.handOver(to: entries) { count += 1 } else { remaining += 1 }
        }
        let contents = SecretWriter()
        contents.append(Self.formatVersion)
        contents.append(UInt32(truncatingIfNeeded: count))
        contents.append(entries.secret)
        let bytes = try key.seal(contents.secret, lifetime: lifetime, nonce: nonce)
        return DtlsHandOver(bytes: bytes, count: count, remaining: remaining)
    }

    /// Opens a hand-over, without making anything of it.
    static func open(_ associations: DtlsSealedAssociations) throws(DtlsError) -> [DtlsSecretBytes] {
        try associations.key.open(associations.bytes).withUnsafeBytes { bytes throws(DtlsError) in
            var reader = SecretReader(bytes)
            var entries: [DtlsSecretBytes] = []
            guard reader.number(UInt8.self) == Self.formatVersion, let count = reader.number(UInt32.self) else {
                throw Self.malformed
            }
            for _ in 0..<count {
                guard let entry = reader.prefixed(UInt32.self) else { throw Self.malformed }
                entries.append(DtlsSecretBytes(entry))
            }
            guard reader.isAtEnd else { throw Self.malformed }
            return entries
        }
    }

    func importAssociations(_ associations: DtlsSealedAssociations) throws(DtlsError) -> Int {
        guard !state.withLock({ $0.isClosed }) else {
            throw DtlsError(.connectionClosed, phase: .configuration, "the server was closed")
        }
        return adopt(try Self.open(associations))
    }

    /// Goes on with the associations of a hand-over. Returns with how many.
    func adopt(_ entries: [DtlsSecretBytes]) -> Int {
        let context = state.withLock { $0.context }
        var taken = 0
        for entry in entries {
            guard let association = arrival(entry, context) else {
                // What this one is made of must not cost the others their lives.
                logger?.error("an association of a hand-over cannot be read")
                continue
            }
            let peer = association.peer
            let isPlaced = state.withLock { state in
                guard !state.isClosed else { return false }
                let isPlaced = state.table.adopt(association, for: peer, connectionID: association.connectionID ?? [])
                if isPlaced { state.counters.connections(state.table.count, handshakes: state.admission.count) }
                return isPlaced
            }
            guard isPlaced else {
                logger?.info("an imported association has no place here", metadata: ["peer": "\(peer)"])
                association.close(as: .evicted)
                continue
            }
            taken += 1
            association.reschedule(forgetsLocalAddress: false)
            opened(association, isLimited: false)
        }
        return taken
    }

    private func arrival(_ entry: DtlsSecretBytes, _ context: DtlsServerContext) -> Association? {
        let arrival = entry.withUnsafeBytes { Association.Arrival($0) }
        guard let arrival,
            let engine = try? DtlsEngine(takingOver: arrival.engineState, context: context.engineContext),
            let negotiated = engine.negotiated
        else { return nil }
        let association = Association(
            engine: engine,
            peer: arrival.peer,
            local: arrival.local,
            owner: self,
            serverContext: context,
            connectionID: negotiated.connectionIDs?.own,
            queue: limits.queue,
            idleTimeout: limits.idleTimeout
        )
        association.settle(negotiated, payloads: arrival.payloads)
        return association
    }

    private static var malformed: DtlsError {
        DtlsError(.handOverRefused, phase: .configuration, "the hand-over is of a version that is not known here")
    }
}
