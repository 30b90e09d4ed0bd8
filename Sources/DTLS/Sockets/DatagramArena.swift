import CPosixUDP

/// Datagrams that leave together: copied one behind the other, in the order in which they were sent.
///
/// Those that one peer gets in a row are one message where the kernel takes it apart (`UDP_SEGMENT`): all of one
/// length, but the last may be shorter.
struct DatagramArena: ~Copyable {
    /// At most this many datagrams ...
    static let maximumCount = Int(CPosixUDP_maximumSends)
    /// ... of at most this many bytes together (128 KiB).
    static let byteCount = 1 << 17

    /// The kernel's limits for one message, the lower ones of those that it had over the years.
    private static let segmentsPerMessage = 64
    private static let bytesPerMessage = 64_000

    /// The messages, then the bytes. Nil until something is sent.
    private var pages: PageBuffer?
    /// The messages, of which `messageCount` are initialized. In `pages`, and valid as long as this value lives.
    private(set) var messages: UnsafeMutablePointer<CPosixUDP_Outgoing>?
    /// The bytes. In `pages`, and valid as long as this value lives.
    private(set) var bytes: UnsafeMutableRawPointer?
    private var used = 0
    private(set) var datagramCount = 0
    private(set) var messageCount = 0
    /// Whether another datagram may join the last message.
    private var isOpen = false

    var isEmpty: Bool { datagramCount == 0 }

    /// Copies a datagram to the end; false when there is no room left for it.
    ///
    /// - Parameter joins: Whether the kernel takes messages apart.
    mutating func append(
        _ datagram: UnsafeRawBufferPointer,
        to address: DtlsAddress,
        from local: DtlsAddress?,
        joins: Bool
    ) -> Bool {
        guard let room = room(for: datagram.count) else { return false }
        room.copyMemory(from: datagram)
        add(datagram.count, to: address, from: local, joins: joins)
        return true
    }

    /// Where the next datagram goes, if one of `count` bytes has room. Valid until the arena is written to.
    mutating func room(for count: Int) -> UnsafeMutableRawBufferPointer? {
        guard datagramCount < Self.maximumCount, count <= Self.byteCount - used else { return nil }
        if messages == nil { makePages() }
        // Within the pages, as `used` and the count are at most the size.
        return bytes.map { UnsafeMutableRawBufferPointer(start: $0 + used, count: count) }
    }

    /// Adds a datagram whose bytes are in ``room(for:)`` of at least so many.
    mutating func add(_ byteCount: Int, to address: DtlsAddress, from local: DtlsAddress?, joins: Bool) {
        guard let messages else { return }
        defer {
            used += byteCount
            datagramCount += 1
        }
        let count = UInt32(truncatingIfNeeded: byteCount)
        let peer = CPosixUDP_Address(address)
        let source = CPosixUDP_Local(local)
        if joins, isOpen, messageCount > 0 {
            // Initialized, as it is below `messageCount`.
            let last = messages + (messageCount - 1)
            if count > 0, count <= last.pointee.segment, last.pointee.peer.isSame(as: peer),
                last.pointee.local.isSame(as: source), last.pointee.datagrams < Self.segmentsPerMessage,
                last.pointee.length + count <= Self.bytesPerMessage
            {
                last.pointee.length += count
                last.pointee.datagrams += 1
                isOpen = count == last.pointee.segment
                return
            }
        }
        // There is room for `maximumCount` messages, and no more of them than datagrams.
        (messages + messageCount).initialize(
            to: CPosixUDP_Outgoing(
                offset: UInt32(used),
                length: count,
                segment: count,
                datagrams: 1,
                peer: peer,
                local: source
            )
        )
        messageCount += 1
        isOpen = true
    }

    private mutating func makePages() {
        let headerSize = Self.maximumCount * MemoryLayout<CPosixUDP_Outgoing>.stride
        let pages = PageBuffer(byteCount: headerSize + Self.byteCount)
        // The beginning of whole pages, so aligned for any type; the bytes behind are raw.
        messages = pages.bytes.baseAddress?.bindMemory(to: CPosixUDP_Outgoing.self, capacity: Self.maximumCount)
        bytes = pages.bytes.baseAddress.map { $0 + headerSize }
        self.pages = consume pages
    }

    /// Forgets everything, and keeps the memory.
    mutating func removeAll() {
        used = 0
        datagramCount = 0
        messageCount = 0
        isOpen = false
    }
}

// MARK: - The form of a peer's address that goes to the system and comes from it

extension CPosixUDP_Address {
    init(_ address: DtlsAddress) {
        self.init(
            high: address.high.bigEndian,
            low: address.low.bigEndian,
            scope: address.scope,
            port: address.port,
            isKnown: 1
        )
    }

    fileprivate func isSame(as other: CPosixUDP_Address) -> Bool {
        high == other.high && low == other.low && scope == other.scope && port == other.port
    }
}

extension CPosixUDP_Local {
    fileprivate func isSame(as other: CPosixUDP_Local) -> Bool {
        isKnown == other.isKnown && high == other.high && low == other.low && interface == other.interface
    }
}

extension DtlsAddress {
    init(_ address: CPosixUDP_Address) {
        self.init(
            high: UInt64(bigEndian: address.high),
            low: UInt64(bigEndian: address.low),
            scope: address.scope,
            port: address.port
        )
    }
}
