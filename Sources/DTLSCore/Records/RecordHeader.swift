/// The kinds of records (RFC 5246 §6.2.1, RFC 9146 §4).
enum ContentType {
    static let changeCipherSpec: UInt8 = 20
    static let alert: UInt8 = 21
    static let handshake: UInt8 = 22
    static let applicationData: UInt8 = 23
    /// RFC 9853 §4.
    static let returnRoutabilityCheck: UInt8 = 27
    /// Something sealed, whose kind is sealed with it, behind a Connection ID.
    static let connectionID: UInt8 = 25
}

/// The kinds of handshake messages that are looked at outside of OpenSSL (RFC 5246 §7.4, RFC 6347 §4.3.2).
enum HandshakeType {
    static let clientHello: UInt8 = 1
    static let serverHello: UInt8 = 2
    static let helloVerifyRequest: UInt8 = 3
    static let certificate: UInt8 = 11
    static let serverKeyExchange: UInt8 = 12
    static let serverHelloDone: UInt8 = 14
    static let clientKeyExchange: UInt8 = 16
    static let finished: UInt8 = 20
    static let helloRequest: UInt8 = 0
}

/// The 13 bytes before each record of DTLS 1.2 (RFC 6347 §4.1), and the Connection ID in them, if there is one (RFC
/// 9146 §4).
struct RecordHeader {
    static let size = 13

    let contentType: UInt8
    let epoch: UInt16
    /// 48 bits.
    let sequenceNumber: UInt64
    /// Of what follows the header, in bytes.
    let length: Int
    /// How many bytes the Connection ID has, which stands before the length; 0 where there is none.
    let connectionIDLength: Int

    /// How many bytes the header has.
    var size: Int { Self.size + connectionIDLength }

    /// Whether the record holds messages of a handshake that everybody can read.
    var isClearHandshake: Bool { contentType == ContentType.handshake && epoch == 0 }

    /// Reads the header at `offset`; `nil` when the bytes are too few, of another protocol, or fewer than the header
    /// claims.
    ///
    /// - Parameter expectedIDLength: How many bytes Connection IDs have in what comes this way, since no record says so
    ///   itself. 0: there are none, and a record with one cannot be read.
    init?(_ datagram: UnsafeRawBufferPointer, at offset: Int, expectedIDLength: Int = 0) {
        guard offset >= 0, datagram.count - offset >= Self.size else { return nil }
        // Every version of DTLS starts with 0xFE.
        guard datagram[offset + 1] == 0xFE else { return nil }
        contentType = datagram[offset]
        let hasConnectionID = contentType == ContentType.connectionID
        guard !hasConnectionID || expectedIDLength > 0 else { return nil }
        connectionIDLength = hasConnectionID ? expectedIDLength : 0
        guard datagram.count - offset >= Self.size + connectionIDLength else { return nil }
        length = Int(datagram.uint16(at: offset + 11 + connectionIDLength))
        guard length <= datagram.count - offset - Self.size - connectionIDLength else { return nil }
        epoch = datagram.uint16(at: offset + 3)
        sequenceNumber = datagram.uint48(at: offset + 5)
    }

    /// Calls `visit` with each record of what OpenSSL writes, which has no Connection IDs, and where it stands. Returns
    /// where they end.
    @discardableResult
    static func forEach(in bytes: UnsafeRawBufferPointer, _ visit: (RecordHeader, Range<Int>) -> Void) -> Int {
        var offset = 0
        while let header = RecordHeader(bytes, at: offset) {
            let end = offset + size + header.length
            visit(header, offset..<end)
            offset = end
        }
        return offset
    }

    /// Whether any record is of another epoch than 0.
    static func hasSealed(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var found = false
        forEach(in: bytes) { header, _ in found = found || header.epoch != 0 }
        return found
    }

    /// Where the Connection ID of a record at `offset` stands.
    func connectionID(at offset: Int) -> Range<Int> { (offset + 11)..<(offset + 11 + connectionIDLength) }
}

extension UnsafeRawBufferPointer {
    // The caller has checked that the bytes are there.
    func uint16(at offset: Int) -> UInt16 {
        UInt16(self[offset]) << 8 | UInt16(self[offset + 1])
    }

    func uint24(at offset: Int) -> Int {
        Int(self[offset]) << 16 | Int(self[offset + 1]) << 8 | Int(self[offset + 2])
    }

    func uint48(at offset: Int) -> UInt64 {
        UInt64(uint16(at: offset)) << 32 | UInt64(uint16(at: offset + 2)) << 16 | UInt64(uint16(at: offset + 4))
    }
}

extension UnsafeMutableRawBufferPointer {
    func storeUInt16(_ value: Int, at offset: Int) {
        self[offset] = UInt8(truncatingIfNeeded: value >> 8)
        self[offset + 1] = UInt8(truncatingIfNeeded: value)
    }

    func storeUInt48(_ value: UInt64, at offset: Int) {
        for index in 0..<6 { self[offset + index] = UInt8(truncatingIfNeeded: value >> (40 - 8 * UInt64(index))) }
    }
}

/// A fragment of a handshake message, in clear (RFC 6347 §4.2.2).
struct HandshakeFragment {
    static let headerSize = 12

    let type: UInt8
    let messageLength: Int
    let messageSequence: UInt16
    let fragmentOffset: Int
    /// Where the fragment's bytes stand in the datagram.
    let body: Range<Int>

    /// Reads the fragment at `offset`, none of which may reach beyond `end`.
    init?(_ datagram: UnsafeRawBufferPointer, at offset: Int, end: Int) {
        guard offset >= 0, end <= datagram.count, end - offset >= Self.headerSize else { return nil }
        type = datagram[offset]
        messageLength = datagram.uint24(at: offset + 1)
        messageSequence = datagram.uint16(at: offset + 4)
        fragmentOffset = datagram.uint24(at: offset + 6)
        let fragmentLength = datagram.uint24(at: offset + 9)
        let start = offset + Self.headerSize
        guard fragmentLength <= end - start, fragmentOffset + fragmentLength <= messageLength else { return nil }
        body = start..<(start + fragmentLength)
    }

    var isWholeMessage: Bool { body.count == messageLength }

    /// Calls `visit` with each well-formed fragment of the epoch-0 handshake records of `datagram`.
    static func forEach(in datagram: UnsafeRawBufferPointer, _ visit: (HandshakeFragment) -> Void) {
        var offset = 0
        while let header = RecordHeader(datagram, at: offset) {
            let end = offset + RecordHeader.size + header.length
            if header.isClearHandshake {
                var cursor = offset + RecordHeader.size
                while let fragment = HandshakeFragment(datagram, at: cursor, end: end) {
                    visit(fragment)
                    cursor = fragment.body.upperBound
                }
            }
            offset = end
        }
    }
}
