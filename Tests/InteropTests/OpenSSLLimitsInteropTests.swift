import DTLS
import XCTest

/// What `openssl s_client` and `s_server` can be made to do beside the usual.
final class OpenSSLLimitsInteropTests: XCTestCase {
    private static let key = Peers.openSSLKey(cipher: "PSK-AES128-GCM-SHA256")

    // MARK: Addresses

    func testServerOfBothFamilies() async throws {
        try await withDeadline { peers in
            var reception = try await Reception(at: "::", .preSharedKey())
            for host in ["127.0.0.1", "::1"] {
                let address = try DtlsAddress(ipAddress: host, port: reception.address.port)
                let client = try peers.openSSLClient(to: address, Self.key)
                var conversation = try await reception.accept()
                XCTAssertEqual(conversation.connection.peerAddress.host, host)
                try await conversation.exchangeText(with: client)
            }
        }
    }

    func testClientOfBothFamilies() async throws {
        try await withDeadline { peers in
            let client = try await DtlsClient.bind()
            var conversations: [Conversation] = []
            for host in ["127.0.0.1", "::1"] {
                let (server, address) = try await peers.openSSLServer(at: host, ["-nocert"] + Self.key)
                let context = try DtlsClientContext.preSharedKey()
                var conversation = Conversation(
                    try await client.connect(to: address.host, port: address.port, context: context)
                )
                XCTAssertEqual(conversation.connection.peerAddress, address)
                try await conversation.exchangeText(with: server)
                conversations.append(conversation)
            }
            XCTAssertEqual(conversations.map(\.connection.state), [.open, .open])
            await client.close()
            XCTAssertEqual(conversations.map(\.connection.state), [.closed, .closed])
        }
    }

    /// A client that crashed comes back from the same port (RFC 6347 §4.2.8).
    func testClientThatBeginsAnew() async throws {
        try await withDeadline { peers in
            var reception = try await Reception(.preSharedKey())
            let port = try FreePort.find(for: "127.0.0.1")
            let options = Self.key + ["-bind", "127.0.0.1:\(port)"]
            let first = try peers.openSSLClient(to: reception.address, options)
            var before = try await reception.accept()
            try await before.exchangeText(with: first)
            first.send(signal: SIGKILL)
            try await first.waitForExit()

            let second = try peers.openSSLClient(to: reception.address, options)
            var after = try await reception.accept()
            XCTAssertEqual(after.connection.peerAddress, before.connection.peerAddress)
            try await after.exchangeText(with: second)
            let reason = await before.connection.waitUntilClosed()
            guard case .replacedByPeer = reason else { return XCTFail("closed because of \(reason)") }
        }
    }

    // MARK: Small datagrams

    func testServerWithSmallDatagrams() async throws {
        try await withDeadline { peers in
            let authority = try await peers.authority()
            let theirs = try await authority.issue("client", rsa: true)
            var configuration = DtlsConfiguration()
            configuration.mtu = 256
            configuration.identity = try await authority.issue("server", rsa: true).identity
            configuration.trust = try authority.trust
            var reception = try await Reception(DtlsServerContext(configuration, clientCertificates: .required))
            let client = try peers.openSSLClient(
                to: reception.address,
                ["-CAfile", authority.certificateFile, "-verify_return_error"]
                    + ["-cert", theirs.certificateFile, "-key", theirs.privateKeyFile]
            )
            var conversation = try await reception.accept()
            try await conversation.exchangeText(with: client)
            XCTAssertLessThan(conversation.connection.maximumPayloadSize, 256)
        }
    }

    func testClientWithSmallDatagrams() async throws {
        try await withDeadline { peers in
            let authority = try await peers.authority()
            let theirs = try await authority.issue("server", rsa: true)
            let (server, address) = try await peers.openSSLServer(
                ["-cert", theirs.certificateFile, "-key", theirs.privateKeyFile]
                    + ["-CAfile", authority.certificateFile, "-Verify", "2", "-verify_return_error", "-mtu", "256"]
            )
            var configuration = DtlsConfiguration()
            configuration.mtu = 256
            configuration.identity = try await authority.issue("client", rsa: true).identity
            configuration.trust = try authority.trust
            var conversation = try await DtlsClientContext(configuration).connect(to: address)
            try await conversation.exchangeText(with: server)
        }
    }

    // MARK: Versions

    func testClientOfAnOlderVersionIsRefused() async throws {
        try await withDeadline { peers in
            let reception = try await Reception(.preSharedKey("ALL"))
            let key = Peers.openSSLKey(cipher: "PSK-AES128-CBC-SHA:@SECLEVEL=0")
            let client = try peers.openSSLClient(to: reception.address, version: "-dtls1", key)
            try await client.wait(for: "SSL alert number 70")  // protocol_version
            let status = try await client.waitForExit()
            XCTAssertEqual(status, 1)
            await reception.server.close()
        }
    }

    func testServerOfAnOlderVersionIsRefused() async throws {
        try await withDeadline { peers in
            let key = Peers.openSSLKey(cipher: "PSK-AES128-CBC-SHA:@SECLEVEL=0")
            let (server, address) = try await peers.openSSLServer(version: "-dtls1", ["-nocert"] + key)
            try await expectFailure(to: address, .preSharedKey("ALL")) { error in
                XCTAssertEqual(error.code, .handshakeFailed, "\(error)")
                XCTAssertEqual(error.alertSent?.code, .protocolVersion, "\(error)")
            }
            try await server.wait(for: "SSL alert number 70")
        }
    }

    func testOlderVersionThatIsAllowed() async throws {
        try await withDeadline { peers in
            var configuration = DtlsConfiguration()
            configuration.minimumVersion = .v1_0
            configuration.securityLevel = 0
            configuration.cipherSuites = .openSSL("PSK-AES128-CBC-SHA")
            let key = Peers.openSSLKey(cipher: "PSK-AES128-CBC-SHA:@SECLEVEL=0")
            let context = try DtlsServerContext(configuration, preSharedKeys: try InteropKey.store())
            var reception = try await Reception(context)
            let client = try peers.openSSLClient(to: reception.address, version: "-dtls1", key)
            var accepted = try await reception.accept()
            XCTAssertEqual(accepted.connection.negotiated.version, .v1_0)
            try await accepted.exchangeText(with: client)

            let (server, address) = try await peers.openSSLServer(version: "-dtls1", ["-nocert"] + key)
            let clientContext = try DtlsClientContext(configuration, preSharedKey: try InteropKey.preSharedKey())
            var connected = try await clientContext.connect(to: address)
            XCTAssertEqual(connected.connection.negotiated.version, .v1_0)
            try await connected.exchangeText(with: server)
        }
    }

    // MARK: Renegotiation

    /// The client asks for it with `R`. It takes our warning for a failure and ends the association with an alert.
    func testClientsRenegotiationIsRefused() async throws {
        try await withDeadline { peers in
            var reception = try await Reception(.preSharedKey())
            let client = try peers.openSSLClient(to: reception.address, Self.key)
            var conversation = try await reception.accept()
            try await conversation.exchangeText(with: client)
            try client.write("R\n")
            try await Self.expectRefusal(&conversation)
            try await client.wait(for: "no renegotiation")
        }
    }

    /// The server asks for it with `r`.
    func testServersRenegotiationIsRefused() async throws {
        try await withDeadline { peers in
            let (server, address) = try await peers.openSSLServer(["-nocert"] + Self.key)
            var conversation = try await DtlsClientContext.preSharedKey().connect(to: address)
            try await conversation.exchangeText(with: server)
            try server.write("r\n")
            try await Self.expectRefusal(&conversation)
            try await server.wait(for: "no renegotiation")
        }
    }

    private static func expectRefusal(_ conversation: inout Conversation) async throws {
        do {
            let datagram = try await conversation.receive()
            XCTFail("received \(String(describing: datagram))")
        } catch let error as DtlsError {
            XCTAssertEqual(error.code, .connectionClosed, "\(error)")
            XCTAssertEqual(error.phase, .established, "\(error)")
            XCTAssertEqual(error.alertSent?.code, .noRenegotiation, "\(error)")
            XCTAssertEqual(error.alertReceived?.code, .handshakeFailure, "\(error)")
        }
        let reason = await conversation.connection.waitUntilClosed()
        guard case .failed = reason else { return XCTFail("closed because of \(reason)") }
    }
}
