import DTLS
import XCTest

/// `openssl s_client` and our server.
final class OpenSSLClientInteropTests: XCTestCase {
    func testPlainPreSharedKey() async throws {
        try await checkPreSharedKey("PSK-AES128-GCM-SHA256", suites: nil)
    }

    func testPreSharedKeyWithECDHEOverIPv6() async throws {
        try await checkPreSharedKey("ECDHE-PSK-CHACHA20-POLY1305", suites: nil, at: "::1")
    }

    func testPreSharedKeyWithCCM8() async throws {
        try await checkPreSharedKey("PSK-AES128-CCM8", suites: "PSK-AES128-CCM8")
    }

    func testPreSharedKeyWithCBC() async throws {
        try await checkPreSharedKey("PSK-AES128-CBC-SHA256", suites: "PSK-AES128-CBC-SHA256")
    }

    private func checkPreSharedKey(_ cipher: String, suites: String?, at host: String = "127.0.0.1") async throws {
        try await withDeadline { peers in
            var reception = try await Reception(at: host, .preSharedKey(suites))
            let client = try peers.openSSLClient(to: reception.address, Peers.openSSLKey(cipher: cipher))
            var conversation = try await reception.accept()
            let negotiated = conversation.connection.negotiated
            XCTAssertEqual(negotiated.version, .v1_2)
            XCTAssertEqual(negotiated.cipherSuite.openSSLName, cipher)
            XCTAssertEqual(negotiated.preSharedKeyIdentity, Array(InteropKey.identity.utf8))
            XCTAssertEqual(negotiated.peerCertificates, [])
            XCTAssertEqual(negotiated.group != nil, cipher.hasPrefix("ECDHE"))
            XCTAssertEqual(conversation.connection.peerAddress.host, host)
            try await client.wait(for: "Ciphersuite: \(cipher)")
            try await conversation.exchangeText(with: client)
            try client.write("Q\n")
            try await conversation.expectCloseByPeer()
            let status = try await client.waitForExit()
            XCTAssertEqual(status, 0)
        }
    }

    func testEndOfItsInputClosesTheConnection() async throws {
        try await withDeadline { peers in
            var reception = try await Reception(.preSharedKey())
            let client = try peers.openSSLClient(
                to: reception.address,
                Peers.openSSLKey(cipher: "PSK-AES128-GCM-SHA256")
            )
            var conversation = try await reception.accept()
            client.closeInput()
            try await conversation.expectCloseByPeer()
        }
    }

    func testOurCloseEndsTheClient() async throws {
        try await withDeadline { peers in
            var reception = try await Reception(.preSharedKey())
            let client = try peers.openSSLClient(
                to: reception.address,
                Peers.openSSLKey(cipher: "PSK-AES128-GCM-SHA256")
            )
            var conversation = try await reception.accept()
            try await conversation.exchangeText(with: client)
            conversation.connection.close()
            let status = try await client.waitForExit()
            XCTAssertEqual(status, 0)
            let reason = await conversation.connection.waitUntilClosed()
            guard case .closedLocally = reason else { return XCTFail("closed because of \(reason)") }
        }
    }

    func testClosingTheServerEndsEveryClient() async throws {
        try await withDeadline { peers in
            var reception = try await Reception(.preSharedKey())
            var clients: [PeerProcess] = []
            var conversations: [Conversation] = []
            for cipher in ["PSK-AES128-GCM-SHA256", "PSK-AES256-GCM-SHA384"] {
                clients.append(try peers.openSSLClient(to: reception.address, Peers.openSSLKey(cipher: cipher)))
                conversations.append(try await reception.accept())
            }
            await reception.server.close()
            for client in clients {
                let status = try await client.waitForExit()
                XCTAssertEqual(status, 0)
            }
            XCTAssertEqual(conversations.map(\.connection.state), [.closed, .closed])
        }
    }

    /// A stranger with a wrong key gets an alert and no connection: the first one is that of the client that comes
    /// after it.
    func testWrongPreSharedKey() async throws {
        try await withDeadline { peers in
            var reception = try await Reception(.preSharedKey())
            let stranger = try peers.openSSLClient(
                to: reception.address,
                Peers.openSSLKey(cipher: "PSK-AES128-GCM-SHA256", key: "0011223344556677")
            )
            let client = try peers.openSSLClient(
                to: reception.address,
                Peers.openSSLKey(cipher: "PSK-AES256-GCM-SHA384")
            )
            var conversation = try await reception.accept()
            XCTAssertEqual(conversation.connection.negotiated.cipherSuite.openSSLName, "PSK-AES256-GCM-SHA384")
            try await conversation.exchangeText(with: client)
            try await stranger.wait(for: "SSL alert number 51")  // decrypt_error, when its Finished has come again
            XCTAssertFalse(stranger.output.text.contains("ESTABLISHED"), stranger.output.text)
        }
    }

    func testECDSACertificate() async throws {
        try await checkSelfSigned(.p256, suite: "ECDHE-ECDSA-AES128-GCM-SHA256", options: [])
    }

    func testRSACertificateOverIPv6() async throws {
        let options = ["-cipher", "ECDHE-RSA-CHACHA20-POLY1305"]
        try await checkSelfSigned(.rsa(bits: 2048), suite: "ECDHE-RSA-CHACHA20-POLY1305", options: options, at: "::1")
    }

    private func checkSelfSigned(
        _ key: DtlsKeyKind,
        suite: String,
        options: [String],
        at host: String = "127.0.0.1"
    ) async throws {
        try await withDeadline { peers in
            let credentials = try peers.selfSigned("server", key: key)
            var reception = try await Reception(at: host, .certificates(credentials.identity))
            let verification = ["-CAfile", credentials.certificateFile, "-verify_return_error", "-verify_ip", host]
            let client = try peers.openSSLClient(to: reception.address, verification + options)
            var conversation = try await reception.accept()
            try await client.wait(for: "Verification: OK")
            let negotiated = conversation.connection.negotiated
            XCTAssertEqual(negotiated.cipherSuite.openSSLName, suite)
            XCTAssertNotNil(negotiated.group)
            XCTAssertNil(negotiated.preSharedKeyIdentity)
            try await conversation.exchangeText(with: client)
            try client.write("Q\n")
            try await conversation.expectCloseByPeer()
        }
    }

    func testMutualCertificates() async throws {
        try await withDeadline { peers in
            let authority = try await peers.authority()
            let ours = try await authority.issue("server", rsa: true)
            let theirs = try await authority.issue("client")
            var reception = try await Reception(
                .certificates(ours.identity, clientsTrustedBy: authority.trust)
            )
            let client = try peers.openSSLClient(to: reception.address, Self.mutual(authority, theirs))
            var conversation = try await reception.accept()
            XCTAssertEqual(conversation.connection.negotiated.peerCertificates.first?.subject, "CN=client")
            XCTAssertEqual(
                conversation.connection.negotiated.peerCertificates.first,
                theirs.identity.certificateChain.first
            )
            try await client.wait(for: "Verification: OK")
            try await conversation.exchangeText(with: client)
        }
    }

    private static func mutual(_ authority: InteropAuthority, _ credentials: InteropCredentials) -> [String] {
        ["-CAfile", authority.certificateFile, "-verify_return_error", "-verify_hostname", "localhost"]
            + ["-cert", credentials.certificateFile, "-key", credentials.privateKeyFile]
    }

    /// Our server refuses clients without a certificate or with one of a wrong root, says why, and serves the next one.
    func testClientCertificatesThatAreRefused() async throws {
        try await withDeadline { peers in
            let authority = try await peers.authority()
            let ours = try await authority.issue("server")
            let theirs = try await authority.issue("client")
            let stranger = try await peers.authority("other").issue("stranger")
            var reception = try await Reception(
                .certificates(ours.identity, clientsTrustedBy: authority.trust)
            )
            let wrong = try peers.openSSLClient(to: reception.address, Self.mutual(authority, stranger))
            try await wrong.wait(for: "SSL alert number 48")  // unknown_ca
            let wrongStatus = try await wrong.waitForExit()
            XCTAssertEqual(wrongStatus, 1)
            let none = try peers.openSSLClient(to: reception.address, ["-CAfile", authority.certificateFile])
            try await none.wait(for: "SSL alert number 40")  // handshake_failure
            let right = try peers.openSSLClient(to: reception.address, Self.mutual(authority, theirs))
            var conversation = try await reception.accept()
            XCTAssertEqual(conversation.connection.negotiated.peerCertificates.first?.subject, "CN=client")
            try await conversation.exchangeText(with: right)
        }
    }

    /// A client that refuses our certificate does not become a connection either.
    func testClientRefusesOurCertificate() async throws {
        try await withDeadline { peers in
            let credentials = try peers.selfSigned("server")
            let other = try peers.selfSigned("other")
            var reception = try await Reception(.certificates(credentials.identity))
            let options = ["-verify_return_error", "-CAfile"]
            let refusing = try peers.openSSLClient(to: reception.address, options + [other.certificateFile])
            try await refusing.wait(for: "certificate verify failed")
            let client = try peers.openSSLClient(to: reception.address, options + [credentials.certificateFile])
            var conversation = try await reception.accept()
            try await conversation.exchangeText(with: client)
        }
    }

    /// A ClientHello with every suite that OpenSSL has, weak and NULL ones included.
    func testClientHelloWithEverySuite() async throws {
        try await withDeadline { peers in
            var configuration = DtlsConfiguration()
            configuration.identity = try peers.selfSigned("server").identity
            let context = try DtlsServerContext(configuration, preSharedKeys: try InteropKey.store())
            var reception = try await Reception(context)
            let key = Peers.openSSLKey(cipher: "ALL:COMPLEMENTOFALL:@SECLEVEL=0")
            let client = try peers.openSSLClient(to: reception.address, key)
            var conversation = try await reception.accept()
            try await conversation.exchangeText(with: client)
            try client.write("Q\n")
            try await conversation.expectCloseByPeer()
        }
    }

    /// A ClientHello that its client's MTU splits, cookie exchange included.
    func testClientHelloInFragments() async throws {
        try await withDeadline { peers in
            var reception = try await Reception(.preSharedKey())
            let key = ["-psk_identity", InteropKey.identity, "-psk", InteropKey.hex]
            let suites = ["-cipher", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"]
            let client = try peers.openSSLClient(to: reception.address, key + suites + ["-mtu", "256"])
            var conversation = try await reception.accept()
            try await conversation.exchangeText(with: client)
        }
    }
}
