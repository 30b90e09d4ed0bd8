/// The stateless gate before a server: a stranger gets a cookie, and nothing is kept of him until he brings it back
/// (RFC 6347 §4.2.1).
///
/// Give it every datagram that belongs to no association, and every epoch-0 datagram of a known peer for which
/// ``DtlsHelloGate/startsWithClientHello(_:)`` is true. It makes no OpenSSL object, keeps nothing that belongs to a source, and
/// never answers with more bytes than came in.
///
/// It is a value for one thread at a time; `DtlsServer` has its own.
public struct DtlsHelloGate: ~Copyable {
    /// What to do about a datagram.
    public enum Verdict: Sendable {
        /// Nothing: it was no ClientHello that can be answered.
        case ignore
        /// Send this HelloVerifyRequest back to where the datagram came from.
        case reply([UInt8])
        /// The sender is where it claims to be: make an engine with ``DtlsEngine/init(server:hello:usesIPv6:)``.
        case accept(DtlsClientHello)
    }

    private var cookies: HelloCookie

    /// Makes a gate with a random secret.
    ///
    /// - Throws: ``DtlsError/Code-swift.struct/internalFailure`` when the system has no randomness.
    public init(now: ContinuousClock.Instant = .now) throws(DtlsError) {
        cookies = try HelloCookie(now: now)
    }

    /// Whether the datagram starts with a ClientHello in clear, or a fragment of one.
    public static func startsWithClientHello(_ datagram: RawSpan) -> Bool {
        datagram.withUnsafeBytes { bytes in
            guard let header = RecordHeader(bytes, at: 0), header.contentType == ContentType.handshake,
                header.epoch == 0, header.length > HandshakeFragment.headerSize
            else { return false }
            return bytes[RecordHeader.size] == HandshakeType.clientHello
        }
    }

    /// Judges a datagram.
    ///
    /// - Parameters:
    ///   - datagram: The bytes as they came.
    ///   - source: Bytes that stand for the sender's address and port, whatever their form.
    ///   - now: The time, which decides when the secret changes (every minute; the one before stays good for another).
    public mutating func judge(
        _ datagram: RawSpan,
        from source: [UInt8],
        now: ContinuousClock.Instant = .now
    ) -> Verdict {
        cookies.rotate(now: now)
        return datagram.withUnsafeBytes { judge($0, from: source) }
    }

    private func judge(_ datagram: UnsafeRawBufferPointer, from source: [UInt8]) -> Verdict {
        // A fragmented hello is ignored: its first fragment may lack what the cookie binds.
        // A third hello is one that was sent back for another cookie (the server was restarted in between), and OpenSSL cannot go on
        // from it: DTLSv1_listen(3) knows first and second hellos only. Such a client begins anew.
        guard let layout = try? ClientHelloLayout(datagram), layout.messageSequence <= 1 else { return .ignore }
        // The source's length comes first, so that no other split of the same bytes has the same cookie.
        var input: [UInt8] = [UInt8(truncatingIfNeeded: source.count)]
        input.append(contentsOf: source)
        input.append(contentsOf: datagram[layout.beforeCookie])
        input.append(contentsOf: datagram[layout.afterCookie])
        if !layout.cookie.isEmpty,
            cookies.verify(UnsafeRawBufferPointer(rebasing: datagram[layout.cookie]), for: input)
        {
            return .accept(layout.hello(in: datagram))
        }
        guard let cookie = cookies.make(for: input) else { return .ignore }
        let reply = Self.helloVerifyRequest(cookie, answering: layout)
        return reply.count <= datagram.count ? .reply(reply) : .ignore
    }

    private static func helloVerifyRequest(_ cookie: [UInt8], answering hello: ClientHelloLayout) -> [UInt8] {
        // server_version and the cookie; the version is that of DTLS 1.0 whatever follows (RFC 6347 §4.2.1).
        let body: [UInt8] = [0xFE, 0xFF, UInt8(cookie.count)] + cookie
        let length = UInt8(body.count)
        var record: [UInt8] = [ContentType.handshake, 0xFE, 0xFF, 0, 0]
        // The same record sequence number as the hello's, so that nothing has to be remembered.
        record += (0..<6).map { UInt8(truncatingIfNeeded: hello.recordSequenceNumber >> (40 - 8 * UInt64($0))) }
        record += [0, UInt8(HandshakeFragment.headerSize) + length]
        record += [HandshakeType.helloVerifyRequest, 0, 0, length]
        record += [
            UInt8(truncatingIfNeeded: hello.messageSequence >> 8), UInt8(truncatingIfNeeded: hello.messageSequence),
        ]
        record += [0, 0, 0, 0, 0, length]
        return record + body
    }
}
