import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// Authentic records of kinds that OpenSSL does not send but other implementations may.
final class SealedRecordTests: XCTestCase {
    private func pairAndSealer(sealsAsClient: Bool) throws -> (EnginePair, RecordSealer) {
        let pair = try EnginePair.connected(.preSharedKey("PSK-AES128-GCM-SHA256"))
        return (pair, try RecordSealer(pair.client.engine.handshakeSecrets(), sealsAsClient: sealsAsClient))
    }

    func testTheSealerSealsAsOpenSSLDoes() throws {
        for sealsAsClient in [true, false] {
            let (pair, sealer) = try pairAndSealer(sealsAsClient: sealsAsClient)
            let receiver = sealsAsClient ? try pair.serverPeer() : pair.client
            receiver.receive(try sealer.seal([1, 2, 3], sequenceNumber: 5))
            XCTAssertEqual(receiver.payloads, [[1, 2, 3]])
        }
    }

    /// An empty record, the keepalive of other stacks, is neither a payload nor the end, alone or before others.
    func testEmptyRecords() throws {
        let (pair, sealer) = try pairAndSealer(sealsAsClient: true)
        let server = try pair.serverPeer()
        let events = server.events.count
        server.receive(try sealer.seal([], sequenceNumber: 10))
        XCTAssertEqual(server.events.count, events)
        var datagram: [UInt8] = []
        for number in 11..<40 {
            datagram += try sealer.seal(number % 3 == 0 ? [UInt8(number)] : [], sequenceNumber: UInt64(number))
        }
        server.receive(datagram)
        XCTAssertEqual(server.payloads, stride(from: 12, to: 40, by: 3).map { [UInt8($0)] })
        XCTAssertTrue(server.engine.isOpen, pair.story)
    }

    /// A sealed record of a kind that is none is dropped before OpenSSL, which would end the association, sees it.
    func testUnknownContentTypes() throws {
        let (pair, sealer) = try pairAndSealer(sealsAsClient: true)
        let server = try pair.serverPeer()
        for (index, type) in ([0, 19, 24, 25, 26, 100, 255] as [UInt8]).enumerated() {
            let dropped = server.engine.statistics.recordsDropped
            server.receive(try sealer.seal([1], contentType: type, sequenceNumber: UInt64(10 + index)))
            XCTAssertEqual(server.engine.statistics.recordsDropped, dropped + 1, "type \(type)")
        }
        try pair.assertEchoes()
    }

    /// Data and close_notify in one datagram: the data first, then the end.
    func testDataBeforeTheEndInOneDatagram() throws {
        let (pair, sealer) = try pairAndSealer(sealsAsClient: true)
        let server = try pair.serverPeer()
        let events = server.events.count
        let data = try sealer.seal([7], sequenceNumber: 10)
        let end = try sealer.seal([1, 0], contentType: 21, sequenceNumber: 11)
        let more = try sealer.seal([8], sequenceNumber: 12)
        server.receive(data + end + more)
        XCTAssertEqual(server.payloads, [[7]])
        XCTAssertEqual(server.eventNames[events...], ["data", "closed: closed by the peer"])
    }

    func testASealedFatalAlertEndsTheAssociation() throws {
        let (pair, sealer) = try pairAndSealer(sealsAsClient: true)
        let server = try pair.serverPeer()
        server.receive(try sealer.seal([2, 80], contentType: 21, sequenceNumber: 10))
        let error = try XCTUnwrap(server.failure, pair.story)
        XCTAssertEqual(error.code, .connectionClosed)
        XCTAssertEqual(error.phase, .established)
        XCTAssertEqual(error.alertReceived, DtlsAlert(level: .fatal, code: .internalError))
        XCTAssertEqual(server.ends.count, 1)
        let thrown = assertThrows(.connectionClosed) { try server.send([1]) }
        XCTAssertEqual(thrown, error, "who sends afterwards learns why")
    }

    /// OpenSSL 3.0 counts one warning five times and then gives up ("too many warn alerts"). Only the authenticated
    /// peer can send it; whoever reads the error learns which alert it was.
    func testASealedWarningIsIgnoredOrNamed() throws {
        let (pair, sealer) = try pairAndSealer(sealsAsClient: true)
        let server = try pair.serverPeer()
        server.receive(try sealer.seal([1, 90], contentType: 21, sequenceNumber: 10))
        if let error = server.failure {
            XCTAssertEqual(error.alertReceived, DtlsAlert(level: .warning, code: .userCanceled))
            XCTAssertEqual(server.ends.count, 1)
        } else {
            XCTAssertTrue(server.engine.isOpen)
        }
    }

    /// A forged record with a number far ahead must not move the replay window (CVE-2016-2181).
    func testFault08AForgedRecordMovesNoWindow() throws {
        let (pair, sealer) = try pairAndSealer(sealsAsClient: true)
        let server = try pair.serverPeer()
        for number in [UInt64(1_000_000), 0xFFFF_FFFF_FFFF] {
            var forged = try sealer.seal([1], sequenceNumber: number)
            forged[forged.count - 1] ^= 1
            server.receive(forged)
        }
        XCTAssertEqual(server.payloads, [])
        server.receive(try sealer.seal([2], sequenceNumber: 10))
        XCTAssertEqual(server.payloads, [[2]])
        try pair.assertEchoes()
    }

    /// The last sequence number of an epoch, and those before it, are taken as any other.
    func testFault27TheLastSequenceNumber() throws {
        let (pair, sealer) = try pairAndSealer(sealsAsClient: true)
        let server = try pair.serverPeer()
        server.receive(try sealer.seal([1], sequenceNumber: 0xFFFF_FFFF_FFFE))
        server.receive(try sealer.seal([2], sequenceNumber: 0xFFFF_FFFF_FFFF))
        server.receive(try sealer.seal([3], sequenceNumber: 0))
        XCTAssertEqual(server.payloads, [[1], [2]])
        XCTAssertTrue(server.engine.isOpen)
    }

    /// Neither side renegotiates: a peer that tries is refused, and the other side's association lives.
    func testFault16RenegotiationIsRefused() throws {
        for starter in [DtlsRole.client, .server] {
            var options = try PairOptions.preSharedKey()
            if starter == .client {
                options.client.recordLayer = .openSSL
            } else {
                options.server.recordLayer = .openSSL
            }
            let pair = try EnginePair.connected(options)
            let server = try pair.serverPeer()
            let (from, to) = starter == .client ? (pair.client, server) : (server, pair.client)
            let attached = try XCTUnwrap(from.engine.attached)
            try OpenSSLTweaks.prepareRenegotiation(attached.records.pointer)
            _ = attached.records.perform(.handshake)
            from.settle()
            XCTAssertEqual(from.takeOutbox().map { RecordDump.parse($0)?.first?.contentType }, [22], "it tries")
            let before = to.sent.count
            let hello = try XCTUnwrap(from.sent.last)
            to.receive(hello)
            XCTAssertTrue(to.engine.isOpen, pair.story)
            for datagram in to.sent[before...] {
                XCTAssertEqual(RecordDump.parse(datagram)?.map(\.contentType), [21], "an alert and nothing more")
            }
            XCTAssertNoThrow(try to.send([1]))
        }
    }
}
