import DTLS

/// Which TLS library a build of libcoap's programs uses.
enum CoAPBuild: String {
    case openSSL = "openssl"
    case gnuTLS = "gnutls"
}

extension Peers {
    /// The options that give `coap-client` the pre-shared key.
    static let coapKey = ["-u", InteropKey.identity, "-k", InteropKey.text]

    /// The options that give libcoap's programs a certificate and the root of their peer.
    static func coapCertificate(_ credentials: InteropCredentials, _ authority: InteropAuthority) -> [String] {
        ["-c", credentials.certificateFile, "-j", credentials.privateKeyFile, "-C", authority.certificateFile]
    }

    /// Starts `coap-client`, which gets one resource, prints it and ends (after 5 seconds in any case, always with
    /// status 0).
    func coapClient(_ build: CoAPBuild, get address: DtlsAddress, _ options: [String]) throws -> PeerProcess {
        try start("coap-client-\(build.rawValue)", options + ["-B", "5", "coaps://\(address)/hello"])
    }

    /// Starts `coap-server`. It listens for CoAP on one port and for CoAP over DTLS on the next one, of which the
    /// address is returned.
    func coapServer(
        _ build: CoAPBuild,
        at host: String = "127.0.0.1",
        _ options: [String]
    ) async throws -> (peer: PeerProcess, address: DtlsAddress) {
        let program = "coap-server-\(build.rawValue)"
        let taken = "cannot create DTLS endpoint"
        return try await startServer(program, at: host, isTaken: taken) { output, port in
            output.text.contains("created DTLS endpoint") && output.text.contains(":\(port)\n")
        } arguments: { port in
            ["-A", host, "-p", "\(port - 1)", "-v", "7"] + options
        }
    }
}
