import DTLS
import XCTest

/// Our client and `openssl s_server`.
final class OpenSSLServerInteropTests: XCTestCase {
    func testPlainPreSharedKey() async throws {
        try await checkPreSharedKey("PSK-AES128-GCM-SHA256", suites: nil)
    }

    func testPreSharedKeyWithECDHEOverIPv6() async throws {
        try await checkPreSharedKey("ECDHE-PSK-CHACHA20-POLY1305", suites: nil, at: "::1")
    }

    func testPreSharedKeyWithCCM8() async throws {
        try await checkPreSharedKey("PSK-AES128-CCM8", suites: "PSK-AES128-CCM8")
    }

    func testPreSharedKeyAfterACookieExchange() async throws {
        try await checkPreSharedKey("PSK-AES128-GCM-SHA256", suites: nil, options: ["-listen"])
    }

    func testPreSharedKeyAfterACookieExchangeOverIPv6() async throws {
        try await checkPreSharedKey("PSK-AES128-CCM", suites: nil, at: "::1", options: ["-listen"])
    }

    func testPreSharedKeyWithCBC() async throws {
        try await checkPreSharedKey("PSK-AES128-CBC-SHA256", suites: "PSK-AES128-CBC-SHA256")
    }

    private func checkPreSharedKey(
        _ cipher: String,
        suites: String?,
        at host: String = "127.0.0.1",
        options: [String] = []
    ) async throws {
        try await withDeadline { peers in
            let key = Peers.openSSLKey(cipher: cipher)
            let (server, address) = try await peers.openSSLServer(at: host, ["-nocert"] + key + options)
            var conversation = try await DtlsClientContext.preSharedKey(suites).connect(to: address)
            let negotiated = conversation.connection.negotiated
            XCTAssertEqual(negotiated.version, .v1_2)
            XCTAssertEqual(negotiated.cipherSuite.openSSLName, cipher)
            XCTAssertEqual(negotiated.preSharedKeyIdentity, Array(InteropKey.identity.utf8))
            XCTAssertEqual(negotiated.peerCertificates, [])
            XCTAssertEqual(conversation.connection.peerAddress, address)
            try await server.wait(for: "CIPHER is \(cipher)")
            try await conversation.exchangeText(with: server)
            conversation.connection.close()
            // What s_server writes when it got a close_notify.
            try await server.wait(for: "DONE\n")
            let rest = try await conversation.receive()
            XCTAssertNil(rest)
        }
    }

    func testKeyForTheServersHint() async throws {
        try await withDeadline { peers in
            let key = Peers.openSSLKey(cipher: "PSK-AES128-GCM-SHA256")
            let (server, address) = try await peers.openSSLServer(["-nocert", "-psk_hint", "which key"] + key)
            let context = try DtlsClientContext { hint in
                hint == Array("which key".utf8) ? try? InteropKey.preSharedKey() : nil
            }
            var conversation = try await context.connect(to: address)
            try await conversation.exchangeText(with: server)
        }
    }

    /// At the end of its input, `s_server -quiet` closes the association that it has and waits for the next one.
    func testCloseByTheServerEndsTheReader() async throws {
        try await withDeadline { peers in
            let key = Peers.openSSLKey(cipher: "PSK-AES128-GCM-SHA256")
            let (server, address) = try await peers.openSSLServer(quiet: true, ["-nocert"] + key)
            var conversation = try await DtlsClientContext.preSharedKey().connect(to: address)
            try await conversation.exchangeText(with: server)
            server.closeInput()
            try await conversation.expectCloseByPeer()
        }
    }

    /// Neither side can open the other's Finished, and neither says so: RFC 6347 §4.1.2.7 has such records dropped.
    func testWrongPreSharedKey() async throws {
        try await withDeadline { peers in
            let key = Peers.openSSLKey(cipher: "PSK-AES128-GCM-SHA256")
            let (_, address) = try await peers.openSSLServer(["-nocert"] + key)
            let context = try DtlsClientContext.preSharedKey(
                key: InteropKey.wrong(),
                handshakeTimeout: .milliseconds(1500)
            )
            try await expectFailure(to: address, context) { error in
                XCTAssertTrue([.handshakeTimedOut, .authenticationFailed].contains(error.code), "\(error)")
                XCTAssertEqual(error.phase, .handshake)
            }
        }
    }

    func testNoSuiteInCommon() async throws {
        try await withDeadline { peers in
            let key = Peers.openSSLKey(cipher: "PSK-AES256-GCM-SHA384")
            let (_, address) = try await peers.openSSLServer(["-nocert"] + key)
            try await expectFailure(to: address, .preSharedKey("PSK-AES128-GCM-SHA256")) { error in
                XCTAssertEqual(error.code, .handshakeFailed, "\(error)")
                XCTAssertEqual(error.alertReceived?.code, .handshakeFailure, "\(error)")
            }
        }
    }

    func testECDSACertificate() async throws {
        try await checkCertificate(suite: "ECDHE-ECDSA-AES128-GCM-SHA256", at: "127.0.0.1", serverName: nil)
    }

    func testRSACertificateOverIPv6() async throws {
        try await checkCertificate(suite: "ECDHE-RSA-AES128-GCM-SHA256", at: "::1", serverName: nil, rsa: true)
    }

    func testCertificateOfANamedServerAfterACookieExchange() async throws {
        try await checkCertificate(
            suite: "ECDHE-ECDSA-AES128-GCM-SHA256",
            at: "127.0.0.1",
            serverName: "localhost",
            options: ["-listen"]
        )
    }

    private func checkCertificate(
        suite: String,
        at host: String,
        serverName: String?,
        rsa: Bool = false,
        options: [String] = []
    ) async throws {
        try await withDeadline { peers in
            let authority = try await peers.authority()
            let theirs = try await authority.issue("server", rsa: rsa)
            let (server, address) = try await peers.openSSLServer(at: host, Self.certificate(theirs) + options)
            let context = try DtlsClientContext.certificates(trust: authority.trust)
            var conversation = try await context.connect(to: address, serverName: serverName)
            let negotiated = conversation.connection.negotiated
            XCTAssertEqual(negotiated.cipherSuite.openSSLName, suite)
            XCTAssertEqual(negotiated.peerCertificates.first, theirs.identity.certificateChain.first)
            try await conversation.exchangeText(with: server)
        }
    }

    private static func certificate(_ credentials: InteropCredentials) -> [String] {
        ["-cert", credentials.certificateFile, "-key", credentials.privateKeyFile]
    }

    func testSelfSignedCertificate() async throws {
        try await withDeadline { peers in
            let theirs = try peers.selfSigned("server")
            let (server, address) = try await peers.openSSLServer(Self.certificate(theirs))
            let context = try DtlsClientContext.certificates(trust: theirs.trust)
            var conversation = try await context.connect(to: address)
            try await conversation.exchangeText(with: server)
        }
    }

    func testCertificateOfAWrongRootIsRefused() async throws {
        try await withDeadline { peers in
            let theirs = try await peers.authority().issue("server")
            let other = try await peers.authority("other")
            let (server, address) = try await peers.openSSLServer(Self.certificate(theirs))
            let context = try DtlsClientContext.certificates(trust: other.trust)
            try await expectFailure(to: address, context) { error in
                XCTAssertEqual(error.code, .certificateRejected, "\(error)")
                XCTAssertEqual(error.alertSent?.code, .unknownCA, "\(error)")
                XCTAssertNotNil(error.certificateVerdict, "\(error)")
            }
            try await server.wait(for: "SSL alert number 48")  // unknown_ca
        }
    }

    func testCertificateOfAWrongNameIsRefused() async throws {
        try await withDeadline { peers in
            let authority = try await peers.authority()
            let theirs = try await authority.issue("server")
            let (server, address) = try await peers.openSSLServer(Self.certificate(theirs))
            let context = try DtlsClientContext.certificates(trust: authority.trust)
            do {
                _ = try await context.connect(to: address, serverName: "elsewhere.example")
                XCTFail("connected")
            } catch let error as DtlsError {
                XCTAssertEqual(error.code, .certificateRejected, "\(error)")
            }
            try await server.wait(for: "SSL alert number")
        }
    }

    func testMutualCertificates() async throws {
        try await withDeadline { peers in
            let authority = try await peers.authority()
            let theirs = try await authority.issue("server")
            let ours = try await authority.issue("client", rsa: true)
            let (server, address) = try await peers.openSSLServer(Self.mutual(authority, theirs))
            let context = try DtlsClientContext.certificates(trust: authority.trust, identity: ours.identity)
            var conversation = try await context.connect(to: address)
            try await server.wait(for: "subject=CN = client")
            try await conversation.exchangeText(with: server)
        }
    }

    private static func mutual(_ authority: InteropAuthority, _ credentials: InteropCredentials) -> [String] {
        certificate(credentials) + ["-CAfile", authority.certificateFile, "-Verify", "2", "-verify_return_error"]
    }

    func testOurCertificateIsRefused() async throws {
        try await withDeadline { peers in
            let authority = try await peers.authority()
            let theirs = try await authority.issue("server")
            let ours = try await peers.authority("other").issue("stranger")
            let (_, address) = try await peers.openSSLServer(Self.mutual(authority, theirs))
            let context = try DtlsClientContext.certificates(trust: authority.trust, identity: ours.identity)
            try await expectFailure(to: address, context) { error in
                XCTAssertEqual(error.code, .certificateRejected, "\(error)")
                XCTAssertEqual(error.alertReceived?.code, .unknownCA, "\(error)")
                XCTAssertEqual(error.phase, .handshake)
            }
        }
    }

    func testOurCertificateIsMissing() async throws {
        try await withDeadline { peers in
            let authority = try await peers.authority()
            let theirs = try await authority.issue("server")
            let (_, address) = try await peers.openSSLServer(Self.mutual(authority, theirs))
            let context = try DtlsClientContext.certificates(trust: authority.trust)
            try await expectFailure(to: address, context) { error in
                XCTAssertEqual(error.code, .handshakeFailed, "\(error)")
                XCTAssertEqual(error.alertReceived?.code, .handshakeFailure, "\(error)")
            }
        }
    }
}
