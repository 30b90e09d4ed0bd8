public import DTLSCore
public import NIOCore

/// What ``DtlsClientHandler`` and ``DtlsServerHandler`` tell the handlers behind them, by
/// `userInboundEventTriggered(context:event:)`.
public enum DtlsPeerEvent: Sendable {
    /// The handshake with a peer is finished and its checks have passed: datagrams may be written to it.
    case opened(SocketAddress, DtlsNegotiated)

    /// The peer is at another address now, under which its datagrams come and at which it is to be written to (servers
    /// only, where Connection IDs were negotiated).
    case moved(from: SocketAddress, to: SocketAddress)

    /// An association that was open has ended. Nothing of it follows.
    case closed(SocketAddress, DtlsCloseReason)

    /// A peer with a valid cookie did not get through its handshake (servers only; a client's failure is an error in
    /// its pipeline). Nobody was told of the peer before.
    case handshakeFailed(SocketAddress, DtlsError)
}

/// Write this to a channel with a ``DtlsServerHandler``, by `triggerUserOutboundEvent`, to close the association with
/// one peer. The promise fails with ``DtlsHandlerError/unknownPeer`` when there is none.
public struct DtlsClosePeer: Sendable {
    /// Where the peer is.
    public var peer: SocketAddress

    /// Makes the event.
    public init(_ peer: SocketAddress) {
        self.peer = peer
    }
}
