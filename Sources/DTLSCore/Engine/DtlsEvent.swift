/// What an engine has to tell.
public enum DtlsEvent: Sendable {
    /// The handshake asks for a pre-shared key and waits. Answer with ``DtlsEngine/answerPreSharedKey(_:now:)-(DtlsPreSharedKey?,_)`` as a
    /// client or ``DtlsEngine/answerPreSharedKey(_:now:)-(DtlsSecretBytes?,_)`` as a server, now or later.
    case preSharedKeyRequested(DtlsPreSharedKeyRequest)

    /// The peers have authenticated each other, and data may flow.
    case handshakeFinished(DtlsNegotiated)

    /// One datagram or more wait in ``DtlsEngine/drainApplicationData(_:)``.
    case applicationData

    /// The association has ended. Nothing follows.
    case closed(DtlsCloseReason)
}

/// What the peer said of the pre-shared key that it means.
public enum DtlsPreSharedKeyRequest: Sendable, Hashable {
    /// A client is asked; the server's hint, if it gave one (RFC 4279 §5.2).
    case hint([UInt8]?)

    /// A server is asked; the client's identity, as bytes.
    case identity([UInt8])
}
