import DTLS

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// A UDP socket on loopback that never waits: what the system does not take at once is lost, as on any link.
final class RelaySocket: Sendable {
    /// Not the socket's any more once it is released.
    let descriptor: Int32
    let address: DtlsAddress

    private static let bufferSize = 65_536

    #if canImport(Glibc)
        private static let datagramType = Int32(SOCK_DGRAM.rawValue)
    #else
        private static let datagramType = SOCK_DGRAM
    #endif

    /// - Throws: ``DtlsError/Code-swift.struct/socketFailed`` when the system has no descriptor or no port left.
    init(isIPv6: Bool) throws(DtlsError) {
        let descriptor = socket(isIPv6 ? AF_INET6 : AF_INET, Self.datagramType, 0)
        guard descriptor >= 0 else { throw Self.failure("no socket could be made") }
        let loopback = try DtlsAddress(ipAddress: isIPv6 ? "::1" : "127.0.0.1", port: 0)
        let bound = loopback.withSystemAddress { Int(bind(descriptor, $0, $1)) }
        guard bound == 0, let port = Self.port(of: descriptor) else {
            let failure = Self.failure("a socket could not be bound")
            close(descriptor)
            throw failure
        }
        var size = Int32(1 << 20)
        // Only a wish: the system's default does, for fewer at once.
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<Int32>.size))
        self.descriptor = descriptor
        address = try DtlsAddress(ipAddress: loopback.host, port: port)
    }

    deinit { close(descriptor) }

    private static func failure(_ message: String) -> DtlsError {
        DtlsError(.socketFailed, phase: .binding, message, systemError: errno)
    }

    private static func port(of descriptor: Int32) -> UInt16? {
        var name = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutablePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        return result == 0 ? DtlsAddress(systemAddress: name)?.port : nil
    }

    func send(_ bytes: [UInt8], to peer: DtlsAddress) {
        _ = peer.withSystemAddress { sendto(descriptor, bytes, bytes.count, Int32(MSG_DONTWAIT), $0, $1) }
    }

    /// The next datagram; `nil` when none is there.
    func receive() -> (bytes: [UInt8], source: DtlsAddress)? {
        var name = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let bytes = [UInt8](unsafeUninitializedCapacity: Self.bufferSize) { buffer, count in
            let received = withUnsafeMutablePointer(to: &name) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    recvfrom(descriptor, buffer.baseAddress, buffer.count, Int32(MSG_DONTWAIT), $0, &length)
                }
            }
            count = Swift.max(0, received)
        }
        // Nobody sends nothing in DTLS, so an empty datagram and an error are one.
        guard !bytes.isEmpty, let source = DtlsAddress(systemAddress: name) else { return nil }
        return (bytes, source)
    }
}

extension DtlsAddress {
    fileprivate init?(systemAddress name: sockaddr_storage) {
        var name = name
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        let port: UInt16
        switch Int32(name.ss_family) {
        case AF_INET:
            var address = withUnsafeBytes(of: &name) { $0.loadUnaligned(as: sockaddr_in.self) }
            port = UInt16(bigEndian: address.sin_port)
            guard inet_ntop(AF_INET, &address.sin_addr, &text, socklen_t(text.count)) != nil else { return nil }
        case AF_INET6:
            var address = withUnsafeBytes(of: &name) { $0.loadUnaligned(as: sockaddr_in6.self) }
            port = UInt16(bigEndian: address.sin6_port)
            guard inet_ntop(AF_INET6, &address.sin6_addr, &text, socklen_t(text.count)) != nil else { return nil }
        default:
            return nil
        }
        let host = String(decoding: text.prefix { $0 != 0 }.map { UInt8(truncatingIfNeeded: $0) }, as: UTF8.self)
        try? self.init(ipAddress: host, port: port)
    }

    /// Lends the address in the system's form; -1 for one that has none.
    fileprivate func withSystemAddress(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Int) -> Int {
        func lend<Address>(_ address: inout Address) -> Int {
            let size = socklen_t(MemoryLayout<Address>.size)
            return withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, size) }
            }
        }
        if isIPv4 {
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = port.bigEndian
            guard inet_pton(AF_INET, host, &address.sin_addr) == 1 else { return -1 }
            return lend(&address)
        }
        var address = sockaddr_in6()
        address.sin6_family = sa_family_t(AF_INET6)
        address.sin6_port = port.bigEndian
        // A scope has no meaning on loopback.
        let plain = host.split(separator: "%").first.map(String.init) ?? host
        guard inet_pton(AF_INET6, plain, &address.sin6_addr) == 1 else { return -1 }
        return lend(&address)
    }
}
