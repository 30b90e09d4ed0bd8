import COpenSSL

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Makes certificates at run time: self-signed ones for users, chains for tests.
package struct CertificateMint: Sendable {
    /// What a certificate may be used for.
    package enum Usage: Sendable {
        case any
        case authority
        case server
        case client
    }

    package var commonName: String
    package var names: [String]
    package var validFor: Duration
    package var startsAgo: Duration = .seconds(3_600)
    package var key: DtlsKeyKind
    package var usage: Usage = .any

    package init(
        commonName: String,
        names: [String] = [],
        validFor: Duration = .seconds(30 * 86_400),
        key: DtlsKeyKind = .p256,
        usage: Usage = .any
    ) {
        self.commonName = commonName
        self.names = names
        self.validFor = validFor
        self.key = key
        self.usage = usage
    }

    package func selfSigned() throws(DtlsError) -> DtlsIdentity {
        try identity(signedBy: nil)
    }

    /// An identity whose chain is the new certificate followed by the issuer's chain without its root.
    package func signed(by issuer: DtlsIdentity) throws(DtlsError) -> DtlsIdentity {
        try identity(signedBy: issuer)
    }

    /// Seconds, of which any sum is a number; far more than a certificate can say.
    private static func bounded(_ duration: Duration) -> Int64 {
        let limit: Int64 = 1 << 40
        return Swift.min(Swift.max(duration.components.seconds, -limit), limit)
    }

    /// The last second that a certificate can say, of the year 9999 (RFC 5280 §4.1.2.5): OpenSSL writes later ones in a
    /// way that nobody, itself included, can read.
    private static let latest: Int64 = 253_402_300_799

    static func invalidValidity(_ validity: Duration) -> DtlsError {
        DtlsError(
            .invalidConfiguration,
            phase: .configuration,
            "a certificate cannot be valid for \(validity)",
            hint: "one second or more, up to the end of the year 9999"
        )
    }

    private func identity(signedBy issuer: DtlsIdentity?) throws(DtlsError) -> DtlsIdentity {
        OpenSSLErrorQueue.clear()
        let now = Int64(time(nil))
        let end = now + Self.bounded(validFor)
        guard end <= Self.latest else { throw Self.invalidValidity(validFor) }
        let privateKey = try makeKey()
        let certificate = OwnedX509(takingOwnershipOf: try OpenSSLErrorQueue.checked(X509_new(), "X509_new"))
        let x509 = certificate.pointer
        try OpenSSLErrorQueue.check(X509_set_version(x509, 2), "X509_set_version")
        try setSerialNumber(of: x509)
        try OpenSSLErrorQueue.check(
            COpenSSL_X509_set_validity(x509, now - Self.bounded(startsAgo), end),
            "ASN1_TIME_set"
        )
        let name = Array(commonName.utf8)
        guard COpenSSL_X509_set_common_name(x509, name, Int32(clamping: name.count)) == 1 else {
            let message = "\(commonName.sanitized()) cannot be a common name"
            throw OpenSSLErrorQueue.error(
                .invalidConfiguration,
                phase: .configuration,
                message,
                hint: "1 to 64 characters"
            )
        }
        let set = privateKey.withPrivateKey { X509_set_pubkey(x509, $0) }
        try OpenSSLErrorQueue.check(set, "X509_set_pubkey")

        if let issuer, let issuerCertificate = issuer.certificateChain.first {
            try issuerCertificate.withX509 { pointer throws(DtlsError) in
                try finish(x509, issuer: pointer, signingKey: issuer.privateKey)
            }
            let chain =
                [try DtlsCertificate(borrowing: x509)] + issuer.certificateChain.filter { $0.subject != $0.issuer }
            return try DtlsIdentity(certificateChain: chain, privateKey: privateKey)
        }
        try finish(x509, issuer: x509, signingKey: privateKey)
        return try DtlsIdentity(certificateChain: [try DtlsCertificate(borrowing: x509)], privateKey: privateKey)
    }

    private func makeKey() throws(DtlsError) -> DtlsPrivateKey {
        let pointer: OpaquePointer?
        switch key.kind {
        case .ec(let curve):
            pointer = COpenSSL_EVP_EC_gen(curve)
        case .ed25519:
            pointer = COpenSSL_EVP_ED25519_gen()
        case .rsa(let bits):
            guard (2_048...8_192).contains(bits) else {
                let message = "an RSA modulus of \(bits) bits is outside of 2048 to 8192"
                throw DtlsError(.invalidConfiguration, phase: .configuration, message)
            }
            pointer = COpenSSL_EVP_RSA_gen(UInt32(bits))
        }
        return DtlsPrivateKey(
            OwnedPrivateKey(takingOwnershipOf: try OpenSSLErrorQueue.checked(pointer, "EVP_PKEY_Q_keygen"))
        )
    }

    private func setSerialNumber(of certificate: OpaquePointer) throws(DtlsError) {
        // 16 random bytes, positive and not zero (RFC 5280 §4.1.2.2).
        var serial = try RandomBytes.array(16)
        serial[0] = serial[0] & 0x7F | 0x40
        try OpenSSLErrorQueue.check(COpenSSL_X509_set_serial(certificate, serial, 16), "BN_to_ASN1_INTEGER")
    }

    private func finish(_ certificate: OpaquePointer, issuer: OpaquePointer, signingKey: DtlsPrivateKey)
        throws(DtlsError)
    {
        try OpenSSLErrorQueue.check(COpenSSL_X509_set_issuer_from(certificate, issuer), "X509_set_issuer_name")
        for (nid, value) in try extensions() {
            guard COpenSSL_X509_add_extension(certificate, issuer, nid, value) == 1 else {
                let message = "the certificate extension \(value.sanitized()) cannot be made"
                throw OpenSSLErrorQueue.error(.invalidConfiguration, phase: .configuration, message)
            }
        }
        let signed = signingKey.withPrivateKey { key in
            // Ed25519 hashes by itself.
            X509_sign(certificate, key, EVP_PKEY_is_a(key, "ED25519") == 1 ? nil : EVP_sha256())
        }
        try OpenSSLErrorQueue.check(signed, "X509_sign")
    }

    private func extensions() throws(DtlsError) -> [(nid: Int32, value: String)] {
        var extensions: [(Int32, String)] = [
            (NID_subject_key_identifier, "hash")
        ]
        switch usage {
        case .authority:
            extensions.append((NID_basic_constraints, "critical,CA:TRUE"))
            extensions.append((NID_key_usage, "critical,keyCertSign,cRLSign"))
        case .any:
            extensions.append((NID_basic_constraints, "critical,CA:FALSE"))
        case .server:
            extensions.append((NID_basic_constraints, "critical,CA:FALSE"))
            extensions.append((NID_ext_key_usage, "serverAuth"))
        case .client:
            extensions.append((NID_basic_constraints, "critical,CA:FALSE"))
            extensions.append((NID_ext_key_usage, "clientAuth"))
        }
        if !names.isEmpty {
            var values: [String] = []
            for name in names {
                // The text goes through OpenSSL's configuration parser, in which these characters mean something.
                guard !name.isEmpty,
                    !name.utf8.contains(where: { $0 <= 0x20 || $0 >= 0x7F || ",;=\\\"'#".utf8.contains($0) })
                else {
                    let message = "\(name.sanitized()) cannot be a name in a certificate"
                    throw DtlsError(.invalidConfiguration, phase: .configuration, message)
                }
                values.append((isIPAddress(name) ? "IP:" : "DNS:") + name)
            }
            extensions.append((NID_subject_alt_name, values.joined(separator: ",")))
        }
        return extensions
    }

}

/// Whether `name` is an IPv4 or IPv6 literal rather than a host name.
func isIPAddress(_ name: String) -> Bool {
    var v4 = in_addr()
    var v6 = in6_addr()
    return inet_pton(AF_INET, name, &v4) == 1 || inet_pton(AF_INET6, name, &v6) == 1
}

/// Random bytes from OpenSSL's generator.
enum RandomBytes {
    /// Such as nobody else may know: no copy of them stays behind.
    static func secret(_ count: Int) throws(DtlsError) -> DtlsSecretBytes {
        var isMade = false
        let secret = DtlsSecretBytes(count: count) { bytes in
            let start = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
            isMade = RAND_bytes(start, Int32(clamping: bytes.count)) == 1
        }
        guard isMade else { throw failure }
        return secret
    }

    static func array(_ count: Int) throws(DtlsError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        guard RAND_bytes(&bytes, Int32(clamping: count)) == 1 else {
            throw failure
        }
        return bytes
    }

    private static var failure: DtlsError {
        OpenSSLErrorQueue.error(.internalFailure, phase: nil, "RAND_bytes failed")
    }
}
