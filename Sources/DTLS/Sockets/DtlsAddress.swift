public import DTLSCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// An IP address and a UDP port.
///
/// An address has one canonical form: an IPv4-mapped IPv6 address (`::ffff:192.0.2.1`) *is* the IPv4 address, so the
/// same peer compares equal whether a plain IPv4 socket or a dual-stack IPv6 socket saw it.
///
/// ```swift
/// let address = try DtlsAddress(ipAddress: "127.0.0.1", port: 5684)
/// print(address)  // 127.0.0.1:5684
/// ```
public struct DtlsAddress: Sendable, Hashable, CustomStringConvertible {
    /// The UDP port, 0...65535. Port 0 means "any free port" when a socket is bound to it.
    public let port: UInt16

    // The 16 address bytes as two integers (first byte most significant), IPv4 in its mapped form.
    let high: UInt64
    let low: UInt64
    /// The interface index of a link-local IPv6 address, otherwise 0.
    let scope: UInt32

    /// Reads an IPv4 or IPv6 literal. Nothing is looked up in DNS.
    ///
    /// - Parameters:
    ///   - ipAddress: For example `"192.0.2.1"`, `"::1"` or, for a link-local address with its zone,
    ///     `"fe80::1%eth0"` or `"fe80::1%2"`. No brackets and no port.
    ///   - port: The UDP port.
    /// - Throws: ``/DTLSCore/DtlsError/Code-swift.struct/invalidConfiguration`` when the text is not an IP address,
    ///   names an interface that this machine does not have, or has a zone behind an address that is not link-local.
    public init(ipAddress: String, port: UInt16) throws(DtlsError) {
        guard let parsed = try Self.parse(ipAddress, port: port) else {
            throw DtlsError(
                .invalidConfiguration,
                phase: nil,
                "'\(ipAddress.sanitized())' is not an IP address",
                hint: "give an IPv4 or IPv6 literal such as 192.0.2.1 or ::1, without brackets and without a port"
            )
        }
        self = parsed
    }

    /// The address as text, without the port: `"127.0.0.1"`, `"::1"`, `"fe80::1%2"`.
    ///
    /// An IPv4-mapped IPv6 address is shown as plain IPv4, and the zone of a link-local one as the number of its
    /// interface (RFC 4007 §11).
    public var host: String {
        if isIPv4 {
            return "\(UInt8(truncatingIfNeeded: low >> 24)).\(UInt8(truncatingIfNeeded: low >> 16))"
                + ".\(UInt8(truncatingIfNeeded: low >> 8)).\(UInt8(truncatingIfNeeded: low))"
        }
        var address = Self.systemAddress(high: high, low: low)
        // 46 bytes hold every IPv6 text with its NUL; inet_ntop fails rather than overrun.
        let text = withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(INET6_ADDRSTRLEN)) { buffer in
            inet_ntop(AF_INET6, &address, buffer.baseAddress, socklen_t(buffer.count)).map { String(cString: $0) }
        }
        return (text ?? "::") + (scope == 0 ? "" : "%\(scope)")
    }

    /// Whether this is an IPv4 address, IPv4-mapped IPv6 included.
    public var isIPv4: Bool { high == 0 && low >> 32 == 0xFFFF }

    /// Whether this is an IPv6 address other than an IPv4-mapped one.
    public var isIPv6: Bool { !isIPv4 }

    /// Host and port: `"127.0.0.1:5684"`, `"[::1]:5684"`, `"[fe80::1%2]:5684"`.
    public var description: String { isIPv4 ? "\(host):\(port)" : "[\(host)]:\(port)" }

    /// Hashes address, zone and port.
    public func hash(into hasher: inout Hasher) {
        // Each datagram is looked up, so no more than there is.
        if isIPv4 {
            hasher.combine(low << 16 | UInt64(port))
        } else {
            hasher.combine(high)
            hasher.combine(low)
            hasher.combine(UInt64(scope) << 16 | UInt64(port))
        }
    }
}

// MARK: - Internal

extension DtlsAddress {
    static let anyIPv4 = DtlsAddress(ipv4: 0, port: 0)
    static let anyIPv6 = DtlsAddress(high: 0, low: 0, scope: 0, port: 0)

    /// Whether this is `0.0.0.0` or `::`.
    var isWildcard: Bool { high == 0 && (low == 0 || low == 0xFFFF << 32) }

    init(high: UInt64, low: UInt64, scope: UInt32, port: UInt16) {
        self.high = high
        self.low = low
        self.port = port
        // A zone says something only for fe80::/10. Elsewhere it would make one peer look like two.
        self.scope = high >> 54 == 0xFE80 >> 6 ? scope : 0
    }

    private init(ipv4: UInt32, port: UInt16) {
        self.init(high: 0, low: 0xFFFF << 32 | UInt64(ipv4), scope: 0, port: port)
    }

    /// Whether the host is the same, whatever the port.
    func isSameHost(as other: DtlsAddress) -> Bool {
        high == other.high && low == other.low && scope == other.scope
    }

    func with(port: UInt16) -> DtlsAddress {
        DtlsAddress(high: high, low: low, scope: scope, port: port)
    }

    /// As captures show it.
    var endpointName: DtlsEndpointName {
        var bytes: [UInt8] = []
        appendBytes(to: &bytes)
        return DtlsEndpointName(address: Array(isIPv4 ? bytes[12..<16] : bytes[..<16]), port: port)
    }

    /// What ``AddressPrefix`` takes of the address: the first three bytes of IPv4, the first eight of IPv6.
    var prefixBits: UInt64 { isIPv4 ? low >> 8 & 0xFF_FFFF : high }

    /// How many bytes ``appendBytes(to:)`` appends.
    static let byteCount = 18

    /// Appends the 16 address bytes (IPv4 in its mapped form) and the 2 port bytes, in network order.
    func appendBytes(to bytes: inout [UInt8]) {
        withUnsafeBytes(of: (high.bigEndian, low.bigEndian)) { bytes.append(contentsOf: $0) }
        withUnsafeBytes(of: port.bigEndian) { bytes.append(contentsOf: $0) }
    }

    /// The address of an IPv4 or IPv6 literal, nil when the text is none.
    ///
    /// Throws only when the text is an address with a zone that cannot be.
    static func parse(_ text: String, port: UInt16) throws(DtlsError) -> DtlsAddress? {
        // The C functions would stop at a NUL and take what stands before it.
        guard !text.utf8.contains(0) else { return nil }
        var ipv4 = in_addr()
        if inet_pton(AF_INET, text, &ipv4) == 1 {
            return DtlsAddress(ipv4: UInt32(bigEndian: ipv4.s_addr), port: port)
        }
        let parts = text.split(separator: "%", maxSplits: 1, omittingEmptySubsequences: false)
        var ipv6 = in6_addr()
        guard let literal = parts.first, inet_pton(AF_INET6, String(literal), &ipv6) == 1 else { return nil }
        let unscoped = DtlsAddress(ipv6, scope: 0, port: port)
        guard parts.count == 2 else { return unscoped }

        let zone = String(parts[1])
        let index = UInt32(zone) ?? if_nametoindex(zone)
        let scoped = DtlsAddress(ipv6, scope: index, port: port)
        guard scoped.scope != 0 else {
            throw DtlsError(
                .invalidConfiguration,
                phase: nil,
                "the zone of '\(text.sanitized())' is not known here",
                hint: "name a network interface of this machine, and only after a link-local address (fe80::/10)"
            )
        }
        return scoped
    }
}

// MARK: - The system's form

extension DtlsAddress {
    /// Reads what the system wrote; nil for a family other than IPv4 and IPv6, or when it is cut short.
    init?(systemAddress bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= MemoryLayout<sockaddr_in>.size else { return nil }
        // sockaddr_in and sockaddr have one size, so the check covers both loads.
        switch Int32(bytes.loadUnaligned(as: sockaddr.self).sa_family) {
        case AF_INET:
            let address = bytes.loadUnaligned(as: sockaddr_in.self)
            self.init(ipv4: UInt32(bigEndian: address.sin_addr.s_addr), port: UInt16(bigEndian: address.sin_port))
        case AF_INET6 where bytes.count >= MemoryLayout<sockaddr_in6>.size:
            let address = bytes.loadUnaligned(as: sockaddr_in6.self)
            let port = UInt16(bigEndian: address.sin6_port)
            self.init(address.sin6_addr, scope: address.sin6_scope_id, port: port)
        default:
            return nil
        }
    }

    private init(_ address: in6_addr, scope: UInt32, port: UInt16) {
        let (high, low) = withUnsafeBytes(of: address) { bytes in
            (bytes.loadUnaligned(as: UInt64.self), bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        }
        self.init(high: UInt64(bigEndian: high), low: UInt64(bigEndian: low), scope: scope, port: port)
    }

    private static func systemAddress(high: UInt64, low: UInt64) -> in6_addr {
        var address = in6_addr()
        withUnsafeMutableBytes(of: &address) { bytes in
            bytes.storeBytes(of: high.bigEndian, as: UInt64.self)
            bytes.storeBytes(of: low.bigEndian, toByteOffset: 8, as: UInt64.self)
        }
        return address
    }

    /// Lends the address in the form that a socket of `family` takes.
    ///
    /// - Returns: What `body` returned; nil, without a call, for an IPv6 address and an IPv4 socket.
    func withSystemAddress<Result>(
        _ family: UDPSocket.Family,
        _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
    ) -> Result? {
        switch family {
        case .ipv4:
            guard isIPv4 else { return nil }
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = port.bigEndian
            address.sin_addr.s_addr = UInt32(truncatingIfNeeded: low).bigEndian
            #if canImport(Darwin)
                address.sin_len = UInt8(MemoryLayout<sockaddr_in>.size)
            #endif
            return Self.lend(&address, body)
        case .ipv6:
            var address = sockaddr_in6()
            address.sin6_family = sa_family_t(AF_INET6)
            address.sin6_port = port.bigEndian
            address.sin6_addr = Self.systemAddress(high: high, low: low)
            address.sin6_scope_id = scope
            #if canImport(Darwin)
                address.sin6_len = UInt8(MemoryLayout<sockaddr_in6>.size)
            #endif
            return Self.lend(&address, body)
        }
    }

    /// Lends a `sockaddr_in` or `sockaddr_in6` as the `sockaddr` that the system calls are declared with.
    private static func lend<Address, Result>(
        _ address: inout Address,
        _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
    ) -> Result {
        let length = socklen_t(MemoryLayout<Address>.size)
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
        }
    }
}
