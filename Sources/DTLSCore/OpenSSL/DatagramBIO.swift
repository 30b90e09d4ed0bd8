import COpenSSL

/// What OpenSSL reads from and writes to: a datagram is a datagram, and a write never waits.
///
/// `BIO_s_mem` would glue a flight into one stream and tell OpenSSL an MTU of 256 bytes. This one keeps the boundaries,
/// answers the datagram controls, and joins what one call writes into datagrams of up to the MTU, which OpenSSL does
/// for first flights only (RFC 6347 §4.1.1 allows it).
final class DatagramBIO {
    /// OpenSSL's buffering BIO splits records beyond it.
    static let maximumHandshakeDatagram = 4_096

    /// UDP payload bytes of the largest datagram to write.
    var mtu: Int

    /// UDP payload bytes of the largest datagram of a handshake.
    var handshakeMTU: Int { Swift.min(mtu, Self.maximumHandshakeDatagram) }

    /// Whether the addresses are IPv6 ones, for the MTU to fall back to.
    let isIPv6: Bool

    /// Into what size OpenSSL cuts messages: ``handshakeMTU``, or less because flights were lost.
    var messageMTU: Int { Swift.min(handshakeMTU, fallbackMTU ?? .max) }

    private var fallbackMTU: Int?

    /// What was written.
    var outbound = DatagramQueue()

    /// The record sequence number that the first record written must reach; see ``renumber(_:)``.
    var firstSequenceNumber: UInt64?

    /// The highest sequence number written in epoch 0.
    private(set) var highestSequenceNumber: UInt64?

    /// Above every sequence number written in epoch 1.
    private(set) var nextSealedNumber: UInt64 = 0

    /// Whether a sealed record carried a nonce that epoch and sequence number may become later. OpenSSL counts those of
    /// GCM from a random number.
    private(set) var hasWrittenForeignNonce = false

    /// What a sealed record of OpenSSL's is to leave as; `nil` loses it.
    var readdress: ((UnsafeRawBufferPointer) -> [UInt8]?)?

    private var sequenceOffset: UInt64 = 0
    private var joinsWithLast = false
    // This and `slices` are not checked at run time for accesses that overlap: nobody but this object is called while
    // one of them is changed, and then it looks at the other.
    @exclusivity(unchecked) private var flight = DatagramQueue()

    /// Whether OpenSSL has written anything since the last ``endFlight()``.
    private(set) var hasWritten = false

    /// Whether ``repeatFlight()`` is to have something to repeat. Ending it forgets what there is.
    var keepsFlight = true {
        didSet { if !keepsFlight { flight = DatagramQueue() } }
    }

    /// More is not kept of a flight.
    private static let maximumKeptFlight = 32_768

    // The datagram under way, valid only inside withInbound(_:_:_:).
    private var inbound = UnsafeRawBufferPointer(start: nil, count: 0)
    @exclusivity(unchecked) private var slices: RecordFilter.Slices = []
    private var nextSlice = 0
    private var inboundNumber: UInt64 = 0

    /// Whether OpenSSL gets other sequence numbers than those on the wire. Not in DTLS 1.3, whose acknowledgements name
    /// records (RFC 9147 §7).
    private let numbersInbound: Bool

    /// The second byte of the version that records in clear get, whatever theirs is; nil leaves them alone.
    private let inboundVersion: UInt8?

    init(mtu: Int, isIPv6: Bool, numbersInbound: Bool = true, inboundVersion: UInt8? = nil) {
        self.numbersInbound = numbersInbound
        self.inboundVersion = inboundVersion
        self.mtu = mtu
        self.isIPv6 = isIPv6
    }

    /// Makes the OpenSSL half. The caller keeps this object alive for as long as the `BIO` lives.
    func makeBIO() throws(DtlsError) -> OpaquePointer {
        let bio = try OpenSSLErrorQueue.checked(BIO_new(Self.method), "BIO_new", phase: .handshake)
        BIO_set_data(bio, Unmanaged.passUnretained(self).toOpaque())
        return bio
    }

    /// Lets OpenSSL read `slices` of `datagram`, one a read, while `body` runs.
    func withInbound(
        _ datagram: UnsafeRawBufferPointer,
        _ slices: RecordFilter.Slices,
        _ body: () -> Void
    ) {
        inbound = datagram
        self.slices = slices
        nextSlice = 0
        body()
        inbound = UnsafeRawBufferPointer(start: nil, count: 0)
        self.slices = []
    }

    /// The piece that OpenSSL has read last.
    var lastRead: UnsafeRawBufferPointer? {
        guard nextSlice > 0, nextSlice <= slices.count, slices[nextSlice - 1].upperBound <= inbound.count else {
            return nil
        }
        return UnsafeRawBufferPointer(rebasing: inbound[slices[nextSlice - 1]])
    }

    /// How many bytes of the datagram under way OpenSSL has not read.
    var unreadCount: Int { nextSlice < slices.count ? inbound.count - slices[nextSlice].lowerBound : 0 }

    /// Visits what OpenSSL has not read of the datagram under way, because its handshake stopped to wait.
    func forEachUnread(_ body: (UnsafeRawBufferPointer) -> Void) {
        for slice in slices[Swift.min(nextSlice, slices.count)...] where slice.upperBound <= inbound.count {
            body(UnsafeRawBufferPointer(rebasing: inbound[slice]))
        }
        nextSlice = slices.count
    }

    /// OpenSSL asks after some losses in a row, and stays with the answer: what every IPv4 or IPv6 path must carry.
    fileprivate func fallBack() -> Int {
        fallbackMTU = isIPv6 ? 1_232 : 548
        return messageMTU
    }

    /// Ends the joining of writes: what comes next starts a datagram of its own.
    func endFlight() {
        joinsWithLast = false
        hasWritten = false
    }

    /// How many datagrams the last flight had; 0 when it is not kept.
    var flightCount: Int { flight.count }

    /// Lets only OpenSSL repeat the flight under way, which cuts it anew.
    func forgetFlight() { flight.removeAll() }

    /// Writes the datagrams of the last flight again, byte for byte.
    ///
    /// What of it arrived is a replay to the peer and dropped (RFC 6347 §4.1.2.6); what did not is new.
    func repeatFlight() {
        flight.visit { outbound.append($0) }
        joinsWithLast = false
    }

    fileprivate func read(into buffer: UnsafeMutableRawBufferPointer) -> Int? {
        while nextSlice < slices.count {
            splitNextSlice(toFit: buffer.count)
            let slice = slices[nextSlice]
            nextSlice += 1
            // OpenSSL's buffer holds any record that it takes.
            guard slice.count <= buffer.count, slice.upperBound <= inbound.count, !slice.isEmpty else { continue }
            buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: inbound[slice]))
            if numbersInbound { numberInbound(UnsafeMutableRawBufferPointer(rebasing: buffer[..<slice.count])) }
            return slice.count
        }
        return nil
    }

    /// Leaves for the next read what would be cut off in this one.
    ///
    /// OpenSSL 3.0 always has a buffer for the largest record. From 3.2 on it has one for a single small record, once
    /// they were agreed upon (RFC 6066 §4), however many there are in a datagram.
    private func splitNextSlice(toFit size: Int) {
        let slice = slices[nextSlice]
        guard slice.count > size, slice.upperBound <= inbound.count else { return }
        var end = slice.lowerBound
        RecordHeader.forEach(in: UnsafeRawBufferPointer(rebasing: inbound[slice])) { _, record in
            if record.upperBound <= size { end = slice.lowerBound + record.upperBound }
        }
        guard end > slice.lowerBound else { return }
        slices[nextSlice] = slice.lowerBound..<end
        slices.insert(end..<slice.upperBound, at: nextSlice + 1)
    }

    /// Gives epoch-0 records numbers of our own, in the order of their arrival, and the version that is the only one
    /// possible.
    ///
    /// Nothing authenticates those on the wire, yet OpenSSL moves its window for replays by them: one forged record
    /// with a number far ahead, and it drops all that the peer sends from then on. A handshake message that comes twice
    /// is known by its own number. Nor does anything authenticate the version, by which it drops records after the
    /// ServerHello.
    private func numberInbound(_ bytes: UnsafeMutableRawBufferPointer) {
        var offset = 0
        while let header = RecordHeader(UnsafeRawBufferPointer(bytes), at: offset) {
            if header.epoch == 0 {
                bytes.storeUInt48(inboundNumber, at: offset + 5)
                inboundNumber &+= 1
                if let inboundVersion { bytes[offset + 2] = inboundVersion }
            }
            offset += RecordHeader.size + header.length
        }
    }

    fileprivate func write(_ bytes: UnsafeRawBufferPointer) {
        let isReaddressed = readdress != nil && RecordHeader.hasSealed(bytes)
        guard isReaddressed || bytes.count > handshakeMTU else { return enqueue(bytes) }
        // One by one: what a Connection ID makes longer, and a Finished, of whose tag OpenSSL 3.0 does not think when
        // it fills a datagram, go into another one.
        let end = RecordHeader.forEach(in: bytes) { header, range in
            let record = UnsafeRawBufferPointer(rebasing: bytes[range])
            guard header.epoch > 0, let readdress else { return enqueue(record) }
            readdress(record)?.withUnsafeBytes { enqueue($0) }
        }
        if end < bytes.count { enqueue(UnsafeRawBufferPointer(rebasing: bytes[end...])) }
    }

    private func enqueue(_ bytes: UnsafeRawBufferPointer) {
        let joins = joinsWithLast && outbound.lastCount + bytes.count <= handshakeMTU
        if joins {
            outbound.extendLast(bytes)
        } else {
            outbound.append(bytes)
        }
        joinsWithLast = true
        let startsFlight = !hasWritten
        hasWritten = true
        outbound.withLastBytes(bytes.count) { bytes in
            renumber(bytes)
            guard keepsFlight else { return }
            keep(UnsafeRawBufferPointer(bytes), joins: joins, startsFlight: startsFlight)
        }
    }

    private func keep(_ bytes: UnsafeRawBufferPointer, joins: Bool, startsFlight: Bool) {
        if startsFlight { flight.removeAll() }
        // Of a flight that is too large nothing is kept, not a part.
        guard startsFlight || !flight.isEmpty else { return }
        guard flight.byteCount + bytes.count <= Self.maximumKeptFlight else { return flight.removeAll() }
        if joins { flight.extendLast(bytes) } else { flight.append(bytes) }
    }

    /// Adds records of our own that did not come from OpenSSL.
    func appendRecord(_ record: [UInt8]) {
        record.withUnsafeBytes { outbound.append($0) }
        joinsWithLast = false
    }

    /// Raises the sequence numbers of epoch-0 records, which nothing authenticates, to where the peer expects them.
    ///
    /// OpenSSL 3.2 to 4.0 sends its ServerHello with sequence number 1 although the HelloVerifyRequest may have used
    /// that (openssl#32063), and the client takes it for a replay.
    private func renumber(_ bytes: UnsafeMutableRawBufferPointer) {
        RecordHeader.forEach(in: UnsafeRawBufferPointer(bytes)) { header, range in
            let offset = range.lowerBound
            guard header.epoch == 0 else { return noteSealed(header, bytes, at: offset) }
            if let first = firstSequenceNumber {
                sequenceOffset = first > header.sequenceNumber ? first - header.sequenceNumber : 0
                firstSequenceNumber = nil
            }
            let number = header.sequenceNumber &+ sequenceOffset
            if sequenceOffset > 0 { bytes.storeUInt48(number, at: offset + 5) }
            highestSequenceNumber = Swift.max(highestSequenceNumber ?? 0, number)
        }
    }

    private func noteSealed(_ header: RecordHeader, _ bytes: UnsafeMutableRawBufferPointer, at offset: Int) {
        nextSealedNumber = Swift.max(nextSealedNumber, header.sequenceNumber + 1)
        let nonce = offset + RecordHeader.size
        guard header.length >= 8, bytes[nonce] == 0, bytes[nonce + 1] == DetachedRecords.epoch else { return }
        if !bytes[nonce..<(nonce + 8)].elementsEqual(bytes[(offset + 3)..<(offset + 11)]) {
            hasWrittenForeignNonce = true
        }
    }

    /// Takes memory that others have used before for what will be written.
    func equip(from pool: QueuePool) {
        pool.equip(&outbound)
        pool.equip(&flight)
    }

    /// Hands over the last flight and what has not been sent.
    func takeQueues() -> (flight: DatagramQueue, outbound: DatagramQueue) {
        defer {
            flight = DatagramQueue()
            outbound = DatagramQueue()
        }
        return (flight, outbound)
    }

    /// Built once and never changed, hence safe to share between threads.
    private nonisolated(unsafe) static let method: OpaquePointer? = {
        let type = BIO_get_new_index() | BIO_TYPE_SOURCE_SINK
        guard let method = BIO_meth_new(type, "swift-dtls datagrams") else { return nil }
        BIO_meth_set_create(method) { bio in
            BIO_set_init(bio, 1)
            return 1
        }
        BIO_meth_set_destroy(method) { _ in 1 }
        BIO_meth_set_read(method, datagramBIORead)
        BIO_meth_set_write(method, datagramBIOWrite)
        BIO_meth_set_ctrl(method, datagramBIOControl)
        return method
    }()

    fileprivate static func of(_ bio: OpaquePointer?) -> DatagramBIO? {
        guard let data = BIO_get_data(bio) else { return nil }
        return Unmanaged<DatagramBIO>.fromOpaque(data).takeUnretainedValue()
    }
}

/// One slice a read; nothing left asks OpenSSL to come back, which is SSL_ERROR_WANT_READ.
private func datagramBIORead(_ bio: OpaquePointer?, _ buffer: UnsafeMutablePointer<CChar>?, _ size: Int32) -> Int32 {
    COpenSSL_BIO_clear_retry_flags(bio)
    guard let state = DatagramBIO.of(bio), let buffer, size > 0,
        let count = state.read(into: UnsafeMutableRawBufferPointer(start: buffer, count: Int(size)))
    else {
        COpenSSL_BIO_set_retry_read(bio)
        return -1
    }
    return Int32(truncatingIfNeeded: count)
}

/// Takes everything: a write that asked to be repeated would lose application data, and corrupted memory before
/// CVE-2026-84782.
private func datagramBIOWrite(_ bio: OpaquePointer?, _ bytes: UnsafePointer<CChar>?, _ size: Int32) -> Int32 {
    COpenSSL_BIO_clear_retry_flags(bio)
    guard let state = DatagramBIO.of(bio), let bytes, size > 0 else { return size }
    state.write(UnsafeRawBufferPointer(start: bytes, count: Int(size)))
    return size
}

private func datagramBIOControl(
    _ bio: OpaquePointer?,
    _ command: Int32,
    _ number: Int,
    _ pointer: UnsafeMutableRawPointer?
) -> Int {
    switch command {
    case BIO_CTRL_FLUSH, BIO_CTRL_DGRAM_SET_NEXT_TIMEOUT:
        return 1
    case BIO_CTRL_DGRAM_QUERY_MTU:
        return DatagramBIO.of(bio)?.handshakeMTU ?? 0
    case BIO_CTRL_DGRAM_GET_MTU_OVERHEAD:
        return DatagramBIO.of(bio)?.isIPv6 == true ? 48 : 28
    case BIO_CTRL_DGRAM_GET_FALLBACK_MTU:
        return DatagramBIO.of(bio)?.fallBack() ?? 0
    default:
        // Zero is right for PENDING, WPENDING, EOF, PUSH, POP, GET_PEER, MTU_EXCEEDED and the kernel-TLS questions.
        return 0
    }
}
