// Starting points. Each is an ordinary configuration, to be changed further.

extension DtlsConfiguration {
    /// The defaults, as ``DtlsConfiguration/init()``: DTLS 1.2, AEAD suites only, forward secrecy wherever certificates
    /// are used.
    public static var modern: DtlsConfiguration { DtlsConfiguration() }

    /// What browsers and media servers speak (RFC 8827 §6.5): AES-GCM and ChaCha20-Poly1305 with certificates, ECDSA
    /// before RSA; X25519, P-256 and P-384; the SRTP profiles with AES of RFC 7714 and RFC 5764; 15 seconds for a
    /// handshake; and retransmissions that start after 100 milliseconds, as an ICE agent has found a path already.
    /// Peers are known by fingerprint, which is for the caller to set: see ``DtlsTrust/pins(_:)``.
    public static var webRTC: DtlsConfiguration {
        var configuration = DtlsConfiguration()
        configuration.cipherSuites = .suites([
            .ecdheECDSAWithAES128GCM, .ecdheRSAWithAES128GCM, .ecdheECDSAWithChaCha20Poly1305,
            .ecdheRSAWithChaCha20Poly1305, .ecdheECDSAWithAES256GCM, .ecdheRSAWithAES256GCM,
        ])
        configuration.groups = [.x25519, .p256, .p384]
        configuration.srtpProfiles = [.aeadAES128GCM, .aeadAES256GCM, .aes128CMSHA1_80, .aes128CMSHA1_32]
        configuration.retransmission.initialTimeout = .milliseconds(100)
        configuration.handshakeTimeout = .seconds(15)
        return configuration
    }

    /// What CoAP and LwM2M devices speak (RFC 7252 §9.1.3, RFC 7925): the CCM8 suites that they must have, with
    /// pre-shared keys and with ECDSA certificates, beside AES-GCM, CCM and ChaCha20-Poly1305 for those that have more;
    /// P-256, and X25519 behind it; an MTU of 1,024 bytes; 60 seconds for a handshake, and waits of 2 to 16 seconds for
    /// lost flights, for slow links and processors.
    ///
    /// Only the CCM8 suites themselves are allowed below the security level; nothing else is lowered.
    public static var iotConstrained: DtlsConfiguration {
        var configuration = DtlsConfiguration()
        configuration.cipherSuites = .suites([
            .ecdheECDSAWithAES128GCM, .ecdheECDSAWithAES128CCM, .ecdheECDSAWithAES128CCM8,
            .ecdhePSKWithChaCha20Poly1305, .pskWithAES128GCM, .pskWithAES128CCM, .pskWithAES128CCM8,
        ])
        configuration.groups = [.p256, .x25519]
        configuration.mtu = 1_024
        configuration.handshakeTimeout = .seconds(60)
        configuration.retransmission = DtlsRetransmissionPolicy(
            initialTimeout: .seconds(2),
            maximumTimeout: .seconds(16),
            jitter: 0.25
        )
        return configuration
    }

    /// Whatever a reasonable peer of the last decade has: the AEAD suites of ``modern`` and CCM8. Peers without the
    /// extended master secret (RFC 7627) are let in. No CBC and no RSA key exchange even so.
    public static var compatible: DtlsConfiguration {
        var configuration = DtlsConfiguration()
        configuration.cipherSuites = .suites(
            DtlsCipherSuites.certificateSuites + [.ecdheECDSAWithAES128CCM8] + DtlsCipherSuites.preSharedKeySuites
                + [.pskWithAES128CCM8]
        )
        configuration.requiresExtendedMasterSecret = false
        return configuration
    }
}
