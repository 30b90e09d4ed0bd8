import DTLSPrimitives

/// Finds out whose a sealed record from an unknown address is, among associations without a Connection ID
/// (``DtlsServerLimits/movedPeerTrials``): nothing but their keys can tell.
///
/// Most peers that turn up elsewhere have another port at the same NAT, so those at the same host are tried first.
struct MovedPeerSearch {
    /// Datagrams in whose case anything is tried: whoever sends more of them makes nobody work.
    private static let rate = DtlsRate(perSecond: 1_000, burst: 1_000)
    /// How many of them one network has, so that nobody uses up everybody's.
    private static let rateOfPrefix = DtlsRate(perSecond: 250, burst: 250)

    let trials: Int
    private var bucket: TokenBucket
    private var prefixes: PrefixRateLimiter
    private var byHost: [DtlsAddress: [Association]] = [:]
    private var count = 0

    init(trials: Int, now: Moment) {
        self.trials = trials
        bucket = TokenBucket(Self.rate, now: now)
        prefixes = PrefixRateLimiter(Self.rateOfPrefix, now: now)
    }

    mutating func add(_ association: Association, at peer: DtlsAddress) {
        byHost[peer.with(port: 0), default: []].append(association)
        count += 1
    }

    @discardableResult
    mutating func remove(_ association: Association, at peer: DtlsAddress) -> Bool {
        let host = peer.with(port: 0)
        guard var others = byHost.removeValue(forKey: host) else { return false }
        let index = others.firstIndex { $0 === association }
        if let index {
            others.remove(at: index)
            count -= 1
        }
        if !others.isEmpty { byHost[host] = others }
        return index != nil
    }

    mutating func move(_ association: Association, from old: DtlsAddress, to new: DtlsAddress) {
        if remove(association, at: old) { add(association, at: new) }
    }

    /// Whom to try for a datagram from `source`; nobody when it is not even worth a try.
    mutating func candidates(
        for datagram: UnsafeRawBufferPointer,
        from source: DtlsAddress,
        now: Moment
    ) -> [Association] {
        // Epoch 1 of DTLS 1.2, sealed application data or an alert: what a peer that is elsewhere has to say.
        // And no more than a path carries: large ones take long.
        guard count > 0, (14...2_048).contains(datagram.count), datagram[0] == 23 || datagram[0] == 21,
            datagram[1] == 0xFE,
            datagram[3] == 0, datagram[4] == 1, prefixes.take(AddressPrefix(source), now: now),
            bucket.take(Self.rate, now: now)
        else { return [] }
        let host = source.with(port: 0)
        var candidates = Array((byHost[host] ?? []).prefix(trials))
        if count <= trials {
            for (other, associations) in byHost where other != host { candidates += associations }
        }
        return candidates
    }
}
