import COpenSSL

/// The settings that clients and servers share.
///
/// The defaults are safe on the open Internet: DTLS 1.2, AEAD suites only, security level 2, extended master secret
/// required, no renegotiation, no compression. Whatever weakens them is named for what it does.
///
/// A configuration is a plain value. It is checked when a context is made from it, which throws
/// ``DtlsError/Code-swift.struct/invalidConfiguration`` for a value out of its range, and
/// ``DtlsError/Code-swift.struct/unsupported`` for what the linked OpenSSL does not have.
public struct DtlsConfiguration: Sendable {
    /// The oldest version to accept, not above ``maximumVersion``. Default: DTLS 1.2.
    public var minimumVersion: DtlsVersion = .v1_2

    /// The newest version to offer. Default: DTLS 1.2.
    ///
    /// Where it is DTLS 1.3, all associations stay with OpenSSL (``DtlsRecordLayer/openSSL``), whichever version they
    /// settle on.
    public var maximumVersion: DtlsVersion = .v1_2

    /// The cipher suites to offer or accept, in order of preference (a server's order wins).
    /// Default: ``DtlsCipherSuites/automatic``.
    public var cipherSuites: DtlsCipherSuites = .automatic

    /// The groups for ephemeral key exchange, in order of preference: one or more that the linked OpenSSL knows. `nil`,
    /// the default, leaves them to OpenSSL.
    public var groups: [DtlsGroup]?

    /// The signature algorithms to accept and to use, in order of preference: one or more that the linked OpenSSL
    /// knows. `nil`, the default, leaves them to OpenSSL.
    public var signatureAlgorithms: [DtlsSignatureAlgorithm]?

    /// The application protocols to offer or accept, in order of preference (ALPN, RFC 7301); each of 1 to 255 bytes in
    /// UTF-8. A server that has some chooses by its own order, refuses clients that offer others only
    /// (``DtlsError/Code-swift.struct/noApplicationProtocol``), and lets clients in that offer none. Default: none.
    public var applicationProtocols: [String] = []

    /// The SRTP profiles to offer or accept, in order of preference and none twice (RFC 5764,
    /// `SSL_CTX_set_tlsext_use_srtp(3)`). Default: none.
    public var srtpProfiles: [DtlsSRTPProfile] = []

    /// OpenSSL's security level, 0 to 5 (`SSL_CTX_set_security_level(3)`). `nil`, the default, is level 2: at least 112
    /// bits.
    public var securityLevel: Int?

    /// Whether raw public keys (RFC 7250) may stand in place of certificates, on both sides. They need OpenSSL 3.2 or
    /// later; elsewhere contexts throw ``DtlsError/Code-swift.struct/unsupported``. A peer's key is judged by
    /// ``DtlsTrust/pins(_:)`` of its public key, or by the application. Default: they may not.
    public var rawPublicKeys = DtlsRawPublicKeyPolicy.refused

    /// The own certificate chain and private key, with which this side proves who it is: a client when the server asks
    /// for a certificate. Default: none.
    public var identity: DtlsIdentity?

    /// The roots, or pins, against which the peer's certificates are verified. `nil`, the default, stands for
    /// ``DtlsTrust/system``. A server that asks for certificates names these roots, but not the system's, to its
    /// clients.
    ///
    /// For a client that has a pre-shared key, setting it says that certificates are welcome too.
    public var trust: DtlsTrust?

    /// Whether a client asks for an OCSP response about the server's certificate, and whether it must be there.
    /// Default: it does not ask. Servers staple what ``DtlsIdentity/ocspResponse`` has, whatever this says.
    public var stapledStatus = DtlsStapledStatusPolicy.ignored

    /// Whether a peer without the extended master secret extension (RFC 7627) is refused, with
    /// ``DtlsError/Code-swift.struct/handshakeFailed``. Default: `true`.
    public var requiresExtendedMasterSecret = true

    /// The largest UDP payload to send, in bytes: 256 to 65,507. Default: 1,200, which passes nearly every path.
    ///
    /// The handshake never uses more than 4,096 bytes a datagram, because OpenSSL would split larger ones in
    /// mid-record.
    public var mtu = 1200

    /// How long a handshake may take altogether, on the monotonic clock: above zero, up to one day. Default: 30
    /// seconds.
    public var handshakeTimeout: Duration = .seconds(30)

    /// When lost flights are sent again. Default: as ``DtlsRetransmissionPolicy`` says.
    public var retransmission = DtlsRetransmissionPolicy()

    /// Who seals and opens records once the handshake is finished. Default: ``DtlsRecordLayer/detached``.
    public var recordLayer = DtlsRecordLayer.standard

    /// Which Connection IDs to ask for, so that associations outlive their peer's address (RFC 9146). Default:
    /// ``DtlsConnectionIDs/automatic``.
    public var connectionIDs = DtlsConnectionIDs.automatic

    /// How many sequence numbers below the newest one are told apart, to refuse records that come twice (RFC 6347
    /// §4.1.2.6): 64 to 16,384, rounded up to a multiple of 64. What comes later than that many others is dropped.
    /// Default: 64. (OpenSSL's record layer has 64 whatever this says.)
    public var replayWindow = 64

    /// Where the secrets of every connection are written, for Wireshark and the like. `nil`, the default: nowhere.
    public var keyLog: DtlsKeyLog?

    /// Where every datagram is written, with the secrets that decrypt it. `nil`, the default: nowhere.
    public var capture: DtlsCapture?

    /// Makes a configuration with the defaults.
    public init() {}
}

extension DtlsConfiguration {
    /// Whether pins alone decide whom to trust.
    var usesPins: Bool { !(trust?.pins ?? []).isEmpty }

    /// Throws ``DtlsError/Code-swift.struct/invalidConfiguration`` where a value is out of its range, and
    /// ``DtlsError/Code-swift.struct/unsupported`` for what the linked OpenSSL does not have.
    func validate() throws(DtlsError) {
        func require(_ condition: Bool, _ message: String) throws(DtlsError) {
            if !condition { throw DtlsError(.invalidConfiguration, phase: .configuration, message) }
        }
        try require(
            minimumVersion <= maximumVersion,
            "the minimum version \(minimumVersion) is above the maximum version \(maximumVersion)"
        )
        func requireSupport(_ isSupported: Bool, _ message: String) throws(DtlsError) {
            if !isSupported {
                let hint = "the linked one is \(DtlsEngineContext.openSSLVersion)"
                throw DtlsError(.unsupported, phase: .configuration, message, hint: hint)
            }
        }
        try requireSupport(
            maximumVersion < .v1_3 || Int(COpenSSL_HAS_DTLS_1_3) == 1,
            "DTLS 1.3 needs OpenSSL 4.1"
        )
        try requireSupport(
            rawPublicKeys == .refused || Int(COpenSSL_HAS_RAW_PUBLIC_KEYS) == 1,
            "raw public keys need OpenSSL 3.2"
        )
        try require((256...65_507).contains(mtu), "an MTU of \(mtu) bytes is outside of 256 to 65507")
        if let securityLevel {
            try require((0...5).contains(securityLevel), "a security level of \(securityLevel) is outside of 0 to 5")
        }
        try require(
            handshakeTimeout > .zero && handshakeTimeout <= .seconds(86_400),
            "a handshake timeout of \(handshakeTimeout) is not above zero and at most one day"
        )
        for name in applicationProtocols {
            try require((1...255).contains(name.utf8.count), "an application protocol has \(name.utf8.count) bytes")
        }
        try require(
            ReplayWindow.sizes.contains(replayWindow),
            "a replay window of \(replayWindow) numbers is outside of 64 to 16384"
        )
        try connectionIDs.validate()
        try retransmission.validate()
    }
}
