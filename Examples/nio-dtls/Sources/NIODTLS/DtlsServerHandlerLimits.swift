/// How much of a ``DtlsServerHandler`` its peers may take.
public struct DtlsServerHandlerLimits: Sendable, Hashable {
    /// How many associations may be open. When they are all there, hellos of others are dropped. Default: 10,000.
    public var peers = 10_000

    /// How many handshakes may be under way. One more takes the place of the oldest. Default: 1,000.
    public var handshakes = 1_000

    /// How long an association may be without a payload in either direction before it is closed; `nil`: for ever.
    /// Default: 30 minutes.
    public var idleTimeout: Duration? = .seconds(1_800)

    /// Makes limits with the default values.
    public init() {}
}
