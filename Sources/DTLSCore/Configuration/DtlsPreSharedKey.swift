/// A pre-shared key and the identity under which the peer knows it (RFC 4279).
///
/// When the two sides' keys differ, the handshake fails with ``DtlsError/Code-swift.struct/authenticationFailed`` only
/// after three waits of the server's ``DtlsRetransmissionPolicy``: a server does not take one record that does not
/// open, which may be forged, for a wrong key. That is about 3 seconds by default, and some 16 with
/// ``DtlsConfiguration/iotConstrained``.
public struct DtlsPreSharedKey: Sendable {
    /// The longest identity that OpenSSL handles, in bytes.
    public static let maximumIdentityLength = 256

    /// The longest key that OpenSSL handles, in bytes.
    public static let maximumKeyLength = 512

    /// The identity, which travels in clear: 0 to 256 bytes, of any value but zero.
    public let identity: [UInt8]

    /// The key: 1 to 512 bytes. Use at least 16 random ones; a password of fewer can be guessed from one recorded
    /// handshake unless the suite is an ECDHE_PSK one.
    public let key: DtlsSecretBytes

    /// Makes a pre-shared key.
    ///
    /// - Parameters:
    ///   - identity: 0 to 256 bytes. A zero byte is refused, because OpenSSL would cut the identity there.
    ///   - key: 1 to 512 bytes.
    /// - Throws: ``DtlsError/Code-swift.struct/invalidPreSharedKey`` when either is out of its range.
    public init(identity: [UInt8], key: DtlsSecretBytes) throws(DtlsError) {
        guard identity.count <= Self.maximumIdentityLength else {
            throw Self.invalid("the identity has \(identity.count) bytes, more than \(Self.maximumIdentityLength)")
        }
        guard !identity.contains(0) else {
            throw Self.invalid("the identity contains a zero byte, at which OpenSSL would cut it")
        }
        try Self.validate(key)
        self.identity = identity
        self.key = key
    }

    /// Makes a pre-shared key from an identity's UTF-8 bytes and the bytes of the key. What the caller holds of them is
    /// the caller's to wipe.
    ///
    /// - Throws: ``DtlsError/Code-swift.struct/invalidPreSharedKey``, as ``init(identity:key:)-([UInt8],_)`` does.
    public init(identity: String, key: [UInt8]) throws(DtlsError) {
        try self.init(identity: Array(identity.utf8), key: DtlsSecretBytes(key))
    }

    /// Makes a pre-shared key from an identity's UTF-8 bytes and a key that is wiped when nobody holds it any more.
    ///
    /// - Throws: ``DtlsError/Code-swift.struct/invalidPreSharedKey``, as ``init(identity:key:)-([UInt8],_)`` does.
    public init(identity: String, key: DtlsSecretBytes) throws(DtlsError) {
        try self.init(identity: Array(identity.utf8), key: key)
    }

    package static func validate(_ key: DtlsSecretBytes) throws(DtlsError) {
        guard (1...maximumKeyLength).contains(key.count) else {
            throw invalid("the key has \(key.count) bytes; 1 to \(maximumKeyLength) are possible")
        }
    }

    private static func invalid(_ message: String) -> DtlsError {
        DtlsError(.invalidPreSharedKey, phase: .configuration, message)
    }
}
