#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// How many sockets the process may have.
enum DescriptorLimit {
    /// Two for each peer: a socket, and what tells of its errors.
    private static let perPeer = 2
    private static let others = 64

    /// Asks the system for as many descriptors as the peers need, and remarks on it when it does not give them.
    static func raise(forPeers peers: Int, _ journal: Journal) {
        let wanted = rlim_t(peers * perPeer + others)
        #if canImport(Glibc)
            let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        #else
            let resource = RLIMIT_NOFILE
        #endif
        var limit = rlimit()
        guard getrlimit(resource, &limit) == 0, limit.rlim_cur < wanted else { return }
        let allowed = min(wanted, limit.rlim_max)
        limit.rlim_cur = allowed
        _ = setrlimit(resource, &limit)
        guard getrlimit(resource, &limit) == 0, limit.rlim_cur < wanted else { return }
        let possible = max(0, Int(clamping: limit.rlim_cur) - others) / perPeer
        journal.remark(
            .tooManyPeers,
            "the system allows \(limit.rlim_cur) open files, enough for some \(possible) peers, not \(peers) "
                + "(--max-peers; raise the limit with ulimit -n)"
        )
    }
}
