/// What a peer has sent while its connection is made.
struct PendingDatagrams: Sendable {
    static let mostBytes = 1 << 16

    private let mostDatagrams: Int
    private(set) var datagrams: [[UInt8]] = []
    private var bytes = 0

    init(upTo mostDatagrams: Int) {
        self.mostDatagrams = mostDatagrams
    }

    /// Keeps a copy. Returns whether there was room.
    mutating func add(_ datagram: UnsafeRawBufferPointer) -> Bool {
        guard datagrams.count < mostDatagrams, bytes + datagram.count <= Self.mostBytes else { return false }
        datagrams.append(Array(datagram))
        bytes += datagram.count
        return true
    }

    mutating func takeAll() -> [[UInt8]] {
        defer { self = PendingDatagrams(upTo: mostDatagrams) }
        return datagrams
    }
}
