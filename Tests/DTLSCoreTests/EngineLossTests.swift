import DTLSTestSupport
import Foundation
import XCTest

@testable import DTLSCore

/// Handshakes over links that lose, repeat and reorder.
final class EngineLossTests: XCTestCase {
    /// Runs many handshakes at once and checks that each side of each is open in the end and can talk.
    private func assertAllComplete(
        _ pairs: [EnginePair],
        file: StaticString = #filePath,
        line: UInt = #line
    ) throws {
        for pair in pairs { pair.start() }
        let done = try EnginePair.run(pairs) { $0.isOpen }
        for (seed, pair) in pairs.enumerated() where !pair.isOpen {
            XCTFail("seed \(seed): \(pair.story)", file: file, line: line)
        }
        XCTAssertTrue(done, file: file, line: line)
        for (seed, pair) in pairs.enumerated() {
            pair.toServer.conditions = LinkConditions()
            pair.toClient.conditions = LinkConditions()
            pair.rewriteToServer = { $0 }
            pair.rewriteToClient = { $0 }
            try pair.assertEchoes("seed \(seed)", file: file, line: line)
        }
    }

    private func pairs(_ count: Int, _ make: () throws -> PairOptions) throws -> [EnginePair] {
        try (0..<count).map { seed in
            var options = try make()
            options.retransmission = .brisk
            options.seed = UInt64(seed)
            return try EnginePair(options)
        }
    }

    func testHandshakesThroughLossDuplicationAndReordering() throws {
        let conditions = LinkConditions(loss: 0.2, duplication: 0.2, reordering: 0.2)
        let pairs = try pairs(140) {
            var options = try PairOptions.preSharedKey()
            options.link = conditions
            return options
        }
        try assertAllComplete(pairs)
        XCTAssertGreaterThan(pairs.map { $0.toServer.counts.lost + $0.toClient.counts.lost }.reduce(0, +), 100)
        XCTAssertGreaterThan(pairs.map { $0.client.engine.statistics.retransmissions }.reduce(0, +), 50)
    }

    /// Flights of several datagrams, so that the parts of a message change places as well.
    func testCertificateHandshakesThroughLossDuplicationAndReordering() throws {
        let conditions = LinkConditions(loss: 0.2, duplication: 0.2, reordering: 0.3)
        let pairs = try pairs(60) {
            var options = try PairOptions.certificates()
            options.client.identity = try TestIdentity.client
            options.server.trust = try TestIdentity.trust
            options.clientCertificates = .required
            options.mtu = 548
            options.link = conditions
            return options
        }
        try assertAllComplete(pairs)
    }

    /// What is lost, cut short or damaged on its way is what was lost.
    func testFault20HandshakesThroughTruncation() throws {
        let pairs = try pairs(60) {
            var options = try PairOptions.preSharedKey()
            options.link = LinkConditions(truncation: 0.2)
            return options
        }
        try assertAllComplete(pairs)
    }

    /// Each single datagram of a handshake lost once, then twice: nothing deadlocks.
    func testFault13EachDatagramLostOnceOrTwice() throws {
        var pairs: [EnginePair] = []
        for losses in [1, 2] {
            for index in 0..<6 {
                for direction in [DtlsRole.client, .server] {
                    var options = try PairOptions.certificates()
                    options.retransmission = .brisk
                    let pair = try EnginePair(options)
                    var seen = 0
                    var lost = 0
                    let loses: ([UInt8]) -> [UInt8]? = { datagram in
                        defer { seen += 1 }
                        guard seen >= index, lost < losses else { return datagram }
                        lost += 1
                        return nil
                    }
                    switch direction {
                    case .client: pair.rewriteToServer = loses
                    case .server: pair.rewriteToClient = loses
                    }
                    pairs.append(pair)
                }
            }
        }
        try assertAllComplete(pairs)
    }

    /// The last flight is sent again when the client repeats its own.
    func testALostLastFlightIsAnsweredAgain() throws {
        var options = try PairOptions.preSharedKey()
        // Long enough that nothing is sent again by itself before the flight is lost.
        options.client.retransmission.initialTimeout = .milliseconds(300)
        let pair = try EnginePair(options)
        pair.start()
        while pair.server?.engine.isOpen != true, try pair.step() {}
        XCTAssertEqual(pair.server?.engine.isOpen, true, pair.story)
        let server = try pair.serverPeer()
        let flight = server.takeOutbox()
        XCTAssertEqual(flight.count, 1)
        XCTAssertFalse(pair.client.engine.isOpen)
        let sent = server.sent.count
        XCTAssertTrue(try pair.run { pair.client.engine.isOpen }, pair.story)
        XCTAssertEqual(server.sent.count, sent + pair.client.engine.statistics.retransmissions)
        let again = try XCTUnwrap(server.sent.last.flatMap { RecordDump.parse($0) })
        XCTAssertEqual(again.map(\.contentType), [20, 22], "the flight in one datagram")
        XCTAssertEqual(server.eventNames, ["request", "finished"])
        try pair.assertEchoes()
    }

    /// The kinds of the records of a datagram, and of the messages in them, but for the hello, which may be sent again
    /// together with what follows it; `nil` where a record was cut.
    private func types(_ datagram: [UInt8]) -> [[UInt8?]]? {
        RecordDump.parse(datagram)?.filter { $0.handshakeType != 1 }.map { [$0.contentType, $0.handshakeType] }
    }

    /// A flight that is sent again needs no more datagrams than the first time, each of them whole.
    func testARetransmittedFlightIsCoalesced() throws {
        var mutual = try PairOptions.certificates()
        mutual.client.identity = try TestIdentity.client
        mutual.server.trust = try TestIdentity.trust
        mutual.clientCertificates = .required
        for var options in [try PairOptions.preSharedKey(), mutual] {
            options.retransmission = .quick
            options.usesGate = false
            let pair = try EnginePair(options)
            let server = try pair.serverPeer()
            pair.client.start()
            server.start()
            for datagram in pair.client.takeOutbox() { server.receive(datagram) }
            let flight = server.takeOutbox()
            XCTAssertTrue(server.passTime { server.engine.statistics.retransmissions == 1 })
            let again = server.takeOutbox()
            XCTAssertEqual(again.count, flight.count)
            XCTAssertEqual(again.map { types($0) }, flight.map { types($0) })

            for datagram in again { pair.client.receive(datagram) }
            let answer = pair.client.takeOutbox()
            let before = pair.client.engine.statistics.retransmissions
            XCTAssertTrue(pair.client.passTime { pair.client.engine.statistics.retransmissions > before })
            let repeated = pair.client.takeOutbox()
            XCTAssertEqual(repeated.count, answer.count)
            XCTAssertEqual(repeated.map { types($0) }, answer.map { types($0) })
            for datagram in repeated { server.receive(datagram) }
            try pair.pump()
            try pair.assertEchoes()
        }
    }

    /// OpenSSL looks at its timer whenever it reads, so a datagram that comes late is answered by the flight before it
    /// is read.
    func testARetransmissionThatALateDatagramSetsOffIsCounted() throws {
        var options = try PairOptions.preSharedKey()
        options.retransmission = .quick
        options.usesGate = false
        let pair = try EnginePair(options)
        let server = try pair.serverPeer()
        pair.start()
        XCTAssertTrue(try pair.step())
        // OpenSSL reads it, and drops it as one that comes too early.
        let late = RecordDump(contentType: 20, sequenceNumber: 9, body: [1]).bytes
        let deadline = try XCTUnwrap(server.engine.nextDeadline)
        while ContinuousClock.now < deadline + .milliseconds(5) { usleep(1_000) }
        let sent = server.sent.count
        server.receive(late)
        XCTAssertGreaterThan(server.sent.count, sent, "the flight was not sent again; the test proves nothing")
        XCTAssertEqual(server.engine.statistics.retransmissions, 1)
    }
}
