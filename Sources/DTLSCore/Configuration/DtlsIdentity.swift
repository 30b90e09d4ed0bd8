import COpenSSL

/// A certificate chain and the private key of its first certificate: what a side proves its identity with.
public struct DtlsIdentity: Sendable {
    /// The chain, the own certificate first, then those that lead towards the root; it is sent as it stands here. The
    /// root itself may be left out. Empty for a raw public key.
    public let certificateChain: [DtlsCertificate]

    /// The private key of the first certificate, or of the raw public key.
    public let privateKey: DtlsPrivateKey

    /// An OCSP response about the first certificate (RFC 6960, DER), which a server staples for clients that ask (RFC
    /// 6066 §8). Fetch it from the issuer and renew it before it expires. From OpenSSL 3.6 on, one that is not about
    /// this certificate is not sent, nor is any about a self-signed certificate: clients go on as without one. Default:
    /// none.
    public var ocspResponse: [UInt8]?

    /// Joins a chain and its key (`X509_check_private_key(3)`). The rest of the chain is not looked at.
    ///
    /// - Throws: ``DtlsError/Code-swift.struct/invalidCertificate`` for an empty chain,
    ///   ``DtlsError/Code-swift.struct/privateKeyMismatch`` when the key is not that of the first certificate.
    public init(certificateChain: [DtlsCertificate], privateKey: DtlsPrivateKey) throws(DtlsError) {
        guard let leaf = certificateChain.first else {
            throw DtlsError(.invalidCertificate, phase: .configuration, "the certificate chain is empty")
        }
        OpenSSLErrorQueue.clear()
        let matches = leaf.withX509 { certificate in
            privateKey.withPrivateKey { key in X509_check_private_key(certificate, key) == 1 }
        }
        guard matches else {
            throw OpenSSLErrorQueue.error(
                .privateKeyMismatch,
                phase: .configuration,
                "the private key does not belong to the certificate \(leaf)",
                hint: "the chain's first certificate must be the own one"
            )
        }
        self.certificateChain = certificateChain
        self.privateKey = privateKey
    }

    /// Makes an identity of a key alone, for peers that know it by its public half (RFC 7250; see
    /// ``DtlsConfiguration/rawPublicKeys``).
    public init(rawPublicKeyOf privateKey: DtlsPrivateKey) {
        certificateChain = []
        self.privateKey = privateKey
    }

    /// Reads a chain and its key from PEM files. It blocks while it reads.
    ///
    /// - Parameters:
    ///   - certificateFile: The path of the chain, the own certificate first.
    ///   - privateKeyFile: The path of the key, which may be the same file.
    ///   - passphrase: Of the key, if it is encrypted. Default: none.
    /// - Throws: What ``DtlsCertificate/certificates(pemFile:)``, ``DtlsPrivateKey/init(pemFile:passphrase:)`` and
    ///   ``init(certificateChain:privateKey:)`` throw.
    public init(
        certificateFile: String,
        privateKeyFile: String,
        passphrase: DtlsSecretBytes? = nil
    ) throws(DtlsError) {
        try self.init(
            certificateChain: try DtlsCertificate.certificates(pemFile: certificateFile),
            privateKey: try DtlsPrivateKey(pemFile: privateKeyFile, passphrase: passphrase)
        )
    }

    /// Makes a key and a certificate that it signs itself, for tests, demonstrations and peers that pin fingerprints.
    ///
    /// It takes a moment of computing (RSA: much of a second) on the calling thread.
    ///
    /// - Parameters:
    ///   - commonName: The subject's common name: 1 to 64 characters.
    ///   - names: DNS names and IP address literals for the subjectAltName extension.
    ///   - validity: How long from now it is valid: one second or more, up to the end of the year 9999, which is the
    ///     last that a certificate can say; a fraction of a second is cut off. It starts an hour ago, for peers whose
    ///     clock is late. Default: 30 days.
    ///   - key: The kind of key. Default: P-256.
    /// - Throws: ``DtlsError/Code-swift.struct/invalidConfiguration`` for a name that cannot stand in a certificate, a
    ///   validity or an RSA modulus out of its range, ``DtlsError/Code-swift.struct/internalFailure`` when OpenSSL
    ///   fails.
    public static func selfSigned(
        commonName: String,
        names: [String] = [],
        validity: Duration = .seconds(30 * 86_400),
        key: DtlsKeyKind = .p256
    ) throws(DtlsError) -> DtlsIdentity {
        guard validity >= .seconds(1) else { throw CertificateMint.invalidValidity(validity) }
        return try CertificateMint(
            commonName: commonName,
            names: names,
            validFor: validity,
            key: key
        ).selfSigned()
    }
}

/// The kinds of key that ``DtlsIdentity/selfSigned(commonName:names:validity:key:)`` makes.
public struct DtlsKeyKind: Sendable, Hashable {
    enum Kind: Hashable {
        case ec(String)
        case ed25519
        case rsa(Int)
    }

    let kind: Kind

    /// ECDSA on the curve P-256.
    public static let p256 = DtlsKeyKind(kind: .ec("P-256"))

    /// ECDSA on the curve P-384.
    public static let p384 = DtlsKeyKind(kind: .ec("P-384"))

    /// Ed25519. OpenSSL uses such certificates in DTLS from version 4.1 on.
    public static let ed25519 = DtlsKeyKind(kind: .ed25519)

    /// RSA with a modulus of 2,048 to 8,192 bits, which is checked when the key is made.
    ///
    /// - Parameter bits: The length of the modulus. Default: 2,048.
    public static func rsa(bits: Int = 2_048) -> DtlsKeyKind { DtlsKeyKind(kind: .rsa(bits)) }
}
