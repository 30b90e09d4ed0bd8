/// The settings that clients and servers share.
///
/// The defaults are safe on the open Internet: DTLS 1.2, AEAD suites only, security level 2, extended master secret
/// required, no renegotiation, no compression. Whatever weakens them is named for what it does.
///
/// A configuration is a plain value. It is checked when a context is made from it, which throws
/// ``DtlsError/Code-swift.struct/invalidConfiguration`` for a value out of its range.
public struct DtlsConfiguration: Sendable {
    /// The oldest version to accept. Default: DTLS 1.2.
    public var minimumVersion: DtlsVersion = .v1_2

    /// The newest version to offer. Default: DTLS 1.2.
    public var maximumVersion: DtlsVersion = .v1_2

    /// The cipher suites to offer or accept, in order of preference (a server's order wins).
    /// Default: ``DtlsCipherSuites/automatic``.
    public var cipherSuites: DtlsCipherSuites = .automatic

    /// OpenSSL's security level, 0 to 5 (`SSL_CTX_set_security_level(3)`). `nil`, the default, is level 2: at least 112 bits.
    public var securityLevel: Int?

    /// The own certificate chain and private key, with which this side proves who it is. Default: none.
    public var identity: DtlsIdentity?

    /// The roots against which the peer's certificates are verified. `nil`, the default, stands for ``DtlsTrust/system``.
    ///
    /// For a client that has a pre-shared key, setting it says that certificates are welcome too.
    public var trust: DtlsTrust?

    /// Whether a peer without the extended master secret extension (RFC 7627) is refused. Default: `true`.
    public var requiresExtendedMasterSecret = true

    /// The largest UDP payload to send, in bytes: 256 to 65,507. Default: 1,200, which passes nearly every path.
    ///
    /// The handshake never uses more than 4,096 bytes a datagram, because OpenSSL would split larger ones in mid-record.
    public var mtu = 1200

    /// How long a handshake may take altogether, on the monotonic clock: above zero, up to one day. Default: 30 seconds.
    public var handshakeTimeout: Duration = .seconds(30)

    /// When lost flights are sent again.
    public var retransmission = DtlsRetransmissionPolicy()

    /// Makes a configuration with the defaults.
    public init() {}
}

extension DtlsConfiguration {
    /// Throws ``DtlsError/Code-swift.struct/invalidConfiguration`` where a value is out of its range.
    func validate() throws(DtlsError) {
        func require(_ condition: Bool, _ message: String) throws(DtlsError) {
            if !condition { throw DtlsError(.invalidConfiguration, phase: .configuration, message) }
        }
        try require(
            minimumVersion <= maximumVersion,
            "the minimum version \(minimumVersion) is above the maximum version \(maximumVersion)"
        )
        try require((256...65_507).contains(mtu), "an MTU of \(mtu) bytes is outside of 256 to 65507")
        if let securityLevel {
            try require((0...5).contains(securityLevel), "a security level of \(securityLevel) is outside of 0 to 5")
        }
        try require(
            handshakeTimeout > .zero && handshakeTimeout <= .seconds(86_400),
            "a handshake timeout of \(handshakeTimeout) is not above zero and at most one day"
        )
        try retransmission.validate()
    }
}
