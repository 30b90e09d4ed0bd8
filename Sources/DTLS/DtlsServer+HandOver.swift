public import DTLSCore
import DTLSPrimitives
import Logging

/// Associations on their way to another server, as ``DtlsServer/exportAssociations(under:lifetime:where:)`` makes it.
public struct DtlsHandOver: Sendable {
    /// What ``DtlsServer/importAssociations(_:under:)`` takes: sealed with AES-256-GCM under the key, and good for one
    /// server.
    public let bytes: [UInt8]

    /// How many associations are in it.
    public let count: Int

    /// How many of those that were meant are not in it and live on here: OpenSSL has them, their handshake is not
    /// finished (then nobody can be asked whether they are meant), or a hand-over, which holds 1 GiB, is full.
    public let remaining: Int
}

/// A ``DtlsHandOver`` on its way in, for a server that begins with it.
public struct DtlsSealedAssociations: Sendable {
    /// What ``DtlsHandOver/bytes`` were. They can be used once.
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
    /// Here they have ended from that moment, with ``/DTLSCore/DtlsCloseReason/handedOver``; their peers are told
    /// nothing. What they had received and nobody has read goes along. What comes between is lost as datagrams are,
    /// unless this server was told before to read no more (``stopReading()``), hands over its socket, too
    /// (``handOverSocket()``, ``handOverSockets()``), and the other server is made with both: then it waits there.
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
    ///     called before this returns, on the caller's thread, without a lock held. Default: all.
    /// - Throws: ``/DTLSCore/DtlsError/Code-swift.struct/invalidConfiguration`` for a lifetime out of its range and
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/internalFailure`` when there is no randomness, before anything was
    ///   done; the latter also when OpenSSL cannot seal, and then what was to be exported is lost.
    public func exportAssociations(
        under key: DtlsHandOverKey,
        lifetime: Duration = .seconds(300),
        where isIncluded: (_ peer: DtlsAddress, _ negotiated: DtlsNegotiated) -> Bool = { _, _ in true }
    ) throws(DtlsError) -> DtlsHandOver {
        // What may fail comes before the first association has ended.
        try key.validate(lifetime)
        let nonce = try DtlsHandOverKey.makeNonce()
        let entries = SecretWriter()
        var (count, remaining) = (0, 0)
        for endpoint in endpoints {
            let (handedOver, kept) = endpoint.handOver(to: entries, where: isIncluded)
            count += handedOver
            remaining += kept
        }
        let contents = SecretWriter()
        contents.append(ServerEndpoint.formatVersion)
        contents.append(UInt32(truncatingIfNeeded: count))
        contents.append(entries.secret)
        let bytes = try key.seal(contents.secret, lifetime: lifetime, nonce: nonce)
        return DtlsHandOver(bytes: bytes, count: count, remaining: remaining)
    }

    /// Goes on with associations that ``exportAssociations(under:lifetime:where:)`` has taken out of another server.
    ///
    /// Their connections come out of this server's sequence, however many wait there, with all that
    /// ``DtlsConnection/negotiated`` told before but for the client's offer. The servers may have different numbers of
    /// loops; with the same number on the same port and host each connection keeps its loop. The context's credentials
    /// and demands are not looked at again; the limits are: when there are too many connections, stale ones make room
    /// (``DtlsServerLimits/staleAfter``), and where none is stale the imported one is closed with close_notify.
    ///
    /// - Parameters:
    ///   - bytes: What ``DtlsHandOver/bytes`` were.
    ///   - key: The key under which they were sealed.
    /// - Returns: How many were taken over, those included that the limits have closed. One that cannot be read (it may
    ///   be of a cipher that this host's OpenSSL does not have) is left out. Others, for which there is no place (their
    ///   peer has connected anew, or another one has their Connection ID), are closed with close_notify.
    /// - Throws: ``/DTLSCore/DtlsError/Code-swift.struct/handOverRefused`` when the bytes do not open under the key,
    ///   have expired, are of another version of the library, or were imported in this process before;
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/connectionClosed`` when the server is closed. Nothing was imported
    ///   then.
    @discardableResult
    public func importAssociations(_ bytes: [UInt8], under key: DtlsHandOverKey) throws(DtlsError) -> Int {
        guard !endpoints[0].state.withLock({ $0.isClosed }) else {
            throw DtlsError(.connectionClosed, phase: .configuration, "the server was closed")
        }
        return adopt(try ServerEndpoint.open(DtlsSealedAssociations(bytes: bytes, key: key)))
    }

    /// Goes on with the associations of a hand-over. Returns with how many.
    func adopt(_ entries: [DtlsSecretBytes]) -> Int {
        let context = endpoints[0].state.withLock { $0.context }
        return entries.count { adopt($0, context) }
    }

    private func adopt(_ entry: DtlsSecretBytes, _ context: DtlsServerContext) -> Bool {
        guard let arrival = entry.withUnsafeBytes({ Association.Arrival($0) }),
            let engine = try? DtlsEngine(takingOver: arrival.engineState, context: context.engineContext),
            let negotiated = engine.negotiated
        else {
            // What this one is made of must not cost the others their lives.
            endpoints[0].logger?.error("an association of a hand-over cannot be read")
            return false
        }
        let index = home(of: arrival, connectionID: negotiated.connectionIDs?.own ?? [], context)
        return endpoints[index].adopt(engine, negotiated, arrival, context)
    }

    /// To which loop an association's datagrams come, as far as that can be known.
    private func home(of arrival: Association.Arrival, connectionID id: [UInt8], _ context: DtlsServerContext) -> Int {
        if let first = id.first, steers(context) { return Int(first) % endpoints.count }
        // On one host the kernel's hash is the same for all sockets, and spreads its values over those of a port in
        // their order.
        return arrival.loop * endpoints.count / arrival.loops
    }

    /// Reads no more datagrams, for good: what comes waits in the sockets' buffers for a successor who gets them.
    ///
    /// Returns when everything that was read before has reached its connection. Connections stay open and can send;
    /// ``exportAssociations(under:lifetime:where:)`` and ``handOverSocket()`` are what to call next. There is no way
    /// back.
    public func stopReading() async {
        for endpoint in endpoints { await endpoint.loop.stopReading() }
        guard endpoints.count > 1 else { return }
        // What one loop has read it may have handed to another one.
        for endpoint in endpoints { await endpoint.loop.stopReading() }
    }

    /// Closes the server but keeps its socket, for a successor in this process or another one that is made with it:
    /// what comes meanwhile waits in the kernel's buffer.
    ///
    /// Connections that were not exported before are closed with close_notify.
    ///
    /// - Returns: A descriptor of the socket, without `FD_CLOEXEC`, so that a program that is started inherits it. It
    ///   is the caller's to close.
    /// - Throws: ``/DTLSCore/DtlsError/Code-swift.struct/socketFailed`` when there is no descriptor left, or the server
    ///   was closed before; ``/DTLSCore/DtlsError/Code-swift.struct/unsupported`` when the server has several sockets
    ///   (``handOverSockets()``).
    public func handOverSocket() async throws(DtlsError) -> Int32 {
        guard endpoints.count == 1 else {
            throw DtlsError(
                .unsupported,
                phase: .established,
                "a server of \(endpoints.count) loops has as many sockets",
                hint: "call handOverSockets(), and make the successor with all of them"
            )
        }
        return try await handOverSockets()[0]
    }

    /// As ``handOverSocket()``, for a server of any number of loops: the sockets of all of them, for a successor that
    /// is made with as many.
    ///
    /// - Returns: Descriptors of the sockets, as ``handOverSocket()`` has them, in the order in which the successor is
    ///   to be made with them. They are the caller's to close. A successor without one of them would not get what comes
    ///   to it.
    /// - Throws: ``/DTLSCore/DtlsError/Code-swift.struct/socketFailed`` when there are not enough descriptors left, or
    ///   the server was closed before.
    public func handOverSockets() async throws(DtlsError) -> [Int32] {
        var copies: [Int32] = []
        do throws(DtlsError) {
            for endpoint in endpoints { copies.append(try endpoint.loop.socket.duplicate()) }
        } catch {
            for copy in copies { OwnedDescriptor.close(copy) }
            throw error
        }
        await close()
        return copies
    }
}

extension ServerEndpoint {
    static let formatVersion: UInt8 = 2

    /// Seals what this loop has. Returns how many are in it, and how many of those that were meant are not.
    func handOver(
        to entries: SecretWriter,
        where isIncluded: (DtlsAddress, DtlsNegotiated) -> Bool
    ) -> (count: Int, remaining: Int) {
        let associations = state.withLock { $0.table.all }
        var count = 0
        var remaining = 0
        for association in associations {
            guard let negotiated = association.negotiated else {
                remaining += 1
                continue
            }
            guard isIncluded(association.peer, negotiated) else { continue }
            let hasRoom = entries.count < DtlsHandOverKey.maximumContents
            if hasRoom, association.handOver(to: entries, loop: index, of: loopCount) {
                count += 1
            } else {
                remaining += 1
            }
        }
        return (count, remaining)
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

    /// Goes on with an association of a hand-over. Returns whether there is a place for it.
    func adopt(
        _ engine: sending DtlsEngine,
        _ negotiated: DtlsNegotiated,
        _ arrival: Association.Arrival,
        _ context: DtlsServerContext
    ) -> Bool {
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
        let loops = state.withLock { $0.loops }
        let peer = association.peer
        let id = association.connectionID ?? []
        let isTaken = others(among: loops).contains { loop in
            loop.state.withLock { id.isEmpty ? $0.table[peer] != nil : $0.table.contains(connectionID: id) }
        }
        let isPlaced =
            !isTaken
            && state.withLock { state in
                guard !state.isClosed else { return false }
                let isPlaced = state.table.adopt(association, for: peer, connectionID: id)
                if isPlaced {
                    let (count, handshakes) = tally.state.withLock { tally in
                        (tally.connections(state.table.count, ofLoop: index), tally.admission.count)
                    }
                    state.counters.connections(count, handshakes: handshakes)
                }
                return isPlaced
            }
        guard isPlaced else {
            logger?.info("an imported association has no place here", metadata: ["peer": "\(peer)"])
            association.close(as: .evicted)
            return false
        }
        association.reschedule(forgetsLocalAddress: false)
        opened(association, at: peer, isImported: true)
        return true
    }

    private static var malformed: DtlsError {
        DtlsError(.handOverRefused, phase: .configuration, "the hand-over is of a version that is not known here")
    }
}
