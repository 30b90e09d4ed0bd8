import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// Payloads through an open association.
final class EngineDataTests: XCTestCase {
    /// N records in one datagram give N payloads at once, not one now and the others with later datagrams (B2).
    func testSeveralRecordsInOneDatagram() throws {
        let pair = try EnginePair.connected(.preSharedKey())
        let server = try pair.serverPeer()
        for (from, to) in [(pair.client, server), (server, pair.client)] {
            let payloads: [[UInt8]] = (1...5).map { [UInt8](repeating: UInt8($0), count: $0 * 10) }
            for payload in payloads { try from.send(payload) }
            let datagrams = from.takeOutbox()
            XCTAssertEqual(datagrams.count, 5, "each payload is a datagram of its own")
            let events = to.events.count
            to.receive(Array(datagrams.joined()))
            XCTAssertEqual(to.payloads, payloads)
            XCTAssertEqual(to.eventNames[events...], ["data"], "one event is enough")
            XCTAssertEqual(to.engine.statistics.payloadsReceived, 5)
        }
    }

    /// What is sent in one piece arrives in one piece, whatever its size (B1).
    func testBoundariesAreKept() throws {
        var generator = SeededGenerator(seed: 11)
        for options in [try PairOptions.preSharedKey(), try .certificates()] {
            let pair = try EnginePair.connected(options)
            let server = try pair.serverPeer()
            for (from, to) in [(pair.client, server), (server, pair.client)] {
                var payloads: [[UInt8]] = []
                for _ in 0..<100 {
                    let count = Int.random(in: 1...from.engine.maximumPayloadSize, using: &generator)
                    let payload = generator.bytes(count)
                    payloads.append(payload)
                    try from.send(payload)
                }
                try pair.pump()
                XCTAssertTrue(to.payloads == payloads)
            }
            for datagram in pair.client.sent + server.sent {
                XCTAssertLessThanOrEqual(datagram.count, 1_200)
                XCTAssertNotNil(RecordDump.parse(datagram))
            }
        }
    }

    func testTheServerMaySpeakFirst() throws {
        let pair = try EnginePair.connected(.preSharedKey())
        try pair.serverPeer().send([1, 2, 3])
        try pair.pump()
        XCTAssertEqual(pair.client.payloads, [[1, 2, 3]])
    }

    /// Carries a handshake to where the server is finished and the client waits for the last flight.
    private func untilTheServerIsOpen(_ options: PairOptions) throws -> EnginePair {
        let pair = try EnginePair(options)
        pair.start()
        while pair.server?.engine.isOpen != true {
            guard try pair.step() else { throw XCTSkip("the handshake stopped: \(pair.story)") }
        }
        XCTAssertFalse(pair.client.engine.isOpen)
        return pair
    }

    /// Data in the datagram of the Finished, and behind it, is delivered with the handshake's end.
    func testDataRightBehindTheFinished() throws {
        let pair = try untilTheServerIsOpen(.preSharedKey())
        let server = try pair.serverPeer()
        try server.send([1])
        try server.send([2])
        pair.client.receive(Array(server.takeOutbox().joined()))
        XCTAssertEqual(pair.client.eventNames, ["finished", "data"])
        XCTAssertEqual(pair.client.payloads, [[1], [2]])
        try pair.assertEchoes()
    }

    /// Data that overtook the Finished is delivered with the handshake's end, a large payload as well as a small one.
    func testDataThatOvertakesTheFinished() throws {
        var options = try PairOptions.preSharedKey()
        options.mtu = 20_000
        let pair = try untilTheServerIsOpen(options)
        let server = try pair.serverPeer()
        let payloads = [[UInt8](repeating: 1, count: 16_384), [2], [UInt8](repeating: 3, count: 1_000)]
        let flight = server.takeOutbox()
        for payload in payloads { try server.send(payload) }
        for datagram in server.takeOutbox() + flight { pair.client.receive(datagram) }
        XCTAssertEqual(pair.client.eventNames, ["finished", "data"])
        XCTAssertTrue(pair.client.payloads == payloads)
        try pair.assertEchoes()
    }

    /// Only so many records wait for the handshake's end; OpenSSL keeps a buffer for each of them.
    func testEarlyDataIsBounded() throws {
        let pair = try untilTheServerIsOpen(.preSharedKey())
        let server = try pair.serverPeer()
        let flight = server.takeOutbox()
        for byte in 0..<40 { try server.send([UInt8(byte)]) }
        for datagram in server.takeOutbox() { pair.client.receive(datagram) }
        XCTAssertEqual(pair.client.engine.statistics.recordsDropped, 40 - RecordFilter.maximumEarlyRecords)
        XCTAssertEqual(pair.client.payloads, [])
        XCTAssertEqual(flight.count, 1)
    }

    func testTheLargestPayloadFillsTheMTUAndNoMore() throws {
        let suites = ["PSK-AES128-GCM-SHA256": 24, "PSK-AES128-CCM8": 16, "PSK-CHACHA20-POLY1305": 16]
        for (suite, overhead) in suites {
            for mtu in [256, 1_199, 1_200, 1_452, 9_000] {
                var options = try PairOptions.preSharedKey(suite)
                options.mtu = mtu
                options.usesGate = mtu > 256
                let pair = try EnginePair.connected(options)
                let size = pair.client.engine.maximumPayloadSize
                XCTAssertEqual(size, mtu - 13 - overhead, suite)
                let largest = [UInt8](repeating: 9, count: size)
                let before = pair.client.sent.count
                try pair.client.send(largest)
                XCTAssertEqual(pair.client.sent[before...].map(\.count), [mtu], suite)
                let error = assertThrows(.payloadTooLarge, suite) { try pair.client.send(largest + [9]) }
                XCTAssertEqual(error?.phase, .established)
                XCTAssertEqual(pair.client.sent.count, before + 1, "nothing of it was sent")
                try pair.pump()
                XCTAssertTrue(try pair.serverPeer().payloads == [largest], suite)
                try pair.assertEchoes("a payload that is too large harms nothing: \(suite)")
            }
        }
    }

    /// 16 KiB is the most that a record carries, however large the MTU is (B14).
    func testTheLargestRecord() throws {
        for suite in ["PSK-AES128-GCM-SHA256", "PSK-CHACHA20-POLY1305"] {
            var options = try PairOptions.preSharedKey(suite)
            options.mtu = 65_507
            let pair = try EnginePair.connected(options)
            let server = try pair.serverPeer()
            XCTAssertEqual(pair.client.engine.maximumPayloadSize, 16_384)
            let largest = [UInt8](repeating: 5, count: 16_384)
            for (from, to) in [(pair.client, server), (server, pair.client)] {
                try from.send(largest)
                try pair.pump()
                XCTAssertTrue(to.payloads == [largest])
                assertThrows(.payloadTooLarge) { try from.send(largest + [0]) }
                assertThrows(.payloadTooLarge) { try from.send([UInt8](repeating: 0, count: 70_000)) }
            }
            // Two of them in one datagram are larger than OpenSSL's read buffer.
            try pair.client.send(largest)
            try pair.client.send(largest)
            try pair.client.send([1])
            server.receive(Array(pair.client.takeOutbox().joined()))
            XCTAssertEqual(server.payloads.dropFirst().map(\.count), [16_384, 16_384, 1])
            try pair.assertEchoes()
        }
    }

    func testAnEmptyPayloadIsRefusedAndHarmless() throws {
        let pair = try EnginePair.connected(.preSharedKey())
        let before = pair.client.sent.count
        let error = assertThrows(.unsupported) { try pair.client.send([]) }
        let range = "1 to \(pair.client.engine.maximumPayloadSize) bytes"
        XCTAssertEqual(error?.message.hasSuffix(range), true, "\(String(describing: error))")
        XCTAssertEqual(pair.client.sent.count, before)
        XCTAssertEqual(pair.client.engine.statistics.payloadsSent, 0)
        try pair.assertEchoes()
    }

    func testAReplayIsDeliveredOnce() throws {
        let pair = try EnginePair.connected(.preSharedKey())
        let server = try pair.serverPeer()
        for byte: UInt8 in 1...3 { try pair.client.send([byte]) }
        let datagrams = pair.client.takeOutbox()
        for _ in 0..<3 {
            for datagram in datagrams.reversed() { server.receive(datagram) }
            server.receive(Array(datagrams.joined()))
        }
        XCTAssertEqual(server.payloads, [[3], [2], [1]])
        try pair.assertEchoes()
    }

    /// Datagrams may change places within the window of 64 (RFC 6347 §4.1.2.6); what is older is dropped.
    func testReorderedDatagrams() throws {
        let pair = try EnginePair.connected(.preSharedKey())
        let server = try pair.serverPeer()
        for byte: UInt8 in 0..<100 { try pair.client.send([byte]) }
        for datagram in pair.client.takeOutbox().reversed() { server.receive(datagram) }
        XCTAssertEqual(server.payloads, (36..<100).reversed().map { [UInt8($0)] })
        try pair.assertEchoes()
    }

    func testStatisticsCountWhatGoesThrough() throws {
        let pair = try EnginePair.connected(.preSharedKey())
        let server = try pair.serverPeer()
        for byte: UInt8 in 1...4 { try pair.client.send([byte]) }
        try pair.pump()
        XCTAssertEqual(pair.client.engine.statistics.payloadsSent, 4)
        XCTAssertEqual(server.engine.statistics.payloadsReceived, 4)
        XCTAssertEqual(pair.client.engine.statistics.datagramsSent, pair.client.sent.count)
        XCTAssertEqual(pair.client.sent.count, 7)
        // The gate has taken the first two hellos.
        XCTAssertEqual(server.engine.statistics.datagramsReceived, 5)
        XCTAssertEqual(server.engine.statistics.recordsDropped, 0)
        XCTAssertEqual(server.engine.statistics.retransmissions, 0)
        XCTAssertEqual(server.engine.statistics.payloadsDropped, 0)
    }

    /// Time does not matter to an open association.
    func testAnOpenAssociationHasNoDeadline() throws {
        let pair = try EnginePair.connected(.preSharedKey())
        XCTAssertNil(pair.nextDeadline)
        for side in [pair.client, try pair.serverPeer()] {
            let before = side.sent.count
            side.handleTimeout(now: .now + .seconds(86_400))
            XCTAssertEqual(side.sent.count, before)
            XCTAssertNil(side.engine.nextDeadline)
        }
        try pair.assertEchoes()
        XCTAssertNil(pair.nextDeadline)
    }
}
