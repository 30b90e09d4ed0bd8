#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// An IP address and a port, as a key of tables and in the system's form.
struct PlainAddress: Hashable, Sendable, CustomStringConvertible {
    /// `AF_INET` or `AF_INET6`.
    let family: Int32
    // All in network order; IPv4 is the low half of `low`.
    private var networkPort: UInt16
    private let high: UInt64
    private let low: UInt64
    private let scope: UInt32

    /// Reads what the system wrote; nil for other families than those of IP.
    init?(_ storage: sockaddr_storage) {
        family = Int32(storage.ss_family)
        switch family {
        case AF_INET:
            let address = withUnsafeBytes(of: storage) { $0.loadUnaligned(as: sockaddr_in.self) }
            networkPort = address.sin_port
            (high, low) = (0, UInt64(address.sin_addr.s_addr))
            scope = 0
        case AF_INET6:
            let address = withUnsafeBytes(of: storage) { $0.loadUnaligned(as: sockaddr_in6.self) }
            networkPort = address.sin6_port
            (high, low) = withUnsafeBytes(of: address.sin6_addr) { bytes in
                (bytes.loadUnaligned(as: UInt64.self), bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
            }
            scope = address.sin6_scope_id
        default: return nil
        }
    }

    /// Reads an entry of `getaddrinfo`'s list.
    init?(_ entry: addrinfo) {
        var storage = sockaddr_storage()
        let count = Int(entry.ai_addrlen)
        guard let address = entry.ai_addr, count <= MemoryLayout<sockaddr_storage>.size else { return nil }
        withUnsafeMutableBytes(of: &storage) { bytes in
            bytes.copyMemory(from: UnsafeRawBufferPointer(start: address, count: count))
        }
        self.init(storage)
    }

    /// Whether it stands for all addresses of the machine.
    var isWildcard: Bool { high == 0 && low == 0 }

    func hasPort(of other: PlainAddress) -> Bool { networkPort == other.networkPort }

    /// Whether the machine has the address: only then a socket can be bound to it. Also true where the system does not
    /// tell, as it has no sockets left.
    var isOfThisMachine: Bool {
        var address = self
        address.networkPort = 0
        do {
            _ = try PlainSocket(listeningAt: address)
            return true
        } catch {
            return error.code != EADDRNOTAVAIL
        }
    }

    /// Lends the address as the system's calls take it.
    func withSystemAddress<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        if family == AF_INET {
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = networkPort
            address.sin_addr.s_addr = UInt32(truncatingIfNeeded: low)
            #if canImport(Darwin)
                address.sin_len = UInt8(MemoryLayout<sockaddr_in>.size)
            #endif
            return Self.lend(&address, body)
        }
        var address = sockaddr_in6()
        address.sin6_family = sa_family_t(AF_INET6)
        address.sin6_port = networkPort
        address.sin6_scope_id = scope
        withUnsafeMutableBytes(of: &address.sin6_addr) { bytes in
            bytes.storeBytes(of: high, as: UInt64.self)
            bytes.storeBytes(of: low, toByteOffset: 8, as: UInt64.self)
        }
        #if canImport(Darwin)
            address.sin6_len = UInt8(MemoryLayout<sockaddr_in6>.size)
        #endif
        return Self.lend(&address, body)
    }

    private static func lend<Address, Result>(
        _ address: inout Address,
        _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
    ) -> Result {
        let size = socklen_t(MemoryLayout<Address>.size)
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, size) }
        }
    }

    /// `127.0.0.1` or `::1`.
    var host: String {
        var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        let length = socklen_t(text.count)
        let code = withSystemAddress { getnameinfo($0, $1, &text, length, nil, 0, NI_NUMERICHOST) }
        guard code == 0 else { return "an unknown address" }
        let host = String(decoding: text.prefix { $0 != 0 }.map { UInt8(truncatingIfNeeded: $0) }, as: UTF8.self)
        // IPv4 peers of a socket for both.
        return host.hasPrefix("::ffff:") && host.contains(".") ? String(host.dropFirst(7)) : host
    }

    /// `127.0.0.1:5684` or `[::1]:5684`.
    var description: String {
        let (host, port) = (self.host, UInt16(bigEndian: networkPort))
        return host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
}
