import Foundation

/// UDP ports for servers that cannot be told to choose one themselves.
enum FreePort {
    /// A port that was free a moment ago at an IP address, and whose predecessor exists (libcoap uses both).
    static func find(for host: String) throws -> UInt16 {
        try bind(host, port: 0)
    }

    /// Whether someone is listening on a port.
    static func isTaken(_ port: UInt16, at host: String) -> Bool {
        (try? bind(host, port: port)) == nil
    }

    /// Binds a socket, closes it again and returns its port.
    private static func bind(_ host: String, port: UInt16) throws -> UInt16 {
        var hints = addrinfo()
        hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE
        #if canImport(Glibc)
            hints.ai_socktype = Int32(SOCK_DGRAM.rawValue)
        #else
            hints.ai_socktype = SOCK_DGRAM
        #endif
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, "\(port)", &hints, &list) == 0, let address = list else {
            throw PeerFailure(description: "\(host) is not an IP address")
        }
        defer { freeaddrinfo(list) }
        let descriptor = socket(address.pointee.ai_family, address.pointee.ai_socktype, 0)
        defer { close(descriptor) }
        guard Foundation.bind(descriptor, address.pointee.ai_addr, address.pointee.ai_addrlen) == 0 else {
            throw PeerFailure(description: "cannot bind to port \(port) of \(host) (errno \(errno))")
        }
        var bound = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutableBytes(of: &bound) { bytes in
            guard let name = bytes.baseAddress?.assumingMemoryBound(to: sockaddr.self) else { return Int32(-1) }
            return getsockname(descriptor, name, &length)
        }
        guard result == 0 else { throw PeerFailure(description: "getsockname failed (errno \(errno))") }
        // sockaddr_in and sockaddr_in6 both have the port at offset 2.
        return withUnsafeBytes(of: &bound) { UInt16(bigEndian: $0.loadUnaligned(fromByteOffset: 2, as: UInt16.self)) }
    }
}
