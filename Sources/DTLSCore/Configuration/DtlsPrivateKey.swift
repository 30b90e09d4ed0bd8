import COpenSSL

/// A private key: EC, RSA, Ed25519 or whatever else OpenSSL signs with.
public struct DtlsPrivateKey: Sendable, CustomStringConvertible {
    private let storage: Storage

    /// Reads the first private key of a PEM text: PKCS#8, encrypted PKCS#8, or the older kinds of one algorithm
    /// (`PEM_read_bio_PrivateKey(3)`). It never asks on the terminal.
    ///
    /// - Parameters:
    ///   - pem: The text.
    ///   - passphrase: What it is encrypted with, up to 1,024 bytes. Default: none.
    /// - Throws: ``DtlsError/Code-swift.struct/invalidPrivateKey`` when there is none, or when its passphrase is
    ///   missing or wrong.
    public init(pem: String, passphrase: DtlsSecretBytes? = nil) throws(DtlsError) {
        try self.init(pemBytes: DtlsSecretBytes(utf8: pem), from: "the PEM text", passphrase: passphrase)
    }

    /// Reads the first private key of a PEM file of up to 16 MiB. It blocks while it reads.
    ///
    /// - Parameters:
    ///   - path: The file.
    ///   - passphrase: As in ``init(pem:passphrase:)``.
    /// - Throws: ``DtlsError/Code-swift.struct/fileUnreadable`` or, as ``init(pem:passphrase:)`` does,
    ///   ``DtlsError/Code-swift.struct/invalidPrivateKey``.
    public init(pemFile path: String, passphrase: DtlsSecretBytes? = nil) throws(DtlsError) {
        try self.init(pemBytes: try FileContents.readSecret(path), from: path, passphrase: passphrase)
    }

    /// Reads a private key in DER: PKCS#8, encrypted PKCS#8 when there is a passphrase, or the older kinds of one
    /// algorithm (`d2i_PrivateKey_bio(3)`, `d2i_PKCS8PrivateKey_bio(3)`).
    ///
    /// - Parameters:
    ///   - der: The bytes.
    ///   - passphrase: As in ``init(pem:passphrase:)``.
    /// - Throws: ``DtlsError/Code-swift.struct/invalidPrivateKey`` as ``init(pem:passphrase:)`` does.
    public init(der: [UInt8], passphrase: DtlsSecretBytes? = nil) throws(DtlsError) {
        self = try Self.read(DtlsSecretBytes(der), from: "the DER bytes", passphrase: passphrase) { bio, userdata in
            if passphrase == nil {
                d2i_PrivateKey_bio(bio, nil)
            } else {
                d2i_PKCS8PrivateKey_bio(bio, nil, supplyPassphrase, userdata)
            }
        }
    }

    /// Loads a private key by URI through OpenSSL's store loaders (`OSSL_STORE_open(3)`): `file:/etc/key.pem`, and
    /// `pkcs11:…`, `handle:…` and the like where a provider for them is there, so that the key never leaves its
    /// hardware. It blocks while the loader does.
    ///
    /// - Parameters:
    ///   - uri: Where the key is. The first private key that is found there is taken.
    ///   - passphrase: Passphrase or PIN. It is never asked for on the terminal. Default: none.
    /// - Throws: ``DtlsError/Code-swift.struct/invalidPrivateKey`` when nothing is found there or the passphrase (PIN)
    ///   is missing or wrong, ``DtlsError/Code-swift.struct/unsupported`` when no provider knows this kind of URI,
    ///   ``DtlsError/Code-swift.struct/internalFailure`` when OpenSSL has no memory.
    public init(uri: String, passphrase: DtlsSecretBytes? = nil) throws(DtlsError) {
        self.init(try PrivateKeyStore.load(uri, passphrase: passphrase))
    }

    private init(pemBytes: DtlsSecretBytes, from source: String, passphrase: DtlsSecretBytes?) throws(DtlsError) {
        self = try Self.read(pemBytes, from: source, passphrase: passphrase) { bio, userdata in
            PEM_read_bio_PrivateKey(bio, nil, supplyPassphrase, userdata)
        }
    }

    /// Takes over one reference to a key.
    init(_ key: consuming OwnedPrivateKey) {
        storage = Storage(key)
    }

    private static func read(
        _ bytes: DtlsSecretBytes,
        from source: String,
        passphrase: DtlsSecretBytes?,
        _ parse: (OpaquePointer, UnsafeMutableRawPointer) -> OpaquePointer?
    ) throws(DtlsError) -> DtlsPrivateKey {
        OpenSSLErrorQueue.clear()
        let request = PassphraseRequest(passphrase)
        let userdata = Unmanaged.passUnretained(request).toOpaque()
        let result: Result<OpaquePointer?, DtlsError> = bytes.withUnsafeBytes { bytes in
            do throws(DtlsError) {
                return .success(try OwnedBIO.withReading(bytes) { bio throws(DtlsError) in parse(bio, userdata) })
            } catch {
                return .failure(error)
            }
        }
        // The request must outlive the calls that saw its pointer.
        let passphraseWasAsked = withExtendedLifetime(request) { request.wasAsked }
        let pointer = (try? result.get()) ?? nil
        guard let pointer else {
            let name = source.sanitized()
            if passphraseWasAsked, passphrase == nil {
                // What OpenSSL says of a passphrase that there is not is only noise.
                OpenSSLErrorQueue.clear()
                let message = "the private key in \(name) is encrypted"
                throw DtlsError(.invalidPrivateKey, phase: .configuration, message, hint: "give its passphrase")
            }
            throw OpenSSLErrorQueue.error(
                .invalidPrivateKey,
                phase: .configuration,
                passphrase == nil
                    ? "\(name) holds no private key that OpenSSL can read"
                    : "the private key in \(name) cannot be read with this passphrase"
            )
        }
        OpenSSLErrorQueue.clear()
        return DtlsPrivateKey(OwnedPrivateKey(takingOwnershipOf: pointer))
    }

    /// The key as PKCS#8 in PEM, not encrypted.
    ///
    /// - Throws: ``DtlsError/Code-swift.struct/unsupported`` when the key does not leave its provider (a hardware
    ///   token), ``DtlsError/Code-swift.struct/internalFailure`` when OpenSSL has no memory.
    public func pem() throws(DtlsError) -> DtlsSecretBytes {
        OpenSSLErrorQueue.clear()
        // A secure-memory BIO wipes what it held.
        let bio = OwnedBIO(takingOwnershipOf: try OpenSSLErrorQueue.checked(BIO_new(BIO_s_secmem()), "BIO_new"))
        guard PEM_write_bio_PKCS8PrivateKey(bio.pointer, storage.pointer, nil, nil, 0, nil, nil) == 1 else {
            throw OpenSSLErrorQueue.error(.unsupported, phase: nil, "the private key cannot be exported")
        }
        return DtlsSecretBytes(bio.contents)
    }

    /// The SHA-256 hash of the public half with its algorithm (SubjectPublicKeyInfo), which a peer may pin
    /// (``DtlsPin/publicKey(_:)``).
    public var publicKeyFingerprint: DtlsFingerprint {
        DtlsFingerprint(sha256Of: X509Text.publicKeyInfo(ofKey: storage.pointer))
    }

    /// The algorithm and size, such as `<EC private key, 256 bits>`, never the key.
    public var description: String {
        let name = EVP_PKEY_get0_type_name(storage.pointer).map { String(cString: $0) } ?? "unknown"
        return "<\(name) private key, \(EVP_PKEY_get_bits(storage.pointer)) bits>"
    }

    /// Calls `body` with the `EVP_PKEY`. Only for calls that read it or take a reference of their own.
    package func withPrivateKey<Result, Failure: Error>(
        _ body: (OpaquePointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(storage.pointer)
    }

    private final class Storage: Sendable {
        // An EVP_PKEY that is never changed after init; OpenSSL guards its own caches in it with locks.
        nonisolated(unsafe) let pointer: OpaquePointer

        init(_ key: consuming OwnedPrivateKey) {
            EVP_PKEY_up_ref(key.pointer)
            pointer = key.pointer
        }

        deinit { EVP_PKEY_free(pointer) }
    }
}
