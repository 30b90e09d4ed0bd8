import DTLS
import XCTest

/// `gnutls-cli` and our server, our client and `gnutls-serv`.
final class GnuTLSInteropTests: XCTestCase {
    // MARK: Their client

    func testClientWithPlainPreSharedKey() async throws {
        try await checkClient("+PSK", ciphers: "+AES-128-GCM", suite: "PSK-AES128-GCM-SHA256")
    }

    func testClientWithPreSharedKeyAndChaCha20OverIPv6() async throws {
        try await checkClient("+PSK", ciphers: "+CHACHA20-POLY1305", suite: "PSK-CHACHA20-POLY1305", at: "::1")
    }

    /// Only the handshake: gnutls-cli 3.7 crashes when it then describes an ECDHE-PSK session, whoever the server is.
    func testClientsHandshakeWithPreSharedKeyAndECDHE() async throws {
        try await withDeadline { peers in
            var reception = try await Reception(.preSharedKey())
            let key = Peers.gnuTLSKey("+ECDHE-PSK", ciphers: "+CHACHA20-POLY1305")
            _ = try peers.gnuTLSClient(to: reception.address, key)
            let connection = try await reception.accept().connection
            XCTAssertEqual(connection.negotiated.cipherSuite.openSSLName, "ECDHE-PSK-CHACHA20-POLY1305")
            XCTAssertNotNil(connection.negotiated.group)
        }
    }

    func testClientWithPreSharedKeyAndCCM8() async throws {
        try await checkClient("+PSK", ciphers: "+AES-128-CCM-8", suite: "PSK-AES128-CCM8", named: true)
    }

    func testClientWithPreSharedKeyAndCBC() async throws {
        let ciphers = "+AES-128-CBC:-MAC-ALL:+SHA256"
        try await checkClient("+PSK", ciphers: ciphers, suite: "PSK-AES128-CBC-SHA256", named: true)
    }

    private func checkClient(
        _ exchange: String,
        ciphers: String,
        suite: String,
        at host: String = "127.0.0.1",
        named: Bool = false
    ) async throws {
        try await withDeadline { peers in
            var reception = try await Reception(at: host, .preSharedKey(named ? suite : nil))
            let client = try peers.gnuTLSClient(to: reception.address, Peers.gnuTLSKey(exchange, ciphers: ciphers))
            var conversation = try await reception.accept()
            XCTAssertEqual(conversation.connection.negotiated.cipherSuite.openSSLName, suite)
            XCTAssertEqual(
                conversation.connection.negotiated.preSharedKeyIdentity,
                Array(InteropKey.identity.utf8)
            )
            try await client.wait(for: "Handshake was completed")
            try await conversation.exchangeText(with: client)
            client.closeInput()
            try await conversation.expectCloseByPeer()
            let status = try await client.waitForExit()
            XCTAssertEqual(status, 0)
        }
    }

    func testOurCloseEndsTheClient() async throws {
        try await withDeadline { peers in
            var reception = try await Reception(.preSharedKey())
            let key = Peers.gnuTLSKey("+PSK", ciphers: "+AES-128-GCM")
            let client = try peers.gnuTLSClient(to: reception.address, key)
            var conversation = try await reception.accept()
            try await conversation.exchangeText(with: client)
            conversation.connection.close()
            try await client.wait(for: "Peer has closed the GnuTLS connection")
            try await client.waitForExit()
        }
    }

    func testClientVerifiesOurCertificates() async throws {
        try await withDeadline { peers in
            for (key, suite) in [(DtlsKeyKind.p256, "ECDHE-ECDSA"), (.rsa(bits: 2048), "ECDHE-RSA")] {
                let ours = try peers.selfSigned("server-\(suite)", key: key)
                var reception = try await Reception(.certificates(ours.identity))
                let options = ["--x509cafile", ours.certificateFile, "--priority", GnuTLSPriority.certificates]
                let client = try peers.gnuTLSClient(to: reception.address, options)
                var conversation = try await reception.accept()
                let negotiated = conversation.connection.negotiated
                XCTAssertTrue(negotiated.cipherSuite.openSSLName.hasPrefix(suite), "\(negotiated)")
                try await client.wait(for: "The certificate is trusted")
                try await conversation.exchangeText(with: client)
            }
        }
    }

    func testMutualCertificatesWithTheirClient() async throws {
        try await withDeadline { peers in
            let authority = try await peers.authority()
            let ours = try await authority.issue("server")
            let theirs = try await authority.issue("client", rsa: true)
            var reception = try await Reception(
                at: "::1",
                .certificates(ours.identity, clientsTrustedBy: authority.trust)
            )
            let client = try peers.gnuTLSClient(to: reception.address, Self.mutual(authority, theirs))
            var conversation = try await reception.accept()
            XCTAssertEqual(conversation.connection.negotiated.peerCertificates.first?.subject, "CN=client")
            try await client.wait(for: "The certificate is trusted")
            try await conversation.exchangeText(with: client)
        }
    }

    func testTheirClientsCertificateIsRefused() async throws {
        try await withDeadline { peers in
            let authority = try await peers.authority()
            let ours = try await authority.issue("server")
            let stranger = try await peers.authority("other").issue("stranger")
            let reception = try await Reception(.certificates(ours.identity, clientsTrustedBy: authority.trust))
            let client = try peers.gnuTLSClient(to: reception.address, Self.mutual(authority, stranger))
            try await client.wait(for: "alert [48]")  // unknown_ca
            let status = try await client.waitForExit()
            XCTAssertEqual(status, 1)
            await reception.server.close()
        }
    }

    private static func mutual(_ authority: InteropAuthority, _ credentials: InteropCredentials) -> [String] {
        ["--x509cafile", authority.certificateFile, "--priority", GnuTLSPriority.certificates]
            + ["--x509certfile", credentials.certificateFile, "--x509keyfile", credentials.privateKeyFile]
    }

    // MARK: Their server

    func testServerWithPlainPreSharedKey() async throws {
        try await checkServer("+PSK", ciphers: "+AES-256-GCM", suite: "PSK-AES256-GCM-SHA384")
    }

    func testServerWithPreSharedKeyAndECDHEOverIPv6() async throws {
        try await checkServer(
            "+ECDHE-PSK",
            ciphers: "+CHACHA20-POLY1305",
            suite: "ECDHE-PSK-CHACHA20-POLY1305",
            at: "::1"
        )
    }

    func testServerWithPreSharedKeyAndCCM8() async throws {
        try await checkServer("+PSK", ciphers: "+AES-128-CCM-8", suite: "PSK-AES128-CCM8", named: true)
    }

    func testServerWithPreSharedKeyAndCBC() async throws {
        let ciphers = "+AES-128-CBC:-MAC-ALL:+SHA256"
        try await checkServer("+PSK", ciphers: ciphers, suite: "PSK-AES128-CBC-SHA256", named: true)
    }

    private func checkServer(
        _ exchange: String,
        ciphers: String,
        suite: String,
        at host: String = "127.0.0.1",
        named: Bool = false
    ) async throws {
        try await withDeadline { peers in
            let priority = GnuTLSPriority.preSharedKey(exchange, ciphers: ciphers)
            let options = ["--pskpasswd", try peers.gnuTLSKeyFile(), "--priority", priority]
            let (_, address) = try await peers.gnuTLSServer(at: host, options)
            var conversation = try await DtlsClientContext.preSharedKey(named ? suite : nil).connect(to: address)
            XCTAssertEqual(conversation.connection.negotiated.cipherSuite.openSSLName, suite)
            try await conversation.expectEchoes()
            conversation.connection.close()
            let rest = try await conversation.receive()
            XCTAssertNil(rest)
        }
    }

    func testWeVerifyTheirCertificates() async throws {
        try await withDeadline { peers in
            let authority = try await peers.authority()
            for (rsa, suite) in [(false, "ECDHE-ECDSA"), (true, "ECDHE-RSA")] {
                let theirs = try await authority.issue("server-\(suite)", rsa: rsa)
                let (_, address) = try await peers.gnuTLSServer(Self.certificate(theirs) + ["--disable-client-cert"])
                let context = try DtlsClientContext.certificates(trust: authority.trust)
                var conversation = try await context.connect(to: address, serverName: "localhost")
                let negotiated = conversation.connection.negotiated
                XCTAssertTrue(negotiated.cipherSuite.openSSLName.hasPrefix(suite), "\(negotiated)")
                try await conversation.expectEchoes()
            }
        }
    }

    func testMutualCertificatesWithTheirServer() async throws {
        try await withDeadline { peers in
            let authority = try await peers.authority()
            let theirs = try await authority.issue("server", rsa: true)
            let ours = try await authority.issue("client")
            let options = ["--x509cafile", authority.certificateFile, "--require-client-cert", "--verify-client-cert"]
            let (_, address) = try await peers.gnuTLSServer(at: "::1", Self.certificate(theirs) + options)
            let context = try DtlsClientContext.certificates(trust: authority.trust, identity: ours.identity)
            var conversation = try await context.connect(to: address)
            try await conversation.expectEchoes()
        }
    }

    func testTheirCertificateOfAWrongRootIsRefused() async throws {
        try await withDeadline { peers in
            let theirs = try await peers.authority().issue("server")
            let other = try await peers.authority("other")
            let (_, address) = try await peers.gnuTLSServer(Self.certificate(theirs) + ["--disable-client-cert"])
            try await expectFailure(to: address, .certificates(trust: other.trust)) { error in
                XCTAssertEqual(error.code, .certificateRejected, "\(error)")
                XCTAssertEqual(error.alertSent?.code, .unknownCA, "\(error)")
            }
        }
    }

    private static func certificate(_ credentials: InteropCredentials) -> [String] {
        ["--x509certfile", credentials.certificateFile, "--x509keyfile", credentials.privateKeyFile]
            + ["--priority", GnuTLSPriority.certificates]
    }
}
