import DTLSCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

extension UDPSocket {
    /// Opens a socket on a host of this machine, given by name or by address.
    ///
    /// `"::"` stands for every interface, IPv6 and IPv4, and becomes `0.0.0.0` where the system has no IPv6.
    static func bind(host: String, port: UInt16, options: DtlsSocketOptions) async throws(DtlsError) -> UDPSocket {
        try options.validate()
        var candidates = try await NameResolution.resolve(host: host, port: port, reach: .both)
        if candidates == [.anyIPv6.with(port: port)] { candidates.append(.anyIPv4.with(port: port)) }
        for candidate in candidates.dropLast() {
            do throws(DtlsError) {
                return try bind(candidate, options: options)
            } catch {
                // Only what this machine does not have is passed over: a port that is taken, or a permission that is
                // missing, must not be hidden by binding another address.
                guard error.systemError == EAFNOSUPPORT || error.systemError == EADDRNOTAVAIL else { throw error }
            }
        }
        return try bind(candidates.last ?? .anyIPv6.with(port: port), options: options)
    }

    /// Opens a socket on exactly this address; port 0 takes a free one. The IPv6 wildcard serves IPv4 as well.
    static func bind(
        _ address: DtlsAddress,
        options: DtlsSocketOptions = DtlsSocketOptions(),
        offload: Offload = Offload(),
        systemSend: SystemSend? = nil
    ) throws(DtlsError) -> UDPSocket {
        try options.validate()
        let family: Family = address.isIPv4 ? .ipv4 : .ipv6
        let descriptor = try open(family)
        try apply(options, to: descriptor.value, family: family, servesBoth: address.isWildcard)
        try bind(descriptor.value, to: address, family: family)
        let socket = try UDPSocket(
            bound: descriptor.value,
            ownsDescriptor: true,
            systemSend: systemSend,
            offload: offload
        )
        descriptor.release()
        return socket
    }

    /// Uses a UDP socket that somebody else opened; one that is not bound yet is bound to a free port.
    ///
    /// Its file status flags stay as they are; the options that ``startReports(_:_:isWildcard:)`` sets are taken back
    /// when the socket is closed. When this throws, the descriptor is still the caller's to close.
    static func adopt(
        descriptor: Int32,
        takesOwnership: Bool,
        offload: Offload = Offload()
    ) throws(DtlsError) -> UDPSocket {
        let type = SystemCall.option(descriptor, SOL_SOCKET, SO_TYPE)
        if case .failed(let error) = type {
            throw DtlsError(
                .invalidConfiguration,
                phase: .binding,
                "descriptor \(descriptor) is not a socket: \(SystemCall.description(of: error))",
                hint: "hand over an open UDP socket, and keep it open for as long as the library uses it",
                systemError: error
            )
        }
        let name = try localName(of: descriptor)
        guard type == .value(Int(SystemCall.datagramType)), let name else {
            throw DtlsError(
                .invalidConfiguration,
                phase: .binding,
                "descriptor \(descriptor) is not a UDP socket",
                hint: "hand over a socket made with AF_INET or AF_INET6 and SOCK_DGRAM"
            )
        }
        if name.address.port == 0 {
            try bind(descriptor, to: name.family == .ipv4 ? .anyIPv4 : .anyIPv6, family: name.family)
        }
        return try UDPSocket(bound: descriptor, ownsDescriptor: takesOwnership, systemSend: nil, offload: offload)
    }

    private convenience init(
        bound descriptor: Int32,
        ownsDescriptor: Bool,
        systemSend: SystemSend?,
        offload: Offload
    ) throws(DtlsError) {
        guard let name = try Self.localName(of: descriptor) else {
            throw Self.failure("the socket has no IP address", EAFNOSUPPORT)
        }
        #if canImport(Darwin)
            _ = SystemCall.setOption(descriptor, SOL_SOCKET, SO_NOSIGPIPE, 1)
        #endif
        let readiness = try Self.readiness(of: descriptor)
        var reports = Self.startReports(descriptor, name.family, isWildcard: name.address.isWildcard)
        if offload.coalesces, let report = Self.startCoalescing(descriptor) { reports.append(report) }
        self.init(
            descriptor: descriptor,
            readiness: readiness,
            reports: reports,
            ownsDescriptor: ownsDescriptor,
            family: name.family,
            reach: Self.reach(of: descriptor, name),
            localAddress: name.address,
            connectedPeer: (try? Self.name(of: descriptor, getpeername))?.address,
            systemSend: systemSend,
            offload: offload
        )
    }
}

// MARK: - Steps

extension UDPSocket {
    private typealias Name = (family: Family, address: DtlsAddress)
    private typealias NameCall = (Int32, UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32

    private static func open(_ family: Family) throws(DtlsError) -> OwnedDescriptor {
        #if canImport(Glibc)
            let type = SystemCall.datagramType | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        #elseif canImport(Musl)
            let type = SystemCall.datagramType | SOCK_CLOEXEC | SOCK_NONBLOCK
        #else
            let type = SystemCall.datagramType
        #endif
        let domain = family == .ipv4 ? AF_INET : AF_INET6
        switch SystemCall.run({ socket(domain, type, SystemCall.udp) }) {
        case .value(let value):
            let descriptor = OwnedDescriptor(taking: Int32(value))
            #if canImport(Darwin)
                _ = fcntl(descriptor.value, F_SETFD, FD_CLOEXEC)
                _ = fcntl(descriptor.value, F_SETFL, O_NONBLOCK)
            #endif
            return descriptor
        case .failed(let error):
            throw failure("no socket could be opened", error)
        case .wouldBlock:
            throw failure("no socket could be opened", EAGAIN)
        }
    }

    private static func bind(_ descriptor: Int32, to address: DtlsAddress, family: Family) throws(DtlsError) {
        let outcome = address.withSystemAddress(family) { pointer, length in
            SystemCall.error { systemBind(descriptor, pointer, length) }
        }
        // The outer optional is nil for an IPv6 address and an IPv4 socket, the inner one when it worked.
        guard let error = outcome ?? EAFNOSUPPORT else { return }
        let action = "cannot bind a UDP socket to \(address)"
        switch error {
        case EADDRINUSE:
            let hint = "another program is bound to this port; pick another, or port 0 for any free one"
            throw failure(action, error, code: .addressInUse, hint: hint)
        case EACCES where address.port < 1024:
            throw failure(action, error, hint: "ports below 1024 need privileges; pick a higher one")
        case EADDRNOTAVAIL:
            throw failure(action, error, hint: "no interface of this machine has it; :: stands for all of them")
        default:
            throw failure(action, error)
        }
    }

    private static func reach(of descriptor: Int32, _ name: Name) -> Reach {
        // An IPv6 socket on an IPv4-mapped address sends and receives IPv4 only.
        if name.address.isIPv4 { return .ipv4 }
        guard name.address.isWildcard else { return .ipv6 }
        return SystemCall.option(descriptor, SystemCall.ipv6Level, IPV6_V6ONLY) == .value(0) ? .both : .ipv6
    }

    private static func localName(of descriptor: Int32) throws(DtlsError) -> Name? {
        do throws(SystemError) {
            return try name(of: descriptor, getsockname)
        } catch {
            throw failure("the socket's address cannot be read", error.code)
        }
    }

    /// Asks for the local or the peer's address; nil when it is not an IP address.
    private static func name(of descriptor: Int32, _ call: NameCall) throws(SystemError) -> Name? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let error = withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                SystemCall.error { call(descriptor, pointer, &length) }
            }
        }
        if let error { throw SystemError(code: error) }
        let address = withUnsafeBytes(of: &storage) { bytes in
            DtlsAddress(systemAddress: .init(rebasing: bytes.prefix(Int(length))))
        }
        return address.map { (Int32(storage.ss_family) == AF_INET ? .ipv4 : .ipv6, $0) }
    }

    private struct SystemError: Error { let code: Int32 }

    static func failure(
        _ action: String,
        _ error: Int32,
        code: DtlsError.Code = .socketFailed,
        hint: String? = nil
    ) -> DtlsError {
        let message = "\(action): \(SystemCall.description(of: error))"
        let isShort = error == EMFILE || error == ENFILE
        let hint = hint ?? (isShort ? "raise the limit on open files (ulimit -n), or close some" : nil)
        return DtlsError(code, phase: .binding, message, hint: hint, systemError: error)
    }
}

// At file scope, where `bind` still means the system's function.
private func systemBind(_ descriptor: Int32, _ address: UnsafePointer<sockaddr>, _ length: socklen_t) -> Int32 {
    bind(descriptor, address, length)
}
