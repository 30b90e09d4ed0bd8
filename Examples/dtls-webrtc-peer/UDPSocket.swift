#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// The program's own socket: here stands what an ICE agent would have, with its candidates and its consent.
final class UDPSocket {
    private let descriptor: Int32
    let localAddress: SocketAddress
    private var buffer = [UInt8](repeating: 0, count: 65_536)

    #if canImport(Glibc)
        private static let datagramType = Int32(SOCK_DGRAM.rawValue)
    #else
        private static let datagramType = SOCK_DGRAM
    #endif

    init(bindTo address: SocketAddress) throws(PeerError) {
        let descriptor = socket(address.isIPv6 ? AF_INET6 : AF_INET, Self.datagramType, 0)
        guard descriptor >= 0 else { throw Self.failure("no socket could be made") }
        guard fcntl(descriptor, F_SETFL, O_NONBLOCK) == 0, fcntl(descriptor, F_SETFD, FD_CLOEXEC) == 0,
            address.withSystemAddress({ bind(descriptor, $0, $1) }) == 0, let bound = Self.address(of: descriptor)
        else {
            let failure = Self.failure("\(address) could not be bound")
            close(descriptor)
            throw failure
        }
        self.descriptor = descriptor
        localAddress = bound
    }

    deinit { close(descriptor) }

    private static func failure(_ message: String) -> PeerError {
        PeerError("\(message): \(String(cString: strerror(errno)))")
    }

    private static func address(of descriptor: Int32) -> SocketAddress? {
        var name = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutablePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        return result == 0 ? SocketAddress(name) : nil
    }

    /// Sends a datagram. One that the system does not take is lost, as on any link: what matters is sent again.
    func send(_ datagram: RawSpan, to peer: SocketAddress) {
        datagram.withUnsafeBytes { bytes in
            _ = peer.withSystemAddress { sendto(descriptor, bytes.baseAddress, bytes.count, 0, $0, $1) }
        }
    }

    /// The next datagram; `nil` when none is there.
    func receive() -> (datagram: [UInt8], source: SocketAddress)? {
        var name = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let capacity = buffer.count
        let count = withUnsafeMutablePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                recvfrom(descriptor, &buffer, capacity, 0, $0, &length)
            }
        }
        guard count >= 0, let source = SocketAddress(name) else { return nil }
        return (Array(buffer[..<count]), source)
    }

    /// Waits until a datagram, or something at another descriptor, can be read, or the time has come.
    ///
    /// - Returns: Whether the other one can be read.
    func wait(until deadline: ContinuousClock.Instant, orFor other: Int32) -> Bool {
        // Rounded up: too early is a turn for nothing.
        let milliseconds = ((deadline - .now) / .milliseconds(1)).rounded(.up)
        var watched = [
            pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0),
            pollfd(fd: other, events: Int16(POLLIN), revents: 0),
        ]
        let count = poll(&watched, 2, Int32(min(max(0, milliseconds), 60_000)))
        return count > 0 && watched[1].revents != 0
    }
}
