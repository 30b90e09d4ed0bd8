#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// A plain UDP socket that never waits. It is closed when nobody holds it any more.
final class PlainSocket: Sendable {
    /// What became of a datagram that was to be sent.
    enum Sending {
        case sent
        /// The socket's buffer is full.
        case full
        /// It is too large for UDP or for the way.
        case tooLarge
        /// Nobody listens where an earlier one went; this one was not sent.
        case refused
        case failed(Int32)
    }

    /// What was there to receive.
    enum Receiving {
        case datagram(count: Int, source: PlainAddress?)
        case nothing
        /// Nobody listens where an earlier one went.
        case refused
        case failed(Int32)
    }

    #if canImport(Glibc)
        static let datagramType = Int32(SOCK_DGRAM.rawValue)
    #else
        static let datagramType = SOCK_DGRAM
    #endif

    /// Large enough for every UDP payload.
    static let largestDatagram = 65_536

    let descriptor: Int32
    /// Where the socket is bound.
    let localAddress: PlainAddress

    /// Listens at an address. IPv6's `::` is for IPv4 as well.
    convenience init(listeningAt address: PlainAddress) throws(PlainSocketError) {
        try self.init(address.family) { descriptor in
            var off: Int32 = 0
            var size: Int32 = 1 << 20
            let length = socklen_t(MemoryLayout<Int32>.size)
            if address.family == AF_INET6 { setsockopt(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &off, length) }
            // For bursts. Only a wish: the system's default does, for smaller ones.
            setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, length)
            return address.withSystemAddress { bind(descriptor, $0, $1) }
        }
    }

    /// Talks to one address alone, from a port of the system's choice.
    convenience init(connectedTo address: PlainAddress) throws(PlainSocketError) {
        try self.init(address.family) { descriptor in address.withSystemAddress { connect(descriptor, $0, $1) } }
    }

    private init(_ family: Int32, _ prepare: (Int32) -> Int32) throws(PlainSocketError) {
        let descriptor = socket(family, Self.datagramType, 0)
        guard descriptor >= 0 else { throw PlainSocketError(code: errno) }
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        var name = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        var isReady = prepare(descriptor) == 0
        if isReady {
            isReady = withUnsafeMutablePointer(to: &name) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) == 0 }
            }
        }
        guard isReady, let localAddress = PlainAddress(name) else {
            let code = errno
            close(descriptor)
            throw PlainSocketError(code: code)
        }
        self.descriptor = descriptor
        self.localAddress = localAddress
    }

    deinit { close(descriptor) }

    /// Sends to the one peer, or to `address`.
    func transmit(_ datagram: UnsafeRawBufferPointer, to address: PlainAddress? = nil) -> Sending {
        while true {
            let result =
                address?.withSystemAddress { name, length in
                    sendto(descriptor, datagram.baseAddress, datagram.count, Int32(MSG_DONTWAIT), name, length)
                } ?? sendto(descriptor, datagram.baseAddress, datagram.count, Int32(MSG_DONTWAIT), nil, 0)
            guard result < 0 else { return .sent }
            switch errno {
            case EINTR: continue
            case EAGAIN, ENOBUFS: return .full
            case EMSGSIZE: return .tooLarge
            case ECONNREFUSED: return .refused
            default: return .failed(errno)
            }
        }
    }

    /// Takes the next datagram.
    func takeNext(into buffer: UnsafeMutableRawBufferPointer) -> Receiving {
        var name = sockaddr_storage()
        while true {
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let count = withUnsafeMutablePointer(to: &name) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    recvfrom(descriptor, buffer.baseAddress, buffer.count, Int32(MSG_DONTWAIT), $0, &length)
                }
            }
            guard count < 0 else { return .datagram(count: count, source: PlainAddress(name)) }
            switch errno {
            case EINTR: continue
            case EAGAIN: return .nothing
            case ECONNREFUSED: return .refused
            default: return .failed(errno)
            }
        }
    }
}

/// Why the system does not give a socket.
struct PlainSocketError: Error, CustomStringConvertible {
    let code: Int32

    var description: String { String(cString: strerror(code)) }
}
