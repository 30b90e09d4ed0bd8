/// Which side of a handshake an engine or a context plays.
public enum DtlsRole: Sendable, Hashable {
    /// The side that sends the ClientHello.
    case client
    /// The side that answers it.
    case server
}

/// What a client demands of a server's certificate.
///
/// Where ``DtlsTrust`` has pins, they stand in place of chain and name in all cases but the last.
public enum DtlsServerVerification: Sendable, Hashable {
    /// The chain must lead to a trusted root and the certificate must carry the server's name or IP address. The
    /// default.
    case chainAndName

    /// The chain must lead to a trusted root, but any name will do: whoever holds any certificate of these roots can
    /// pose as the server. Only for private roots that certify nothing but the servers meant.
    case insecureIgnoreServerName

    /// The application decides: it is shown the chain and OpenSSL's verdict over it, and nothing is exposed before it
    /// has answered. A `DtlsClientContext` without `acceptsCertificates` refuses this; engines raise
    /// ``DtlsEvent/certificatesPresented(_:)``.
    case byApplication

    /// Any certificate will do: whoever stands between client and server can read and change everything. Only for
    /// experiments.
    case insecureAcceptAnyCertificate
}

/// What a server demands of its clients' certificates.
public enum DtlsClientCertificatePolicy: Sendable, Hashable {
    /// No certificate is asked for. The default.
    case none

    /// A certificate is asked for and, if one comes, must lead to a trusted root or match a pin. A client without one
    /// is served as well.
    case requested

    /// A certificate that leads to a trusted root or matches a pin is required (mutual authentication). Where
    /// pre-shared keys are accepted as well, a client that proves to have one needs no certificate.
    case required
}

/// Whether raw public keys (RFC 7250) stand in place of certificates.
public enum DtlsRawPublicKeyPolicy: Sendable, Hashable {
    /// Certificates only. The default.
    case refused

    /// Raw public keys where the peer knows them, certificates otherwise.
    case preferred

    /// Raw public keys only.
    case required
}

/// What a client demands of a stapled OCSP response (RFC 6066 §8).
public enum DtlsStapledStatusPolicy: Sendable, Hashable {
    /// It is not asked for. The default.
    case ignored

    /// It is asked for; one that says "revoked", or is not valid, ends the handshake with
    /// ``DtlsError/Code-swift.struct/certificateRejected``. A server without one is accepted, and so is one whose
    /// response nobody can judge, as its issuer is not trusted: where pins alone decide, and where nothing but the
    /// certificate itself is trusted.
    case checked

    /// It is asked for, and must be there and say "good". Not possible where pins alone decide.
    case required
}

/// How a server answers a pre-shared-key identity that it does not know.
public enum DtlsUnknownIdentityPolicy: Sendable, Hashable {
    /// Goes on with a random key, so that a stranger cannot tell an unknown identity from a wrong key (RFC 4279 §2).
    /// The default.
    case pretendWrongKey

    /// Sends the alert `unknown_psk_identity` at once, which helps an honest client and tells a stranger which
    /// identities exist.
    case alert
}
