import DTLS

/// Priority strings of GnuTLS (`gnutls-cli --priority-list`).
enum GnuTLSPriority {
    static let certificates = "NORMAL:-VERS-ALL:+VERS-DTLS1.2"

    /// The pre-shared-key exchanges given, such as `+PSK`, with the AEAD ciphers given.
    static func preSharedKey(_ exchanges: String, ciphers: String) -> String {
        "NORMAL:-VERS-ALL:+VERS-DTLS1.2:-KX-ALL:\(exchanges):-CIPHER-ALL:\(ciphers)"
    }
}

extension Peers {
    /// The options that give `gnutls-cli` the pre-shared key.
    static func gnuTLSKey(_ exchanges: String, ciphers: String, key: String = InteropKey.hex) -> [String] {
        let priority = GnuTLSPriority.preSharedKey(exchanges, ciphers: ciphers)
        return ["--pskusername", InteropKey.identity, "--pskkey", key, "--priority", priority]
    }

    /// Starts `gnutls-cli`, which sends what it reads from its standard input and closes the association at its end.
    func gnuTLSClient(to address: DtlsAddress, _ options: [String]) throws -> PeerProcess {
        try start("gnutls-cli", ["--udp", "--port", "\(address.port)"] + options + [address.host])
    }

    /// Starts `gnutls-serv`, which echoes, on every address of a port of its IPv4 and IPv6 sockets.
    func gnuTLSServer(
        at host: String = "127.0.0.1",
        _ options: [String]
    ) async throws -> (peer: PeerProcess, address: DtlsAddress) {
        let family = host.contains(":") ? "IPv6 ::" : "IPv4 0.0.0.0"
        return try await startServer("gnutls-serv", at: host, isTaken: "bind() failed") { output, port in
            output.text.contains("listening on \(family) port \(port)...done")
        } arguments: { port in
            ["--udp", "--echo", "--port", "\(port)"] + options
        }
    }
}
