import CPosixUDP
import DTLSCore
import DTLSPrimitives

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

// Several sockets on one port, among which the kernel spreads the peers by a hash of the addresses.

extension UDPSocket {
    /// Opens `count` sockets on one port of a host of this machine.
    static func bind(
        host: String,
        port: UInt16,
        options: DtlsSocketOptions,
        count: Int
    ) async throws(DtlsError) -> [UDPSocket] {
        let first = try await bind(host: host, port: port, options: options)
        guard count > 1 else { return [first] }
        // Only now, unless the caller wants it: so a port that another server of the same user has, with several
        // sockets as well, is found to be taken, and not shared with it.
        if let error = SystemCall.setOption(first.descriptor, SOL_SOCKET, SO_REUSEPORT, 1) {
            throw failure("the socket does not take SO_REUSEPORT", error)
        }
        var options = options
        options.reusePort = true
        var sockets = [first]
        for _ in 1..<count { sockets.append(try bind(first.localAddress, options: options)) }
        return sockets
    }

    /// Uses sockets on one port that somebody else opened. When this throws, all of them are still the caller's.
    static func adopt(descriptors: [Int32], takesOwnership: Bool) throws(DtlsError) -> [UDPSocket] {
        // Owned in the end only, when nothing can fail any more.
        let sockets = try descriptors.map { descriptor throws(DtlsError) in
            try adopt(descriptor: descriptor, takesOwnership: false)
        }
        let areShared = descriptors.allSatisfy {
            SystemCall.option($0, SOL_SOCKET, SO_REUSEPORT) != .value(0)
        }
        let addresses = Set(sockets.map(\.localAddress))
        guard descriptors.count == 1 || addresses.count == 1 && areShared && Set(descriptors).count == descriptors.count
        else {
            throw DtlsError(
                .invalidConfiguration,
                phase: .binding,
                "the sockets do not share one port",
                hint: "bind them all to the same address, each with SO_REUSEPORT"
            )
        }
        if takesOwnership {
            for socket in sockets { socket.takeOwnership() }
        }
        return sockets
    }

    /// Whether the kernel spreads the peers over several sockets of one port.
    static var canShare: Bool {
        #if os(Linux)
            true
        #else
            // Darwin has SO_REUSEPORT as well, but one of the sockets gets everything.
            false
        #endif
    }

    /// Has the kernel find the socket for a record with a Connection ID by its first byte, modulo their number; or by
    /// the addresses alone. Best effort: what comes to the wrong socket is handed over.
    func steerByConnectionID(among count: Int?) {
        #if os(Linux)
            // Under the lock, so that it is not somebody else's descriptor by now.
            state.withLock {
                guard isUsable($0) else { return }
                if let count, CPosixUDP_steer(descriptor, UInt32(truncatingIfNeeded: count)) == 0 { return }
                _ = CPosixUDP_steerNoMore(descriptor)
            }
        #endif
    }
}
