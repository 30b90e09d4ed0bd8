import DTLS
import XCTest

/// libcoap's client and our server, our client and libcoap's server, each built with OpenSSL and with GnuTLS.
final class CoAPInteropTests: XCTestCase {
    // MARK: Their client

    func testOpenSSLClientWithPreSharedKey() async throws {
        try await checkClient(.openSSL, suites: nil)
    }

    func testOpenSSLClientWithCCM8OverIPv6() async throws {
        try await checkClient(.openSSL, suites: "PSK-AES128-CCM8", at: "::1")
    }

    func testGnuTLSClientWithPreSharedKeyOverIPv6() async throws {
        try await checkClient(.gnuTLS, suites: nil, at: "::1")
    }

    func testGnuTLSClientWithCCM8() async throws {
        try await checkClient(.gnuTLS, suites: "PSK-AES128-CCM8")
    }

    private func checkClient(_ build: CoAPBuild, suites: String?, at host: String = "127.0.0.1") async throws {
        try await withDeadline { peers in
            var reception = try await Reception(at: host, .preSharedKey(suites))
            let client = try peers.coapClient(build, get: reception.address, Peers.coapKey)
            let connection = try await Self.serve(&reception, client)
            XCTAssertEqual(connection.negotiated.preSharedKeyIdentity, Array(InteropKey.identity.utf8))
            if let suites { XCTAssertEqual(connection.negotiated.cipherSuite.openSSLName, suites) }
        }
    }

    /// What either side loses is sent again: here the client's last flight, or a part of it.
    func testClientsThatLoseDatagrams() async throws {
        for (build, lost) in [(CoAPBuild.openSSL, "3"), (.gnuTLS, "5")] {
            try await withDeadline { peers in
                var reception = try await Reception(.preSharedKey())
                let client = try peers.coapClient(build, get: reception.address, Peers.coapKey + ["-l", lost])
                _ = try await Self.serve(&reception, client)
            }
        }
    }

    /// A minimal CoAP server: answers one client's GET and waits for the end of it.
    private static func serve(_ reception: inout Reception, _ client: PeerProcess) async throws -> DtlsConnection {
        var conversation = try await reception.accept()
        let datagram = try await conversation.receive()
        let request = try XCTUnwrap(CoAPMessage(XCTUnwrap(datagram)))
        XCTAssertEqual(request.kind, .confirmable)
        XCTAssertEqual(request.code, CoAPMessage.get)
        try await conversation.connection.send(request.reply("hello from the library").bytes)
        try await client.wait(for: "hello from the library")
        try await conversation.expectCloseByPeer()
        try await client.waitForExit()
        return conversation.connection
    }

    func testOpenSSLClientWithCertificates() async throws {
        try await checkClientWithCertificates(.openSSL)
    }

    func testGnuTLSClientWithCertificatesOverIPv6() async throws {
        try await checkClientWithCertificates(.gnuTLS, at: "::1")
    }

    private func checkClientWithCertificates(_ build: CoAPBuild, at host: String = "127.0.0.1") async throws {
        try await withDeadline { peers in
            let authority = try await peers.authority()
            let ours = try await authority.issue("server")
            let theirs = try await authority.issue("client")
            var reception = try await Reception(
                at: host,
                .certificates(ours.identity, clientsTrustedBy: authority.trust)
            )
            let options = Peers.coapCertificate(theirs, authority)
            let client = try peers.coapClient(build, get: reception.address, options)
            let connection = try await Self.serve(&reception, client)
            XCTAssertEqual(connection.negotiated.peerCertificates.first?.subject, "CN=client")
        }
    }

    // MARK: Their server

    func testOpenSSLServerWithPreSharedKey() async throws {
        try await checkServer(.openSSL, suites: nil)
    }

    func testOpenSSLServerWithCCM8OverIPv6() async throws {
        try await checkServer(.openSSL, suites: "PSK-AES128-CCM8", at: "::1")
    }

    func testGnuTLSServerWithPreSharedKeyOverIPv6() async throws {
        try await checkServer(.gnuTLS, suites: nil, at: "::1")
    }

    func testGnuTLSServerWithCCM8() async throws {
        try await checkServer(.gnuTLS, suites: "PSK-AES128-CCM8")
    }

    private func checkServer(_ build: CoAPBuild, suites: String?, at host: String = "127.0.0.1") async throws {
        try await withDeadline { peers in
            let options = ["-k", InteropKey.text, "-h", "which key"]
            let (server, address) = try await peers.coapServer(build, at: host, options)
            var configuration = DtlsConfiguration()
            if let suites { configuration.cipherSuites = .openSSL(suites) }
            let context = try DtlsClientContext(configuration) { hint in
                hint == Array("which key".utf8) ? try? InteropKey.preSharedKey() : nil
            }
            var conversation = try await context.connect(to: address)
            if let suites {
                XCTAssertEqual(conversation.connection.negotiated.cipherSuite.openSSLName, suites)
            }
            try await Self.ask(&conversation)
            // At an interrupt, coap-server closes the associations that it has.
            server.send(signal: SIGINT)
            try await conversation.expectCloseByPeer()
        }
    }

    /// Here the servers lose their HelloVerifyRequest, and the first one its last flight, too.
    func testServersThatLoseDatagrams() async throws {
        for (build, lost) in [(CoAPBuild.openSSL, "1,4"), (.gnuTLS, "1")] {
            try await withDeadline { peers in
                let (_, address) = try await peers.coapServer(build, ["-k", InteropKey.text, "-l", lost])
                var conversation = try await DtlsClientContext.preSharedKey().connect(to: address)
                try await Self.ask(&conversation)
            }
        }
    }

    /// Gets two resources of a CoAP server.
    private static func ask(_ conversation: inout Conversation) async throws {
        for (messageID, path) in [(UInt16(0x1234), []), (0x1235, [".well-known", "core"])] {
            let request = CoAPMessage.get(path, messageID: messageID, token: [0xCA, 0xFE])
            try await conversation.connection.send(request.bytes)
            let datagram = try await conversation.receive()
            let reply = try XCTUnwrap(CoAPMessage(XCTUnwrap(datagram)))
            XCTAssertEqual(reply.kind, .acknowledgement)
            XCTAssertEqual(reply.code, CoAPMessage.content)
            XCTAssertEqual(reply.messageID, messageID)
            XCTAssertEqual(reply.token, [0xCA, 0xFE])
            XCTAssertTrue(reply.rest.contains(0xFF), "no payload")
        }
    }

    func testOpenSSLServerWithCertificates() async throws {
        try await checkServerWithCertificates(.openSSL)
    }

    func testGnuTLSServerWithCertificatesOverIPv6() async throws {
        try await checkServerWithCertificates(.gnuTLS, at: "::1")
    }

    private func checkServerWithCertificates(_ build: CoAPBuild, at host: String = "127.0.0.1") async throws {
        try await withDeadline { peers in
            let authority = try await peers.authority()
            let theirs = try await authority.issue("server", rsa: true)
            let ours = try await authority.issue("client")
            let (_, address) = try await peers.coapServer(build, at: host, Peers.coapCertificate(theirs, authority))
            let context = try DtlsClientContext.certificates(trust: authority.trust, identity: ours.identity)
            var conversation = try await context.connect(to: address)
            XCTAssertEqual(conversation.connection.negotiated.peerCertificates.first?.subject, "CN=server")
            try await Self.ask(&conversation)
        }
    }
}
