import COpenSSL
import DTLSPrimitives

/// Cookies that bind an address to a ClientHello under a secret (RFC 6347 §4.2.1).
///
/// A secret of its own is random and changes with time; cookies made with the one before are still good, so that a
/// rotation between the two hellos of a client is not noticed. Secrets that hosts share change when the application
/// says so.
struct HelloCookie {
    /// 16 bytes: more could make an answer larger than the shortest hello.
    static let length = 16

    /// How long one secret makes cookies.
    static let rotationInterval = Duration.seconds(60)

    private let shared: DtlsCookieSecrets?
    private var current: DtlsSecretBytes
    private var previous: DtlsSecretBytes
    private var rotatesAt: Moment

    init(shared: DtlsCookieSecrets? = nil, now: Moment) throws(DtlsError) {
        self.shared = shared
        current = try DtlsCookieSecrets.randomSecret()
        previous = try DtlsCookieSecrets.randomSecret()
        rotatesAt = now + Self.rotationInterval
    }

    /// Takes a new secret if it is time.
    mutating func rotate(now: Moment) {
        guard shared == nil, now >= rotatesAt, let fresh = try? DtlsCookieSecrets.randomSecret() else { return }
        // After a long silence the previous secret is as old as the current one: neither may be valid.
        let isLate = now >= rotatesAt + Self.rotationInterval
        previous = isLate ? fresh : current
        current = fresh
        // From when it was due: counted from now, where hellos are rare a cookie would be good for almost three
        // intervals.
        rotatesAt = (isLate ? now : rotatesAt) + Self.rotationInterval
    }

    func make(for input: [UInt8]) -> [UInt8]? {
        guard let secret = shared == nil ? current : shared?.secrets.first else { return nil }
        return Self.withCookie(for: input, secret) { Array($0) }
    }

    func verify(_ cookie: UnsafeRawBufferPointer, for input: [UInt8]) -> Bool {
        guard cookie.count == Self.length else { return false }
        func isMade(with secret: DtlsSecretBytes) -> Bool {
            Self.withCookie(for: input, secret) { CRYPTO_memcmp($0.baseAddress, cookie.baseAddress, Self.length) == 0 }
                ?? false
        }
        if let shared { return shared.secrets.contains { isMade(with: $0) } }
        return isMade(with: current) || isMade(with: previous)
    }

    /// Calls `body` with the cookie; `nil` when OpenSSL cannot make it.
    private static func withCookie<Result>(
        for input: [UInt8],
        _ secret: DtlsSecretBytes,
        _ body: (UnsafeRawBufferPointer) -> Result
    ) -> Result? {
        guard let hash = KeyedHash.sha256 else { return nil }
        return withUnsafeTemporaryAllocation(byteCount: hash.length, alignment: 8) { digest in
            let isDone = secret.withUnsafeBytes { key in
                input.withUnsafeBytes { hash.authenticate($0, key: key, into: digest) }
            }
            return isDone ? body(UnsafeRawBufferPointer(rebasing: digest[..<length])) : nil
        }
    }
}
