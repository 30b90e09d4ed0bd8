import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// What kills OpenSSL's handshakes and associations from afar, sent from the peer's own address before and after each
/// record: none ends anything, and each is counted. (Fragments that claim too much are in RecordFilterTests.)
final class ForgeryTests: XCTestCase {
    /// Authenticated encryption with and without certificates, and CBC.
    private func kinds() throws -> [(String, PairOptions)] {
        var mutual = try PairOptions.certificates()
        mutual.client.identity = try TestIdentity.client
        mutual.server.trust = try TestIdentity.trust
        mutual.clientCertificates = .required
        return [
            ("GCM", try .preSharedKey("PSK-AES128-GCM-SHA256")), ("CCM8", try .preSharedKey("PSK-AES128-CCM8")),
            ("mutual", mutual), ("CBC", try .preSharedKey("PSK-AES128-CBC-SHA256")),
            ("CBC, certificates", try .certificates(nil, "ECDHE-ECDSA-AES256-SHA384")),
        ]
    }

    /// Nothing is lost, so that no timer has a part in it, however slow the machine is: each record comes once.
    private static let timeless = DtlsRetransmissionPolicy(
        initialTimeout: .seconds(60),
        maximumTimeout: .seconds(60),
        adaptsToRoundTrip: false
    )

    /// Makes the datagrams of one attack, from a sequence number on; fewer while the handshake goes on.
    private typealias Forgery = (_ number: UInt64, _ isOpen: Bool) -> [[UInt8]]

    /// Attacks both sides before each record of a handshake, when it is open, and when it has been closed.
    private func attackInEveryState(
        _ forge: Forgery,
        file: StaticString = #filePath,
        line: UInt = #line
    ) throws {
        for (kind, var options) in try kinds() {
            options.retransmission = Self.timeless
            let handshake = try RecordByRecord(options)
            var number: UInt64 = 1_000
            var forged = 0
            func attack(_ state: String) {
                for (name, side) in handshake.sides {
                    for datagram in forge(number, handshake.isOpen) {
                        number += 1
                        forged += 1
                        side.receive(datagram)
                        XCTAssertEqual(side.ends, [], "\(kind), \(state): the \(name)", file: file, line: line)
                    }
                }
            }
            handshake.start()
            var state = 0
            repeat {
                attack("before record \(state)")
                state += 1
            } while handshake.step()
            XCTAssertGreaterThan(state, 8, file: file, line: line)
            XCTAssertTrue(handshake.isOpen, "\(kind): \(handshake.story)", file: file, line: line)
            attack("open")
            XCTAssertTrue(try handshake.echoes(), "\(kind)", file: file, line: line)
            attack("open, with data sent")
            XCTAssertTrue(try handshake.echoes(), "\(kind)", file: file, line: line)
            // What was opened, and what was dropped, is all that came.
            let dropped = handshake.sides.reduce(0) { $0 + $1.peer.engine.statistics.drops.total }
            XCTAssertEqual(dropped, forged, "\(kind): not each was counted", file: file, line: line)

            handshake.client.close()
            let sent = handshake.client.sent.count
            for datagram in forge(number, true) {
                handshake.client.receive(datagram)
                handshake.server.receive(datagram)
            }
            XCTAssertEqual(handshake.client.sent.count, sent, "\(kind): a closed side answered", file: file, line: line)
            XCTAssertTrue(handshake.server.engine.isOpen, "\(kind): \(handshake.story)", file: file, line: line)
            while handshake.step() {}
            for datagram in forge(number, true) { handshake.server.receive(datagram) }
            XCTAssertEqual(handshake.client.ends, [.closedLocally], kind, file: file, line: line)
            XCTAssertEqual(handshake.server.ends, [.closedByPeer], kind, file: file, line: line)
        }
    }

    func testFault09AlertsInClearEndNothing() throws {
        for (level, code) in [(2, 0), (1, 0), (2, 10), (2, 20), (2, 40), (2, 51), (2, 80), (2, 255)]
            as [(UInt8, UInt8)]
        {
            try attackInEveryState { number, _ in
                [RecordDump.alert(level: level, code: code, sequenceNumber: number).bytes]
            }
        }
    }

    func testFault07DataAndUnknownTypesInClearEndNothing() throws {
        for type in [0, 19, 23, 24, 25, 26, 64, 255] as [UInt8] {
            try attackInEveryState { number, _ in
                [RecordDump(contentType: type, sequenceNumber: number, body: Array("forged".utf8)).bytes]
            }
        }
    }

    /// CVE-2026-75806: fewer bytes than nonce and tag. With CBC fewer than its IV and MAC, or no whole block.
    func testFault07UndersizedSealedRecordsEndNothing() throws {
        try attackInEveryState { number, isOpen in
            // Some fill up what may wait for the end of the handshake; all of them are for when it has come.
            (isOpen ? 0..<72 : 0..<16).map { count in
                RecordDump(
                    contentType: isOpen ? [20, 21, 22, 23][count % 4] : 22,
                    epoch: 1,
                    sequenceNumber: number + UInt64(count),
                    body: [UInt8](repeating: 7, count: count)
                ).bytes
            }
        }
    }

    /// CVE-2026-75806 before a suite is chosen: such as are long enough for some suites, and are kept until it is known
    /// that this is none of them.
    func testFault07SealedRecordsTooShortForTheSuiteToComeEndNothing() throws {
        let suites = ["PSK-AES128-GCM-SHA256", "PSK-AES128-CCM", "PSK-AES128-CCM8", "PSK-CHACHA20-POLY1305"]
        for (suite, layer) in suites.flatMap({ [($0, DtlsRecordLayer.detached), ($0, .openSSL)] }) {
            for (type, usesGate) in [20, 21, 22, 23].flatMap({ [(UInt8($0), true), (UInt8($0), false)] }) {
                for count in 16...24 {
                    var options = try PairOptions.preSharedKey(suite)
                    options.recordLayer = layer
                    options.usesGate = usesGate
                    let pair = try EnginePair(options)
                    pair.start()
                    let body = [UInt8](repeating: 7, count: count)
                    let forged = RecordDump(contentType: type, epoch: 1, sequenceNumber: 5, body: body).bytes
                    pair.client.receive(forged)
                    if !usesGate { try pair.serverPeer().receive(forged) }
                    try pair.pump()
                    let kind = "\(suite), \(layer), type \(type), \(count) bytes, with\(usesGate ? "" : "out") a gate"
                    XCTAssertTrue(pair.isOpen, "\(kind): \(pair.client.ends)")
                    XCTAssertEqual(pair.client.engine.statistics.drops.total, 1, kind)
                }
            }
        }
    }

    /// As long as a Finished, an alert or data would be, of every kind. With CBC in whole blocks.
    func testFault07ForgedSealedRecordsEndNothing() throws {
        var generator = SeededGenerator(seed: 7)
        var index = 0
        try attackInEveryState { number, isOpen in
            // One a state before the end: more would fill up what is kept until then.
            (0..<(isOpen ? 40 : 1)).map { offset in
                index += 1
                return RecordDump(
                    contentType: [22, 21, 23, 20][index / 4 % 4],
                    epoch: 1,
                    sequenceNumber: number + UInt64(offset),
                    body: generator.bytes([40, 48, 64, 80, 96, 24, 32, 61][index % 8])
                ).bytes
            }
        }
    }

    func testFault10RecordsOfLaterEpochsEndNothing() throws {
        var generator = SeededGenerator(seed: 10)
        for epoch in [2, 3, 0x7FFF, 0xFFFF] as [UInt16] {
            try attackInEveryState { number, _ in
                [20, 21, 22, 23].map { type in
                    RecordDump(contentType: type, epoch: epoch, sequenceNumber: number, body: generator.bytes(48)).bytes
                }
            }
        }
    }

    /// CVE-2026-54874: a flood of the next epoch, in any one state. It may cost the handshake a retransmission.
    func testFault05AFloodOfTheNextEpochInAnyStateEndsNothing() throws {
        var generator = SeededGenerator(seed: 5)
        for (kind, var options) in try kinds() {
            options.retransmission = .init(initialTimeout: .milliseconds(30), maximumTimeout: .seconds(2), jitter: 0)
            var floodedState = 0
            var isPastTheEnd = false
            while !isPastTheEnd {
                let handshake = try RecordByRecord(options)
                handshake.start()
                for _ in 0..<floodedState where !isPastTheEnd { isPastTheEnd = !handshake.step() }
                for (_, side) in handshake.sides {
                    for number in 0..<60 {
                        let body = generator.bytes(48)
                        side.receive(
                            RecordDump(contentType: 22, epoch: 1, sequenceNumber: UInt64(number) + 50, body: body).bytes
                        )
                    }
                }
                let state = "\(kind), flooded before record \(floodedState)"
                XCTAssertTrue(handshake.run { handshake.isOpen }, "\(state): \(handshake.story)")
                guard handshake.isOpen else { return }
                XCTAssertTrue(try handshake.echoes(), state)
                let dropped = handshake.sides.reduce(0) { $0 + $1.peer.engine.statistics.drops.total }
                XCTAssertGreaterThanOrEqual(dropped, 120, "\(state): not each was counted")
                floodedState += 1
            }
            XCTAssertGreaterThan(floodedState, 8)
        }
    }

    /// A flood that never ends costs nothing but its own datagrams as soon as the peer's ChangeCipherSpec is there.
    func testFault05AFloodThatGoesOnKeepsNoFinishedOut() throws {
        var generator = SeededGenerator(seed: 6)
        for (kind, var options) in try kinds() {
            options.retransmission = Self.timeless
            let handshake = try RecordByRecord(options)
            handshake.start()
            var number: UInt64 = 50
            repeat {
                for (_, side) in handshake.sides {
                    for _ in 0..<60 {
                        number += 1
                        side.receive(
                            RecordDump(
                                contentType: 22,
                                epoch: 1,
                                sequenceNumber: number,
                                body: generator.bytes(48)
                            ).bytes
                        )
                    }
                }
            } while handshake.step()
            XCTAssertTrue(handshake.isOpen, "\(kind): \(handshake.story)")
            if handshake.isOpen { XCTAssertTrue(try handshake.echoes(), kind) }
        }
    }
}
