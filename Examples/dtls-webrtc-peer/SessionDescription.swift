import ArgumentParser
import DTLSCore

/// Who begins the handshake: `a=setup` (RFC 4145 §4, RFC 5763 §5).
enum Setup: String, CaseIterable, ExpressibleByArgument {
    case active
    case passive
}

/// The lines of a session description that DTLS and its transport are about (RFC 8866, RFC 8122, RFC 8839).
struct SessionDescription: Equatable {
    var fingerprint: DtlsFingerprint?
    /// `nil` also for `actpass`, which leaves it to the answer.
    var setup: Setup?
    var candidate: SocketAddress?
    private var hasSetup = false

    init() {}

    init(fingerprint: DtlsFingerprint, setup: Setup, candidate: SocketAddress) {
        self.fingerprint = fingerprint
        self.setup = setup
        self.candidate = candidate
        hasSetup = true
    }

    /// What to send to the other side, a line each.
    var lines: [String] {
        // The priority of a host candidate (RFC 8445 §5.1.2.2): 126, 65,535, component 1.
        let priority = 126 << 24 | 65_535 << 8 | 255
        return [
            candidate.map { "a=candidate:1 1 UDP \(priority) \($0.host) \($0.port) typ host" },
            fingerprint.map { "a=fingerprint:sha-256 \($0)" },
            setup.map { "a=setup:\($0.rawValue)" },
        ].compactMap(\.self)
    }

    /// Reads lines until all is there, an empty one, or the end.
    init(reading nextLine: () throws -> String?) throws {
        self.init()
        while !isComplete, let line = try nextLine(), !line.allSatisfy(\.isWhitespace) { try take(line) }
    }

    private var isComplete: Bool { fingerprint != nil && hasSetup && candidate != nil }

    /// Takes a line; what it does not know is of no matter.
    private mutating func take(_ line: String) throws(PeerError) {
        let words = line.split(whereSeparator: \.isWhitespace).map(String.init)
        guard let first = words.first else { return }
        if first.lowercased() == "a=fingerprint:sha-256" {
            guard words.count == 2, let value = DtlsFingerprint(words[1]) else {
                throw PeerError("the peer's a=fingerprint has not 64 hexadecimal digits")
            }
            fingerprint = value
        } else if first.hasPrefix("a=setup:") {
            let value = String(first.dropFirst("a=setup:".count))
            guard value == "actpass" || Setup(rawValue: value) != nil else {
                throw PeerError("the peer's a=setup is neither active, passive nor actpass")
            }
            setup = Setup(rawValue: value)
            hasSetup = true
        } else if first.hasPrefix("a=candidate:"), candidate == nil, words.count >= 6, words[1] == "1",
            words[2].uppercased() == "UDP", let port = UInt16(words[5])
        {
            // A name (mDNS) is not for this program, which has no resolver.
            candidate = SocketAddress(host: words[4], port: port)
        }
    }
}
