import DTLSCore

/// How a UDP socket is set up before it is bound.
///
/// The defaults suit most programs. Options apply to sockets that the library opens itself. On a descriptor that you
/// bring along the library sets only what it needs to know of datagrams, and takes it back when it gives the descriptor
/// back: the address that they were sent to (`IP_PKTINFO`, `IPV6_RECVPKTINFO`) and, on Linux, which peer cannot be
/// reached (`IP_RECVERR`, `IPV6_RECVERR`). There it has the kernel put together, too, what one peer sends in a row
/// (`UDP_GRO`). What stays set is, on Darwin, `SO_NOSIGPIPE`, and, on several sockets of one port on Linux, how the
/// kernel chooses among them (`SO_ATTACH_REUSEPORT_CBPF`).
public struct DtlsSocketOptions: Sendable {
    /// Sets `SO_REUSEADDR`. Default: false.
    ///
    /// On Linux this lets another socket that sets it too bind the *same* UDP port and take its datagrams away. UDP has
    /// no `TIME_WAIT`, so a restarted server does not need it.
    public var reuseAddress: Bool

    /// Sets `SO_REUSEPORT`, so that several sockets of the same user share one port. Default: false.
    ///
    /// On Linux the kernel spreads the peers over the sockets by a hash of the addresses, so that a second program
    /// takes a part of them. A server of several loops sets it by itself.
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

    /// The network interface by which datagrams leave, such as `"eth0"`; nil lets routing decide. Default: nil.
    ///
    /// On Linux this is `SO_BINDTODEVICE`, by which the socket also receives from this interface alone, or, before
    /// Linux 5.7 and without privileges, `IP_UNICAST_IF` and `IPV6_UNICAST_IF`, which concern only what is sent. On
    /// Darwin it is `IP_BOUND_IF` or `IPV6_BOUND_IF`. An interface that the machine does not have, or a name that
    /// cannot be one (1 to 15 bytes), throws ``/DTLSCore/DtlsError/Code-swift.struct/invalidConfiguration`` when the
    /// socket is bound.
    public var interface: String?

    /// The differentiated-services code point (RFC 2474) of every datagram, 0...63; nil leaves the system's default
    /// (usually 0). Default: nil.
    ///
    /// For example 46 for voice ("expedited forwarding", RFC 3246). It sets `IP_TOS` and `IPV6_TCLASS`. Routers are
    /// free to ignore or change it.
    public var dscp: Int?

    /// Makes socket options; see the properties for units and ranges.
    ///
    /// Values are checked when the socket is bound: one that is out of range throws
    /// ``/DTLSCore/DtlsError/Code-swift.struct/invalidConfiguration`` there, and one that the system does not take
    /// ``/DTLSCore/DtlsError/Code-swift.struct/socketFailed``.
    public init(
        reuseAddress: Bool = false,
        reusePort: Bool = false,
        receiveBufferSize: Int? = 1_048_576,
        sendBufferSize: Int? = nil,
        timeToLive: Int? = nil,
        interface: String? = nil,
        dscp: Int? = nil
    ) {
        self.reuseAddress = reuseAddress
        self.reusePort = reusePort
        self.receiveBufferSize = receiveBufferSize
        self.sendBufferSize = sendBufferSize
        self.timeToLive = timeToLive
        self.interface = interface
        self.dscp = dscp
    }

    func validate() throws(DtlsError) {
        try Self.check(receiveBufferSize, "receiveBufferSize", in: 1...Int(Int32.max), unit: "bytes")
        try Self.check(sendBufferSize, "sendBufferSize", in: 1...Int(Int32.max), unit: "bytes")
        try Self.check(timeToLive, "timeToLive", in: 1...255, unit: "hops")
        try Self.check(dscp, "dscp", in: 0...63, unit: "as code point")
        // The system calls would end a name at a zero byte, or cut it.
        if let interface, !(1...15).contains(interface.utf8.count) || interface.utf8.contains(0) {
            throw DtlsError(
                .invalidConfiguration,
                phase: .binding,
                "DtlsSocketOptions.interface is '\(interface.sanitized())', which cannot be an interface",
                hint: "give an interface's name such as eth0, of 1 to 15 bytes"
            )
        }
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
