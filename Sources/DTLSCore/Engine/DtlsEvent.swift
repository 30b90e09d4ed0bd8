/// What an engine has to tell.
public enum DtlsEvent: Sendable {
    /// A server that chooses its identity, or has a store of sessions that this client's may be in, is asked before it
    /// looks at the hello, and the handshake waits. Answer with ``DtlsEngine/answer(identity:session:now:)``, now or
    /// later.
    case helloReceived(DtlsClientOffer)

    /// The handshake asks for a pre-shared key and waits. Answer with ``DtlsEngine/answer(_:now:)``, now or later.
    case preSharedKeyRequested(DtlsPreSharedKeyRequest)

    /// The application is asked whether it accepts the peer's certificates, and the handshake waits. Answer with
    /// ``DtlsEngine/answer(accepted:now:)``, now or later. Nothing of the association is exposed before.
    case certificatesPresented(DtlsPresentedCertificates)

    /// The peers have authenticated each other, and data may flow.
    case handshakeFinished(DtlsNegotiated)

    /// A server's session is to be put into the application's store (``DtlsResumption/store(lifetime:)``).
    case sessionEstablished(DtlsStoredSession)

    /// One datagram or more wait in ``DtlsEngine/drainApplicationData(_:)``.
    case applicationData

    /// The association has ended. Nothing follows.
    case closed(DtlsCloseReason)
}

/// What the peer said of the pre-shared key that it means.
public enum DtlsPreSharedKeyRequest: Sendable, Hashable {
    /// A client is asked; the server's hint, if it gave one (RFC 4279 §5.2).
    case hint([UInt8]?)

    /// A server is asked; the client's identity, as bytes, and the DNS name of the server that the client means, if it
    /// said so.
    case identity([UInt8], serverName: String?)
}

/// The answer to a ``DtlsPreSharedKeyRequest``.
public enum DtlsPreSharedKeyAnswer: Sendable {
    /// A client's identity and key.
    case identityAndKey(DtlsPreSharedKey)

    /// A server's key for the identity that the client gave: 1 to 512 bytes. Another length counts as ``unknown``.
    case key(DtlsSecretBytes)

    /// There is none. A client's handshake ends; a server goes on as ``DtlsUnknownIdentityPolicy`` says.
    case unknown
}

/// The certificates that a peer presented, for the application to judge.
public struct DtlsPresentedCertificates: Sendable {
    /// The chain as it came, the peer's own certificate first. Empty when the peer presented a raw public key.
    public let certificates: [DtlsCertificate]

    /// The SHA-256 hash of the peer's public key (SubjectPublicKeyInfo), of its certificate or raw.
    public let publicKeyFingerprint: DtlsFingerprint?

    /// Everything that OpenSSL has against it, the name included; empty when it has nothing, or was not asked because
    /// pins decide. An application that tolerates one fault must look at all of them.
    public let verdicts: [DtlsCertificateVerdict]

    /// The first of ``verdicts``.
    public var verdict: DtlsCertificateVerdict? { verdicts.first }

    /// The DNS name of the server that was meant, if one was.
    public let serverName: String?
}
