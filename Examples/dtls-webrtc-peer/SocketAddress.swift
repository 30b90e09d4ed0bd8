#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// An IP address and a port. No names: an ICE agent has resolved them.
struct SocketAddress: Hashable, CustomStringConvertible {
    /// 4 or 16 bytes, in network order.
    let ip: [UInt8]
    let port: UInt16
    /// Of a link-local IPv6 address; 0 elsewhere.
    private let scope: UInt32

    init?(host: String, port: UInt16) {
        var bytes = [UInt8](repeating: 0, count: 16)
        if inet_pton(AF_INET, host, &bytes) == 1 {
            bytes.removeLast(12)
        } else if inet_pton(AF_INET6, host, &bytes) != 1 {
            return nil
        }
        ip = bytes
        self.port = port
        scope = 0
    }

    /// Reads `127.0.0.1:5000` or `[::1]:5000`.
    init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
            return nil
        }
        let host = text[..<colon]
        let hasBrackets = host.hasPrefix("[") && host.hasSuffix("]")
        guard hasBrackets == host.contains(":") else { return nil }
        self.init(host: String(hasBrackets ? host.dropFirst().dropLast() : host), port: port)
    }

    init?(_ storage: sockaddr_storage) {
        switch Int32(storage.ss_family) {
        case AF_INET:
            let address = withUnsafeBytes(of: storage) { $0.loadUnaligned(as: sockaddr_in.self) }
            ip = withUnsafeBytes(of: address.sin_addr) { Array($0) }
            port = UInt16(bigEndian: address.sin_port)
            scope = 0
        case AF_INET6:
            let address = withUnsafeBytes(of: storage) { $0.loadUnaligned(as: sockaddr_in6.self) }
            ip = withUnsafeBytes(of: address.sin6_addr) { Array($0) }
            port = UInt16(bigEndian: address.sin6_port)
            scope = address.sin6_scope_id
        default:
            return nil
        }
    }

    var isIPv6: Bool { ip.count == 16 }

    /// The address without its port.
    var host: String {
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        guard inet_ntop(isIPv6 ? AF_INET6 : AF_INET, ip, &text, socklen_t(text.count)) != nil else { return "?" }
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(truncatingIfNeeded: $0) }, as: UTF8.self)
    }

    var description: String { isIPv6 ? "[\(host)]:\(port)" : "\(host):\(port)" }

    /// Bytes that stand for the address.
    var bytes: [UInt8] { ip + [UInt8(port >> 8), UInt8(port & 0xFF)] }

    /// Lends the address in the system's form.
    func withSystemAddress<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        func lend<Address>(_ address: Address) -> Result {
            withUnsafePointer(to: address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    body($0, socklen_t(MemoryLayout<Address>.size))
                }
            }
        }
        if isIPv6 {
            var address = sockaddr_in6()
            address.sin6_family = sa_family_t(AF_INET6)
            address.sin6_port = port.bigEndian
            address.sin6_scope_id = scope
            withUnsafeMutableBytes(of: &address.sin6_addr) { $0.copyBytes(from: ip) }
            return lend(address)
        }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        withUnsafeMutableBytes(of: &address.sin_addr) { $0.copyBytes(from: ip) }
        return lend(address)
    }
}
