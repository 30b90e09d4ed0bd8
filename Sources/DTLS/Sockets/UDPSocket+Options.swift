import CPosixUDP
import DTLSCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

// The options that the user asks for, and the ones without which the library does not know enough.
//
// `IP_MTU_DISCOVER` is not among them: it stays as the system has it, on Linux `IP_PMTUDISC_WANT`. Datagrams leave with
// "don't fragment" then, so that a router with a smaller MTU answers by an ICMP message, from which the association's
// MTU is lowered; but what is larger than a path is *known* to carry still passes, in fragments. With `IP_PMTUDISC_DO`
// or `IP_PMTUDISC_PROBE` the system would refuse it, and a flight of the handshake, which cannot be made smaller in the
// middle, would be lost at every step down to the path's size. (OpenSSL does make the retransmission smaller.)

extension UDPSocket {
    static func apply(
        _ options: DtlsSocketOptions,
        to descriptor: Int32,
        family: Family,
        servesBoth isWildcard: Bool
    ) throws(DtlsError) {
        func set(_ level: Int32, _ name: Int32, _ value: Int32, _ text: String) throws(DtlsError) {
            guard let error = SystemCall.setOption(descriptor, level, name, value) else { return }
            throw failure("the socket does not take \(text) \(value)", error)
        }
        if family == .ipv6, isWildcard { try set(SystemCall.ipv6Level, IPV6_V6ONLY, 0, "IPV6_V6ONLY") }
        if options.reuseAddress { try set(SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR") }
        if options.reusePort { try set(SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT") }
        // Best effort, as documented: what the kernel does not grant is no error.
        if let size = options.receiveBufferSize {
            _ = SystemCall.setOption(descriptor, SOL_SOCKET, SO_RCVBUF, Int32(size))
        }
        if let size = options.sendBufferSize {
            _ = SystemCall.setOption(descriptor, SOL_SOCKET, SO_SNDBUF, Int32(size))
        }
        // On an IPv6 socket what is IPv4's is for the IPv4 peers of a dual stack. Not every system has it there.
        if let hops = options.timeToLive.map({ Int32($0) }) {
            if family == .ipv6 { try set(SystemCall.ipv6Level, IPV6_UNICAST_HOPS, hops, "IPV6_UNICAST_HOPS") }
            let error = SystemCall.setOption(descriptor, SystemCall.ipv4Level, IP_TTL, hops)
            if let error, family == .ipv4 { throw failure("the socket does not take IP_TTL \(hops)", error) }
        }
        if let dscp = options.dscp.map({ Int32($0) }) {
            // The lower two bits of the byte are those of congestion notification (RFC 3168).
            if family == .ipv6 { try set(SystemCall.ipv6Level, IPV6_TCLASS, dscp << 2, "IPV6_TCLASS") }
            let error = SystemCall.setOption(descriptor, SystemCall.ipv4Level, IP_TOS, dscp << 2)
            if let error, family == .ipv4 { throw failure("the socket does not take IP_TOS \(dscp << 2)", error) }
        }
        if let interface = options.interface { try use(interface, descriptor, family) }
    }

    /// Has datagrams leave by one interface.
    private static func use(_ interface: String, _ descriptor: Int32, _ family: Family) throws(DtlsError) {
        let index = if_nametoindex(interface)
        guard index != 0 else {
            throw DtlsError(
                .invalidConfiguration,
                phase: .binding,
                "DtlsSocketOptions.interface names '\(interface.sanitized())', which this machine does not have",
                hint: "give an interface's name such as eth0",
                systemError: ENXIO
            )
        }
        #if os(Linux)
            var name = interface
            let bound = name.withUTF8 { bytes in
                SystemCall.error {
                    setsockopt(
                        descriptor,
                        SOL_SOCKET,
                        CPosixUDP_SO_BINDTODEVICE,
                        bytes.baseAddress,
                        socklen_t(bytes.count)
                    )
                }
            }
            // Before Linux 5.7 it takes CAP_NET_RAW. The other way concerns what is sent alone, and takes no
            // privileges.
            guard bound == EPERM else {
                if let bound { throw failure("the socket cannot be bound to \(interface.sanitized())", bound) }
                return
            }
            try use(index, descriptor, family)
        #elseif canImport(Darwin)
            var error = SystemCall.setOption(
                descriptor,
                SystemCall.ipv4Level,
                CPosixUDP_IP_BOUND_IF,
                Int32(bitPattern: index)
            )
            if family == .ipv6 {
                error = SystemCall.setOption(
                    descriptor,
                    SystemCall.ipv6Level,
                    CPosixUDP_IPV6_BOUND_IF,
                    Int32(bitPattern: index)
                )
            }
            if let error { throw failure("the socket cannot be bound to \(interface.sanitized())", error) }
        #endif
    }

    #if os(Linux)
        /// Has datagrams leave by one interface, without privileges.
        static func use(_ index: UInt32, _ descriptor: Int32, _ family: Family) throws(DtlsError) {
            // In network order, unlike every other interface index.
            let value = Int32(bitPattern: index.bigEndian)
            var error = SystemCall.setOption(descriptor, SystemCall.ipv4Level, CPosixUDP_IP_UNICAST_IF, value)
            if family == .ipv6 {
                error = SystemCall.setOption(descriptor, SystemCall.ipv6Level, CPosixUDP_IPV6_UNICAST_IF, value)
            }
            if let error { throw failure("the socket does not take interface \(index)", error) }
        }
    #endif

    // MARK: What the library needs to know

    /// An option that is switched on.
    typealias Report = (level: Int32, name: Int32)

    /// Has the system tell which of its addresses a datagram was sent to, where there are several, and (on Linux) which
    /// peer a network error concerns. Best effort: without, replies leave from the address that the system picks, and
    /// errors are not known.
    ///
    /// - Returns: What was off before.
    static func startReports(_ descriptor: Int32, _ family: Family, isWildcard: Bool) -> [Report] {
        var reports: [Report] = []
        // An IPv6 socket tells the addresses of IPv4 datagrams too, in their mapped form.
        if isWildcard {
            reports.append(
                family == .ipv6
                    ? (SystemCall.ipv6Level, CPosixUDP_IPV6_RECVPKTINFO)
                    : (SystemCall.ipv4Level, CPosixUDP_IP_RECVPKTINFO)
            )
        }
        #if os(Linux)
            // The errors of IPv4 peers it reports only when asked for them.
            if family == .ipv6 { reports.append((SystemCall.ipv6Level, CPosixUDP_IPV6_RECVERR)) }
            reports.append((SystemCall.ipv4Level, CPosixUDP_IP_RECVERR))
        #endif
        return reports.filter { report in
            SystemCall.option(descriptor, report.level, report.name) == .value(0)
                && SystemCall.setOption(descriptor, report.level, report.name, 1) == nil
        }
    }

    /// Has the kernel put datagrams of one peer together, where it can; ``DatagramBatch`` takes them apart again.
    ///
    /// - Returns: The option, if it was off before.
    static func startCoalescing(_ descriptor: Int32) -> Report? {
        #if os(Linux)
            let report = (level: SystemCall.udp, name: CPosixUDP_UDP_GRO)
            // Not every Linux that has it tells whether it is on.
            let former = SystemCall.option(descriptor, report.level, report.name)
            if case .value(let value) = former, value != 0 { return nil }
            return SystemCall.setOption(descriptor, report.level, report.name, 1) == nil ? report : nil
        #else
            return nil
        #endif
    }

    /// Gives a socket back to its owner as it was.
    func stopReports() {
        for report in reports { _ = SystemCall.setOption(descriptor, report.level, report.name, 0) }
    }

    /// A descriptor that Dispatch can wait on for datagrams and errors.
    ///
    /// On Linux, Dispatch does not tell of a socket that has nothing but an error: it spins over it. Epoll does tell,
    /// of a descriptor of its own, which is readable for as long as there is something to read of either.
    static func readiness(of descriptor: Int32) throws(DtlsError) -> Int32 {
        #if os(Linux)
            switch SystemCall.run({ CPosixUDP_makeReadiness(descriptor) }) {
            case .value(let value): return Int32(value)
            case .failed(let error): throw failure("the socket cannot be waited for", error)
            case .wouldBlock: throw failure("the socket cannot be waited for", EAGAIN)
            }
        #else
            return descriptor
        #endif
    }
}
