/// What became of the datagrams that a ``DtlsTestLink`` was given, in counts.
public struct DtlsLinkCounts: Sendable, Hashable {
    /// Datagrams that were given to it.
    public internal(set) var sent = 0

    /// Datagrams that it handed out, copies included.
    public internal(set) var delivered = 0

    /// Datagrams that it lost by chance, on demand, or because 65,536 were on the way.
    public internal(set) var lost = 0

    /// Datagrams that it lost because they were larger than the MTU.
    public internal(set) var tooLarge = 0

    /// Datagrams that it sent on twice.
    public internal(set) var duplicated = 0

    /// Datagrams, copies among them, that it kept back to be overtaken.
    public internal(set) var reordered = 0

    /// Datagrams, copies among them, of which it flipped a bit.
    public internal(set) var corrupted = 0

    /// Datagrams, copies among them, whose end it cut off.
    public internal(set) var truncated = 0

    /// Makes counts of zero.
    public init() {}

    mutating func add(_ other: DtlsLinkCounts) {
        sent += other.sent
        delivered += other.delivered
        lost += other.lost
        tooLarge += other.tooLarge
        duplicated += other.duplicated
        reordered += other.reordered
        corrupted += other.corrupted
        truncated += other.truncated
    }
}
