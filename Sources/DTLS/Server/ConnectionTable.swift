/// The associations of a server by the address of their peer.
///
/// A peer has one association, and for a while two when it starts anew from the same address: the one before serves
/// until the new one's handshake is finished (RFC 6347 §4.2.8).
struct ConnectionTable<Value: AnyObject> {
    struct Entry {
        /// What serves, or is on its way to.
        var current: Value
        /// What will take its place once its handshake is finished.
        var candidate: Value?
    }

    private var entries: [DtlsAddress: Entry] = [:]

    var count: Int { entries.count }

    subscript(peer: DtlsAddress) -> Entry? { entries[peer] }

    /// Whether it is there, as what serves or as what will.
    func contains(_ value: Value, for peer: DtlsAddress) -> Bool {
        guard let entry = entries[peer] else { return false }
        return entry.current === value || entry.candidate === value
    }

    /// Every association, candidates included.
    var all: [Value] { entries.values.flatMap { [$0.current] + ($0.candidate.map { [$0] } ?? []) } }

    mutating func insert(_ value: Value, for peer: DtlsAddress) {
        entries[peer] = Entry(current: value, candidate: nil)
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

    /// Forgets an association, if it is still there.
    mutating func remove(_ value: Value, for peer: DtlsAddress) {
        guard let entry = entries[peer] else { return }
        if entry.candidate === value {
            entries[peer]?.candidate = nil
        } else if entry.current === value {
            entries[peer] = entry.candidate.map { Entry(current: $0, candidate: nil) }
        }
    }
}
