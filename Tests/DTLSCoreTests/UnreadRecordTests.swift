import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// Records that OpenSSL drops without a word must not pass for delivered, or what comes after them never is.
final class UnreadRecordTests: XCTestCase {
    private func mutual(_ client: DtlsIdentity) throws -> PairOptions {
        var options = try PairOptions.certificates(TestIdentity.large)
        options.client.identity = client
        options.server.trust = try TestIdentity.trust
        options.clientCertificates = .required
        return options
    }

    /// At a ChangeCipherSpec that comes too early OpenSSL stops reading.
    func testEarlyChangeCipherSpecsHinderNothing() throws {
        let change = RecordDump(contentType: 20, sequenceNumber: 50, body: [1]).bytes
        for copies in [1, 2, 3, 100] {
            for base in [try PairOptions.preSharedKey(), try mutual(TestIdentity.client)] {
                for usesGate in [true, false] {
                    var options = base
                    options.usesGate = usesGate
                    options.retransmission = .patient
                    let forged = Array(repeatElement(change, count: copies).joined())
                    for isSeparate in [true, false] {
                        let pair = try EnginePair(options)
                        // Before each datagram, alone or in front of it.
                        pair.rewriteToServer = { [unowned pair] in
                            guard isSeparate else { return forged + $0 }
                            pair.server?.receive(forged)
                            return $0
                        }
                        pair.rewriteToClient = { [unowned pair] in
                            guard isSeparate else { return forged + $0 }
                            pair.client.receive(forged)
                            return $0
                        }
                        if !isSeparate, usesGate { pair.rewriteToServer = { $0 } }
                        pair.start()
                        XCTAssertTrue(
                            try pair.run { pair.isOpen },
                            "\(copies), \(usesGate), \(isSeparate): \(pair.story)"
                        )
                    }
                }
            }
        }
    }

    /// OpenSSL's servers agree to small records by themselves, and drop larger ones. From 3.2 on they drop, too, what
    /// does not fit into the buffer for one of them: the others of a datagram.
    func testClientsThatAskForSmallRecords() throws {
        for code in UInt8(1)...4 {
            for (client, mtu) in [
                (try TestIdentity.client, 700), (try TestIdentity.largeClient, 700),
                (try TestIdentity.client, 1_400), (try TestIdentity.largeClient, 4_096),
            ] {
                var options = try mutual(client)
                options.server.identity = try TestIdentity.server
                options.retransmission = .quick
                options.mtu = mtu
                let pair = try EnginePair(options)
                try OpenSSLTweaks.askForSmallRecords(XCTUnwrap(pair.client.engine.attached).records.pointer, code: code)
                pair.start()
                XCTAssertTrue(try pair.run { pair.isOpen }, "code \(code), MTU \(mtu): \(pair.story)")
                try pair.assertEchoes()
            }
        }
    }

    /// A message that comes in a record of another version is dropped by OpenSSL once the ServerHello has been.
    func testAMessageUnderAnotherVersionStandsInNobodysWay() throws {
        for version in [0xFE00, 0xFEFF] as [UInt16] {
            for base in [try PairOptions.preSharedKey(), try mutual(TestIdentity.client)] {
                for minimum in [DtlsVersion.v1_2, .v1_0] {
                    var options = base
                    options.client.minimumVersion = minimum
                    options.retransmission = .quick
                    let pair = try EnginePair(options)
                    var forged = 0
                    pair.rewriteToClient = { [unowned pair] datagram in
                        guard forged < 2, let last = RecordDump.parse(datagram)?.last, last.handshakeType == 14 else {
                            return datagram
                        }
                        forged += 1
                        var other = last
                        other.version = version
                        pair.client.receive(Array(datagram.dropLast(last.bytes.count)))
                        pair.client.receive(other.bytes)
                        return last.bytes
                    }
                    pair.start()
                    XCTAssertTrue(try pair.run { pair.isOpen }, "\(version), \(minimum): \(pair.story)")
                    XCTAssertGreaterThan(forged, 0)
                    try pair.assertEchoes()
                }
            }
        }
    }
}
