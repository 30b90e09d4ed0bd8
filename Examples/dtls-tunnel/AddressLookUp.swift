import Dispatch
import ExampleSupport

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Turns a host into addresses.
enum AddressLookUp {
    /// getaddrinfo may block for many seconds: on a global queue it would take a thread of those that run tasks. Who
    /// looks up does so once at a time, so one queue is enough.
    private static let queue = DispatchQueue(label: "dtls-tunnel.names")

    /// The addresses of a host, in the system's order of preference; never empty.
    static func addresses(of target: HostPort) async throws -> [PlainAddress] {
        try await withCheckedThrowingContinuation { continuation in
            queue.async {
                continuation.resume(with: Result { try blockingAddresses(of: target) })
            }
        }
    }

    /// Whether the host is an address itself, which no name server can change.
    static func isLiteral(_ host: String) -> Bool {
        list(host, port: 0, flags: AI_NUMERICHOST) != nil
    }

    private static func blockingAddresses(of target: HostPort) throws -> [PlainAddress] {
        var code: Int32 = 0
        guard let addresses = list(target.host ?? "", port: target.port, flags: 0, code: &code), !addresses.isEmpty
        else {
            let name = escapedForTerminal((target.host ?? "").utf8)
            let reason = code == 0 ? "it has no address" : String(cString: gai_strerror(code))
            throw ExampleFailure("'\(name)' cannot be resolved: \(reason)")
        }
        return addresses
    }

    private static func list(_ host: String, port: UInt16, flags: Int32) -> [PlainAddress]? {
        var code: Int32 = 0
        return list(host, port: port, flags: flags, code: &code)
    }

    private static func list(_ host: String, port: UInt16, flags: Int32, code: inout Int32) -> [PlainAddress]? {
        var hints = addrinfo()
        hints.ai_flags = flags | AI_NUMERICSERV
        hints.ai_socktype = PlainSocket.datagramType
        var list: UnsafeMutablePointer<addrinfo>?
        code = getaddrinfo(host, "\(port)", &hints, &list)
        guard code == 0 else { return nil }
        defer { freeaddrinfo(list) }
        var addresses: [PlainAddress] = []
        var next = list
        while let entry = next?.pointee {
            if let address = PlainAddress(entry), !addresses.contains(address) { addresses.append(address) }
            next = entry.ai_next
        }
        return addresses
    }
}
