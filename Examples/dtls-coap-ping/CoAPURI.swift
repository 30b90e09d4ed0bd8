import ArgumentParser
import ExampleSupport

/// A `coaps` URI: where a server is, and which of its resources is meant (RFC 7252 §6.2).
struct CoAPURI: Equatable, Sendable {
    /// A name or an address, an IPv6 one without its brackets.
    let host: String
    let port: UInt16
    /// The options that name the resource; none for the root.
    let resource: [CoAPMessage.Option]
    /// As it was given, without its path.
    let origin: String

    /// Reads a URI.
    init(_ text: String) throws(Problem) {
        let scheme = "coaps://"
        guard text.lowercased().hasPrefix(scheme) else { throw Problem("it does not begin with \(scheme)") }
        let rest = text.dropFirst(scheme.count)
        let authority = rest.prefix { !"/?#".contains($0) }
        guard !authority.contains("@") else { throw Problem("CoAP knows no user names") }
        let port: Substring?
        if authority.hasPrefix("[") {
            guard let end = authority.firstIndex(of: "]") else { throw Problem("a bracket is not closed") }
            host = String(authority[authority.index(after: authority.startIndex)..<end])
            let after = authority[authority.index(after: end)...]
            guard after.isEmpty || after.hasPrefix(":") else { throw Problem("something stands behind the bracket") }
            port = after.isEmpty ? nil : after.dropFirst()
        } else {
            let parts = authority.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            let name = try Self.decoded(parts.first ?? "")
            host = String(decoding: name, as: UTF8.self)
            port = parts.count > 1 ? parts[1] : nil
        }
        guard !host.isEmpty else { throw Problem("it has no host") }
        let number = port.map { $0.isEmpty ? 5684 : UInt16($0) ?? 0 }
        guard number != 0 else { throw Problem("the port must be from 1 to 65535") }
        self.port = number ?? 5684
        resource = try Self.options(path: rest.dropFirst(authority.count))
        origin = scheme + authority
    }

    /// What is wrong with a URI or a path.
    struct Problem: Error, Equatable {
        let message: String

        init(_ message: String) { self.message = message }
    }

    /// The options for a path and a query, by the steps 7 and 8 of RFC 7252 §6.4.
    static func options(path: some StringProtocol) throws(Problem) -> [CoAPMessage.Option] {
        let text = String(path)
        guard !text.contains("#") else { throw Problem("a fragment (#) is not sent to a server") }
        let parts = text.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        var options: [CoAPMessage.Option] = []
        func append(_ number: UInt16, _ pieces: [Substring]) throws(Problem) {
            for piece in pieces {
                let value = try decoded(piece)
                guard value.count <= 255 else { throw Problem("a part of it has more than 255 bytes") }
                options.append(CoAPMessage.Option(number: number, value: value))
            }
        }
        if let path = parts.first, !path.isEmpty {
            guard path.hasPrefix("/") else { throw Problem("a path begins with /") }
            let segments = path.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
            if segments != [""] { try append(CoAPMessage.Option.uriPath, segments) }
        }
        if parts.count > 1 {
            try append(CoAPMessage.Option.uriQuery, parts[1].split(separator: "&", omittingEmptySubsequences: false))
        }
        return options
    }

    /// Undoes percent-encoding (RFC 3986 §2.1).
    private static func decoded(_ text: Substring) throws(Problem) -> [UInt8] {
        var decoded: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                decoded.append(byte)
                continue
            }
            let digits = String(decoding: rest.prefix(2), as: UTF8.self)
            guard rest.count >= 2, let value = bytes(hexadecimal: digits)?.first else {
                throw Problem("two hexadecimal digits must follow a percent sign")
            }
            decoded.append(value)
            rest.removeFirst(2)
        }
        return decoded
    }
}

/// Reads the argument of the command.
func coapURI(argument: String) throws -> CoAPURI {
    do {
        return try CoAPURI(argument)
    } catch {
        throw ValidationError("no URI such as coaps://localhost/.well-known/core: \(error.message)")
    }
}

/// Reads the value of `--get`.
func coapPath(argument: String) throws -> [CoAPMessage.Option] {
    do {
        return try CoAPURI.options(path: argument)
    } catch {
        throw ValidationError("--get wants a path such as /.well-known/core: \(error.message)")
    }
}
