import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// What passes to OpenSSL, and what is dropped and counted.
final class RecordFilterTests: XCTestCase {
    private struct Sifted {
        let slices: [Range<Int>]
        let findings: RecordFilter.Findings
        let dropped: Int
    }

    private func sift(_ filter: inout RecordFilter, _ datagram: [UInt8], isOpen: Bool = false) -> Sifted {
        var slices: RecordFilter.Slices = []
        var drops = DtlsDrops()
        let findings = datagram.withUnsafeBytes {
            filter.sift($0, isOpen: isOpen, into: &slices, counting: &drops)
        }
        return Sifted(slices: slices, findings: findings, dropped: drops.total)
    }

    private func sift(_ datagram: [UInt8], isOpen: Bool = false, role: DtlsRole = .client) -> Sifted {
        var filter = RecordFilter(role: role)
        return sift(&filter, datagram, isOpen: isOpen)
    }

    private let message = RecordDump.handshake(type: 14, [])
    private let changeCipherSpec = RecordDump(contentType: 20, body: [1])
    private let junk = RecordDump(contentType: 99, body: [1, 2, 3])

    private func sealed(_ count: Int, type: UInt8 = 23) -> RecordDump {
        RecordDump(contentType: type, epoch: 1, body: [UInt8](repeating: 0, count: count))
    }

    /// But not across a ChangeCipherSpec, at which OpenSSL may stop reading.
    func testNeighboursPassAsOnePiece() {
        let flight = message.bytes + changeCipherSpec.bytes
        let datagram = flight + sealed(40, type: 22).bytes
        let sifted = sift(datagram)
        XCTAssertEqual(sifted.slices, [0..<flight.count, flight.count..<datagram.count])
        XCTAssertEqual(sifted.dropped, 0)
        XCTAssertTrue(sifted.findings.hasHandshake)
        XCTAssertTrue(sifted.findings.hasSealed)
    }

    func testWhatIsDroppedLeavesTheOthers() {
        let parts = [junk.bytes, message.bytes, junk.bytes, changeCipherSpec.bytes, sealed(40).bytes, junk.bytes]
        let sifted = sift(Array(parts.joined()))
        let starts = parts.indices.map { parts[..<$0].map(\.count).reduce(0, +) }
        XCTAssertEqual(sifted.slices, [starts[1]..<starts[2], starts[3]..<starts[4], starts[4]..<starts[5]])
        XCTAssertEqual(sifted.dropped, 3)
    }

    func testOneChangeCipherSpecIsEnough() {
        let one = changeCipherSpec.bytes
        let sifted = sift(one + one + one)
        XCTAssertEqual(sifted.slices, [0..<one.count])
        XCTAssertEqual(sifted.dropped, 2)
    }

    /// Nothing behind a broken header can be told, so the rest is one drop.
    func testABrokenHeaderEndsTheDatagram() {
        for tail in [[22], Array(message.bytes.dropLast()), [UInt8](repeating: 0, count: 200)] as [[UInt8]] {
            let sifted = sift(message.bytes + tail)
            XCTAssertEqual(sifted.slices, [0..<message.bytes.count])
            XCTAssertEqual(sifted.dropped, 1)
        }
        XCTAssertEqual(sift([]).dropped, 1)
        XCTAssertEqual(sift([]).slices, [])
    }

    func testEveryHostileRecordIsDropped() {
        for (name, datagram) in HostileDatagrams.droppedInEveryState {
            for (isOpen, role) in [(false, DtlsRole.client), (false, .server), (true, .client), (true, .server)] {
                let sifted = sift(datagram, isOpen: isOpen, role: role)
                XCTAssertEqual(sifted.slices, [], "\(name), open: \(isOpen), \(role)")
                XCTAssertGreaterThan(sifted.dropped, 0, "\(name), open: \(isOpen), \(role)")
            }
        }
    }

    /// A message that the peer's role never sends in clear is reflected or invented; OpenSSL would end the handshake
    /// for it.
    func testMessagesOfTheOwnRoleAreDropped() {
        // ServerHello, HelloVerifyRequest, NewSessionTicket, Certificate to ServerHelloDone, CertificateStatus
        let fromServer: Set<UInt8> = [2, 3, 4, 11, 12, 13, 14, 22]
        // ClientHello, Certificate, CertificateVerify, ClientKeyExchange
        let fromClient: Set<UInt8> = [1, 11, 15, 16]
        for type in UInt8.min...UInt8.max {
            let record = RecordDump.handshake(type: type, [1, 2, 3]).bytes
            XCTAssertEqual(sift(record, role: .client).slices.count == 1, fromServer.contains(type), "\(type)")
            XCTAssertEqual(sift(record, role: .server).slices.count == 1, fromClient.contains(type), "\(type)")
        }
        let mixed = RecordDump.handshake(type: 2, [1]).body + RecordDump.handshake(type: 1, [1]).body
        XCTAssertEqual(sift(RecordDump(contentType: 22, body: mixed).bytes).slices, [], "the second of two as well")
    }

    func testAnOpenAssociationTakesNothingInClear() {
        for record in [message, changeCipherSpec, RecordDump.alert(level: 2, code: 40)] {
            XCTAssertEqual(sift(record.bytes, isOpen: true).slices, [])
        }
        var filter = RecordFilter(role: .client)
        _ = sift(&filter, RecordDump.alert(level: 2, code: 40).bytes, isOpen: true)
        XCTAssertNil(filter.heldAlert)
        XCTAssertEqual(sift(sealed(40).bytes, isOpen: true).slices.count, 1)
    }

    /// The shortest record that can be authentic depends on the suite (CVE-2026-75806).
    func testShortSealedRecords() {
        for minimum in [16, 24] {
            var filter = RecordFilter(role: .client)
            filter.minimumSealedLength = minimum
            for isOpen in [false, true] {
                XCTAssertEqual(sift(&filter, sealed(minimum - 1).bytes, isOpen: isOpen).slices, [])
                XCTAssertEqual(sift(&filter, sealed(minimum).bytes, isOpen: isOpen).slices.count, 1)
            }
        }
    }

    /// The minimum follows the suite that was negotiated.
    func testTheMinimumFollowsTheSuite() throws {
        let suites = [
            "PSK-AES128-GCM-SHA256": 24, "PSK-AES128-CCM": 24, "PSK-AES128-CCM8": 16, "PSK-CHACHA20-POLY1305": 16,
        ]
        for (suite, minimum) in suites {
            var options = try PairOptions.preSharedKey(suite)
            options.recordLayer = .openSSL
            let pair = try EnginePair.connected(options)
            XCTAssertEqual(pair.client.engine.attached?.filter.minimumSealedLength, minimum, suite)
            XCTAssertEqual(try pair.serverPeer().engine.attached?.filter.minimumSealedLength, minimum, suite)
        }
    }

    /// OpenSSL keeps a buffer for each record that comes before the handshake's end (CVE-2026-54874).
    func testEarlyRecordsAreBounded() {
        var filter = RecordFilter(role: .client)
        for _ in 0..<RecordFilter.maximumEarlyRecords {
            XCTAssertEqual(sift(&filter, sealed(40).bytes).slices.count, 1)
        }
        let late = sift(&filter, sealed(40).bytes)
        XCTAssertEqual(late.slices, [])
        XCTAssertEqual(late.dropped, 1)
        XCTAssertEqual(sift(&filter, message.bytes).slices.count, 1, "the handshake goes on")
        XCTAssertEqual(sift(&filter, sealed(40).bytes, isOpen: true).slices.count, 1, "no bound once it is open")
        filter.renewEarlyRecords()
        XCTAssertEqual(sift(&filter, sealed(40).bytes).slices.count, 1)
    }

    func testAlertsAreHeldNotPassed() {
        var filter = RecordFilter(role: .client)
        let sifted = sift(&filter, RecordDump.alert(level: 2, code: 40).bytes)
        XCTAssertEqual(sifted.slices, [])
        XCTAssertEqual(sifted.dropped, 1)
        XCTAssertEqual(filter.heldAlert, DtlsAlert(level: .fatal, code: .handshakeFailure))
        filter.dismissHeldAlert()
        XCTAssertNil(filter.heldAlert)
        _ = sift(&filter, RecordDump.alert(level: 1, code: 0).bytes)
        XCTAssertEqual(filter.heldAlert, DtlsAlert(level: .warning, code: .closeNotify))
        filter.dismissHeldAlert()
        _ = sift(&filter, RecordDump.alert(level: 1, code: 90).bytes)
        XCTAssertNil(filter.heldAlert)
        _ = sift(&filter, RecordDump(contentType: 21, epoch: 1, body: [UInt8](repeating: 2, count: 26)).bytes)
        XCTAssertNil(filter.heldAlert, "it is sealed")
    }

    /// More than OpenSSL reads at once is handed over in pieces, each of whole records.
    func testLongRunsAreCut() {
        let record = sealed(1_000).bytes
        let sifted = sift(Array(repeatElement(record, count: 60).joined()), isOpen: true)
        XCTAssertEqual(sifted.slices.first?.lowerBound, 0)
        XCTAssertEqual(sifted.slices.last?.upperBound, 60 * record.count)
        for slice in sifted.slices {
            XCTAssertLessThanOrEqual(slice.count, 16_384)
            XCTAssertTrue(slice.lowerBound.isMultiple(of: record.count))
            XCTAssertTrue(slice.upperBound.isMultiple(of: record.count))
        }
        XCTAssertEqual(zip(sifted.slices, sifted.slices.dropFirst()).filter { $0.upperBound != $1.lowerBound }.count, 0)
        // A record of the largest size with its header is more than that, and passes whole.
        let largest = sealed(16_384 + 24).bytes
        XCTAssertEqual(
            sift(largest + record, isOpen: true).slices,
            [0..<largest.count, largest.count..<(largest.count + record.count)]
        )
    }

    /// Whatever comes, what passes lies within the datagram, in order, without overlap.
    func testSlicesOfAnything() {
        var generator = SeededGenerator(seed: 21)
        let samples = [message.bytes + changeCipherSpec.bytes + sealed(40).bytes, sealed(40).bytes + junk.bytes]
        for _ in 0..<5_000 {
            let datagram = HostileDatagrams.mutation(of: samples, &generator)
            var filter = RecordFilter(role: .client)
            for isOpen in [false, true] {
                var end = 0
                for slice in sift(&filter, datagram, isOpen: isOpen).slices {
                    XCTAssertGreaterThanOrEqual(slice.lowerBound, end)
                    XCTAssertFalse(slice.isEmpty)
                    end = slice.upperBound
                }
                XCTAssertLessThanOrEqual(end, datagram.count)
            }
        }
    }
}

final class RecordHeaderTests: XCTestCase {
    func testFields() throws {
        let record = RecordDump(
            contentType: 22,
            version: 0xFEFF,
            epoch: 0x0102,
            sequenceNumber: 0x0304_0506_0708,
            body: [9, 9]
        )
        let header = try XCTUnwrap((record.bytes + [0]).withUnsafeBytes { RecordHeader($0, at: 0) })
        XCTAssertEqual(header.contentType, 22)
        XCTAssertEqual(header.epoch, 0x0102)
        XCTAssertEqual(header.sequenceNumber, 0x0304_0506_0708)
        XCTAssertEqual(header.length, 2)
    }

    func testOffsetsOutsideOfTheDatagram() {
        let bytes = RecordDump(contentType: 22, body: [1]).bytes
        for offset in [-1, 1, bytes.count, bytes.count + 1, Int.max] {
            XCTAssertNil(bytes.withUnsafeBytes { RecordHeader($0, at: offset) })
        }
        for count in 0..<bytes.count {
            XCTAssertNil(Array(bytes.prefix(count)).withUnsafeBytes { RecordHeader($0, at: 0) })
        }
    }

    func testFragmentsWithinTheirRecordAndMessage() throws {
        let body = RecordDump.handshake(
            type: 11,
            messageLength: 20,
            messageSequence: 258,
            fragmentOffset: 5,
            [1, 2, 3]
        ).body
        let fragment = try XCTUnwrap(body.withUnsafeBytes { HandshakeFragment($0, at: 0, end: body.count) })
        XCTAssertEqual(fragment.type, 11)
        XCTAssertEqual(fragment.messageLength, 20)
        XCTAssertEqual(fragment.messageSequence, 258)
        XCTAssertEqual(fragment.fragmentOffset, 5)
        XCTAssertEqual(fragment.body, 12..<15)
        XCTAssertFalse(fragment.isWholeMessage)
        for (offset, end) in [(-1, body.count), (0, body.count + 1), (0, body.count - 1), (1, body.count), (0, 11)] {
            XCTAssertNil(body.withUnsafeBytes { HandshakeFragment($0, at: offset, end: end) }, "\(offset) to \(end)")
        }
        let beyond = RecordDump.handshake(type: 11, messageLength: 20, fragmentOffset: 18, [1, 2, 3]).body
        XCTAssertNil(beyond.withUnsafeBytes { HandshakeFragment($0, at: 0, end: beyond.count) })
    }
}
