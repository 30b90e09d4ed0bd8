import DTLSPrimitives

/// This side's last flight of the handshake, for a peer that asks for it again because it was lost (RFC 6347 §4.2.4).
///
/// It is kept as what its records hold, so that it can be cut for an MTU that has become smaller and numbered anew: a
/// record under its old number could be too old by now for the peer's replay window.
///
/// That the peer sends data does not show that it has the flight: a client may send before the server's Finished has
/// come (RFC 7918). So it is kept for ``lifetime``.
final class FinalFlight {
    /// Twice the time that a datagram may live (RFC 6347 §4.2.4, RFC 793 §3.3).
    static let lifetime = Duration.seconds(240)

    struct Record {
        let contentType: UInt8
        let isSealed: Bool
        let content: [UInt8]
    }

    // All of them in one piece of memory: type, whether it is sealed, two bytes of length, content.
    private let packed: [UInt8]

    var records: [Record] {
        packed.withUnsafeBytes { bytes in
            var records: [Record] = []
            var reader = ByteReader(bytes)
            while let type = reader.uint8(), let isSealed = reader.uint8(), let content = reader.prefixed16() {
                records.append(Record(contentType: type, isSealed: isSealed == 1, content: Array(content)))
            }
            return records
        }
    }

    /// The record number of the next record in clear.
    private(set) var nextClearNumber: UInt64
    /// How often it may still be sent.
    private(set) var attempts: Int
    let expiresAt: Moment

    convenience init(
        records: [Record],
        nextClearNumber: UInt64,
        attempts: Int,
        expiresAt: Moment = .now + FinalFlight.lifetime
    ) {
        var packed: [UInt8] = []
        packed.reserveCapacity(records.reduce(0) { $0 + 4 + $1.content.count })
        for record in records {
            Self.pack(record.contentType, isSealed: record.isSealed, record.content, into: &packed)
        }
        self.init(
            packed: packed,
            nextClearNumber: nextClearNumber,
            attempts: attempts,
            expiresAt: expiresAt
        )
    }

    private static func pack(
        _ contentType: UInt8,
        isSealed: Bool,
        _ content: some Collection<UInt8>,
        into packed: inout [UInt8]
    ) {
        packed.append(contentType)
        packed.append(isSealed ? 1 : 0)
        packed.append(UInt8(truncatingIfNeeded: content.count >> 8))
        packed.append(UInt8(truncatingIfNeeded: content.count))
        packed.append(contentsOf: content)
    }

    private init(packed: [UInt8], nextClearNumber: UInt64, attempts: Int, expiresAt: Moment) {
        self.packed = packed
        self.nextClearNumber = nextClearNumber
        self.attempts = attempts
        self.expiresAt = expiresAt
    }

    /// Reads it out of the datagrams in which it has left; `nil` when there is none.
    convenience init?(
        _ datagrams: borrowing DatagramQueue,
        openedBy keys: borrowing DetachedRecords,
        nextClearNumber: UInt64,
        attempts: Int,
        now: Moment
    ) {
        var packed: [UInt8] = []
        // Without their headers they take less.
        packed.reserveCapacity(datagrams.byteCount)
        let idLength = keys.connectionIDs.peer.count
        datagrams.visit { bytes in
            var offset = 0
            while let header = RecordHeader(bytes, at: offset, expectedIDLength: idLength) {
                let end = offset + header.size + header.length
                let record = UnsafeRawBufferPointer(rebasing: bytes[offset..<end])
                if header.epoch == 0 {
                    let content = UnsafeRawBufferPointer(rebasing: record[header.size...])
                    Self.pack(header.contentType, isSealed: false, content, into: &packed)
                } else if let own = keys.openOwn(record, hasConnectionID: idLength > 0) {
                    Self.pack(own.contentType, isSealed: true, own.content, into: &packed)
                }
                offset = end
            }
        }
        guard !packed.isEmpty else { return nil }
        self.init(
            packed: packed,
            nextClearNumber: nextClearNumber,
            attempts: attempts,
            expiresAt: now + Self.lifetime
        )
    }

    /// Sends it again, in datagrams of up to `mtu` bytes. Returns whether it may be sent once more.
    func send(sealedBy keys: inout DetachedRecords, mtu: Int, into queue: inout DatagramQueue) -> Bool {
        guard attempts > 0 else { return false }
        attempts -= 1
        var datagram: [UInt8] = []
        func flush(_ queue: inout DatagramQueue) {
            if !datagram.isEmpty { datagram.withUnsafeBytes { queue.append($0) } }
            datagram = []
        }
        func add(_ record: [UInt8], _ queue: inout DatagramQueue) {
            if datagram.count + record.count > mtu { flush(&queue) }
            datagram += record
        }
        for record in records {
            if record.isSealed {
                let sealed = record.content.withUnsafeBytes {
                    keys.seal(record.contentType, $0, numbered: keys.nextNumber)
                }
                if let sealed { add(sealed, &queue) }
            } else if record.contentType == ContentType.handshake {
                for fragment in cut(record.content, mtu: mtu) { add(fragment, &queue) }
            } else {
                var clear: [UInt8] = []
                ClearRecord.append(record.contentType, record.content, numbered: takeNumber(), to: &clear)
                add(clear, &queue)
            }
        }
        flush(&queue)
        return true
    }

    private func takeNumber() -> UInt64 {
        defer { nextClearNumber += 1 }
        return nextClearNumber
    }

    /// The fragments of a record in clear, each in a record of its own that fits.
    private func cut(_ content: [UInt8], mtu: Int) -> [[UInt8]] {
        let room = Swift.max(1, mtu - RecordHeader.size - HandshakeFragment.headerSize)
        var pieces: [[UInt8]] = []
        content.withUnsafeBytes { bytes in
            var cursor = 0
            while let fragment = HandshakeFragment(bytes, at: cursor, end: bytes.count) {
                var start = fragment.body.lowerBound
                repeat {
                    let end = Swift.min(start + room, fragment.body.upperBound)
                    var piece: [UInt8] = []
                    ClearRecord.appendFragment(
                        fragment.type,
                        messageLength: fragment.messageLength,
                        messageSequence: fragment.messageSequence,
                        at: fragment.fragmentOffset + start - fragment.body.lowerBound,
                        bytes[start..<end],
                        numbered: takeNumber(),
                        to: &piece
                    )
                    pieces.append(piece)
                    start = end
                } while start < fragment.body.upperBound
                cursor = fragment.body.upperBound
            }
        }
        return pieces
    }
}
