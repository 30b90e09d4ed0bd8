import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// The messages of return routability checks, engine against engine (RFC 9853 §4 and §5).
final class PathCheckMessageTests: XCTestCase {
    private func pair(_ client: DtlsConnectionIDs = .automatic, _ server: DtlsConnectionIDs = .automatic) throws
        -> EnginePair
    {
        var options = try PairOptions.preSharedKey("PSK-AES128-GCM-SHA256")
        options.client.connectionIDs = client
        options.server.connectionIDs = server
        return try EnginePair.connected(options)
    }

    func testBothSidesChallengeAndAnswer() throws {
        for (client, server) in [
            (DtlsConnectionIDs.automatic, DtlsConnectionIDs.automatic), (.random(length: 4), .accepted),
            (.random(length: 4), .random(length: 5)),
        ] {
            let pair = try pair(client, server)
            for (one, other) in [(pair.client, try pair.serverPeer()), (try pair.serverPeer(), pair.client)] {
                XCTAssertTrue(one.engine.checksPaths)
                XCTAssertFalse(one.engine.isPathChallenged)
                XCTAssertTrue(one.engine.challengePath())
                XCTAssertTrue(one.engine.isPathChallenged)
                one.settle()
                let before = (one.eventNames, other.eventNames)
                try pair.pump()
                XCTAssertFalse(one.engine.isPathChallenged)
                XCTAssertEqual(one.eventNames, before.0, "it is not the application's")
                XCTAssertEqual(other.eventNames, before.1)
                XCTAssertEqual(one.engine.statistics.drops.total + other.engine.statistics.drops.total, 0)
            }
            try pair.assertEchoes()
        }
    }

    /// Only the cookie of the last challenge counts; whatever else is said is ignored.
    func testWhatIsNoAnswer() throws {
        // The client's records to the server are sealed without an ID here.
        let pair = try pair(.random(length: 4), .accepted)
        let server = try pair.serverPeer()
        let sealer = try RecordSealer(server.engine.handshakeSecrets(), sealsAsClient: true)
        XCTAssertTrue(server.engine.challengePath())
        server.settle()
        let lost = server.takeOutbox()
        XCTAssertTrue(server.engine.challengePath())
        server.settle()
        _ = server.takeOutbox()
        for datagram in lost { pair.client.receive(datagram) }
        for datagram in pair.client.takeOutbox() { server.receive(datagram) }
        XCTAssertTrue(server.engine.isPathChallenged, "an old cookie")
        let contents: [[UInt8]] = [
            [], [1], [1, 0, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            [2, 0, 0, 0, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0, 0, 0, 0], [255],
        ]
        let sent = server.sent.count
        for (index, content) in contents.enumerated() {
            server.receive(try sealer.seal(content, contentType: 27, sequenceNumber: UInt64(20 + index)))
        }
        XCTAssertTrue(server.engine.isPathChallenged)
        XCTAssertTrue(server.engine.isOpen)
        XCTAssertEqual(server.sent.count, sent, "it was answered")
        server.receive(try sealer.seal([0, 1, 2, 3, 4, 5, 6, 7, 8], contentType: 27, sequenceNumber: 40))
        XCTAssertEqual(server.sent.count, sent + 1, "a challenge has one answer")
        try pair.assertEchoes()
    }

    /// A path may be longer than the time between two challenges.
    func testALateAnswerIsGood() throws {
        let pair = try pair()
        let server = try pair.serverPeer()
        var challenges: [[UInt8]] = []
        for again in [false, true, true] {
            XCTAssertTrue(server.engine.challengePath(again: again))
            server.settle()
            challenges += server.takeOutbox()
        }
        pair.client.receive(challenges[0])
        for datagram in pair.client.takeOutbox() { server.receive(datagram) }
        XCTAssertFalse(server.engine.isPathChallenged)
    }

    func testWhoDoesNotKnowThem() throws {
        var without = DtlsConnectionIDs.random(length: 4)
        without.checksPaths = false
        for pair in [
            try pair(without, .automatic), try pair(.automatic, without), try pair(.off, .automatic),
        ] {
            for side in [pair.client, try pair.serverPeer()] {
                XCTAssertFalse(side.engine.checksPaths)
                XCTAssertFalse(side.engine.challengePath())
                side.settle()
                XCTAssertEqual(side.takeOutbox(), [])
            }
            try pair.assertEchoes()
        }
    }

    /// They go along with a hand-over.
    func testAHandOver() throws {
        let pair = try pair()
        let state = try pair.serverPeer().engine.handOver()
        let context = try DtlsEngineContext(server: DtlsConfiguration(), usesPreSharedKeys: true)
        let successor = EnginePeer(try DtlsEngine(takingOver: state, context: context))
        XCTAssertTrue(successor.engine.challengePath())
        successor.settle()
        for datagram in successor.takeOutbox() { pair.client.receive(datagram) }
        for datagram in pair.client.takeOutbox() { successor.receive(datagram) }
        XCTAssertFalse(successor.engine.isPathChallenged)
    }
}
