import DTLS
import Foundation
import XCTest

/// Connection IDs (RFC 9146) with Mbed TLS, which pads every record that carries one to a multiple of 16 bytes.
final class MbedTLSConnectionIDTests: XCTestCase {
    /// A Connection ID of Mbed TLS's choice.
    private static func theirs(_ length: Int) -> [UInt8] {
        (0..<length).map { 0xa0 + UInt8($0) }
    }

    private static func ours(_ length: Int) -> DtlsConnectionIDs {
        length == 0 ? .accepted : .random(length: length)
    }

    /// The options that let Mbed TLS's programs take part, with the Connection ID that they want to be sent.
    private static func options(_ connectionID: [UInt8]) -> [String] {
        ["cid=1", "cid_renego=0", "cid_val=" + connectionID.map { String(format: "%02x", $0) }.joined()]
    }

    /// What Mbed TLS's programs print of a Connection ID that they were told to send, first, and again with each
    /// exchange.
    private static func report(_ connectionID: [UInt8], _ occasion: String = "initial handshake") -> String {
        let bytes = connectionID.map { String(format: "%02x ", $0) }.joined()
        return """
            (\(occasion)) Use of Connection ID has been negotiated.
            (\(occasion)) Peer CID (length \(connectionID.count) Bytes): \(bytes)

            """
    }

    private static func configuration(
        _ suite: MbedTLSSuite,
        _ connectionIDs: DtlsConnectionIDs
    ) -> DtlsConfiguration {
        var configuration = DtlsConfiguration()
        if let list = suite.list { configuration.cipherSuites = .openSSL(list) }
        configuration.connectionIDs = connectionIDs
        return configuration
    }

    /// Both sides' lengths in all combinations, but for the one in which there are no Connection IDs.
    private static let lengths = [0, 4, 8].flatMap { ours in [0, 4, 8].map { theirs in (ours, theirs) } }.dropFirst()

    // MARK: Their client

    func testClientWithPreSharedKeyAndCCM8() async throws {
        for (ours, theirs) in Self.lengths { try await checkClient(.pskCCM8, ours, theirs) }
    }

    func testClientWithPreSharedKeyAndGCM() async throws {
        for (ours, theirs) in Self.lengths { try await checkClient(.pskGCM, ours, theirs) }
    }

    private func checkClient(_ suite: MbedTLSSuite, _ ours: Int, _ theirs: Int) async throws {
        try await withDeadline { peers in
            let context = try DtlsServerContext(
                Self.configuration(suite, Self.ours(ours)),
                preSharedKeys: InteropKey.store()
            )
            var reception = try await Reception(context)
            let options = Peers.mbedTLSKey(suite) + Self.options(Self.theirs(theirs))
            let client = try peers.mbedTLSClient(to: reception.address, options + ["exchanges=3", "request_size=1000"])
            try await Self.serve(&reception, client, ours, theirs)
            await reception.server.close()
        }
    }

    private static func serve(
        _ reception: inout Reception,
        _ client: PeerProcess,
        _ ours: Int,
        _ theirs: Int
    ) async throws {
        var conversation = try await reception.accept()
        let connectionIDs = try XCTUnwrap(conversation.connection.negotiated.connectionIDs, client.description)
        XCTAssertEqual(connectionIDs.own.count, ours)
        XCTAssertEqual(connectionIDs.peer, Self.theirs(theirs))
        try await conversation.serve(client, requestSize: 1000)
        let output = client.output.standardOutputText
        XCTAssertTrue(output.contains(report(connectionIDs.own)), output)
    }

    /// Flights of several records, the last of which carry Connection IDs, and suites with other tags and nonces.
    func testClientWithCertificates() async throws {
        for suite in [MbedTLSSuite.ecdsaGCM256, .ecdsaChaCha20, .ecdsaCCM8] {
            try await withDeadline { peers in
                let authority = try await peers.authority()
                let ours = try await authority.issue("server")
                let theirs = try await authority.issue("client", rsa: true)
                var configuration = Self.configuration(suite, .random(length: 8))
                configuration.identity = ours.identity
                configuration.trust = try authority.trust
                var reception = try await Reception(
                    DtlsServerContext(configuration, clientCertificates: .required)
                )
                let options = Peers.mbedTLSCertificate(theirs) + Peers.mbedTLSRoot(authority.certificateFile)
                let client = try peers.mbedTLSClient(
                    to: reception.address,
                    options + Self.options(Self.theirs(4))
                        + ["force_ciphersuite=\(suite.name)", "exchanges=3", "request_size=1000"]
                )
                try await Self.serve(&reception, client, 8, 4)
                await reception.server.close()
            }
        }
    }

    func testClientThatDoesNotOffer() async throws {
        try await withDeadline { peers in
            let context = try DtlsServerContext(
                Self.configuration(.pskGCM, .random(length: 8)),
                preSharedKeys: InteropKey.store()
            )
            var reception = try await Reception(context)
            let options = Peers.mbedTLSKey(.pskGCM) + ["exchanges=3", "request_size=1000"]
            let client = try peers.mbedTLSClient(to: reception.address, options)
            var conversation = try await reception.accept()
            XCTAssertNil(conversation.connection.negotiated.connectionIDs)
            try await conversation.serve(client, requestSize: 1000)
            XCTAssertFalse(client.output.text.contains("Connection ID"), client.description)
        }
    }

    func testClientWhoseOfferIsDeclined() async throws {
        try await withDeadline { peers in
            let context = try DtlsServerContext(
                Self.configuration(.pskGCM, .off),
                preSharedKeys: InteropKey.store()
            )
            var reception = try await Reception(context)
            let options = Peers.mbedTLSKey(.pskGCM) + Self.options(Self.theirs(4))
            let client = try peers.mbedTLSClient(to: reception.address, options + ["exchanges=3", "request_size=1000"])
            var conversation = try await reception.accept()
            XCTAssertNil(conversation.connection.negotiated.connectionIDs)
            try await conversation.serve(client, requestSize: 1000)
            let output = client.output.standardOutputText
            XCTAssertTrue(
                output.contains("(initial handshake) Use of Connection ID was rejected by the server.\n"),
                output
            )
        }
    }

    /// RFC 9146 §3: Connection IDs are negotiated anew when a session is resumed.
    func testTheirClientResumesASession() async throws {
        try await withDeadline { peers in
            let context = try DtlsServerContext(
                Self.configuration(.pskGCM, .random(length: 8)),
                preSharedKeys: InteropKey.store()
            )
            var reception = try await Reception(context)
            let options = Peers.mbedTLSKey(.pskGCM) + Self.options(Self.theirs(4))
            let client = try peers.mbedTLSClient(to: reception.address, options + ["cid_renego=1", "reconnect=1"])
            var own: Set<[UInt8]> = []
            for isResumed in [false, true] {
                var conversation = try await reception.accept()
                let negotiated = conversation.connection.negotiated
                XCTAssertEqual(negotiated.isResumed, isResumed)
                let connectionIDs = try XCTUnwrap(negotiated.connectionIDs, client.description)
                XCTAssertEqual(connectionIDs.peer, Self.theirs(4))
                own.insert(connectionIDs.own)
                let request = try await conversation.receive()
                XCTAssertEqual(request?.starts(with: Array("GET / HTTP/1.0\r\n".utf8)), true)
                try await conversation.connection.send("answered\n")
                try await conversation.expectCloseByPeer()
            }
            XCTAssertEqual(own.count, 2)
            let status = try await client.waitForExit()
            XCTAssertEqual(status, 0)
        }
    }

    // MARK: Their server

    func testServerWithPreSharedKeyAndCCM8() async throws {
        for (ours, theirs) in Self.lengths { try await checkServer(.pskCCM8, ours, theirs) }
    }

    func testServerWithPreSharedKeyAndGCM() async throws {
        for (ours, theirs) in Self.lengths { try await checkServer(.pskGCM, ours, theirs) }
    }

    private func checkServer(_ suite: MbedTLSSuite, _ ours: Int, _ theirs: Int) async throws {
        try await withDeadline { peers in
            let options = Peers.mbedTLSKey(suite) + Self.options(Self.theirs(theirs))
            let (server, address) = try await peers.mbedTLSServer(options + ["exchanges=3", "response_size=1000"])
            let context = try DtlsClientContext(
                Self.configuration(suite, Self.ours(ours)),
                preSharedKey: InteropKey.preSharedKey()
            )
            let conversation = try await context.connect(to: address)
            try await Self.ask(conversation, server, suite, ours, theirs)
        }
    }

    private static func ask(
        _ conversation: Conversation,
        _ server: PeerProcess,
        _ suite: MbedTLSSuite,
        _ ours: Int,
        _ theirs: Int
    ) async throws {
        var conversation = conversation
        let connectionIDs = try XCTUnwrap(conversation.connection.negotiated.connectionIDs, server.description)
        XCTAssertEqual(connectionIDs.own.count, ours)
        XCTAssertEqual(connectionIDs.peer, Self.theirs(theirs))
        try await server.wait(for: report(connectionIDs.own))
        let note = report(connectionIDs.own, "after renegotiation")
        try await conversation.ask(server, suite, responseSize: 1000, note: note)
    }

    func testServerWithCertificates() async throws {
        for suite in [MbedTLSSuite.ecdsaGCM256, .ecdsaChaCha20, .ecdsaCCM8] {
            try await withDeadline { peers in
                let authority = try await peers.authority()
                let theirs = try await authority.issue("server")
                let ours = try await authority.issue("client", rsa: true)
                let options = Peers.mbedTLSCertificate(theirs) + Peers.mbedTLSRoot(authority.certificateFile)
                let (server, address) = try await peers.mbedTLSServer(
                    options + Self.options(Self.theirs(4))
                        + ["force_ciphersuite=\(suite.name)", "exchanges=3", "response_size=1000"]
                )
                var configuration = Self.configuration(suite, .random(length: 8))
                configuration.trust = try authority.trust
                configuration.identity = ours.identity
                let conversation = try await DtlsClientContext(configuration).connect(to: address)
                try await Self.ask(conversation, server, suite, 8, 4)
            }
        }
    }

    func testServerThatDeclines() async throws {
        try await withDeadline { peers in
            let options = Peers.mbedTLSKey(.pskGCM) + ["exchanges=3", "response_size=1000"]
            let (server, address) = try await peers.mbedTLSServer(options)
            let context = try DtlsClientContext(
                Self.configuration(.pskGCM, .random(length: 8)),
                preSharedKey: InteropKey.preSharedKey()
            )
            var conversation = try await context.connect(to: address)
            XCTAssertNil(conversation.connection.negotiated.connectionIDs)
            try await conversation.ask(server, .pskGCM, responseSize: 1000)
            XCTAssertFalse(server.output.text.contains("Connection ID"), server.description)
        }
    }

    func testServerToWhichWeDoNotOffer() async throws {
        try await withDeadline { peers in
            let options = Peers.mbedTLSKey(.pskGCM) + Self.options(Self.theirs(4))
            let (server, address) = try await peers.mbedTLSServer(options + ["exchanges=3", "response_size=1000"])
            let context = try DtlsClientContext(
                Self.configuration(.pskGCM, .off),
                preSharedKey: InteropKey.preSharedKey()
            )
            var conversation = try await context.connect(to: address)
            XCTAssertNil(conversation.connection.negotiated.connectionIDs)
            let note = "(after renegotiation) Use of Connection ID was not offered by client.\n"
            try await conversation.ask(server, .pskGCM, responseSize: 1000, note: note)
        }
    }
}
