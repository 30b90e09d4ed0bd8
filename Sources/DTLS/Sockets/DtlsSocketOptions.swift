import DTLSCore

/// How a UDP socket is set up before it is bound.
///
/// The defaults suit most programs. Options apply to sockets that the library opens itself; a descriptor that you bring
/// along is left as it is.
public struct DtlsSocketOptions: Sendable {
    /// Sets `SO_REUSEADDR`. Default: false.
    ///
    /// On Linux this lets another socket that sets it too bind the *same* UDP port and take its datagrams away. UDP has
    /// no `TIME_WAIT`, so a restarted server does not need it.
    public var reuseAddress: Bool

    /// Sets `SO_REUSEPORT`, so that several sockets of the same user share one port. Default: false.
    ///
    /// On Linux the kernel spreads the peers over the sockets by a hash of the addresses.
    public var reusePort: Bool

    /// The kernel's receive buffer (`SO_RCVBUF`) in bytes, 1 or more; nil leaves the system's default.
    /// Default: 1,048,576 (1 MiB).
    ///
    /// Best effort: the kernel may grant less (on Linux at most `net.core.rmem_max`).
    public var receiveBufferSize: Int?

    /// The kernel's send buffer (`SO_SNDBUF`) in bytes, 1 or more; nil leaves the system's default. Default: nil.
    ///
    /// Best effort: the kernel may grant less (on Linux at most `net.core.wmem_max`).
    public var sendBufferSize: Int?

    /// How many routers a datagram may pass: `IP_TTL` and `IPV6_UNICAST_HOPS`, 1...255; nil leaves the system's
    /// default (usually 64). Default: nil.
    public var timeToLive: Int?

    /// Makes socket options; see the properties for units and ranges.
    ///
    /// Values are checked when the socket is bound: one that is out of range throws `.invalidConfiguration` there.
    public init(
        reuseAddress: Bool = false,
        reusePort: Bool = false,
        receiveBufferSize: Int? = 1_048_576,
        sendBufferSize: Int? = nil,
        timeToLive: Int? = nil
    ) {
        self.reuseAddress = reuseAddress
        self.reusePort = reusePort
        self.receiveBufferSize = receiveBufferSize
        self.sendBufferSize = sendBufferSize
        self.timeToLive = timeToLive
    }

    func validate() throws(DtlsError) {
        try Self.check(receiveBufferSize, "receiveBufferSize", in: 1...Int(Int32.max), unit: "bytes")
        try Self.check(sendBufferSize, "sendBufferSize", in: 1...Int(Int32.max), unit: "bytes")
        try Self.check(timeToLive, "timeToLive", in: 1...255, unit: "hops")
    }

    private static func check(
        _ value: Int?,
        _ name: String,
        in range: ClosedRange<Int>,
        unit: String
    ) throws(DtlsError) {
        guard let value, !range.contains(value) else { return }
        throw DtlsError(
            .invalidConfiguration,
            phase: .binding,
            "DtlsSocketOptions.\(name) is \(value)",
            hint: "use \(range.lowerBound)...\(range.upperBound) \(unit), or nil for the system's default"
        )
    }
}
