/// The associations of a server's loop, or of a client, by the address of their peer, and by their Connection ID where
/// they have one.
///
/// At an address there is one association, and for a while two when a peer starts anew from the same address: the one
/// before serves until the new one's handshake is finished (RFC 6347 §4.2.8). One that has moved to an address at which
/// another one is has no place there: it is found by its ID alone, so that nobody can take another one's address away.
struct ConnectionTable<Value: AnyObject> {
    struct Entry {
        /// What serves, or is on its way to.
        var current: Value
        /// What will take its place once its handshake is finished.
        var candidate: Value?

        /// The newest of both that `matches`.
        func first(where matches: (Value) -> Bool) -> Value? {
            if let candidate, matches(candidate) { return candidate }
            return matches(current) ? current : nil
        }
    }

    private var entries: [DtlsAddress: Entry] = [:] { didSet { recent = nil } }
    /// What ``onlyOne(at:)`` has found last: datagrams of one peer often come one after the other.
    private var recent: (peer: DtlsAddress, value: Value)?
    private var identities = ConnectionIDTable<Value>()
    /// Those that have no place at their peer's address.
    private(set) var displaced: [ObjectIdentifier: Value] = [:]

    /// How many there are, candidates not counted.
    var count: Int { entries.count + displaced.count }

    subscript(peer: DtlsAddress) -> Entry? { entries[peer] }

    /// What serves a peer, unless something else is about to.
    mutating func onlyOne(at peer: DtlsAddress) -> Value? {
        if let recent, recent.peer == peer { return recent.value }
        guard let entry = entries[peer], entry.candidate == nil else { return nil }
        recent = (peer, entry.current)
        return entry.current
    }

    /// Whose record a datagram begins with, if it begins with a Connection ID.
    func owner(ofConnectionIDIn datagram: UnsafeRawBufferPointer) -> Value? { identities.owner(of: datagram) }

    /// Whether a Connection ID is in use.
    func contains(connectionID id: [UInt8]) -> Bool { identities.contains(id) }

    /// Whether it is there, as what serves or as what will.
    func contains(_ value: Value, for peer: DtlsAddress) -> Bool {
        if let entry = entries[peer], entry.current === value || entry.candidate === value { return true }
        return displaced[ObjectIdentifier(value)] != nil
    }

    /// Every association, candidates included.
    var all: [Value] {
        entries.values.flatMap { [$0.current] + ($0.candidate.map { [$0] } ?? []) } + displaced.values
    }

    mutating func insert(_ value: Value, for peer: DtlsAddress) {
        entries[peer] = Entry(current: value, candidate: nil)
    }

    /// Adds one that comes from elsewhere. Returns whether there is a place for it: at its peer's address, or anywhere
    /// for one with an ID.
    mutating func adopt(_ value: Value, for peer: DtlsAddress, connectionID id: [UInt8]) -> Bool {
        if !id.isEmpty {
            guard !identities.contains(id) else { return false }
            identities.insert(value, for: id)
        }
        if entries[peer] == nil {
            insert(value, for: peer)
        } else if !id.isEmpty {
            displaced[ObjectIdentifier(value)] = value
        } else {
            return false
        }
        return true
    }

    /// Lets an association be found by its Connection ID.
    mutating func insert(_ value: Value, connectionID id: [UInt8]) {
        identities.insert(value, for: id)
    }

    /// Forgets every ID of an association. Looks at all there are.
    mutating func removeConnectionIDs(of value: Value) { identities.removeAll(of: value) }

    /// Forgets an ID, because the peer does not use it or the association has ended.
    mutating func remove(_ value: Value, connectionID id: [UInt8]) {
        identities.remove(value, for: id)
    }

    /// Sets the candidate and returns the one it displaces.
    mutating func setCandidate(_ value: Value, for peer: DtlsAddress) -> Value? {
        let displaced = entries[peer]?.candidate
        entries[peer]?.candidate = value
        return displaced
    }

    /// Puts the candidate in its place, and returns the association that it replaces.
    mutating func promote(_ value: Value, for peer: DtlsAddress) -> Value? {
        guard let entry = entries[peer], entry.candidate === value else { return nil }
        entries[peer] = Entry(current: value, candidate: nil)
        return entry.current
    }

    /// Follows an association to another address of its peer.
    ///
    /// - Parameter isTaken: Whether somebody else is there, in another table.
    mutating func move(_ value: Value, from old: DtlsAddress, to new: DtlsAddress, isTaken: Bool = false) {
        guard contains(value, for: old) else { return }
        remove(value, for: old)
        if entries[new] == nil, !isTaken {
            entries[new] = Entry(current: value, candidate: nil)
        } else {
            displaced[ObjectIdentifier(value)] = value
        }
    }

    /// Forgets an association, if it is still there.
    mutating func remove(_ value: Value, for peer: DtlsAddress) {
        displaced[ObjectIdentifier(value)] = nil
        guard let entry = entries[peer] else { return }
        if entry.candidate === value {
            entries[peer]?.candidate = nil
        } else if entry.current === value {
            entries[peer] = entry.candidate.map { Entry(current: $0, candidate: nil) }
        }
    }
}

extension ConnectionTable.Entry: Sendable where Value: Sendable {}

extension ConnectionTable<Association> {
    /// Whom a report of the network is about, those included that have no place at their peer's address.
    func associations(concernedBy error: NetworkError) -> [Association] {
        if error.peer.port == 0 { return all.filter { error.concerns($0.peer) } }
        let entry = self[error.peer]
        return [entry?.current, entry?.candidate].compactMap { $0 } + displaced.values.filter { $0.peer == error.peer }
    }
}
