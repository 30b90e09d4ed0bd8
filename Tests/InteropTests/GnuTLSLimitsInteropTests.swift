import DTLS
import XCTest

/// Peers without the extended master secret (RFC 7627), which only GnuTLS's programs can leave out.
final class GnuTLSLimitsInteropTests: XCTestCase {
    private static let priority =
        GnuTLSPriority.preSharedKey("+PSK", ciphers: "+AES-128-GCM") + ":%NO_SESSION_HASH"

    private static var clientOptions: [String] {
        ["--pskusername", InteropKey.identity, "--pskkey", InteropKey.hex, "--priority", priority]
    }

    /// Such a client gets no connection: the first one is that of the client that comes after it.
    func testClientWithoutExtendedMasterSecretIsRefused() async throws {
        try await withDeadline { peers in
            var reception = try await Reception(.preSharedKey())
            let stranger = try peers.gnuTLSClient(to: reception.address, Self.clientOptions)
            // gnutls-cli takes the handshake for finished, and looks at our close_notify only when something else
            // comes.
            try await stranger.wait(until: "it got an answer") { output in
                output.text.contains("Handshake was completed") || output.text.contains("Fatal error")
            }
            let key = Peers.gnuTLSKey("+PSK", ciphers: "+AES-256-GCM")
            let client = try peers.gnuTLSClient(to: reception.address, key)
            var conversation = try await reception.accept()
            XCTAssertEqual(conversation.connection.negotiated.cipherSuite.openSSLName, "PSK-AES256-GCM-SHA384")
            try await conversation.exchangeText(with: client)
        }
    }

    func testServerWithoutExtendedMasterSecretIsRefused() async throws {
        try await withDeadline { peers in
            let (_, address) = try await Self.server(peers)
            try await expectFailure(to: address, .preSharedKey()) { error in
                XCTAssertEqual(error.code, .handshakeFailed, "\(error)")
                XCTAssertTrue(error.message.contains("extended master secret"), "\(error)")
            }
        }
    }

    func testPeersWithoutExtendedMasterSecretThatAreAllowed() async throws {
        try await withDeadline { peers in
            var configuration = DtlsConfiguration()
            configuration.requiresExtendedMasterSecret = false
            var reception = try await Reception(
                DtlsServerContext(configuration, preSharedKeys: try InteropKey.store())
            )
            let client = try peers.gnuTLSClient(to: reception.address, Self.clientOptions)
            var accepted = try await reception.accept()
            try await accepted.exchangeText(with: client)

            let (_, address) = try await Self.server(peers)
            let context = try DtlsClientContext(configuration, preSharedKey: try InteropKey.preSharedKey())
            var connected = try await context.connect(to: address)
            try await connected.expectEchoes()
        }
    }

    private static func server(_ peers: Peers) async throws -> (PeerProcess, DtlsAddress) {
        try await peers.gnuTLSServer(["--pskpasswd", try peers.gnuTLSKeyFile(), "--priority", priority])
    }
}
