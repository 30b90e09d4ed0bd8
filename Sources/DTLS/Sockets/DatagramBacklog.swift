import DequeModule

/// Datagrams that the kernel had no room for, in the order in which they were sent. A bounded queue, nothing more.
struct DatagramBacklog {
    struct Datagram {
        let bytes: [UInt8]
        let address: DtlsAddress
        let local: DtlsAddress?
    }

    /// At most this many datagrams wait ...
    static let maximumCount = 1024
    /// ... of at most this many payload bytes together (1 MiB).
    static let maximumByteCount = 1 << 20

    private var datagrams: Deque<Datagram> = []
    private var byteCount = 0

    var isEmpty: Bool { datagrams.isEmpty }
    var count: Int { datagrams.count }
    var first: Datagram? { datagrams.first }

    /// Copies a datagram to the end; false when there is no room left for it.
    mutating func append(
        _ bytes: UnsafeRawBufferPointer,
        to address: DtlsAddress,
        from local: DtlsAddress? = nil
    ) -> Bool {
        guard
            datagrams.count < Self.maximumCount,
            bytes.count <= Self.maximumByteCount - byteCount
        else { return false }
        datagrams.append(Datagram(bytes: [UInt8](bytes), address: address, local: local))
        byteCount += bytes.count
        return true
    }

    mutating func removeFirst() {
        guard let datagram = datagrams.popFirst() else { return }
        byteCount -= datagram.bytes.count
    }

    /// Forgets everything; answers how many datagrams that were.
    mutating func removeAll() -> Int {
        defer { self = DatagramBacklog() }
        return datagrams.count
    }
}
