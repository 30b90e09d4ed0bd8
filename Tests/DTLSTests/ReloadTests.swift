import DTLSCore
import DTLSTestSupport
import XCTest

@testable import DTLS

/// Other contexts for a server that runs, and connections that are not welcome any more.
final class ReloadTests: XCTestCase {
    func testNewHandshakesUseTheNewContextAndConnectionsGoOn() async throws {
        try await withDeadline {
            let old = try TestIdentity.server
            let new = try CertificateMint(commonName: "renewed", names: ["localhost"]).signed(by: TestIdentity.root)
            let server = try await DtlsServer.onLoopback(.presenting(old))
            let context = try DtlsClientContext(.trustingTestRoot())
            let before = try await Meeting(at: server, context)
            XCTAssertEqual(before.near.negotiated.peerCertificates.first, old.certificateChain[0])
            let session = try XCTUnwrap(before.near.session)

            server.replaceContext(try .presenting(new))
            try await before.exchange()
            let after = try await Meeting(at: server, context)
            XCTAssertEqual(after.near.negotiated.peerCertificates.first, new.certificateChain[0])
            try await after.exchange()
            try await before.exchange()
            // The new context has ticket keys of its own.
            let resumed = try await server.resumes(session, context)
            XCTAssertFalse(resumed)
            for meeting in [before, after] { await meeting.close() }
            await server.close()
        }
    }

    /// A handshake keeps the context that it began with.
    func testAHandshakeUnderWayKeepsItsContext() async throws {
        try await withDeadline {
            let gate = Gate()
            let keys = DtlsPreSharedKeyStore { _ in
                await gate.wait()
                return DtlsSecretBytes(Credentials.key)
            }
            let server = try await DtlsServer.onLoopback(DtlsServerContext(preSharedKeys: keys))
            let address = server.localAddress
            let client = try await DtlsClient.onLoopback()
            let connecting = Task { try await client.connect(to: address, context: .preSharedKey()) }
            try await eventually("the key was asked for") { gate.waiterCount == 1 }
            server.replaceContext(try .presenting(TestIdentity.server))
            gate.open()
            let near = try await connecting.value
            let far = try await server.accept()
            try await near.expectArrival(at: far)
            let renewed = try await Meeting(at: server, DtlsClientContext(.trustingTestRoot()))
            try await renewed.exchange()
            await renewed.close()
            await client.close()
            await server.close()
        }
    }

    func testPreSharedKeysAreReplaced() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let before = try await Meeting(at: server, .preSharedKey())
            let other = try Credentials.preSharedKey("other")
            server.replaceContext(
                try DtlsServerContext(preSharedKeys: DtlsPreSharedKeyStore([other]), unknownIdentity: .alert)
            )
            let error = await failure { try await Meeting(at: server, .preSharedKey()).close() }
            XCTAssertEqual(error?.code, .authenticationFailed)
            let after = try await Meeting(at: server, .preSharedKey(other))
            for meeting in [before, after] {
                try await meeting.exchange()
                await meeting.close()
            }
            await server.close()
        }
    }

    func testConnectionsAreClosedByWhatWasNegotiated() async throws {
        try await withDeadline {
            let names = ["one", "two", "three"]
            let keys = DtlsPreSharedKeyStore(try names.map { try Credentials.preSharedKey($0) })
            let server = try await DtlsServer.onLoopback(DtlsServerContext(preSharedKeys: keys))
            var meetings: [Meeting] = []
            for name in names + ["two"] {
                meetings.append(try await Meeting(at: server, .preSharedKey(Credentials.preSharedKey(name))))
            }
            let count = server.closeConnections { $0.preSharedKeyIdentity == Array("two".utf8) }
            XCTAssertEqual(count, 2)
            for index in [1, 3] {
                let near = await meetings[index].near.waitUntilClosed()
                XCTAssertEqual(near, .closedByPeer)
                let far = await meetings[index].far.waitUntilClosed()
                XCTAssertEqual(far, .closedLocally)
            }
            for index in [0, 2] { try await meetings[index].exchange() }
            XCTAssertEqual(server.closeConnections { _ in false }, 0)
            XCTAssertEqual(server.closeConnections { _ in true }, 2)
            XCTAssertEqual(server.closeConnections { _ in true }, 0)
            for meeting in meetings { await meeting.client.close() }
            await server.close()
        }
    }

    func testConnectionsThatNobodyHasTakenAreClosedToo() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let client = try await DtlsClient.onLoopback()
            let near = try await client.connect(to: server.localAddress, context: .preSharedKey())
            try await eventually("the server's side is finished") { server.closeConnections { _ in true } == 1 }
            let reason = await near.waitUntilClosed()
            XCTAssertEqual(reason, .closedByPeer)
            await client.close()
            await server.close()
        }
    }
}
