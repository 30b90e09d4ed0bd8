import DTLS
import XCTest

/// `ssl_client2` and our server, our client and `ssl_server2`, as Mbed TLS's default configuration has them.
final class MbedTLSInteropTests: XCTestCase {
    // MARK: Their client

    func testClientWithPreSharedKeyAndCCM8() async throws {
        try await checkClient(.pskCCM8)
    }

    func testClientWithPreSharedKeyAndGCMOverIPv6() async throws {
        try await checkClient(.pskGCM, at: "::1")
    }

    private func checkClient(_ suite: MbedTLSSuite, at host: String = "127.0.0.1") async throws {
        try await withDeadline { peers in
            var reception = try await Reception(at: host, .preSharedKey(suite.list))
            let options = Peers.mbedTLSKey(suite) + ["exchanges=3", "request_size=1000"]
            let client = try peers.mbedTLSClient(to: reception.address, options)
            var conversation = try await reception.accept()
            let negotiated = conversation.connection.negotiated
            XCTAssertEqual(negotiated.version, .v1_2)
            XCTAssertEqual(negotiated.cipherSuite.openSSLName, suite.openSSLName)
            XCTAssertEqual(negotiated.preSharedKeyIdentity, Array(InteropKey.identity.utf8))
            try await conversation.serve(client, requestSize: 1000)
            let output = client.output.standardOutputText
            XCTAssertTrue(output.contains("[ Ciphersuite is \(suite.name) ]"), output)
        }
    }

    func testClientWithECDSAAndGCM128() async throws {
        try await checkCertificateOfOurs(.ecdsaGCM128)
    }

    func testClientWithECDSAAndGCM256() async throws {
        try await checkCertificateOfOurs(.ecdsaGCM256)
    }

    func testClientWithECDSAAndCCM8() async throws {
        try await checkCertificateOfOurs(.ecdsaCCM8)
    }

    func testClientWithECDSAAndChaCha20() async throws {
        try await checkCertificateOfOurs(.ecdsaChaCha20)
    }

    private func checkCertificateOfOurs(_ suite: MbedTLSSuite) async throws {
        try await withDeadline { peers in
            let ours = try peers.selfSigned("server")
            var reception = try await Reception(.certificates(ours.identity, suite.list))
            let options = Peers.mbedTLSCertificate(nil) + Peers.mbedTLSRoot(ours.certificateFile)
            let client = try peers.mbedTLSClient(
                to: reception.address,
                options + ["force_ciphersuite=\(suite.name)", "exchanges=3", "request_size=1000"]
            )
            var conversation = try await reception.accept()
            XCTAssertEqual(conversation.connection.negotiated.cipherSuite.openSSLName, suite.openSSLName)
            try await conversation.serve(client, requestSize: 1000)
            let output = client.output.standardOutputText
            XCTAssertTrue(output.contains("[ Ciphersuite is \(suite.name) ]"), output)
            XCTAssertTrue(output.contains("Verifying peer X.509 certificate... ok"), output)
        }
    }

    func testMutualCertificatesWithTheirClient() async throws {
        try await withDeadline { peers in
            let authority = try await peers.authority()
            let ours = try await authority.issue("server")
            let theirs = try await authority.issue("client", rsa: true)
            var reception = try await Reception(.certificates(ours.identity, clientsTrustedBy: authority.trust))
            let options = Peers.mbedTLSCertificate(theirs) + Peers.mbedTLSRoot(authority.certificateFile)
            let client = try peers.mbedTLSClient(to: reception.address, options + ["exchanges=3", "request_size=1000"])
            var conversation = try await reception.accept()
            XCTAssertEqual(conversation.connection.negotiated.peerCertificates.first?.subject, "CN=client")
            try await conversation.serve(client, requestSize: 1000)
        }
    }

    func testTheirClientsCertificateIsRefused() async throws {
        try await withDeadline { peers in
            let authority = try await peers.authority()
            let ours = try await authority.issue("server")
            let stranger = try await peers.authority("other").issue("stranger")
            let reception = try await Reception(.certificates(ours.identity, clientsTrustedBy: authority.trust))
            let options = Peers.mbedTLSCertificate(stranger) + Peers.mbedTLSRoot(authority.certificateFile)
            let client = try peers.mbedTLSClient(to: reception.address, options)
            let status = try await client.waitForExit()
            XCTAssertEqual(status, 1)
            let output = client.output.standardOutputText
            XCTAssertTrue(output.contains("A fatal alert message was received from our peer"), output)
            await reception.server.close()
        }
    }

    func testOurCloseEndsTheClient() async throws {
        try await withDeadline { peers in
            var reception = try await Reception(.preSharedKey())
            let client = try peers.mbedTLSClient(to: reception.address, Peers.mbedTLSKey(.pskGCM) + ["exchanges=3"])
            var conversation = try await reception.accept()
            let request = try await conversation.receive()
            XCTAssertEqual(request?.starts(with: Array("GET / HTTP/1.0\r\n".utf8)), true)
            conversation.connection.close()
            let status = try await client.waitForExit()
            XCTAssertEqual(status, 0)
            let output = client.output.standardOutputText
            XCTAssertTrue(output.contains("connection was closed gracefully"), output)
        }
    }

    /// A record without a payload, which OpenSSL before 3.2 reports like an end, and which no other program here sends.
    func testAnEmptyRecordIsNoEnd() async throws {
        try await withDeadline { peers in
            var reception = try await Reception(.preSharedKey())
            let options = Peers.mbedTLSKey(.pskGCM) + ["request_size=0"]
            let client = try peers.mbedTLSClient(to: reception.address, options)
            var conversation = try await reception.accept()
            var request = try await conversation.receive()
            if request == [] { request = try await conversation.receive() }
            XCTAssertEqual(request, Array("GET / HTTP/1.0\r\nHost: localhost\r\nExtra-header: \r\n\r\n".utf8))
            try await conversation.connection.send("got it\n")
            try await conversation.expectCloseByPeer()
            let status = try await client.waitForExit()
            XCTAssertEqual(status, 0)
            let output = client.output.standardOutputText
            XCTAssertTrue(output.contains("  > Write to server: 0 bytes written in 1 fragments\n"), output)
            XCTAssertTrue(output.contains("  < Read from server: 7 bytes read\n\ngot it\n"), output)
        }
    }

    func testTheirClientResumesASession() async throws {
        try await withDeadline { peers in
            var reception = try await Reception(.preSharedKey())
            let options = Peers.mbedTLSKey(.pskGCM) + ["reconnect=1", "request_size=1000"]
            let client = try peers.mbedTLSClient(to: reception.address, options)
            for isResumed in [false, true] {
                var conversation = try await reception.accept()
                XCTAssertEqual(conversation.connection.negotiated.isResumed, isResumed)
                let request = try await conversation.receive()
                XCTAssertEqual(request, MbedTLSText.request(size: 1000))
                try await conversation.connection.send("answered\n")
                try await conversation.expectCloseByPeer()
            }
            let status = try await client.waitForExit()
            XCTAssertEqual(status, 0)
        }
    }

    /// Like a device that was reset: it says nothing of its end, and comes back from the same port (RFC 6347 §4.2.8).
    func testTheirClientStartsAnewFromItsPort() async throws {
        try await withDeadline { peers in
            var reception = try await Reception(.preSharedKey())
            let options = Peers.mbedTLSKey(.pskGCM) + ["reconnect_hard=1", "request_size=1000"]
            let client = try peers.mbedTLSClient(to: reception.address, options)
            var connections: [DtlsConnection] = []
            for _ in 1...2 {
                var conversation = try await reception.accept()
                connections.append(conversation.connection)
                let request = try await conversation.receive()
                XCTAssertEqual(request, MbedTLSText.request(size: 1000))
                try await conversation.connection.send("answered\n")
            }
            XCTAssertEqual(connections[0].peerAddress, connections[1].peerAddress)
            let reason = await connections[0].waitUntilClosed()
            XCTAssertEqual(reason, .replacedByPeer)
            let status = try await client.waitForExit()
            XCTAssertEqual(status, 0)
            let output = client.output.standardOutputText
            XCTAssertTrue(output.contains("Restarting connection from same port... ok"), output)
        }
    }

    // MARK: Their server

    func testServerWithPreSharedKeyAndCCM8OverIPv6() async throws {
        try await checkServer(.pskCCM8, at: "::1")
    }

    func testServerWithPreSharedKeyAndGCM() async throws {
        try await checkServer(.pskGCM)
    }

    private func checkServer(_ suite: MbedTLSSuite, at host: String = "127.0.0.1") async throws {
        try await withDeadline { peers in
            let options = Peers.mbedTLSKey(suite) + ["exchanges=3", "response_size=1000"]
            let (server, address) = try await peers.mbedTLSServer(at: host, options)
            var conversation = try await DtlsClientContext.preSharedKey(suite.list).connect(to: address)
            let negotiated = conversation.connection.negotiated
            XCTAssertEqual(negotiated.version, .v1_2)
            XCTAssertEqual(negotiated.cipherSuite.openSSLName, suite.openSSLName)
            XCTAssertEqual(negotiated.preSharedKeyIdentity, Array(InteropKey.identity.utf8))
            try await server.wait(for: "[ Ciphersuite is \(suite.name) ]")
            try await conversation.ask(server, suite, responseSize: 1000)
        }
    }

    func testServerWithECDSAAndGCM128() async throws {
        try await checkCertificateOfTheirs(.ecdsaGCM128)
    }

    func testServerWithECDSAAndGCM256() async throws {
        try await checkCertificateOfTheirs(.ecdsaGCM256)
    }

    func testServerWithECDSAAndCCM8() async throws {
        try await checkCertificateOfTheirs(.ecdsaCCM8)
    }

    func testServerWithECDSAAndChaCha20() async throws {
        try await checkCertificateOfTheirs(.ecdsaChaCha20)
    }

    private func checkCertificateOfTheirs(_ suite: MbedTLSSuite) async throws {
        try await withDeadline { peers in
            let authority = try await peers.authority()
            let theirs = try await authority.issue("server")
            let options = Peers.mbedTLSCertificate(theirs) + ["force_ciphersuite=\(suite.name)"]
            let (server, address) = try await peers.mbedTLSServer(options + ["exchanges=3", "response_size=1000"])
            let context = try DtlsClientContext.certificates(suite.list, trust: authority.trust)
            var conversation = try await context.connect(to: address, serverName: "localhost")
            let negotiated = conversation.connection.negotiated
            XCTAssertEqual(negotiated.cipherSuite.openSSLName, suite.openSSLName)
            XCTAssertEqual(negotiated.peerCertificates.first, theirs.identity.certificateChain.first)
            try await server.wait(for: "[ Ciphersuite is \(suite.name) ]")
            try await conversation.ask(server, suite, responseSize: 1000)
        }
    }

    func testMutualCertificatesWithTheirServer() async throws {
        try await withDeadline { peers in
            let authority = try await peers.authority()
            let theirs = try await authority.issue("server")
            let ours = try await authority.issue("client", rsa: true)
            let options = Peers.mbedTLSCertificate(theirs) + Peers.mbedTLSRoot(authority.certificateFile)
            let (server, address) = try await peers.mbedTLSServer(
                options + ["force_ciphersuite=\(MbedTLSSuite.ecdsaGCM128.name)", "exchanges=3", "response_size=1000"]
            )
            let context = try DtlsClientContext.certificates(trust: authority.trust, identity: ours.identity)
            var conversation = try await context.connect(to: address)
            try await conversation.ask(server, .ecdsaGCM128, responseSize: 1000)
            let output = server.output.standardOutputText
            XCTAssertTrue(output.contains("subject name      : CN=client\n"), output)
        }
    }

    func testOurCertificateIsRefused() async throws {
        try await withDeadline { peers in
            let authority = try await peers.authority()
            let theirs = try await authority.issue("server")
            let ours = try await peers.authority("other").issue("stranger")
            let options = Peers.mbedTLSCertificate(theirs) + Peers.mbedTLSRoot(authority.certificateFile)
            let (_, address) = try await peers.mbedTLSServer(options)
            let context = try DtlsClientContext.certificates(trust: authority.trust, identity: ours.identity)
            try await expectFailure(to: address, context) { error in
                XCTAssertEqual(error.code, .certificateRejected, "\(error)")
                XCTAssertEqual(error.alertReceived?.code, .unknownCA, "\(error)")
                XCTAssertEqual(error.phase, .handshake)
            }
        }
    }

    func testTheirCertificateOfAWrongRootIsRefused() async throws {
        try await withDeadline { peers in
            let theirs = try await peers.authority().issue("server")
            let other = try await peers.authority("other")
            let (_, address) = try await peers.mbedTLSServer(Peers.mbedTLSCertificate(theirs))
            try await expectFailure(to: address, .certificates(trust: other.trust)) { error in
                XCTAssertEqual(error.code, .certificateRejected, "\(error)")
                XCTAssertEqual(error.alertSent?.code, .unknownCA, "\(error)")
            }
        }
    }

    func testOurCloseEndsTheServersAssociation() async throws {
        try await withDeadline { peers in
            let (server, address) = try await peers.mbedTLSServer(Peers.mbedTLSKey(.pskGCM) + ["exchanges=3"])
            var conversation = try await DtlsClientContext.preSharedKey().connect(to: address)
            try await conversation.connection.send("hello\n")
            let response = try await conversation.receive()
            XCTAssertEqual(response?.starts(with: Array("HTTP/1.0 200 OK\r\n".utf8)), true)
            conversation.connection.close()
            try await server.wait(for: "connection was closed gracefully")
            let rest = try await conversation.receive()
            XCTAssertNil(rest)
        }
    }
}
