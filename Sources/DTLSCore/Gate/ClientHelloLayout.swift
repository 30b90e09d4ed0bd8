/// A whole ClientHello message as it stands in a datagram (RFC 6347 §4.2.1). Ranges are offsets into the datagram.
struct ClientHelloLayout {
    let recordSequenceNumber: UInt64
    let messageSequence: UInt16
    let record: Range<Int>
    let cipherSuites: Range<Int>
    let extensions: Range<Int>
    let start: ClientHelloStart
    /// Cipher suites and compression methods.
    let afterCookie: Range<Int>

    enum Problem: Error {
        case notAClientHello
        case fragmented
        case malformed
    }

    init(_ datagram: UnsafeRawBufferPointer) throws(Problem) {
        guard let header = RecordHeader(datagram, at: 0), header.contentType == ContentType.handshake,
            header.epoch == 0
        else { throw .notAClientHello }
        let end = RecordHeader.size + header.length
        guard let message = HandshakeFragment(datagram, at: RecordHeader.size, end: end),
            message.type == HandshakeType.clientHello
        else { throw .notAClientHello }
        guard message.isWholeMessage else { throw .fragmented }
        recordSequenceNumber = header.sequenceNumber
        messageSequence = message.messageSequence
        record = 0..<end

        guard let start = ClientHelloStart(datagram, message.body) else { throw .malformed }
        self.start = start
        var reader = RangeReader(start.cookie.upperBound..<message.body.upperBound)
        guard let cipherSuites = reader.take(prefix: 2, in: datagram),
            let compression = reader.take(prefix: 1, in: datagram),
            cipherSuites.count >= 2, cipherSuites.count.isMultiple(of: 2), !compression.isEmpty
        else { throw .malformed }
        self.cipherSuites = cipherSuites
        afterCookie = start.cookie.upperBound..<compression.upperBound
        // Extensions may be missing altogether.
        extensions = reader.take(prefix: 2, in: datagram) ?? compression.upperBound..<compression.upperBound
    }

    func hello(in datagram: UnsafeRawBufferPointer) -> DtlsClientHello {
        DtlsClientHello(record: Array(UnsafeRawBufferPointer(rebasing: datagram[record])), layout: self)
    }
}

/// The part of a ClientHello that its first fragment has: version, random, session ID and cookie.
struct ClientHelloStart {
    let random: Range<Int>
    let sessionID: Range<Int>
    let cookie: Range<Int>
    /// Version, random and session ID.
    let beforeCookie: Range<Int>

    /// In bytes (RFC 5246 §7.4.1.2).
    static let maximumSessionIDLength = 32

    /// `nil` when `body` ends before the cookie does, has a session ID that is too long, or is of another protocol.
    init?(_ datagram: UnsafeRawBufferPointer, _ body: Range<Int>) {
        var reader = RangeReader(body)
        guard let version = reader.take(2), datagram[version.lowerBound] == 0xFE, let random = reader.take(32),
            let sessionID = reader.take(prefix: 1, in: datagram), sessionID.count <= Self.maximumSessionIDLength,
            let cookie = reader.take(prefix: 1, in: datagram)
        else { return nil }
        self.random = random
        self.sessionID = sessionID
        self.cookie = cookie
        beforeCookie = version.lowerBound..<sessionID.upperBound
    }
}

/// Takes ranges, with or without a length before them, out of a range and never beyond its end.
private struct RangeReader {
    private var rest: Range<Int>

    init(_ range: Range<Int>) { rest = range }

    mutating func take(_ count: Int) -> Range<Int>? {
        guard count <= rest.count else { return nil }
        defer { rest = (rest.lowerBound + count)..<rest.upperBound }
        return rest.lowerBound..<(rest.lowerBound + count)
    }

    mutating func take(prefix: Int, in bytes: UnsafeRawBufferPointer) -> Range<Int>? {
        guard let length = take(prefix) else { return nil }
        // Of one byte or two.
        let first = Int(bytes[length.lowerBound])
        return take(prefix == 1 ? first : first << 8 | Int(bytes[length.lowerBound + 1]))
    }
}
