/// What went through an association, in counts since it began.
public struct DtlsStatistics: Sendable, Hashable {
    /// Datagrams that came in, whatever became of them.
    public var datagramsReceived = 0

    /// Datagrams that went out.
    public var datagramsSent = 0

    /// Records that were dropped unread: junk, forgeries, or not fitting the state. (Replays and records that fail their
    /// authentication are dropped by OpenSSL, which does not count them.)
    public var recordsDropped = 0

    /// Payloads that were handed out.
    public var payloadsReceived = 0

    /// Payloads that were dropped because nobody read them in time. Counted by `DtlsConnection`.
    public var payloadsDropped = 0

    /// Payloads that were sealed.
    public var payloadsSent = 0

    /// Flights of the handshake that were sent again.
    public var retransmissions = 0

    /// Datagrams that came while the handshake waited for an answer of the application, more than are kept.
    public var datagramsDroppedWhileWaiting = 0

    /// Makes a value with all counts at zero.
    public init() {}
}
