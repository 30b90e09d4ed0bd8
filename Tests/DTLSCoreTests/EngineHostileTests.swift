import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// What anyone can send from the peer's address harms nothing.
final class EngineHostileTests: XCTestCase {
    /// The kinds of handshake that are attacked.
    private func kinds() throws -> [PairOptions] {
        var mutual = try PairOptions.certificates()
        mutual.client.identity = try TestIdentity.client
        mutual.server.trust = try TestIdentity.trust
        mutual.clientCertificates = .required
        var kinds = [try PairOptions.preSharedKey(), mutual, try .preSharedKey("PSK-AES128-CBC-SHA256")]
        for index in kinds.indices { kinds[index].usesGate = false }
        return kinds
    }

    /// Runs a handshake, calls `attack` with either side before each datagram and once more when it is open, and checks
    /// that the association works in the end.
    private func attackInEveryState(
        _ options: PairOptions,
        file: StaticString = #filePath,
        line: UInt = #line,
        _ attack: (EnginePeer, String) throws -> Void
    ) throws {
        let pair = try EnginePair(options)
        pair.start()
        let server = try pair.serverPeer()
        var state = 0
        repeat {
            try attack(pair.client, "client in state \(state)")
            try attack(server, "server in state \(state)")
            state += 1
        } while try pair.step()
        XCTAssertGreaterThan(state, 3, file: file, line: line)
        try pair.assertEchoes(file: file, line: line)
        try attack(pair.client, "open client")
        try attack(server, "open server")
        try pair.assertEchoes(file: file, line: line)
        XCTAssertEqual(pair.client.ends.count + server.ends.count, 0, pair.story, file: file, line: line)
    }

    /// (B5)
    func testShortDatagramsInEveryState() throws {
        for options in try kinds() {
            try attackInEveryState(options) { side, state in
                for datagram in HostileDatagrams.short(seed: 3) {
                    let dropped = side.engine.statistics.recordsDropped
                    side.receive(datagram)
                    XCTAssertEqual(side.engine.statistics.recordsDropped, dropped + 1, "\(state): \(datagram)")
                }
            }
        }
    }

    /// OpenSSL would end its handshake, or even an open association, for most of these.
    func testRecordsThatAreDroppedInEveryState() throws {
        for options in try kinds() {
            try attackInEveryState(options) { side, state in
                for (name, datagram) in HostileDatagrams.droppedInEveryState {
                    let dropped = side.engine.statistics.recordsDropped
                    side.receive(datagram)
                    XCTAssertGreaterThan(side.engine.statistics.recordsDropped, dropped, "\(state): \(name)")
                }
                XCTAssertEqual(side.payloads.filter { $0 == Array("hello".utf8) }, [], "data in clear was delivered")
            }
        }
    }

    /// Alerts in clear end no handshake that goes on, and no open association at all.
    func testAlertsInClearInEveryState() throws {
        for options in try kinds() {
            for (level, code) in [(2, 40), (2, 0), (1, 0), (1, 90), (2, 115), (2, 255), (0, 0), (3, 40)]
                as [(UInt8, UInt8)]
            {
                try attackInEveryState(options) { side, _ in
                    side.receive(RecordDump.alert(level: level, code: code).bytes)
                }
            }
        }
    }

    /// Forged records of the next epoch, as long as real ones, are dropped wherever the keys are not known or do not
    /// fit.
    func testForgedSealedRecordsInEveryState() throws {
        var generator = SeededGenerator(seed: 4)
        for options in try kinds() {
            var number: UInt64 = 0
            try attackInEveryState(options) { side, state in
                // More would fill up what a side keeps until its handshake ends; see the test below.
                for type in [20, 21, 22, 23] as [UInt8] where !state.contains("open") ? type == 22 : true {
                    number += 1
                    let body = generator.bytes(Int.random(in: 24...100, using: &generator))
                    side.receive(
                        RecordDump(contentType: type, epoch: 1, sequenceNumber: number + 1_000, body: body).bytes
                    )
                }
            }
        }
    }

    /// Sends 200 forged records of the next epoch to both sides of a handshake, which then must complete.
    private func assertAFloodDelaysAtMost(_ options: PairOptions, file: StaticString = #filePath, line: UInt = #line)
        throws
    {
        var options = options
        options.retransmission = .quick
        options.usesGate = false
        var generator = SeededGenerator(seed: 5)
        let pair = try EnginePair(options)
        pair.start()
        for index in 0..<200 {
            let body = generator.bytes(40)
            let forged = RecordDump(contentType: 22, epoch: 1, sequenceNumber: UInt64(index), body: body).bytes
            pair.client.receive(forged)
            try pair.serverPeer().receive(forged)
        }
        // So many are kept, and so many more after each timeout that came meanwhile.
        let statistics = pair.client.engine.statistics
        let passed = EarlyRecords.handshakeCount * (statistics.retransmissions + 1)
        XCTAssertGreaterThanOrEqual(statistics.recordsDropped, 200 - passed, file: file, line: line)
        XCTAssertTrue(try pair.run { pair.isOpen }, pair.story, file: file, line: line)
        try pair.assertEchoes(file: file, line: line)
    }

    /// A flood of forged records of the next epoch uses up what may wait for the handshake's end, but only until the
    /// next timeout.
    func testAFloodOfForgedSealedRecordsDelaysAtMost() throws {
        try assertAFloodDelaysAtMost(.certificates())
    }

    /// Such records came before the key was in question, so they say nothing about it.
    func testAFloodOfForgedSealedRecordsIsNotTakenForAWrongKey() throws {
        try assertAFloodDelaysAtMost(.preSharedKey())
    }

    /// 10,000 random, cut, grown, flipped and joined datagrams against both sides of open associations.
    func testMutatedDatagramsAgainstOpenAssociations() throws {
        for (index, options) in try kinds().enumerated() {
            let seed = UInt64(100 + index)
            var generator = SeededGenerator(seed: seed)
            let pair = try EnginePair.connected(options)
            let server = try pair.serverPeer()
            try pair.assertEchoes()
            let payloads = (pair.client.payloads.count, server.payloads.count)
            let samples = pair.client.sent + server.sent
            for _ in 0..<3_400 {
                let datagram = HostileDatagrams.mutation(of: samples, &generator)
                pair.client.receive(datagram)
                server.receive(datagram)
            }
            XCTAssertEqual(pair.client.payloads.count, payloads.0, "seed \(seed): something forged was delivered")
            XCTAssertEqual(server.payloads.count, payloads.1, "seed \(seed): something forged was delivered")
            try pair.assertEchoes("seed \(seed)")
        }
    }

    /// Random bytes between the datagrams of a handshake, 10,000 in all, and not one handshake fails.
    func testRandomDatagramsDuringHandshakes() throws {
        var received = 0
        for seed in UInt64(0)..<45 {
            var generator = SeededGenerator(seed: seed)
            for options in try kinds().prefix(2) {
                try attackInEveryState(options) { side, _ in
                    for _ in 0..<10 {
                        var datagram = generator.bytes(Int.random(in: 0...200, using: &generator))
                        // Half of them pass for records of DTLS 1.2 of a kind that is none.
                        if datagram.count > 13, generator.happens(0.5) {
                            datagram.replaceSubrange(0..<5, with: [datagram[0] | 0x40, 0xFE, 0xFD, 0, datagram[4] & 1])
                            datagram.replaceSubrange(11..<13, with: [0, UInt8(datagram.count - 13)])
                        }
                        side.receive(datagram)
                        received += 1
                    }
                }
            }
        }
        XCTAssertGreaterThan(received, 10_000)
    }

    /// A changed copy of a handshake's own datagrams may well end that handshake, which nothing protects. It must do so
    /// in order: with one event, with an error that says so, and without harm to the next one.
    func testMutatedDatagramsDuringHandshakes() throws {
        var ended = 0
        var finished = 0
        for seed in UInt64(0)..<60 {
            var generator = SeededGenerator(seed: seed)
            for var options in try kinds() {
                // Without a gate the first changed hello would take the genuine one's place.
                options.usesGate = true
                let pair = try EnginePair(options)
                pair.start()
                repeat {
                    let samples = pair.client.sent + (pair.server?.sent ?? [])
                    for side in [pair.client, pair.server].compactMap({ $0 }) where generator.happens(0.3) {
                        side.receive(HostileDatagrams.mutation(of: samples, &generator))
                    }
                } while try pair.step()
                for side in [pair.client, pair.server].compactMap({ $0 }) {
                    XCTAssertLessThanOrEqual(side.ends.count, 1, "seed \(seed): \(pair.story)")
                    if side.ends.count == 1 {
                        ended += 1
                        XCTAssertNotNil(side.failure, "seed \(seed): \(pair.story)")
                        XCTAssertNotEqual(side.failure?.code, .internalFailure, "seed \(seed): \(pair.story)")
                        XCTAssertNil(side.engine.nextDeadline)
                    }
                }
                if pair.isOpen {
                    finished += 1
                    try pair.assertEchoes("seed \(seed)")
                }
            }
        }
        // Or it would prove nothing.
        XCTAssertGreaterThan(ended, 3)
        XCTAssertGreaterThan(finished, 50)
    }

    /// Neither side answers strangers' datagrams once it is open: nothing in clear draws an answer.
    func testAnOpenAssociationAnswersNothingInClear() throws {
        let pair = try EnginePair.connected(.certificates())
        let server = try pair.serverPeer()
        let sent = (pair.client.sent.count, server.sent.count)
        for datagram in pair.client.sent + server.sent + pair.gateReplies {
            let clear = (RecordDump.parse(datagram) ?? []).filter { $0.epoch == 0 }.flatMap(\.bytes)
            pair.client.receive(clear)
            server.receive(clear)
        }
        XCTAssertEqual(pair.client.sent.count, sent.0)
        XCTAssertEqual(server.sent.count, sent.1)
        try pair.assertEchoes()
    }
}
