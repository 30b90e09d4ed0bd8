import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// Datagrams of the handshake: whole records, never more than the MTU (B1; openssl.md §2).
final class HandshakeSizeTests: XCTestCase {
    /// Large certificates on both sides.
    private func large() throws -> PairOptions {
        var options = try PairOptions.certificates(TestIdentity.large)
        options.client.identity = try TestIdentity.largeClient
        options.server.trust = try TestIdentity.trust
        options.clientCertificates = .required
        return options
    }

    private func assertDatagrams(
        of pair: EnginePair,
        within limit: Int,
        file: StaticString = #filePath,
        line: UInt = #line
    ) throws {
        for datagram in try pair.client.sent + pair.serverPeer().sent {
            XCTAssertLessThanOrEqual(datagram.count, limit, file: file, line: line)
            XCTAssertNotNil(RecordDump.parse(datagram), "a record was cut", file: file, line: line)
        }
    }

    func testLargeChainsBothWays() throws {
        let leaf = try XCTUnwrap(TestIdentity.large.certificateChain.first)
        XCTAssertGreaterThan(leaf.der.count, 12_000)
        for mtu in [256, 548, 1_200, 1_452, 4_096, 4_097, 8_972, 65_507] {
            var options = try large()
            options.mtu = mtu
            options.link.mtu = mtu
            let pair = try EnginePair.connected(options)
            XCTAssertEqual(pair.client.finished?.peerCertificates.first, leaf, "MTU \(mtu)")
            XCTAssertEqual(try pair.serverPeer().finished?.peerCertificates.isEmpty, false, "MTU \(mtu)")
            try assertDatagrams(of: pair, within: min(mtu, 4_096))
            try pair.assertEchoes("MTU \(mtu)")
        }
    }

    func testSmallestMTU() throws {
        for usesIPv6 in [false, true] {
            for var options in [
                try PairOptions.preSharedKey(), try .certificates(), try .certificates(TestIdentity.rsaServer),
            ] {
                options.mtu = 256
                options.link.mtu = 256
                options.usesIPv6 = usesIPv6
                // A ClientHello that needs two datagrams cannot pass a gate.
                options.usesGate = false
                let pair = try EnginePair.connected(options)
                try assertDatagrams(of: pair, within: 256)
                let size = pair.client.engine.maximumPayloadSize
                try pair.client.send([UInt8](repeating: 1, count: size))
                try pair.pump()
                XCTAssertEqual(try pair.serverPeer().payloads.map(\.count), [size])
            }
        }
    }

    /// Flights travel in as few datagrams as their bytes need, within one to spare.
    func testFlightsAreCoalesced() throws {
        let pair = try EnginePair.connected(.preSharedKey())
        XCTAssertEqual(pair.client.sent.count, 3, "two hellos, then the rest in one")
        XCTAssertEqual(try pair.serverPeer().sent.count, 2)
        let flight = try XCTUnwrap(pair.client.sent.last.flatMap { RecordDump.parse($0) })
        XCTAssertEqual(flight.map(\.contentType), [22, 20, 22])
        XCTAssertEqual(flight.map(\.epoch), [0, 0, 1])

        let certificates = try EnginePair.connected(large())
        let sent = try certificates.serverPeer().sent
        let bytes = sent.map(\.count).reduce(0, +)
        XCTAssertLessThanOrEqual(sent.count, bytes / 1_200 + 3)
    }

    /// A server that asks for no certificates has no need for messages larger than a certificate of 16 KiB.
    func testAClientsCertificateMayBeLargerThanAServersDefault() throws {
        var options = try large()
        options.server.identity = try TestIdentity.server
        XCTAssertTrue(try EnginePair.connected(options).isOpen)
    }

    /// The handshake's sequence numbers never repeat, so that nothing looks like a replay.
    func testSequenceNumbersRise() throws {
        let pair = try EnginePair.connected(large())
        for side in [pair.client, try pair.serverPeer()] {
            let records = side.sent.flatMap { RecordDump.parse($0) ?? [] }
            for epoch: UInt16 in [0, 1] {
                let numbers = records.filter { $0.epoch == epoch }.map(\.sequenceNumber)
                XCTAssertEqual(numbers, numbers.sorted())
                XCTAssertEqual(Set(numbers).count, numbers.count)
            }
        }
    }

    func testTheServersNumbersFollowTheHelloVerifyRequest() throws {
        let pair = try EnginePair.connected(.certificates())
        let request = try XCTUnwrap(pair.gateReplies.last.flatMap { RecordDump.parse($0)?.first })
        let flight = try XCTUnwrap(try pair.serverPeer().sent.first.flatMap { RecordDump.parse($0)?.first })
        XCTAssertGreaterThan(flight.sequenceNumber, request.sequenceNumber)
    }
}
