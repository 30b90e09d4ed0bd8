import DTLS
import XCTest

/// A suite as Mbed TLS calls it, and as OpenSSL does.
struct MbedTLSSuite: Sendable {
    let name: String
    let openSSLName: String
    /// Whether the library leaves the suite out unless it is named.
    var mustBeNamed: Bool { openSSLName.hasSuffix("CCM8") }
    /// The list of suites that makes the library offer or accept it: none where the default has it.
    var list: String? { mustBeNamed ? openSSLName : nil }

    static let pskCCM8 = MbedTLSSuite(name: "TLS-PSK-WITH-AES-128-CCM-8", openSSLName: "PSK-AES128-CCM8")
    static let pskGCM = MbedTLSSuite(name: "TLS-PSK-WITH-AES-128-GCM-SHA256", openSSLName: "PSK-AES128-GCM-SHA256")
    static let ecdsaCCM8 = MbedTLSSuite(
        name: "TLS-ECDHE-ECDSA-WITH-AES-128-CCM-8",
        openSSLName: "ECDHE-ECDSA-AES128-CCM8"
    )
    static let ecdsaGCM128 = MbedTLSSuite(
        name: "TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256",
        openSSLName: "ECDHE-ECDSA-AES128-GCM-SHA256"
    )
    static let ecdsaGCM256 = MbedTLSSuite(
        name: "TLS-ECDHE-ECDSA-WITH-AES-256-GCM-SHA384",
        openSSLName: "ECDHE-ECDSA-AES256-GCM-SHA384"
    )
    static let ecdsaChaCha20 = MbedTLSSuite(
        name: "TLS-ECDHE-ECDSA-WITH-CHACHA20-POLY1305-SHA256",
        openSSLName: "ECDHE-ECDSA-CHACHA20-POLY1305"
    )
}

/// What Mbed TLS's two programs send and print. They play HTTP: the client sends a request, the server answers it, as
/// many times as `exchanges` says, each in one datagram. What they have printed since stays in their buffer until the
/// next exchange or the end.
enum MbedTLSText {
    /// The request of `ssl_client2 request_size=SIZE`.
    static func request(size: Int) -> [UInt8] {
        let start = "GET / HTTP/1.0\r\nHost: localhost\r\nExtra-header: "
        let end = "\r\n\r\n"
        return Array((start + String(repeating: "A", count: size - start.utf8.count - end.utf8.count) + end).utf8)
    }

    /// The answer of `ssl_server2 response_size=SIZE`.
    static func response(size: Int, _ suite: MbedTLSSuite) -> [UInt8] {
        let text = """
            HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r
            <h2>Mbed TLS Test Server</h2>\r
            <p>Successful connection using: \(suite.name)</p>\r\n
            """
        return Array((text + String(repeating: "B", count: size - text.utf8.count)).utf8)
    }

    /// What the client prints of an exchange.
    static func clientsExchange(sent request: [UInt8], received response: [UInt8]) -> [UInt8] {
        Array("  > Write to server: \(request.count) bytes written in 1 fragments\n\n".utf8) + request
            + Array("\n  < Read from server: \(response.count) bytes read\n\n".utf8) + response
    }

    /// What the server prints of an exchange; `note` is what it says in its midst.
    static func serversExchange(received request: [UInt8], note: String = "", sent response: [UInt8]) -> [UInt8] {
        Array("  < Read from client: \(request.count) bytes read\n\n".utf8) + request + Array(note.utf8)
            + Array("  > Write to client: \(response.count) bytes written in 1 fragments\n\n".utf8) + response
            + Array("\n".utf8)
    }
}

extension Peers {
    /// The options that give Mbed TLS's programs the pre-shared key.
    static func mbedTLSKey(_ suite: MbedTLSSuite, key: String = InteropKey.hex) -> [String] {
        ["psk=\(key)", "psk_identity=\(InteropKey.identity)", "force_ciphersuite=\(suite.name)"]
    }

    /// The options that give Mbed TLS's programs a certificate. Without them they have one that was compiled in.
    static func mbedTLSCertificate(_ credentials: InteropCredentials?) -> [String] {
        ["crt_file=\(credentials?.certificateFile ?? "none")", "key_file=\(credentials?.privateKeyFile ?? "none")"]
    }

    /// The options that let Mbed TLS's programs verify their peers.
    static func mbedTLSRoot(_ certificateFile: String) -> [String] {
        ["auth_mode=required", "ca_file=\(certificateFile)"]
    }

    /// Starts `ssl_client2`, which sends requests, waits for an answer to each, and then closes the association.
    func mbedTLSClient(to address: DtlsAddress, _ options: [String]) throws -> PeerProcess {
        let destination = ["server_addr=\(address.host)", "server_port=\(address.port)", "server_name=localhost"]
        return try start(PeerPrograms.mbedTLSPath(of: "ssl_client2"), ["dtls=1"] + destination + options)
    }

    /// Starts `ssl_server2`, which answers requests and closes the association after `exchanges` of them; then it waits
    /// for the next client. It reads a datagram whole only with a large buffer.
    func mbedTLSServer(
        at host: String = "127.0.0.1",
        _ options: [String]
    ) async throws -> (peer: PeerProcess, address: DtlsAddress) {
        let program = try PeerPrograms.mbedTLSPath(of: "ssl_server2")
        return try await startServer(program, at: host, isTaken: "mbedtls_net_bind returned") { output, _ in
            output.text.contains("Waiting for a remote connection")
        } arguments: { port in
            ["dtls=1", "server_addr=\(host)", "server_port=\(port)", "buffer_size=16384"] + options
        }
    }
}

extension Conversation {
    /// Payloads of several sizes, up to the largest that fits, of every byte but NUL, at which Mbed TLS's programs stop
    /// printing.
    var payloadsForMbedTLS: [[UInt8]] {
        [1, 100, connection.maximumPayloadSize].map { size in (0..<size).map { UInt8($0 % 255 + 1) } }
    }

    /// Answers `ssl_client2 exchanges=3 request_size=SIZE`, waits for its close and its end, and compares what both
    /// got.
    mutating func serve(
        _ client: PeerProcess,
        requestSize: Int,
        file: StaticString = #filePath,
        line: UInt = #line
    ) async throws {
        let request = MbedTLSText.request(size: requestSize)
        var transcript: [UInt8] = []
        for payload in payloadsForMbedTLS {
            let received = try await receive()
            XCTAssertEqual(received, request, file: file, line: line)
            try await connection.send(payload)
            transcript += MbedTLSText.clientsExchange(sent: request, received: payload)
        }
        try await expectCloseByPeer(file: file, line: line)
        let status = try await client.waitForExit()
        XCTAssertEqual(status, 0, client.description, file: file, line: line)
        transcript += Array("  . Closing the connection... done\n".utf8)
        XCTAssertTrue(client.output.standardOutput.contains(transcript), client.description, file: file, line: line)
    }

    /// Sends `ssl_server2 exchanges=3 response_size=SIZE` its requests, waits for its close, and compares what both
    /// got.
    mutating func ask(
        _ server: PeerProcess,
        _ suite: MbedTLSSuite,
        responseSize: Int,
        note: String = "",
        file: StaticString = #filePath,
        line: UInt = #line
    ) async throws {
        let response = MbedTLSText.response(size: responseSize, suite)
        var transcript: [UInt8] = []
        for payload in payloadsForMbedTLS {
            try await connection.send(payload)
            let received = try await receive()
            XCTAssertEqual(received, response, file: file, line: line)
            transcript += MbedTLSText.serversExchange(received: payload, note: note, sent: response)
        }
        try await expectCloseByPeer(file: file, line: line)
        transcript += Array("  . Closing the connection... done\n".utf8)
        try await server.wait(until: "it printed what it got and sent") { [transcript] output in
            output.standardOutput.contains(transcript)
        }
    }
}
