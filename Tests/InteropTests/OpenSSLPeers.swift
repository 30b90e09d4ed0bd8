import DTLS

extension Peers {
    /// The options that give OpenSSL's programs the pre-shared key, and one suite to use it with.
    static func openSSLKey(cipher: String, key: String = InteropKey.hex) -> [String] {
        ["-psk_identity", InteropKey.identity, "-psk", key, "-cipher", cipher]
    }

    /// Starts `openssl s_client`. It sends what it reads from its standard input, ends with `Q` or the end of its
    /// input, and `-brief` keeps what it writes short without (as `-quiet` would) ignoring the end of its input.
    func openSSLClient(
        to address: DtlsAddress,
        version: String = "-dtls1_2",
        _ options: [String]
    ) throws -> PeerProcess {
        try start("openssl", ["s_client", version, "-brief", "-connect", "\(address)"] + options)
    }

    /// Starts `openssl s_server`, which serves one client after the other.
    ///
    /// It says that it listens unless it is told to be quiet; then only its port shows that it does.
    func openSSLServer(
        at host: String = "127.0.0.1",
        version: String = "-dtls1_2",
        quiet: Bool = false,
        _ options: [String]
    ) async throws -> (peer: PeerProcess, address: DtlsAddress) {
        try await startServer("openssl", at: host, isTaken: "Address already in use") { output, port in
            quiet ? FreePort.isTaken(port, at: host) : output.text.contains("ACCEPT\n")
        } arguments: { port in
            let accept = host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
            return ["s_server", version, "-accept", accept] + (quiet ? ["-quiet"] : []) + options
        }
    }
}
