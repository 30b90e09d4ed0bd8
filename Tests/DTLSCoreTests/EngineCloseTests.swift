import DTLSTestSupport
import XCTest

@testable import DTLSCore

final class EngineCloseTests: XCTestCase {
    /// One side closes, the other learns it and answers, and both know why it ended (B8).
    func testCloseNotifyBothWays() throws {
        for closer in [DtlsRole.client, .server] {
            let pair = try EnginePair.connected(.preSharedKey())
            let server = try pair.serverPeer()
            let (from, to) = closer == .client ? (pair.client, server) : (server, pair.client)
            let sent = (from.sent.count, to.sent.count)
            from.close()
            XCTAssertEqual(from.ends, [.closedLocally])
            XCTAssertEqual(from.engine.closeReason, .closedLocally)
            XCTAssertEqual(from.sent.count, sent.0 + 1)
            let notify = try XCTUnwrap(from.sent.last.flatMap { RecordDump.parse($0) })
            XCTAssertEqual(notify.map(\.contentType), [21])
            XCTAssertEqual(notify.map(\.epoch), [1], "it is sealed")

            try pair.pump()
            XCTAssertEqual(to.ends, [.closedByPeer])
            XCTAssertEqual(to.engine.closeReason, .closedByPeer)
            XCTAssertFalse(to.engine.isOpen)
            XCTAssertEqual(to.sent.count, sent.1 + 1, "the answer")
            XCTAssertEqual(RecordDump.parse(try XCTUnwrap(to.sent.last))?.map(\.contentType), [21])
            XCTAssertEqual(from.sent.count, sent.0 + 1, "no answer to the answer")
        }
    }

    func testCloseTwiceIsCloseOnce() throws {
        let pair = try EnginePair.connected(.preSharedKey())
        pair.client.close()
        let sent = pair.client.sent.count
        pair.client.close()
        try pair.pump()
        pair.client.close()
        try pair.serverPeer().close()
        XCTAssertEqual(pair.client.sent.count, sent)
        XCTAssertEqual(pair.client.ends, [.closedLocally])
        XCTAssertEqual(try pair.serverPeer().ends, [.closedByPeer])
    }

    /// When both close at once, each has closed by itself.
    func testBothCloseAtOnce() throws {
        let pair = try EnginePair.connected(.preSharedKey())
        pair.client.close()
        try pair.serverPeer().close()
        try pair.pump()
        XCTAssertEqual(pair.client.ends, [.closedLocally])
        XCTAssertEqual(try pair.serverPeer().ends, [.closedLocally])
    }

    func testNothingHappensAfterTheEnd() throws {
        let pair = try EnginePair.connected(.preSharedKey())
        let server = try pair.serverPeer()
        try server.send([1])
        try server.send([2])
        let late = server.takeOutbox()
        pair.client.close()
        try pair.pump()
        let before = (pair.client.sent.count, pair.client.events.count)
        for datagram in late + server.sent + pair.client.sent { pair.client.receive(datagram) }
        pair.client.handleTimeout(now: .now + .seconds(3_600))
        pair.client.start()
        pair.client.give(.client(try TestKey.right))
        XCTAssertEqual(pair.client.sent.count, before.0)
        XCTAssertEqual(pair.client.events.count, before.1)
        XCTAssertEqual(pair.client.payloads, [])
        XCTAssertNil(pair.client.engine.nextDeadline)
    }

    func testSendingBeforeAndAfter() throws {
        let pair = try EnginePair(.preSharedKey())
        let early = assertThrows(.connectionClosed) { try pair.client.send([1]) }
        XCTAssertEqual(early?.phase, .handshake)
        pair.start()
        XCTAssertEqual(assertThrows(.connectionClosed) { try pair.client.send([1]) }?.phase, .handshake)
        try pair.pump()
        try pair.assertEchoes("a send that came too early harms nothing")

        pair.client.close()
        try pair.pump()
        let late = assertThrows(.connectionClosed) { try pair.client.send([1]) }
        XCTAssertEqual(late?.phase, .established)
        XCTAssertEqual(late?.message, "the connection was closed by this side")
        let refused = assertThrows(.connectionClosed) { try pair.serverPeer().send([1]) }
        XCTAssertEqual(refused?.message, "the connection was closed by the peer")
    }

    /// Whoever sends after a failure is told of the failure itself.
    func testSendingAfterAFailureTellsTheFailure() throws {
        let pair = try EnginePair(.certificates(TestIdentity.expired))
        try pair.connect()
        let error = assertThrows(.certificateRejected) { try pair.client.send([1]) }
        XCTAssertEqual(error, pair.client.failure)
    }

    /// What came before the end may still be taken after it.
    func testDataBeforeTheEndIsStillHandedOut() throws {
        let pair = try EnginePair.connected(.preSharedKey())
        let engine = try pair.serverPeer().engine
        try pair.client.send([1])
        pair.client.close()
        for datagram in pair.client.takeOutbox() { engine.receive(datagram.span.bytes) }
        XCTAssertEqual(engine.closeReason, .closedByPeer)
        var payloads: [[UInt8]] = []
        engine.drainApplicationData { span in payloads.append(span.withUnsafeBytes { Array($0) }) }
        XCTAssertEqual(payloads, [[1]])
    }

    func testCloseDuringTheHandshakeTellsNobody() throws {
        let pair = try EnginePair(.preSharedKey())
        pair.client.start()
        pair.client.close()
        XCTAssertEqual(pair.client.sent.count, 1, "the hello and nothing else")
        XCTAssertEqual(pair.client.ends, [.closedLocally])
        XCTAssertNil(pair.client.engine.nextDeadline)
    }

    func testCloseBeforeTheStart() throws {
        let pair = try EnginePair(.preSharedKey())
        pair.client.close()
        pair.client.start()
        XCTAssertEqual(pair.client.sent, [])
        XCTAssertEqual(pair.client.eventNames, ["closed: closed by this side"])
    }

    /// An association whose place was taken says nothing to the peer.
    func testAbandon() throws {
        let pair = try EnginePair.connected(.preSharedKey())
        let server = try pair.serverPeer()
        let sent = server.sent.count
        server.engine.abandon()
        server.settle()
        XCTAssertEqual(server.ends, [.replacedByPeer])
        XCTAssertEqual(server.sent.count, sent)
    }

    /// Engines may be dropped in any state: OpenSSL still talks to the datagram BIO while an `SSL` is freed in its
    /// handshake.
    func testEnginesMayBeDroppedInAnyState() throws {
        for steps in 0..<8 {
            for options in [try PairOptions.preSharedKey(), try .certificates()] {
                let pair = try EnginePair(options)
                pair.start()
                for _ in 0..<steps { _ = try pair.step() }
            }
        }
        try EnginePair.connected(.preSharedKey()).assertEchoes()
    }

    /// What OpenSSL calls back into lives as long as the `SSL`, whoever else lets go of it.
    func testTheRecordsKeepAliveWhatOpenSSLCallsBackInto() throws {
        let context = try DtlsEngineContext(client: DtlsConfiguration(), usesPreSharedKeys: true)
        weak var weakBIO: DatagramBIO?
        weak var weakState: CallbackState?
        func make() throws -> AttachedRecords {
            let bio = DatagramBIO(mtu: 1_200, isIPv6: false)
            let state = CallbackState(context: context)
            weakBIO = bio
            weakState = state
            return try AttachedRecords(context.makeSSL(), bio: bio, callbacks: state)
        }
        func drive(_ records: borrowing AttachedRecords) {
            guard case .waits = records.perform(.handshake) else { return XCTFail("a hello was expected") }
            XCTAssertEqual(weakBIO?.outbound.count, 1)
            XCTAssertNotNil(weakState)
        }
        do {
            let records = try make()
            drive(records)
        }
        XCTAssertNil(weakBIO)
        XCTAssertNil(weakState)
    }
}
