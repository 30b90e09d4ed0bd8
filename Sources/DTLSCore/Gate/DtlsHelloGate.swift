package import DTLSPrimitives

/// The stateless gate before a server: a stranger gets a cookie, and nothing is kept of him until he brings it back
/// (RFC 6347 §4.2.1).
///
/// Give it every datagram that belongs to no association, and every epoch-0 datagram of a known peer for which
/// ``DtlsHelloGate/startsWithClientHello(_:)`` is true. It makes no OpenSSL object, keeps nothing that belongs to a
/// source without a valid cookie, and never answers with more bytes than came in.
///
/// A hello in fragments passes too: its first fragment is answered and must bring the cookie back, and only then are
/// its parts kept, within ``Limits``.
///
/// It is a value for one thread at a time; `DtlsServer` has its own.
public struct DtlsHelloGate: ~Copyable, Sendable {
    /// What to do about a datagram.
    public enum Verdict: Sendable {
        /// Nothing: it was no ClientHello that can be answered.
        case ignore
        /// Send this HelloVerifyRequest back to where the datagram came from.
        case reply([UInt8])
        /// The sender is where it claims to be: make an engine with ``DtlsEngine/init(server:hello:usesIPv6:)``.
        case accept(DtlsClientHello)
    }

    /// How much a gate keeps of hellos in fragments, which come when a client's MTU is small or its key shares are
    /// large. They are checked when a gate or a server is made, which throws
    /// ``DtlsError/Code-swift.struct/invalidConfiguration`` for a value out of its range.
    public struct Limits: Sendable, Hashable {
        /// How many such hellos may be under way: 1 to 65,536. One more takes the place of the oldest. Default: 128.
        public var messages = 128
        /// How long one may be, in bytes: 512 to 16,384, which is what the engine takes. Default: 8,192.
        public var messageLength = 8_192
        /// How long one may be under way: above zero, up to one hour. Default: 5 seconds.
        public var lifetime = Duration.seconds(5)

        /// Makes limits with the default values: about two megabytes at the most.
        public init() {}

        /// - Parameter name: What the caller calls them.
        package func validate(as name: String = "DtlsHelloGate.Limits") throws(DtlsError) {
            guard (1...65_536).contains(messages) else {
                throw DtlsError.outOfRange("\(name).messages", messages, use: "1...65536")
            }
            guard (512...16_384).contains(messageLength) else {
                throw DtlsError.outOfRange("\(name).messageLength", messageLength, use: "512...16384 bytes")
            }
            guard lifetime > .zero, lifetime <= .seconds(3_600) else {
                throw DtlsError.outOfRange("\(name).lifetime", lifetime, use: "what is above zero, up to one hour")
            }
        }
    }

    private var cookies: HelloCookie
    private var reassembly: HelloReassembly
    private let limits: Limits

    /// Makes a gate.
    ///
    /// - Parameters:
    ///   - limits: How much it keeps of hellos in fragments. Default: ``Limits/init()``.
    ///   - secrets: Secrets that hosts share; `nil` for a random one of this gate's own, replaced every minute.
    ///     Default: `nil`.
    ///   - now: The time.
    /// - Throws: ``DtlsError/Code-swift.struct/internalFailure`` when the system has no randomness,
    ///   ``DtlsError/Code-swift.struct/invalidConfiguration`` for limits out of their range.
    public init(
        limits: Limits = Limits(),
        secrets: DtlsCookieSecrets? = nil,
        now: ContinuousClock.Instant = .now
    ) throws(DtlsError) {
        try self.init(limits: limits, secrets: secrets, at: Moment(now))
    }

    package init(limits: Limits, secrets: DtlsCookieSecrets?, at now: Moment) throws(DtlsError) {
        try limits.validate()
        let cookies = try HelloCookie(shared: secrets, now: now)
        self.cookies = cookies
        self.limits = limits
        reassembly = HelloReassembly(limits)
    }

    /// Whether a ClientHello, or its first fragment, brings a cookie, good or bad. A server may want to bound how many
    /// it answers that bring none. Later fragments, which are never answered, count as if they did.
    public static func carriesCookie(_ datagram: RawSpan) -> Bool {
        guard startsWithClientHello(datagram) else { return false }
        return datagram.withUnsafeBytes { bytes in
            guard let header = RecordHeader(bytes, at: 0),
                let fragment = HandshakeFragment(
                    bytes,
                    at: RecordHeader.size,
                    end: RecordHeader.size + header.length
                )
            else { return false }
            // A later fragment counts as one: nothing is sent for it.
            guard fragment.fragmentOffset == 0 else { return true }
            return ClientHelloStart(bytes, fragment.body).map { !$0.cookie.isEmpty } ?? false
        }
    }

    /// How many hellos in fragments are under way, of sources that have brought a valid cookie: up to
    /// ``Limits/messages``. Those that are over time count until another one begins.
    public var hellosUnderWay: Int { reassembly.count }

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
    ///   - source: Bytes that stand for the sender's address and port, whatever their form, up to 255 of them.
    ///   - now: The time, which decides when the gate's own secret changes (every minute; the one before stays good for
    ///     another) and when hellos in fragments are over time.
    /// - Returns: What to do. The same hello is accepted again for as long as its cookie is good: who has an engine for
    ///   it gives it that datagram.
    public mutating func judge(
        _ datagram: RawSpan,
        from source: [UInt8],
        now: ContinuousClock.Instant = .now
    ) -> Verdict {
        judge(datagram, from: source, at: Moment(now))
    }

    package mutating func judge(_ datagram: RawSpan, from source: [UInt8], at now: Moment) -> Verdict {
        cookies.rotate(now: now)
        // A copy, because a closure cannot capture an inout self; it is put back below.
        var reassembly = self.reassembly
        self.reassembly = HelloReassembly(limits)
        let verdict = datagram.withUnsafeBytes { bytes in
            do throws(ClientHelloLayout.Problem) {
                return judge(try ClientHelloLayout(bytes), in: bytes, from: source)
            } catch .fragmented {
                return judgeFragments(of: bytes, from: source, &reassembly, now: now)
            } catch {
                return .ignore
            }
        }
        self.reassembly = reassembly
        return verdict
    }

    private func judge(
        _ layout: ClientHelloLayout,
        in datagram: UnsafeRawBufferPointer,
        from source: [UInt8]
    ) -> Verdict {
        guard layout.messageSequence <= Self.maximumMessageSequence else { return .ignore }
        let input = Self.input(
            source,
            Self.wholeMessage,
            datagram[layout.start.beforeCookie],
            datagram[layout.afterCookie]
        )
        if verifies(layout.start, input, datagram) { return .accept(layout.hello(in: datagram)) }
        return reply(input, layout.recordSequenceNumber, layout.messageSequence, largest: datagram.count)
    }

    private func judgeFragments(
        of datagram: UnsafeRawBufferPointer,
        from source: [UInt8],
        _ reassembly: inout HelloReassembly,
        now: Moment
    ) -> Verdict {
        var offset = 0
        while let header = RecordHeader(datagram, at: offset), header.contentType == ContentType.handshake,
            header.epoch == 0
        {
            let end = offset + RecordHeader.size + header.length
            guard
                let fragment = HandshakeFragment(datagram, at: offset + RecordHeader.size, end: end),
                fragment.type == HandshakeType.clientHello,
                fragment.messageSequence <= Self.maximumMessageSequence
            else { return .ignore }
            if fragment.fragmentOffset == 0 {
                guard let start = ClientHelloStart(datagram, fragment.body) else { return .ignore }
                let input = Self.input(source, Self.firstFragment, datagram[start.beforeCookie])
                guard verifies(start, input, datagram) else {
                    return reply(input, header.sequenceNumber, fragment.messageSequence, largest: datagram.count)
                }
                reassembly.begin(source, fragment, recordSequenceNumber: header.sequenceNumber, now: now)
            }
            if let record = reassembly.add(source, fragment, in: datagram, now: now) {
                return record.withUnsafeBytes { bytes in
                    (try? ClientHelloLayout(bytes)).map { .accept($0.hello(in: bytes)) } ?? .ignore
                }
            }
            offset = end
        }
        return .ignore
    }

    /// The first hello and the one with the cookie. A third is one that was sent back for another cookie (the server
    /// was restarted in between), and OpenSSL cannot go on from it: DTLSv1_listen(3) knows first and second hellos
    /// only. Such a client begins anew.
    private static let maximumMessageSequence: UInt16 = 1

    // What cookies are made of begins differently for whole hellos, which are bound up to their extensions, and for
    // those in fragments, which are bound as far as their first fragment is sure to reach.
    private static let wholeMessage: UInt8 = 0
    private static let firstFragment: UInt8 = 1

    /// The source's length comes first, so that no other split of the same bytes has the same cookie.
    private static func input(_ source: [UInt8], _ kind: UInt8, _ parts: Slice<UnsafeRawBufferPointer>...) -> [UInt8] {
        var input: [UInt8] = []
        input.reserveCapacity(parts.reduce(2 + source.count) { $0 + $1.count })
        input.append(UInt8(truncatingIfNeeded: source.count))
        input += source
        input.append(kind)
        for part in parts { input.append(contentsOf: UnsafeRawBufferPointer(rebasing: part)) }
        return input
    }

    private func verifies(_ start: ClientHelloStart, _ input: [UInt8], _ datagram: UnsafeRawBufferPointer) -> Bool {
        !start.cookie.isEmpty && cookies.verify(UnsafeRawBufferPointer(rebasing: datagram[start.cookie]), for: input)
    }

    private func reply(_ input: [UInt8], _ record: UInt64, _ message: UInt16, largest: Int) -> Verdict {
        guard let cookie = cookies.make(for: input) else { return .ignore }
        let reply = Self.helloVerifyRequest(cookie, recordSequenceNumber: record, messageSequence: message)
        return reply.count <= largest ? .reply(reply) : .ignore
    }

    private static func helloVerifyRequest(
        _ cookie: [UInt8],
        recordSequenceNumber: UInt64,
        messageSequence: UInt16
    ) -> [UInt8] {
        // server_version and the cookie; the version is that of DTLS 1.0 whatever follows (RFC 6347 §4.2.1).
        let body: [UInt8] = [0xFE, 0xFF, UInt8(cookie.count)] + cookie
        var record: [UInt8] = []
        record.reserveCapacity(RecordHeader.size + HandshakeFragment.headerSize + body.count)
        // The same record sequence number as the hello's, so that nothing has to be remembered.
        ClearRecord.appendFragment(
            HandshakeType.helloVerifyRequest,
            messageLength: body.count,
            messageSequence: messageSequence,
            at: 0,
            body,
            numbered: recordSequenceNumber,
            version: 0xFF,
            to: &record
        )
        return record
    }
}
