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

    private var secrets: [DtlsSecretBytes] { shared?.secrets ?? [current, previous] }

    func make(for input: [UInt8]) -> [UInt8]? {
        secrets.first.flatMap { Self.authenticate(input, with: $0) }
    }

    func verify(_ cookie: UnsafeRawBufferPointer, for input: [UInt8]) -> Bool {
        guard cookie.count == Self.length else { return false }
        for secret in secrets {
            if let expected = Self.authenticate(input, with: secret),
                CRYPTO_memcmp(expected, cookie.baseAddress, Self.length) == 0
            {
                return true
            }
        }
        return false
    }

    private static func authenticate(_ input: [UInt8], with secret: DtlsSecretBytes) -> [UInt8]? {
        let digest = secret.withUnsafeBytes { key in
            input.withUnsafeBytes { KeyedHash.sha256?.authenticate($0, key: key) }
        }
        return (digest ?? nil).flatMap { $0.count >= length ? Array($0[..<length]) : nil }
    }
}
