import DTLS

// Who a side is, and whom it believes.

// snippet.table
let known = DtlsPreSharedKeyStore([
    try DtlsPreSharedKey(identity: "sensor-1", key: Array("0123456789abcdef".utf8)),
    try DtlsPreSharedKey(identity: "sensor-2", key: Array("fedcba9876543210".utf8)),
])
// snippet.end

// snippet.lookup
let lookedUp = DtlsPreSharedKeyStore { identity in
    // Any await will do: only this one handshake waits for it.
    await Directory.shared.key(of: identity)
}
let context = try DtlsServerContext(preSharedKeys: lookedUp, identityHint: Array("building-7".utf8))
// snippet.end

// snippet.hint
let client = try DtlsClientContext(preSharedKeyForHint: { hint in
    guard hint == Array("building-7".utf8) else { return nil }
    return try? DtlsPreSharedKey(identity: "sensor-1", key: Array("0123456789abcdef".utf8))
})
// snippet.end

// snippet.pins
/// Trusts the one certificate with this fingerprint, whoever signed it.
func trust(pinnedTo text: String) -> DtlsTrust? {
    DtlsFingerprint(text).map { .pins([.certificate($0)]) }
}
// snippet.end

// snippet.roots
var configuration = DtlsConfiguration()
configuration.trust = .certificates(try DtlsCertificate.certificates(pemFile: "our-root.pem"), andSystem: true)
// snippet.end

// snippet.token
/// A key that stays in its token: the PKCS #11 provider of OpenSSL finds it by its URI.
func identity(pin: DtlsSecretBytes) throws(DtlsError) -> DtlsIdentity {
    try DtlsIdentity(
        certificateChain: try DtlsCertificate.certificates(pemFile: "server.pem"),
        privateKey: try DtlsPrivateKey(uri: "pkcs11:object=server;type=private", passphrase: pin)
    )
}
// snippet.end

// snippet.verdict
/// Accepts what OpenSSL accepts, and besides a certificate that has expired, if nothing else is wrong with it.
let lenient = try DtlsClientContext(
    configuration,
    verification: .byApplication,
    acceptsCertificates: { presented in
        // X509_V_ERR_CERT_HAS_EXPIRED
        presented.verdicts.allSatisfy { $0.code == 10 }
    }
)
// snippet.end

// snippet.why
func explain(_ error: DtlsError) -> String {
    if let verdict = error.certificateVerdict { return "\(verdict.reason), at depth \(verdict.depth)" }
    if let alert = error.alertReceived { return "the peer said \(alert)" }
    return error.message
}
// snippet.end

/// Stands for a database.
actor Directory {
    static let shared = Directory()
    private var keys: [[UInt8]: DtlsSecretBytes] = [:]

    func key(of identity: [UInt8]) -> DtlsSecretBytes? { keys[identity] }
}
