import DTLS
import Foundation
import XCTest

/// Application protocols, SRTP, exported keys and resumption with other implementations.
final class SessionInteropTests: XCTestCase {
    private static func client(
        _ credentials: InteropCredentials,
        _ change: (inout DtlsConfiguration) -> Void = { _ in }
    ) throws -> DtlsClientContext {
        var configuration = DtlsConfiguration()
        configuration.trust = credentials.trust
        change(&configuration)
        return try DtlsClientContext(configuration)
    }

    private static func server(
        _ credentials: InteropCredentials,
        _ change: (inout DtlsConfiguration) -> Void = { _ in }
    ) throws -> DtlsServerContext {
        var configuration = DtlsConfiguration()
        configuration.identity = credentials.identity
        change(&configuration)
        return try DtlsServerContext(configuration)
    }

    private static func files(_ credentials: InteropCredentials) -> [String] {
        ["-cert", credentials.certificateFile, "-key", credentials.privateKeyFile]
    }

    /// Starts `s_client` in the mode in which it writes what was negotiated.
    private static func talkativeClient(
        _ peers: Peers,
        to address: DtlsAddress,
        _ options: [String]
    ) throws -> PeerProcess {
        try peers.start("openssl", ["s_client", "-dtls1_2", "-connect", "\(address)"] + options)
    }

    private static func hex(_ secret: DtlsSecretBytes) -> String {
        secret.withUnsafeBytes { $0.map { String(format: "%02X", $0) }.joined() }
    }

    // MARK: Application protocols

    func testApplicationProtocolWithOpenSSLsServer() async throws {
        try await withDeadline { peers in
            let credentials = try peers.selfSigned("server")
            let (server, address) = try await peers.openSSLServer(Self.files(credentials) + ["-alpn", "other,coap"])
            let context = try Self.client(credentials) { $0.applicationProtocols = ["webrtc", "coap"] }
            var conversation = try await context.connect(to: address)
            XCTAssertEqual(conversation.connection.negotiated.applicationProtocol, "coap")
            try await server.wait(for: "ALPN protocols selected: coap")
            try await conversation.exchangeText(with: server)
        }
    }

    func testNoApplicationProtocolInCommonWithOpenSSLsServer() async throws {
        try await withDeadline { peers in
            let credentials = try peers.selfSigned("server")
            let (_, address) = try await peers.openSSLServer(Self.files(credentials) + ["-alpn", "other"])
            let context = try Self.client(credentials) { $0.applicationProtocols = ["coap"] }
            try await expectFailure(to: address, context) { error in
                XCTAssertEqual(error.code, .noApplicationProtocol, "\(error)")
            }
        }
    }

    func testApplicationProtocolWithOpenSSLsClient() async throws {
        try await withDeadline { peers in
            let credentials = try peers.selfSigned("server")
            var reception = try await Reception(Self.server(credentials) { $0.applicationProtocols = ["b", "a"] })
            let client = try Self.talkativeClient(peers, to: reception.address, ["-alpn", "a,b"])
            let conversation = try await reception.accept()
            XCTAssertEqual(conversation.connection.negotiated.applicationProtocol, "b")
            let offered = conversation.connection.negotiated.clientOffer?.applicationProtocols
            XCTAssertEqual(offered, [Array("a".utf8), Array("b".utf8)])
            try await client.wait(for: "ALPN protocol: b")
        }
    }

    func testNoApplicationProtocolInCommonWithOpenSSLsClient() async throws {
        try await withDeadline { peers in
            let credentials = try peers.selfSigned("server")
            let reception = try await Reception(Self.server(credentials) { $0.applicationProtocols = ["coap"] })
            let client = try Self.talkativeClient(peers, to: reception.address, ["-alpn", "other"])
            try await client.wait(for: "no application protocol")
        }
    }

    func testApplicationProtocolWithGnuTLSsClient() async throws {
        try await withDeadline { peers in
            let credentials = try peers.selfSigned("server")
            var reception = try await Reception(Self.server(credentials) { $0.applicationProtocols = ["coap", "x"] })
            let options = ["--x509cafile", credentials.certificateFile, "--priority", GnuTLSPriority.certificates]
            let client = try peers.gnuTLSClient(to: reception.address, options + ["--alpn", "x", "--alpn", "coap"])
            var conversation = try await reception.accept()
            XCTAssertEqual(conversation.connection.negotiated.applicationProtocol, "coap")
            try await client.wait(for: "Application protocol: coap")
            try await conversation.exchangeText(with: client)
        }
    }

    // MARK: Exported keys

    func testSRTPAndExportedKeysWithOpenSSLsServer() async throws {
        try await withDeadline { peers in
            let credentials = try peers.selfSigned("server")
            for profile in DtlsSRTPProfile.all {
                let count = 2 * (profile.keyLength + profile.saltLength)
                let exporter = ["-keymatexport", "EXTRACTOR-dtls_srtp", "-keymatexportlen", "\(count)"]
                let options = Self.files(credentials) + ["-use_srtp", profile.name] + exporter
                let (server, address) = try await peers.openSSLServer(options)
                let context = try Self.client(credentials) { $0.srtpProfiles = DtlsSRTPProfile.all }
                let connection = try await context.connect(to: address).connection
                XCTAssertEqual(connection.negotiated.srtpProfile, profile)
                try await server.wait(for: "SRTP Extension negotiated, profile=\(profile.name)")
                let keys = try connection.srtpKeys()
                let parts = [keys.sendingKey, keys.receivingKey, keys.sendingSalt, keys.receivingSalt]
                try await server.wait(for: "Keying material: " + parts.map(Self.hex).joined())
                connection.close()
                server.end()
            }
        }
    }

    func testSRTPAndExportedKeysWithOpenSSLsClient() async throws {
        try await withDeadline { peers in
            let credentials = try peers.selfSigned("server")
            for profile in DtlsSRTPProfile.all {
                var reception = try await Reception(Self.server(credentials) { $0.srtpProfiles = [profile] })
                let count = 2 * (profile.keyLength + profile.saltLength)
                let exporter = ["-keymatexport", "EXTRACTOR-dtls_srtp", "-keymatexportlen", "\(count)"]
                let offer = DtlsSRTPProfile.all.map(\.name).joined(separator: ":")
                let client = try Self.talkativeClient(
                    peers,
                    to: reception.address,
                    ["-use_srtp", offer] + exporter
                )
                let connection = try await reception.accept().connection
                XCTAssertEqual(connection.negotiated.srtpProfile, profile)
                try await client.wait(for: "SRTP Extension negotiated, profile=\(profile.name)")
                let keys = try connection.srtpKeys()
                // The client's come first.
                let parts = [keys.receivingKey, keys.sendingKey, keys.receivingSalt, keys.sendingSalt]
                try await client.wait(for: "Keying material: " + parts.map(Self.hex).joined())
                client.end()
                await reception.server.close()
            }
        }
    }

    // MARK: Resumption

    func testOurClientResumesASessionOfOpenSSLsServer() async throws {
        for tickets in [true, false] {
            try await withDeadline { peers in
                let credentials = try peers.selfSigned("server")
                let (server, address) = try await peers.openSSLServer(
                    Self.files(credentials) + (tickets ? [] : ["-no_ticket"])
                )
                let context = try Self.client(credentials)
                var first = try await context.connect(to: address)
                try await first.exchangeText(with: server)
                let session = try XCTUnwrap(first.connection.session)
                first.connection.close()
                try await server.wait(for: "DONE\n")

                let client = try await DtlsClient.bind(host: "127.0.0.1")
                let connection = try await client.connect(
                    to: address,
                    context: context,
                    session: DtlsSession(bytes: session.bytes)
                )
                XCTAssertTrue(connection.negotiated.isResumed, "tickets: \(tickets)")
                XCTAssertEqual(connection.negotiated.peerCertificates, credentials.identity.certificateChain)
                try await server.wait(for: "Reused session-id")
                var second = Conversation(connection)
                try await second.exchangeText(with: server)
                await client.close()
            }
        }
    }

    /// By ticket, and from a store by ID.
    func testOpenSSLsClientResumesASessionOfOurServer() async throws {
        for usesTickets in [true, false] {
            try await withDeadline { peers in
                let credentials = try peers.selfSigned("server")
                try peers.makeDirectory()
                let file = peers.directory.appendingPathComponent("session.pem").path
                var configuration = DtlsConfiguration()
                configuration.identity = credentials.identity
                let resumption = usesTickets ? DtlsServerResumption.automatic : .store(DtlsInMemorySessionStore())
                var reception = try await Reception(DtlsServerContext(configuration, resumption: resumption))
                for (option, word) in [("-sess_out", "New, "), ("-sess_in", "Reused, ")] {
                    let client = try Self.talkativeClient(peers, to: reception.address, [option, file])
                    var conversation = try await reception.accept()
                    XCTAssertEqual(conversation.connection.negotiated.isResumed, option == "-sess_in")
                    try await client.wait(for: word)
                    try await conversation.exchangeText(with: client)
                    try client.write("Q\n")
                    try await client.waitForExit()
                }
                await reception.server.close()
            }
        }
    }

    /// `gnutls-cli --resume` connects, says goodbye, and connects again with the session.
    func testGnuTLSsClientResumesASessionOfOurServer() async throws {
        try await withDeadline { peers in
            let credentials = try peers.selfSigned("server")
            var reception = try await Reception(Self.server(credentials))
            let options = ["--x509cafile", credentials.certificateFile, "--priority", GnuTLSPriority.certificates]
            let client = try peers.gnuTLSClient(to: reception.address, options + ["--resume"])
            let first = try await reception.accept()
            XCTAssertFalse(first.connection.negotiated.isResumed)
            var second = try await reception.accept()
            XCTAssertTrue(second.connection.negotiated.isResumed)
            try await client.wait(for: "*** This is a resumed session")
            try await second.exchangeText(with: client)
        }
    }
}
