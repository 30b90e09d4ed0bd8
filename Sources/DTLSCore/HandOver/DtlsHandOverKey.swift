import DTLSPrimitives

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// The key under which associations travel from one process or host to another: 32 random bytes that both have, and
/// nobody else.
///
/// What it seals, with AES-256-GCM, holds the keys of the associations: whoever has both reads and forges their
/// traffic.
public struct DtlsHandOverKey: Sendable {
    /// The length of a key in bytes: 32.
    public static let length = 32

    private let secret: DtlsSecretBytes
    private let cipher: RecordCipher

    // Magic with a version, expiry, nonce; in clear, and authenticated.
    private static let magic: [UInt8] = Array("DTLShov1".utf8)
    private static let headerLength = 8 + 8 + RecordCipher.nonceLength
    private static let tagLength = 16

    /// Makes a key of bytes that sender and receiver share.
    ///
    /// - Throws: ``DtlsError/Code-swift.struct/invalidConfiguration`` when there are not ``length`` of them,
    ///   ``DtlsError/Code-swift.struct/internalFailure`` when OpenSSL has no AES-256-GCM.
    public init(_ secret: DtlsSecretBytes) throws(DtlsError) {
        guard secret.count == Self.length else {
            let message = "a hand-over key has \(secret.count) bytes in place of \(Self.length)"
            throw DtlsError(.invalidConfiguration, phase: .configuration, message)
        }
        guard let cipher = RecordCipher.of(.aes256GCM) else {
            throw OpenSSLErrorQueue.error(.internalFailure, phase: .configuration, "there is no AES-256-GCM")
        }
        self.secret = secret
        self.cipher = cipher
    }

    /// Makes a random key (`RAND_bytes(3)`).
    ///
    /// - Throws: ``DtlsError/Code-swift.struct/internalFailure`` when there is no randomness, or OpenSSL has no
    ///   AES-256-GCM.
    public static func random() throws(DtlsError) -> DtlsHandOverKey {
        try DtlsHandOverKey(try RandomBytes.secret(length))
    }

    /// The key's bytes, for whoever is to have it.
    public var bytes: DtlsSecretBytes { secret }

    /// Throws unless something may be sealed for so long.
    package func validate(_ lifetime: Duration) throws(DtlsError) {
        guard lifetime >= .seconds(1), lifetime <= .seconds(86_400) else {
            let message = "a hand-over cannot last \(lifetime): one second to one day is possible"
            throw DtlsError(.invalidConfiguration, phase: .configuration, message)
        }
    }

    /// Seals bytes with AES-256-GCM, under a random nonce.
    ///
    /// - Parameters:
    ///   - lifetime: For how long they may be opened, by the clocks of both machines: one second to one day.
    ///   - nonce: What ``makeNonce()`` has made for this alone.
    package func seal(
        _ contents: DtlsSecretBytes,
        lifetime: Duration,
        nonce: [UInt8]
    ) throws(DtlsError) -> [UInt8] {
        try validate(lifetime)
        let expiry = Int64(time(nil)) + lifetime.components.seconds
        var sealed = Self.magic
        withUnsafeBytes(of: expiry.bigEndian) { sealed += $0 }
        sealed += nonce
        sealed += [UInt8](repeating: 0, count: contents.count + Self.tagLength)
        let isSealed = sealed.withUnsafeMutableBytes { all in
            let body = Self.headerLength..<(all.count - Self.tagLength)
            return contents.withUnsafeBytes { contents in
                cipher.seal(
                    contents,
                    into: UnsafeMutableRawBufferPointer(rebasing: all[body]),
                    key: secret,
                    header: UnsafeRawBufferPointer(rebasing: all[..<Self.headerLength]),
                    tag: UnsafeMutableRawBufferPointer(rebasing: all[body.upperBound...])
                )
            }
        }
        guard isSealed else {
            throw DtlsError(.internalFailure, phase: .configuration, "OpenSSL could not seal a hand-over")
        }
        return sealed
    }

    /// Makes a nonce: before there is something that must not be lost because there is none.
    package static func makeNonce() throws(DtlsError) -> [UInt8] { try RandomBytes.array(RecordCipher.nonceLength) }

    /// The most bytes that are sealed at once.
    package static let maximumContents = 1 << 30

    /// Opens what ``seal(_:lifetime:nonce:)`` has sealed, once in a process.
    package func open(_ sealed: [UInt8]) throws(DtlsError) -> DtlsSecretBytes {
        func refuse(_ message: String, _ hint: String? = nil) -> DtlsError {
            DtlsError(.handOverRefused, phase: .configuration, message, hint: hint)
        }
        guard sealed.count >= Self.headerLength + Self.tagLength, sealed.starts(with: Self.magic) else {
            throw refuse("the bytes are no hand-over, or one of another version of the library")
        }
        var isAuthentic = false
        let contents = DtlsSecretBytes(count: sealed.count - Self.headerLength - Self.tagLength) { contents in
            sealed.withUnsafeBytes { all in
                let body = Self.headerLength..<(all.count - Self.tagLength)
                isAuthentic = cipher.open(
                    UnsafeRawBufferPointer(rebasing: all[body]),
                    into: contents,
                    key: secret,
                    header: UnsafeRawBufferPointer(rebasing: all[..<Self.headerLength]),
                    tag: UnsafeRawBufferPointer(rebasing: all[body.upperBound...])
                )
            }
        }
        guard isAuthentic else {
            throw refuse("the hand-over does not open", "it was sealed with another key, or was damaged")
        }
        let expiry = sealed[8..<16].reduce(Int64(0)) { $0 << 8 | Int64($1) }
        let now = Int64(time(nil))
        guard now <= expiry else {
            throw refuse("the hand-over has expired", "compare the machines' clocks, or give it a longer lifetime")
        }
        let nonce = Array(sealed[16..<Self.headerLength])
        let isFirst = Self.taken.withLock { taken in
            taken = taken.filter { $0.value >= now }
            return taken.updateValue(expiry, forKey: nonce) == nil
        }
        guard isFirst else {
            throw refuse(
                "the hand-over was taken already",
                "two that go on with one association would use its keys' nonces twice"
            )
        }
        return contents
    }

    /// Lets be opened once more what has been opened and not been used: of which no association was made.
    package static func giveBack(_ sealed: [UInt8]) {
        guard sealed.count >= headerLength else { return }
        taken.withLock { $0[Array(sealed[16..<headerLength])] = nil }
    }

    /// What this process has taken, by nonce, until it expires.
    private static let taken = Lock<[[UInt8]: Int64]>([:])
}

extension RecordCipher {
    fileprivate func seal(
        _ contents: UnsafeRawBufferPointer,
        into output: UnsafeMutableRawBufferPointer,
        key: DtlsSecretBytes,
        header: UnsafeRawBufferPointer,
        tag: UnsafeMutableRawBufferPointer
    ) -> Bool {
        let nonce = UnsafeRawBufferPointer(rebasing: header[16...])
        return key.withUnsafeBytes {
            seal(contents, into: output, key: Key($0), nonce: nonce, additionalData: header, tag: tag)
        }
    }

    fileprivate func open(
        _ contents: UnsafeRawBufferPointer,
        into output: UnsafeMutableRawBufferPointer,
        key: DtlsSecretBytes,
        header: UnsafeRawBufferPointer,
        tag: UnsafeRawBufferPointer
    ) -> Bool {
        let nonce = UnsafeRawBufferPointer(rebasing: header[16...])
        return key.withUnsafeBytes {
            open(contents, into: output, key: Key($0), nonce: nonce, additionalData: header, tag: tag)
        }
    }
}
