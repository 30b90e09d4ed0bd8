import COpenSSL

/// Cookies that bind an address to a ClientHello under a secret (RFC 6347 §4.2.1).
///
/// The secret is random and changes with time; cookies made with the one before are still good, so that a rotation between the
/// two hellos of a client is not noticed.
struct HelloCookie {
    /// 16 bytes: more could make an answer larger than the shortest hello.
    static let length = 16

    /// How long one secret makes cookies.
    static let rotationInterval = Duration.seconds(60)

    private var current: [UInt8]
    private var previous: [UInt8]
    private var rotatesAt: ContinuousClock.Instant

    init(now: ContinuousClock.Instant) throws(DtlsError) {
        current = try RandomBytes.array(32)
        previous = try RandomBytes.array(32)
        rotatesAt = now + Self.rotationInterval
    }

    /// Takes a new secret if it is time.
    mutating func rotate(now: ContinuousClock.Instant) {
        guard now >= rotatesAt, let fresh = try? RandomBytes.array(32) else { return }
        // After a long silence the previous secret is as old as the current one: neither may be valid.
        previous = now >= rotatesAt + Self.rotationInterval ? fresh : current
        current = fresh
        rotatesAt = now + Self.rotationInterval
    }

    func make(for input: [UInt8]) -> [UInt8]? {
        Self.authenticate(input, with: current)
    }

    func verify(_ cookie: UnsafeRawBufferPointer, for input: [UInt8]) -> Bool {
        guard cookie.count == Self.length else { return false }
        for secret in [current, previous] {
            if let expected = Self.authenticate(input, with: secret),
                CRYPTO_memcmp(expected, cookie.baseAddress, Self.length) == 0
            {
                return true
            }
        }
        return false
    }

    private static func authenticate(_ input: [UInt8], with secret: [UInt8]) -> [UInt8]? {
        var digest = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
        var count: UInt32 = 0
        guard HMAC(EVP_sha256(), secret, Int32(secret.count), input, input.count, &digest, &count) != nil,
            count >= length
        else { return nil }
        return Array(digest[..<length])
    }
}
