import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// Whether a peer without the extended master secret (RFC 7627) is refused.
final class ExtendedMasterSecretTests: XCTestCase {
    /// A pair of which one side does not know the extension.
    private func pair(without role: DtlsRole, clientRequires: Bool, serverRequires: Bool) throws -> EnginePair {
        var options = try PairOptions.preSharedKey()
        options.client.requiresExtendedMasterSecret = clientRequires
        options.server.requiresExtendedMasterSecret = serverRequires
        options.usesGate = false
        let pair = try EnginePair(options)
        let side = role == .client ? pair.client : try pair.serverPeer()
        OpenSSLTweaks.disableExtendedMasterSecret(try XCTUnwrap(side.engine.attached).records.pointer)
        try pair.connect()
        return pair
    }

    private func assertRefuses(_ side: EnginePeer, file: StaticString = #filePath, line: UInt = #line) throws {
        let error = try XCTUnwrap(side.failure, file: file, line: line)
        XCTAssertEqual(error.code, .handshakeFailed, file: file, line: line)
        XCTAssertTrue(error.message.contains("extended master secret"), error.message, file: file, line: line)
        XCTAssertNil(side.finished, "it was exposed", file: file, line: line)
        XCTAssertEqual(side.ends.count, 1, file: file, line: line)
        assertThrows(.handshakeFailed, file: file, line: line) { try side.send([1]) }
    }

    func testAClientRefusesAServerWithout() throws {
        let pair = try pair(without: .server, clientRequires: true, serverRequires: false)
        try assertRefuses(pair.client)
        XCTAssertEqual(try pair.serverPeer().ends, [.closedByPeer], "the server is told")
    }

    func testAServerRefusesAClientWithout() throws {
        let pair = try pair(without: .client, clientRequires: false, serverRequires: true)
        try assertRefuses(try pair.serverPeer())
        XCTAssertEqual(pair.client.ends, [.closedByPeer], "the client is told")
    }

    func testItMayBeDoneWithout() throws {
        for role in [DtlsRole.client, .server] {
            try pair(without: role, clientRequires: false, serverRequires: false).assertEchoes()
        }
    }
}
