import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// OpenSSL 3.2 to 4.0 starts its ServerHello with a number that the HelloVerifyRequest may have used (openssl#32063).
final class RecordRenumberingTests: XCTestCase {
    /// The client's second hello as the gate took it, with a record number of the test's choice.
    private func server(_ recordSequence: UInt64, _ client: EnginePeer) throws -> EnginePeer {
        var gate = try DtlsHelloGate()
        client.start()
        let first = try XCTUnwrap(client.takeOutbox().first)
        client.receive(try XCTUnwrap(gate.judge(first).reply))
        let second = try XCTUnwrap(client.takeOutbox().first)
        var record = try XCTUnwrap(RecordDump.parse(second)?.first)
        record.sequenceNumber = recordSequence
        let hello = try XCTUnwrap(gate.judge(record.bytes).hello)
        XCTAssertEqual(hello.recordSequenceNumber, recordSequence)
        let context = try DtlsEngineContext(server: PairOptions.preSharedKey().server, usesPreSharedKeys: true)
        let server = EnginePeer(try DtlsEngine(server: context, hello: hello)) { _ in
            .server(DtlsSecretBytes(TestKey.bytes))
        }
        server.start()
        return server
    }

    private func client() throws -> EnginePeer {
        let context = try DtlsEngineContext(client: PairOptions.preSharedKey().client, usesPreSharedKeys: true)
        return EnginePeer(try DtlsEngine(client: context, serverName: nil, preSharedKey: TestKey.right))
    }

    /// What a client sends whose second hello had the number `first` and not 1. OpenSSL 3.2 and later would take lower
    /// ones for replays.
    private func goingOn(from first: UInt64, _ datagram: [UInt8]) throws -> [UInt8] {
        try XCTUnwrap(RecordDump.parse(datagram)).flatMap { record in
            var record = record
            if record.epoch == 0 { record.sequenceNumber += first - 1 }
            return record.bytes
        }
    }

    /// The server's records go on from the hello's number, so the client takes none of them for a replay.
    func testTheServerGoesOnFromTheHellosNumber() throws {
        for number in [1, 5, 1_000, 0x0001_0000_0000] as [UInt64] {
            let client = try client()
            let server = try server(number, client)
            let records = server.sent.flatMap { RecordDump.parse($0) ?? [] }
            XCTAssertGreaterThanOrEqual(try XCTUnwrap(records.first).sequenceNumber, number)
            let numbers = records.map(\.sequenceNumber)
            XCTAssertEqual(Set(numbers).count, numbers.count)
            for _ in 0..<3 {
                for datagram in server.takeOutbox() { client.receive(datagram) }
                for datagram in client.takeOutbox() { server.receive(try goingOn(from: number, datagram)) }
            }
            XCTAssertTrue(client.engine.isOpen && server.engine.isOpen, "\(number): \(client.eventNames)")
        }
    }

    private func write(_ records: [RecordDump], to bio: DatagramBIO) throws -> [RecordDump] {
        let pointer = try bio.makeBIO()
        OpenSSLTweaks.write(records.flatMap(\.bytes), toAndFree: pointer)
        var written: [RecordDump] = []
        bio.outbound.drain { written += RecordDump.parse(Array($0)) ?? [] }
        return written
    }

    /// What OpenSSL 3.2 would write: a first number that is too low. Every record of epoch 0 is moved by as much.
    func testNumbersThatAreTooLowAreRaised() throws {
        let bio = DatagramBIO(mtu: 1_200, isIPv6: false)
        bio.firstSequenceNumber = 7
        let flight = [UInt64(1), 2, 3].map { RecordDump.handshake(type: 2, [1], sequenceNumber: $0) }
        XCTAssertEqual(try write(flight, to: bio).map(\.sequenceNumber), [7, 8, 9])
        let sealed = RecordDump(contentType: 22, epoch: 1, sequenceNumber: 0, body: [1])
        let next = [RecordDump(contentType: 20, sequenceNumber: 4, body: [1]), sealed]
        let written = try write(next, to: bio)
        XCTAssertEqual(written.map(\.sequenceNumber), [10, 0], "the numbers of epoch 1 are authenticated")
        XCTAssertEqual(written.map(\.body), [[1], [1]])
        XCTAssertEqual(bio.highestSequenceNumber, 10)
    }

    /// What OpenSSL 3.0 writes needs no change.
    func testNumbersThatAreHighEnoughStay() throws {
        for first in [nil, 0, 3] as [UInt64?] {
            let bio = DatagramBIO(mtu: 1_200, isIPv6: false)
            bio.firstSequenceNumber = first
            let flight = [UInt64(3), 4].map { RecordDump.handshake(type: 2, [1], sequenceNumber: $0) }
            XCTAssertEqual(try write(flight, to: bio).map(\.sequenceNumber), [3, 4])
            XCTAssertEqual(bio.highestSequenceNumber, 4)
        }
    }

    /// A plaintext alert of our own stands behind everything that was sent in clear.
    func testTheAlertOfAWrongKeyFollowsTheFlight() throws {
        var options = try PairOptions.preSharedKey()
        options.clientKey = try TestKey.wrong
        options.retransmission = .quick
        let pair = try EnginePair(options)
        pair.start()
        XCTAssertTrue(try pair.run { pair.server?.ends.isEmpty == false })
        let records = try pair.serverPeer().sent.flatMap { RecordDump.parse($0) ?? [] }
        let alert = try XCTUnwrap(records.last)
        XCTAssertEqual(alert.contentType, 21)
        XCTAssertEqual(alert.epoch, 0)
        XCTAssertEqual(alert.body, [2, 51])
        for record in records.dropLast() { XCTAssertLessThan(record.sequenceNumber, alert.sequenceNumber) }
    }

    /// Writes of one call travel together up to the MTU; those of two calls do not.
    func testWritesAreJoinedUpToTheMTU() throws {
        let record = RecordDump.handshake(type: 2, [UInt8](repeating: 1, count: 75)).bytes
        XCTAssertEqual(record.count, 100)
        let bio = DatagramBIO(mtu: 256, isIPv6: false)
        for _ in 0..<5 { OpenSSLTweaks.write(record, toAndFree: try bio.makeBIO()) }
        bio.endFlight()
        OpenSSLTweaks.write(record, toAndFree: try bio.makeBIO())
        var sizes: [Int] = []
        bio.outbound.drain { sizes.append($0.count) }
        XCTAssertEqual(sizes, [200, 200, 100, 100])
    }

    /// OpenSSL's buffer of 4,096 bytes would split larger datagrams in the midst of a record.
    func testWritesAreJoinedUpToOpenSSLsBufferAtMost() throws {
        let record = RecordDump.handshake(type: 2, [UInt8](repeating: 1, count: 975)).bytes
        let bio = DatagramBIO(mtu: 65_507, isIPv6: false)
        for _ in 0..<6 { OpenSSLTweaks.write(record, toAndFree: try bio.makeBIO()) }
        var sizes: [Int] = []
        bio.outbound.drain { sizes.append($0.count) }
        XCTAssertEqual(sizes, [4_000, 2_000])
    }
}
