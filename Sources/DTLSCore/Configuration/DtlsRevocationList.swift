import COpenSSL

/// A certificate revocation list (RFC 5280 §5), for ``DtlsTrust/revocationLists``.
///
/// Reading one verifies nothing; its signature and dates are looked at when a chain is verified.
public struct DtlsRevocationList: Sendable {
    private let storage: Storage

    /// Reads every list of a PEM text, in its order. Text around them is skipped.
    ///
    /// - Returns: One or more.
    /// - Throws: ``DtlsError/Code-swift.struct/invalidCertificate`` when there is none, or one is broken.
    public static func lists(pem: String) throws(DtlsError) -> [DtlsRevocationList] {
        try lists(Array(pem.utf8), from: "the PEM text")
    }

    /// Reads every list of a PEM file of up to 16 MiB, as ``lists(pem:)`` does. It blocks while it reads.
    ///
    /// - Returns: One or more.
    /// - Throws: ``DtlsError/Code-swift.struct/fileUnreadable`` or, as ``lists(pem:)`` does,
    ///   ``DtlsError/Code-swift.struct/invalidCertificate``.
    public static func lists(pemFile path: String) throws(DtlsError) -> [DtlsRevocationList] {
        try lists(try FileContents.read(path), from: path)
    }

    private static func lists(_ bytes: [UInt8], from source: String) throws(DtlsError) -> [DtlsRevocationList] {
        OpenSSLErrorQueue.clear()
        var lists: [DtlsRevocationList] = []
        bytes.withUnsafeBytes { raw in
            // An unreadable text leaves the list empty, which is told below.
            try? OwnedBIO.withReading(raw) { bio throws(DtlsError) in
                while let pointer = PEM_read_bio_X509_CRL(bio, nil, refusePassphrase, nil) {
                    lists.append(DtlsRevocationList(storage: Storage(takingOwnershipOf: pointer)))
                }
            }
        }
        guard OpenSSLErrorQueue.saysEndOfPEM else {
            throw OpenSSLErrorQueue.error(
                .invalidCertificate,
                phase: .configuration,
                "revocation list \(lists.count + 1) of \(source.sanitized()) cannot be read"
            )
        }
        guard !lists.isEmpty else {
            throw OpenSSLErrorQueue.error(
                .invalidCertificate,
                phase: .configuration,
                "\(source.sanitized()) holds no revocation list",
                hint: "a list in PEM starts with -----BEGIN X509 CRL-----"
            )
        }
        OpenSSLErrorQueue.clear()
        return lists
    }

    /// Tells one list from another.
    var fingerprint: DtlsFingerprint { storage.fingerprint }

    /// Calls `body` with the `X509_CRL`, for calls that take a reference of their own.
    func withCRL<Result>(_ body: (OpaquePointer) -> Result) -> Result {
        body(storage.pointer)
    }

    private final class Storage: Sendable {
        // An X509_CRL that is never changed after it was read.
        nonisolated(unsafe) let pointer: OpaquePointer
        let fingerprint: DtlsFingerprint

        init(takingOwnershipOf pointer: OpaquePointer) {
            self.pointer = pointer
            fingerprint = DtlsFingerprint(sha256Of: X509Text.encoded { i2d_X509_CRL(pointer, $0) })
        }

        deinit { X509_CRL_free(pointer) }
    }
}
