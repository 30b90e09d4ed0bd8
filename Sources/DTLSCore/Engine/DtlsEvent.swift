/// What an engine has to tell; ``DtlsEngine/nextEvent()`` returns it.
public enum DtlsEvent: Sendable {
    /// A server that chooses its identity, or has a store of sessions that this client's may be in, is asked before it
    /// looks at the hello that it was made with, and the handshake waits. Answer with
    /// ``DtlsEngine/answer(identity:session:now:)``, now or later, within the handshake's time.
    case helloReceived(DtlsClientOffer)

    /// The handshake asks for a pre-shared key and waits. Answer with ``DtlsEngine/answer(_:now:)``, now or later,
    /// within the handshake's time.
    case preSharedKeyRequested(DtlsPreSharedKeyRequest)

    /// The application is asked whether it accepts the peer's certificates, and the handshake waits. Answer with
    /// ``DtlsEngine/answer(accepted:now:)``, now or later, within the handshake's time. Nothing of the association is
    /// exposed before.
    case certificatesPresented(DtlsPresentedCertificates)

    /// The handshake is finished, every check that the context demands has passed, and data may flow.
    case handshakeFinished(DtlsNegotiated)

    /// A server's session is to be put into the application's store (``DtlsResumption/store(lifetime:)``).
    case sessionEstablished(DtlsStoredSession)

    /// One payload or more wait in ``DtlsEngine/drainApplicationData(_:)``.
    case applicationData

    /// The association has ended. No event follows; payloads that came before can still be drained.
    case closed(DtlsCloseReason)
}

/// What the peer said of the pre-shared key that it means.
public enum DtlsPreSharedKeyRequest: Sendable, Hashable {
    /// A client is asked; the server's hint, if it gave one (RFC 4279 §5.2).
    case hint([UInt8]?)

    /// A server is asked; the client's identity, 0 to 256 bytes, none zero, and the DNS name of the server that the
    /// client means, in lower case, if it said so.
    case identity([UInt8], serverName: String?)
}

/// The answer to a ``DtlsPreSharedKeyRequest``.
public enum DtlsPreSharedKeyAnswer: Sendable {
    /// A client's identity and key.
    case identityAndKey(DtlsPreSharedKey)

    /// A server's key for the identity that the client gave: 1 to 512 bytes. Another length counts as ``unknown``.
    case key(DtlsSecretBytes)

    /// There is none. A client's handshake ends with ``DtlsError/Code-swift.struct/authenticationFailed``; a server
    /// goes on as ``DtlsUnknownIdentityPolicy`` says.
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

    /// The server that was meant, if one was: on clients the name or IP address that they were given, on servers the
    /// DNS name of the client's hello, in lower case.
    public let serverName: String?
}
