import NIOCore

/// The associations of a server, by the address of their peers and by Connection ID.
struct PeerTable {
    struct Entry {
        var current: LoopAssociation
        /// A handshake of a peer that starts anew, whose association is open (RFC 6347 §4.2.8): it takes that one's
        /// place when it is finished, for only then the peer has shown who it is.
        var candidate: LoopAssociation?

        func first(where condition: (LoopAssociation) -> Bool) -> LoopAssociation? {
            if condition(current) { return current }
            if let candidate, condition(candidate) { return candidate }
            return nil
        }
    }

    private var entries: [SocketAddress: Entry] = [:]
    private var byConnectionID: [[UInt8]: LoopAssociation] = [:]
    /// All of one server have the same length (RFC 9146 §4).
    private var connectionIDLength: Int?

    private(set) var openCount = 0
    /// The number tells whether it is still the same object: others come to be where it was.
    private var handshaking: [ObjectIdentifier: (association: LoopAssociation, number: UInt64)] = [:]
    /// Those of them, oldest first, and some that are done.
    private var order = CircularBuffer<(key: ObjectIdentifier, number: UInt64)>()
    private var lastNumber: UInt64 = 0

    var handshakeCount: Int { handshaking.count }

    /// All associations.
    var all: [LoopAssociation] {
        entries.values.flatMap { [$0.current, $0.candidate].compactMap { $0 } }
    }

    subscript(address: SocketAddress) -> Entry? { entries[address] }

    /// Adds a handshake. Returns the one that it takes the place of, at its address.
    mutating func insert(_ association: LoopAssociation, at address: SocketAddress) -> LoopAssociation? {
        let key = ObjectIdentifier(association)
        lastNumber += 1
        handshaking[key] = (association, lastNumber)
        order.append((key, lastNumber))
        if order.count > 2 * handshaking.count + 64 { order.removeAll { handshaking[$0.key]?.number != $0.number } }
        guard let entry = entries[address] else {
            entries[address] = Entry(current: association)
            return nil
        }
        let displaced: LoopAssociation?
        if entry.current.hasOpened {
            displaced = entry.candidate
            entries[address]?.candidate = association
        } else {
            displaced = entry.current
            entries[address]?.current = association
        }
        if let displaced { handshaking[ObjectIdentifier(displaced)] = nil }
        return displaced
    }

    /// The handshake that began before all others that are under way.
    mutating func oldestHandshake() -> LoopAssociation? {
        while let (key, number) = order.first {
            if let entry = handshaking[key], entry.number == number { return entry.association }
            order.removeFirst()
        }
        return nil
    }

    /// Takes note that a handshake is finished. Returns the association whose place it has taken.
    mutating func open(_ association: LoopAssociation) -> LoopAssociation? {
        handshaking[ObjectIdentifier(association)] = nil
        openCount += 1
        let id = association.connectionID
        if !id.isEmpty {
            byConnectionID[id] = association
            connectionIDLength = id.count
        }
        guard let entry = entries[association.peer], entry.candidate === association else { return nil }
        entries[association.peer] = Entry(current: association)
        return entry.current
    }

    /// Forgets an association.
    mutating func remove(_ association: LoopAssociation) {
        handshaking[ObjectIdentifier(association)] = nil
        if association.hasOpened { openCount -= 1 }
        let id = association.connectionID
        if byConnectionID[id] === association { byConnectionID[id] = nil }
        guard let entry = entries[association.peer] else { return }
        if entry.candidate === association {
            entries[association.peer]?.candidate = nil
        } else if entry.current === association {
            entries[association.peer] = entry.candidate.map { Entry(current: $0) }
        }
    }

    /// Takes note that an open association's peer is elsewhere, where nobody else is.
    mutating func move(_ association: LoopAssociation, from former: SocketAddress) {
        guard let entry = entries[former], entry.current === association else { return }
        // Who starts anew at the old address goes on there.
        entries[former] = entry.candidate.map { Entry(current: $0) }
        entries[association.peer] = Entry(current: association)
    }

    /// The owner of the Connection ID of a datagram's first record (RFC 9146 §4: type 25, version, epoch, number, ID).
    func owner(ofConnectionIDIn datagram: AddressedEnvelope<ByteBuffer>) -> LoopAssociation? {
        let bytes = datagram.data.readableBytesView
        guard let length = connectionIDLength, bytes.first == 25, bytes.count >= 11 + length else { return nil }
        let id = bytes.dropFirst(11).prefix(length)
        // Most peers are where they were: no array for them.
        if let current = entries[datagram.remoteAddress]?.current, current.connectionID.elementsEqual(id) {
            return current
        }
        return byConnectionID[Array(id)]
    }
}
