import COpenSSL

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// A session that a client may resume later: the handshake is shorter, and neither certificates nor keys are computed
/// again.
///
/// It holds the session's secret, and whoever has it can pose as this client until it expires: keep ``bytes`` as you
/// keep a key, encrypted where that matters. It is good only for contexts that demand the same of the server, for the
/// same server name and with the same credentials; with others the client makes a full handshake.
public struct DtlsSession: Sendable, CustomStringConvertible {
    /// Until when it may be resumed, in seconds since 1970, UTC, by the clock of the machine that has made it.
    public let expiresAt: Int64

    let fingerprint: [UInt8]
    let contents: DtlsSecretBytes

    private static let magic: [UInt8] = Array("DTLSses1".utf8)
    private static let headerLength = 8 + 32 + 8

    init?(_ session: OpaquePointer, fingerprint: [UInt8]) {
        guard SSL_SESSION_is_resumable(session) == 1, let contents = SessionEncoding.encode(session) else { return nil }
        self.contents = contents
        self.fingerprint = fingerprint
        let lifetime = Int64(SSL_SESSION_get_timeout(session))
        let hint = Int64(SSL_SESSION_get_ticket_lifetime_hint(session))
        // From when it was made, not from when it was last resumed.
        expiresAt = Int64(SSL_SESSION_get_time(session)) + (hint > 0 ? Swift.min(lifetime, hint) : lifetime)
    }

    /// Reads what ``bytes`` has written. An expired session is read as well.
    ///
    /// - Throws: ``DtlsError/Code-swift.struct/invalidConfiguration`` when it is no such thing.
    public init(bytes: DtlsSecretBytes) throws(DtlsError) {
        var expiry: Int64 = 0
        var print: [UInt8] = []
        var body: DtlsSecretBytes?
        bytes.withUnsafeBytes { raw in
            guard raw.count > Self.headerLength, raw[..<8].elementsEqual(Self.magic) else { return }
            print = Array(raw[8..<40])
            expiry = raw[40..<48].reduce(Int64(0)) { $0 << 8 | Int64($1) }
            body = DtlsSecretBytes(raw[48...])
        }
        guard let body, let session = SessionEncoding.decode(body) else {
            OpenSSLErrorQueue.clear()
            throw DtlsError(.invalidConfiguration, phase: .configuration, "the bytes are no session")
        }
        SSL_SESSION_free(session)
        fingerprint = print
        expiresAt = expiry
        contents = body
    }

    /// The session as bytes, to be kept in a safe place, for ``init(bytes:)``.
    public var bytes: DtlsSecretBytes {
        contents.withUnsafeBytes { body in
            DtlsSecretBytes(count: Self.headerLength + body.count) { buffer in
                buffer.copyBytes(from: Self.magic + fingerprint)
                for index in 0..<8 {
                    buffer[40 + index] = UInt8(truncatingIfNeeded: expiresAt >> (56 - 8 * Int64(index)))
                }
                UnsafeMutableRawBufferPointer(rebasing: buffer[Self.headerLength...]).copyMemory(from: body)
            }
        }
    }

    /// Whether it may still be resumed, by this machine's clock.
    public var isExpired: Bool { Int64(time(nil)) >= expiresAt }

    /// Until when it may be resumed, never the secret.
    public var description: String { "<session until \(expiresAt)>" }
}

/// A session of a server, as its store keeps it. It holds the session's secret.
public struct DtlsStoredSession: Sendable {
    /// The ID under which clients ask for it: 1 to 32 bytes.
    public let id: [UInt8]

    /// What to keep and to give back: OpenSSL's encoding (`i2d_SSL_SESSION(3)`).
    public let contents: DtlsSecretBytes

    /// Makes a session from what a store has kept. Nothing is checked here: one that is damaged is not resumed.
    public init(id: [UInt8], contents: DtlsSecretBytes) {
        self.id = id
        self.contents = contents
    }
}

/// How a server's engines let clients resume sessions. (Module DTLS has `DtlsServerResumption` for its servers.)
///
/// The lifetime is checked when the context is made, which throws ``DtlsError/Code-swift.struct/invalidConfiguration``
/// for one out of its range.
public struct DtlsResumption: Sendable {
    enum Kind: Sendable {
        case none
        case tickets(DtlsTicketKeys)
        case store
    }

    let kind: Kind
    let lifetime: Duration

    /// Every handshake is a full one.
    public static let none = DtlsResumption(kind: .none, lifetime: .zero)

    /// Sessions live in tickets that clients keep (RFC 5077); the server keeps nothing.
    ///
    /// - Parameters:
    ///   - keys: The keys, which may be shared with other hosts and contexts.
    ///   - lifetime: How long a ticket is good, and no longer than its key is kept: one second to one week, of which a
    ///     fraction of a second is cut off. Default: two hours.
    public static func tickets(_ keys: DtlsTicketKeys, lifetime: Duration = .seconds(7_200)) -> DtlsResumption {
        DtlsResumption(kind: .tickets(keys), lifetime: lifetime)
    }

    /// Sessions live in a store of the application, by ID (RFC 5246 §7.4.1.2): the engine raises
    /// ``DtlsEvent/sessionEstablished(_:)`` when there is one to keep, and ``DtlsEvent/helloReceived(_:)`` when a
    /// client offers one.
    ///
    /// - Parameter lifetime: How long a session is good: one second to one week, of which a fraction of a second is cut
    ///   off. Default: two hours.
    public static func store(lifetime: Duration = .seconds(7_200)) -> DtlsResumption {
        DtlsResumption(kind: .store, lifetime: lifetime)
    }
}
