/// Why a handler did not take a datagram that was written to it. What DTLS itself says comes as a `DtlsError`.
public struct DtlsHandlerError: Error, Sendable, Hashable, CustomStringConvertible {
    /// What happened.
    public let description: String

    /// There is no open association with the address that the datagram is for.
    public static let unknownPeer = Self(description: "there is no open association with that address")
    /// The handshake is under way, and as many datagrams as may wait for its end already do.
    public static let tooManyPendingWrites = Self(description: "too many datagrams wait for the handshake's end")
    /// The peer seems to be at another address, has not shown yet that it receives anything there, and three times what
    /// came from there has been sent (RFC 9146 §6).
    public static let unprovenPath = Self(description: "the peer has not shown yet that it is at its new address")
}
