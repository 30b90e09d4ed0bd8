import DTLSPrimitives
import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// What an engine makes of a path that carries less than configured, and of a peer that cannot be reached.
final class EnginePathTests: XCTestCase {
    // MARK: The MTU

    func testALowerMTUMakesPayloadsSmaller() throws {
        for suites in [nil, "PSK-AES128-CBC-SHA256"] {
            let pair = try EnginePair(.preSharedKey(suites))
            try pair.connect()
            let engine = pair.client.engine
            let before = engine.maximumPayloadSize
            XCTAssertEqual(engine.mtu, 1_200)
            engine.lowerMTU(to: 600)
            XCTAssertEqual(engine.mtu, 600)
            XCTAssertLessThan(engine.maximumPayloadSize, before)
            XCTAssertGreaterThan(engine.maximumPayloadSize, 500)
            XCTAssertThrowsError(try pair.client.send(Array(repeating: 1, count: engine.maximumPayloadSize + 1))) {
                XCTAssertEqual(($0 as? DtlsError)?.code, .payloadTooLarge)
                XCTAssertEqual(($0 as? DtlsError)?.hint, "split it: the path carries no more")
            }
            try pair.client.send(Array(repeating: 1, count: engine.maximumPayloadSize))
            let datagram = try XCTUnwrap(pair.client.sent.last)
            XCTAssertLessThanOrEqual(datagram.count, 600)
            if suites == nil { XCTAssertEqual(datagram.count, 600, "room is wasted") }
            try pair.assertEchoes()
        }
    }

    func testTheMTUHasAFloorAndNeverRises() throws {
        let pair = try EnginePair(.preSharedKey())
        try pair.connect()
        let engine = pair.client.engine
        let overhead = engine.mtu - engine.maximumPayloadSize
        for (bytes, expected) in [(1_300, 1_200), (700, 700), (900, 700), (-1, 256), (0, 256), (.min, 256)] {
            engine.lowerMTU(to: bytes)
            XCTAssertEqual(engine.mtu, expected)
        }
        XCTAssertEqual(engine.maximumPayloadSize, 256 - overhead)
        try pair.assertEchoes()
        engine.close()
        engine.lowerMTU(to: 1)
    }

    /// A flight that did not fit is cut anew when it is sent again, on both sides and whenever the MTU falls.
    func testARetransmissionFits() throws {
        for isServers in [false, true] {
            var options = try PairOptions.certificates()
            options.retransmission = .quick
            options.clientCertificates = .required
            options.server.trust = try TestIdentity.trust
            options.client.identity = try TestIdentity.largeClient
            let limit = 300
            let pair = try EnginePair(options)
            // How often the flight had been sent again when a datagram was too large.
            var refused: [Int] = []
            let carry: (DtlsEngine?, [UInt8]) -> [UInt8]? = { engine, datagram in
                guard datagram.count > limit else { return datagram }
                refused.append(engine?.statistics.retransmissions ?? -1)
                engine?.lowerMTU(to: limit)
                return nil
            }
            if isServers {
                pair.rewriteToClient = { [unowned pair] in carry(pair.server?.engine, $0) }
            } else {
                pair.rewriteToServer = { [unowned pair] in carry(pair.client.engine, $0) }
            }
            pair.start()
            XCTAssertTrue(try pair.run { pair.isOpen }, pair.story)
            XCTAssertFalse(refused.isEmpty, "nothing was too large")
            XCTAssertEqual(Set(refused).count, 1, "what was sent again was too large again: \(refused)")
            let side = isServers ? try pair.serverPeer() : pair.client
            XCTAssertEqual(side.engine.mtu, limit)
            XCTAssertEqual(side.engine.maximumPayloadSize, limit - 13 - 24)
            try pair.assertEchoes()
        }
    }

    /// What lowers the MTU may be known before anything was sent.
    func testAnMTULoweredBeforeTheStart() throws {
        let pair = try EnginePair(.certificates())
        pair.client.engine.lowerMTU(to: 256)
        pair.start()
        XCTAssertTrue(pair.client.sent.allSatisfy { $0.count <= 256 })
        try pair.pump()
        XCTAssertTrue(pair.isOpen)
        XCTAssertTrue(pair.client.sent.allSatisfy { $0.count <= 256 })
    }

    // MARK: A peer that cannot be reached

    private let refused = DtlsError(.peerUnreachable, phase: .handshake, "refused", systemError: 111)
    private let noRoute = DtlsError(.peerUnreachable, phase: .handshake, "no route", systemError: 113)

    func testAFinalNoteEndsAConnect() throws {
        let pair = try EnginePair(.preSharedKey())
        pair.client.start()
        pair.client.engine.noteUnreachable(refused, isFinal: true, at: .now)
        pair.client.settle()
        XCTAssertEqual(pair.client.failure, refused)
        XCTAssertNil(pair.client.engine.nextDeadline)
    }

    func testANoteBecomesTheReasonWhenTheTimeIsOver() throws {
        let pair = try EnginePair(.preSharedKey())
        pair.client.start()
        pair.client.engine.noteUnreachable(noRoute, isFinal: false, at: .now)
        pair.client.settle()
        XCTAssertEqual(pair.client.ends, [])
        pair.client.handleTimeout(now: .now + .seconds(60))
        XCTAssertEqual(pair.client.failure, noRoute)
    }

    /// A router without a way for a moment, and then the handshake is done.
    func testANoteDoesNotStopAHandshake() throws {
        let pair = try EnginePair(.preSharedKey())
        pair.client.start()
        pair.client.engine.noteUnreachable(noRoute, isFinal: false, at: .now)
        try pair.connect()
        XCTAssertTrue(pair.isOpen)
    }

    /// Anyone can forge an ICMP message. Who has answered, or has come with a cookie, is there.
    func testNoNoteEndsWhatHasBeenAnswered() throws {
        let pair = try EnginePair(.preSharedKey())
        pair.start()
        while !pair.isOpen {
            let isAnswered = pair.client.engine.statistics.datagramsReceived > 0
            pair.server?.engine.noteUnreachable(refused, isFinal: true, at: .now)
            if isAnswered { pair.client.engine.noteUnreachable(refused, isFinal: true, at: .now) }
            guard try pair.step() else { break }
        }
        XCTAssertTrue(pair.isOpen, pair.story)
        for side in [pair.client, try pair.serverPeer()] {
            side.engine.noteUnreachable(refused, isFinal: true, at: .now)
            side.settle()
        }
        XCTAssertTrue(pair.isOpen)
        try pair.assertEchoes()
    }
}
