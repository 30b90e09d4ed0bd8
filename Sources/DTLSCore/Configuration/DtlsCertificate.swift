import COpenSSL

/// An X.509 certificate (RFC 5280): its DER bytes and what they say.
///
/// Reading one verifies nothing. What it says of names is the text of whoever made it: escape it before showing it.
public struct DtlsCertificate: Sendable, Hashable, CustomStringConvertible {
    private let storage: Storage

    /// Reads a certificate in DER (`d2i_X509(3)`).
    ///
    /// - Throws: ``DtlsError/Code-swift.struct/invalidCertificate`` when the bytes are no certificate, or more than
    ///   one.
    public init(der: [UInt8]) throws(DtlsError) {
        OpenSSLErrorQueue.clear()
        var consumed = 0
        let pointer = der.withUnsafeBufferPointer { bytes -> OpaquePointer? in
            var cursor = bytes.baseAddress
            let pointer = d2i_X509(nil, &cursor, bytes.count)
            if let cursor, let start = bytes.baseAddress { consumed = cursor - start }
            return pointer
        }
        guard let pointer else {
            throw OpenSSLErrorQueue.error(.invalidCertificate, phase: .configuration, "the bytes are no certificate")
        }
        let certificate = OwnedX509(takingOwnershipOf: pointer)
        guard consumed == der.count else {
            let message = "\(der.count - consumed) bytes follow the certificate"
            throw DtlsError(.invalidCertificate, phase: .configuration, message)
        }
        storage = Storage(certificate, der: der)
    }

    /// Reads an `X509` without taking it over.
    init(borrowing pointer: OpaquePointer) throws(DtlsError) {
        var encoded: UnsafeMutablePointer<UInt8>?
        let count = i2d_X509(pointer, &encoded)
        guard count > 0, let encoded else {
            throw OpenSSLErrorQueue.error(.invalidCertificate, phase: nil, "the certificate has no encoding")
        }
        defer { COpenSSL_OPENSSL_free(encoded) }
        let der = Array(UnsafeBufferPointer(start: encoded, count: Int(count)))
        guard X509_up_ref(pointer) == 1 else {
            throw OpenSSLErrorQueue.error(.internalFailure, phase: nil, "X509_up_ref failed")
        }
        storage = Storage(OwnedX509(takingOwnershipOf: pointer), der: der)
    }

    /// Reads every certificate of a PEM text, in its order. Text around them is skipped.
    ///
    /// - Returns: One or more.
    /// - Throws: ``DtlsError/Code-swift.struct/invalidCertificate`` when there is none, or one is broken.
    public static func certificates(pem: String) throws(DtlsError) -> [DtlsCertificate] {
        try certificates(pemBytes: Array(pem.utf8), from: "the PEM text")
    }

    /// Reads every certificate of a PEM file of up to 16 MiB, in its order. It blocks while it reads.
    ///
    /// - Returns: One or more.
    /// - Throws: ``DtlsError/Code-swift.struct/fileUnreadable`` or, as ``certificates(pem:)`` does,
    ///   ``DtlsError/Code-swift.struct/invalidCertificate``.
    public static func certificates(pemFile path: String) throws(DtlsError) -> [DtlsCertificate] {
        try certificates(pemBytes: try FileContents.read(path), from: path)
    }

    private static func certificates(pemBytes: [UInt8], from source: String) throws(DtlsError) -> [DtlsCertificate] {
        OpenSSLErrorQueue.clear()
        let none = DtlsError(
            .invalidCertificate,
            phase: .configuration,
            "\(source.sanitized()) holds no certificate",
            hint: "a PEM certificate starts with -----BEGIN CERTIFICATE-----"
        )
        guard !pemBytes.isEmpty else { throw none }
        // A closure's throw would be untyped through withUnsafeBytes, so its result carries the failure.
        let result: Result<[DtlsCertificate], DtlsError> = pemBytes.withUnsafeBytes { bytes in
            do throws(DtlsError) {
                return .success(
                    try OwnedBIO.withReading(bytes) { bio throws(DtlsError) in
                        var certificates: [DtlsCertificate] = []
                        while let pointer = PEM_read_bio_X509(bio, nil, refusePassphrase, nil) {
                            let owned = OwnedX509(takingOwnershipOf: pointer)
                            certificates.append(try DtlsCertificate(borrowing: owned.pointer))
                        }
                        return certificates
                    }
                )
            } catch {
                return .failure(error)
            }
        }
        let reachedEnd = OpenSSLErrorQueue.saysEndOfPEM
        let errors = OpenSSLErrorQueue.drain()
        let certificates = try result.get()
        guard reachedEnd else {
            throw DtlsError(
                .invalidCertificate,
                phase: .configuration,
                "certificate \(certificates.count + 1) of \(source.sanitized()) cannot be read",
                openSSLErrors: errors
            )
        }
        guard !certificates.isEmpty else { throw none }
        return certificates
    }

    /// The certificate in DER, as it was read.
    public var der: [UInt8] { storage.der }

    /// The certificate in PEM, without its text form; empty for want of memory.
    public var pem: String {
        guard let bio = try? OwnedBIO.memory(), PEM_write_bio_X509(bio.pointer, storage.pointer) == 1 else { return "" }
        return String(decoding: bio.contents, as: UTF8.self)
    }

    /// Whom it certifies, as RFC 2253 writes it, such as `CN=localhost`. Letters beyond ASCII stand in it as they are.
    public var subject: String { storage.subject }

    /// Who certified it, as RFC 2253 writes it.
    public var issuer: String { storage.issuer }

    /// The serial number in upper-case hexadecimal, without a prefix.
    public var serialNumber: String { storage.serialNumber }

    /// The DNS names of the subjectAltName extension (RFC 5280 §4.2.1.6), in its order.
    public var dnsNames: [String] { storage.dnsNames }

    /// The IP addresses of the subjectAltName extension, as text: `192.0.2.1`, `2001:db8::1`.
    public var ipAddresses: [String] { storage.ipAddresses }

    /// The URIs of the subjectAltName extension.
    public var uris: [String] { storage.uris }

    /// From when it is valid, in seconds since 1970, UTC; 0 for a date that cannot be read.
    public var notBefore: Int64 { storage.notBefore }

    /// Until when it is valid, in seconds since 1970, UTC; 0 for a date that cannot be read. (OpenSSL takes a
    /// certificate with such a date for an invalid one.)
    public var notAfter: Int64 { storage.notAfter }

    /// The SHA-256 hash of the DER bytes, as in ``DtlsPin/certificate(_:)``.
    public var sha256Fingerprint: DtlsFingerprint { storage.fingerprint }

    /// The SHA-256 hash of the public key with its algorithm (SubjectPublicKeyInfo, RFC 7469 §2.4), as in
    /// ``DtlsPin/publicKey(_:)``.
    public var publicKeyFingerprint: DtlsFingerprint { storage.publicKeyFingerprint }

    /// The subject, with control characters replaced.
    public var description: String { subject.sanitized() }

    /// Certificates are equal when their DER bytes are.
    public static func == (left: DtlsCertificate, right: DtlsCertificate) -> Bool {
        left.storage.der == right.storage.der
    }

    /// Hashes the fingerprint of the DER bytes.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(storage.fingerprint)
    }

    /// Calls `body` with the `X509`. Only for calls that read it or take a reference of their own.
    package func withX509<Result, Failure: Error>(
        _ body: (OpaquePointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(storage.pointer)
    }

    private final class Storage: Sendable {
        // An X509 that is never changed after init; OpenSSL's own caches in it are filled below, before it is shared.
        nonisolated(unsafe) let pointer: OpaquePointer
        let der: [UInt8]
        let subject: String
        let issuer: String
        let serialNumber: String
        let dnsNames: [String]
        let ipAddresses: [String]
        let uris: [String]
        let notBefore: Int64
        let notAfter: Int64
        let fingerprint: DtlsFingerprint
        let publicKeyFingerprint: DtlsFingerprint

        init(_ certificate: consuming OwnedX509, der: [UInt8]) {
            let pointer = certificate.pointer
            X509_up_ref(pointer)
            // Fills the extension cache on one thread, as first use from several was unsafe (CVE-2026-84783).
            _ = X509_check_purpose(pointer, -1, 0)
            self.pointer = pointer
            self.der = der
            subject = X509Text.name(X509_get_subject_name(pointer))
            issuer = X509Text.name(X509_get_issuer_name(pointer))
            serialNumber = X509Text.serialNumber(pointer)
            let names = X509Text.AlternativeNames(of: pointer)
            dnsNames = names.dns
            ipAddresses = names.ip
            uris = names.uri
            notBefore = COpenSSL_X509_not_before(pointer)
            notAfter = COpenSSL_X509_not_after(pointer)
            fingerprint = DtlsFingerprint(sha256Of: der)
            publicKeyFingerprint = DtlsFingerprint(sha256Of: X509Text.publicKeyInfo(pointer))
            OpenSSLErrorQueue.clear()
        }

        deinit { X509_free(pointer) }
    }
}
