/// A ClientHello whose cookie proves that its sender receives what is sent to its address (RFC 6347 §4.2.1).
///
/// ``DtlsHelloGate`` makes it; ``DtlsEngine/init(server:hello:usesIPv6:)`` takes it.
public struct DtlsClientHello: Sendable {
    /// The client's random, which tells a new handshake of the same peer from a repetition.
    let random: [UInt8]

    /// The suites that the client offered, in its order.
    let cipherSuites: [UInt16]

    /// The record's sequence number, from which the server's go on.
    let recordSequenceNumber: UInt64

    /// The record as it came.
    let record: [UInt8]

    /// Whether `other` starts the same handshake.
    package func isRepetition(of other: DtlsClientHello) -> Bool {
        random == other.random
    }
}

/// A ClientHello message as it stands in a datagram (RFC 6347 §4.2.1). Ranges are offsets into the datagram.
struct ClientHelloLayout {
    let recordSequenceNumber: UInt64
    let messageSequence: UInt16
    let record: Range<Int>
    let random: Range<Int>
    let cookie: Range<Int>
    let cipherSuites: Range<Int>
    /// Version, random and session ID.
    let beforeCookie: Range<Int>
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

        var cursor = message.body.lowerBound
        let limit = message.body.upperBound
        func take(_ count: Int) throws(Problem) -> Range<Int> {
            guard count <= limit - cursor else { throw .malformed }
            defer { cursor += count }
            return cursor..<(cursor + count)
        }
        let version = try take(2)
        random = try take(32)
        let sessionIDLength = try take(1)
        let sessionID = try take(Int(datagram[sessionIDLength.lowerBound]))
        beforeCookie = version.lowerBound..<sessionID.upperBound
        let cookieLength = try take(1)
        cookie = try take(Int(datagram[cookieLength.lowerBound]))
        let suitesLength = try take(2)
        cipherSuites = try take(Int(datagram.uint16(at: suitesLength.lowerBound)))
        let compressionLength = try take(1)
        let compression = try take(Int(datagram[compressionLength.lowerBound]))
        afterCookie = suitesLength.lowerBound..<compression.upperBound
        guard cipherSuites.count >= 2, cipherSuites.count.isMultiple(of: 2), !compression.isEmpty,
            datagram[version.lowerBound] == 0xFE
        else { throw .malformed }
    }

    func hello(in datagram: UnsafeRawBufferPointer) -> DtlsClientHello {
        DtlsClientHello(
            random: Array(datagram[random]),
            cipherSuites: stride(from: cipherSuites.lowerBound, to: cipherSuites.upperBound, by: 2)
                .map { datagram.uint16(at: $0) },
            recordSequenceNumber: recordSequenceNumber,
            record: Array(datagram[record])
        )
    }
}
