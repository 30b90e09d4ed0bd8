import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// The question for a pre-shared key may be answered in its own time, while the handshake waits outside of OpenSSL.
final class PreSharedKeyAnswerTests: XCTestCase {
    /// A server that was asked, and has not answered.
    private func waitingServer(_ change: (inout PairOptions) -> Void = { _ in }) throws -> EnginePair {
        var options = try PairOptions.preSharedKey()
        options.serverAnswersLater = true
        change(&options)
        let pair = try EnginePair(options)
        try pair.connect()
        XCTAssertEqual(try pair.serverPeer().requests, [.identity(Array(TestKey.identity.utf8), serverName: nil)])
        XCTAssertFalse(pair.isOpen)
        return pair
    }

    private var right: EnginePeer.KeyAnswer { .server(DtlsSecretBytes(TestKey.bytes)) }

    /// Who has all keys beforehand is asked for none, and what comes of each is the same.
    func testKeysThatAreKnownBeforehand() throws {
        let known = try PairOptions.preSharedKey()
        func server(_ change: (inout PairOptions) throws -> Void = { _ in }) throws -> EnginePeer {
            var options = known
            options.serverEngineKnowsKeys = true
            options.unknownIdentity = .alert
            try change(&options)
            let pair = try EnginePair(options)
            try pair.connect()
            if pair.isOpen { try pair.assertEchoes() }
            return try pair.serverPeer()
        }
        XCTAssertEqual(try server().eventNames.first, "finished")
        XCTAssertEqual(try server().finished?.preSharedKeyIdentity, Array(TestKey.identity.utf8))
        let unknown = try server { $0.clientKey = try TestKey.unknown }
        XCTAssertEqual(unknown.requests, [])
        XCTAssertEqual(unknown.failure?.alertSent?.code, .unknownPSKIdentity)
        for count in [0, 513] {
            let impossible = try server {
                $0.serverKeys = [Array(TestKey.identity.utf8): [UInt8](repeating: 1, count: count)]
            }
            XCTAssertEqual(impossible.failure?.alertSent?.code, .unknownPSKIdentity)
        }
        let wrong = try server { $0.clientKey = try TestKey.wrong }
        XCTAssertNil(wrong.finished)
        XCTAssertEqual(wrong.requests, [])
    }

    func testALateAnswerOfAServer() throws {
        let pair = try waitingServer()
        let server = try pair.serverPeer()
        XCTAssertTrue(server.engine.attached?.question != nil)
        server.give(right)
        try pair.pump()
        XCTAssertEqual(server.eventNames, ["request", "finished"])
        try pair.assertEchoes()
    }

    func testALateAnswerOfAClient() throws {
        var options = try PairOptions.preSharedKey()
        options.clientKey = nil
        options.clientAnswer = .later
        let pair = try EnginePair(options)
        try pair.connect()
        XCTAssertEqual(pair.client.requests, [.hint(nil)])
        XCTAssertFalse(pair.isOpen)
        pair.client.give(.client(try TestKey.right))
        try pair.pump()
        XCTAssertEqual(pair.client.eventNames, ["request", "finished"])
        try pair.assertEchoes()
    }

    /// The client's question is asked once its whole view of the question is there, however small the datagrams are.
    func testALateAnswerWithSmallDatagrams() throws {
        for suite in ["PSK-AES128-GCM-SHA256", "ECDHE-PSK-CHACHA20-POLY1305"] {
            var options = try PairOptions.preSharedKey(suite)
            options.clientKey = nil
            options.clientAnswer = .client(
                try DtlsPreSharedKey(
                    identity: [UInt8](repeating: 7, count: 256),
                    key: DtlsSecretBytes(TestKey.bytes)
                )
            )
            options.serverKeys = [[UInt8](repeating: 7, count: 256): TestKey.bytes]
            options.identityHint = [UInt8](repeating: 8, count: 128)
            options.mtu = 256
            options.usesGate = false
            let pair = try EnginePair.connected(options)
            XCTAssertEqual(pair.client.requests, [.hint([UInt8](repeating: 8, count: 128))])
            XCTAssertEqual(
                try pair.serverPeer().requests,
                [.identity([UInt8](repeating: 7, count: 256), serverName: nil)]
            )
            try pair.assertEchoes(suite)
        }
    }

    /// While the question is open, time does not run for the flight, but it does for the handshake.
    func testDeadlinesWhileWaiting() throws {
        let pair = try waitingServer { $0.retransmission = .quick }
        let server = try pair.serverPeer()
        let sent = server.sent.count
        let deadline = try XCTUnwrap(server.engine.nextDeadline)
        XCTAssertGreaterThan(deadline, .now + .seconds(10), "the handshake's, not the flight's")
        server.handleTimeout(now: .now + .seconds(5))
        XCTAssertEqual(server.sent.count, sent)
        server.handleTimeout(now: .now + .seconds(60))
        XCTAssertEqual(server.failure?.code, .handshakeTimedOut)
        server.give(right)
        XCTAssertEqual(server.ends.count, 1)
        XCTAssertEqual(server.sent.count, sent)
    }

    /// What comes while the question is open is kept up to a bound, and counted beyond it.
    func testDatagramsAreHeldBoundedAndCounted() throws {
        let pair = try waitingServer()
        let server = try pair.serverPeer()
        // The datagram that raised the question is the first that is kept.
        XCTAssertEqual(server.engine.attached?.heldDatagrams.count, 1)
        let flight = try XCTUnwrap(pair.client.sent.last)
        for _ in 0..<20 { server.receive(flight) }
        XCTAssertEqual(server.engine.attached?.heldDatagrams.count, AttachedAssociation.maximumHeldDatagrams)
        XCTAssertEqual(server.engine.statistics.datagramsDroppedWhileWaiting, 13)
        XCTAssertEqual(server.requests.count, 1, "it is asked once")
        server.give(right)
        try pair.pump()
        XCTAssertEqual(server.engine.attached?.heldDatagrams.count ?? 0, 0)
        XCTAssertEqual(server.eventNames, ["request", "finished"])
        try pair.assertEchoes()
    }

    /// What is kept while the question is open arrives afterwards, in order.
    func testTheRestOfAFlightThatComesWhileWaiting() throws {
        let pair = try waitingServer {
            $0.mtu = 256
            $0.usesGate = false
        }
        let server = try pair.serverPeer()
        XCTAssertGreaterThanOrEqual(server.engine.attached?.heldDatagrams.count ?? 0, 1)
        server.receive([1, 2, 3])
        server.receive(RecordDump.alert(level: 2, code: 40).bytes)
        server.give(right)
        try pair.pump()
        try pair.assertEchoes()
    }

    func testAnswersNobodyWaitsForAreHarmless() throws {
        let pair = try EnginePair(.preSharedKey())
        let answers: [EnginePeer.KeyAnswer] = [
            right, .server(nil), .client(nil), .client(try TestKey.wrong), .server(DtlsSecretBytes(TestKey.wrongBytes)),
        ]
        repeat {
            for side in [pair.client, pair.server].compactMap({ $0 }) where side.engine.attached?.question == nil {
                for answer in answers { side.give(answer) }
            }
        } while try stepOrStart(pair)
        try pair.assertEchoes()
        for answer in answers {
            pair.client.give(answer)
            try pair.serverPeer().give(answer)
        }
        try pair.assertEchoes()
        pair.client.close()
        try pair.pump()
        let events = (pair.client.events.count, try pair.serverPeer().events.count)
        for answer in answers {
            pair.client.give(answer)
            try pair.serverPeer().give(answer)
        }
        XCTAssertEqual(pair.client.events.count, events.0)
        XCTAssertEqual(try pair.serverPeer().events.count, events.1)
    }

    private func stepOrStart(_ pair: EnginePair) throws -> Bool {
        if pair.client.sent.isEmpty {
            pair.start()
            return true
        }
        return try pair.step()
    }

    func testAnAnswerAfterClose() throws {
        let pair = try waitingServer()
        let server = try pair.serverPeer()
        server.close()
        XCTAssertEqual(server.engine.attached?.heldDatagrams.count, 0)
        let sent = server.sent.count
        server.give(right)
        XCTAssertEqual(server.ends, [.closedLocally])
        XCTAssertEqual(server.sent.count, sent)
        XCTAssertFalse(server.engine.isOpen)
    }

    /// The second answer to a question changes nothing.
    func testTheFirstAnswerCounts() throws {
        let pair = try waitingServer()
        let server = try pair.serverPeer()
        server.give(right)
        server.give(.server(nil))
        try pair.pump()
        try pair.assertEchoes()
    }

    /// A question that took longer than the flight's timeout does not make the handshake fail.
    func testAnAnswerAfterTheFlightsTimeout() throws {
        let pair = try waitingServer { $0.retransmission = .quick }
        let server = try pair.serverPeer()
        // The client sends its flight again meanwhile.
        XCTAssertTrue(try pair.run { pair.client.engine.statistics.retransmissions >= 3 })
        server.give(right)
        XCTAssertTrue(try pair.run { pair.isOpen }, pair.story)
        try pair.assertEchoes()
    }

    /// What the application sends from its event handler, at the moment the handshake is finished by an answer, goes
    /// out.
    func testDataRightAfterTheAnswer() throws {
        let pair = try waitingServer()
        let server = try pair.serverPeer()
        server.give(right)
        try server.send([9])
        try pair.pump()
        XCTAssertEqual(pair.client.payloads, [[9]])
    }
}
