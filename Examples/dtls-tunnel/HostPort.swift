import ArgumentParser

/// A host, name or address, and a UDP port, as they stand on the command line.
struct HostPort: Sendable, CustomStringConvertible {
    /// Nil where only a port was given.
    let host: String?
    let port: UInt16

    init(host: String?, port: UInt16) {
        self.host = host
        self.port = port
    }

    /// Reads `HOST:PORT`, `[IPV6]:PORT` or `PORT`.
    init(argument: String) throws {
        guard let colon = argument.lastIndex(of: ":") else {
            self.init(host: nil, port: try Self.port(argument))
            return
        }
        var host = argument[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = host.dropFirst().dropLast()
        } else if host.contains(":") {
            throw ValidationError("an IPv6 address stands in brackets, as in [::1]:5684")
        }
        guard !host.isEmpty else {
            throw ValidationError("a host is missing before the colon, as in localhost:5684")
        }
        self.init(host: String(host), port: try Self.port(String(argument[argument.index(after: colon)...])))
    }

    private static func port(_ text: String) throws -> UInt16 {
        guard let port = UInt16(text) else {
            throw ValidationError("a port is a number from 0 to 65535, as in localhost:5684")
        }
        return port
    }

    var description: String {
        guard let host else { return "\(port)" }
        return host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
}
