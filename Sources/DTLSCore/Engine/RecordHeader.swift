/// The kinds of records (RFC 5246 §6.2.1, RFC 9146 §4).
enum ContentType {
    static let changeCipherSpec: UInt8 = 20
    static let alert: UInt8 = 21
    static let handshake: UInt8 = 22
    static let applicationData: UInt8 = 23
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
}

/// The 13 bytes before each record of DTLS 1.2 (RFC 6347 §4.1).
struct RecordHeader {
    static let size = 13

    let contentType: UInt8
    let epoch: UInt16
    /// 48 bits.
    let sequenceNumber: UInt64
    /// Of what follows the header, in bytes.
    let length: Int

    /// Whether the record holds messages of a handshake that everybody can read.
    var isClearHandshake: Bool { contentType == ContentType.handshake && epoch == 0 }

    /// Reads the header at `offset`; `nil` when the bytes are too few, of another protocol, or fewer than the header claims.
    init?(_ datagram: UnsafeRawBufferPointer, at offset: Int) {
        guard offset >= 0, datagram.count - offset >= Self.size else { return nil }
        // Every version of DTLS starts with 0xFE.
        guard datagram[offset + 1] == 0xFE else { return nil }
        length = Int(datagram.uint16(at: offset + 11))
        guard length <= datagram.count - offset - Self.size else { return nil }
        contentType = datagram[offset]
        epoch = datagram.uint16(at: offset + 3)
        sequenceNumber = datagram.uint48(at: offset + 5)
    }
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
