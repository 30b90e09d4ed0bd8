import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// Identities and keys of every kind, right and wrong.
final class PreSharedKeyTests: XCTestCase {
    private func options(identity: [UInt8], key: [UInt8]) throws -> PairOptions {
        var options = try PairOptions.preSharedKey()
        options.clientKey = try DtlsPreSharedKey(identity: identity, key: DtlsSecretBytes(key))
        options.serverKeys = [identity: key]
        return options
    }

    /// Identities are bytes, not text (B20).
    func testIdentitiesAreBytes() throws {
        var identities: [[UInt8]] = [
            [], [0xFF], [0xC3, 0x28, 0xFE, 0xFF], Array("ключ".utf8), Array("a\r\n\u{1B}".utf8),
        ]
        identities += [127, 128, 129, 255, 256].map { [UInt8](repeating: 0xE9, count: $0) }
        for suite in ["PSK-AES128-GCM-SHA256", "ECDHE-PSK-CHACHA20-POLY1305"] {
            for identity in identities {
                var options = try options(identity: identity, key: TestKey.bytes)
                options.suites = .openSSL(suite)
                let pair = try EnginePair.connected(options)
                let server = try pair.serverPeer()
                XCTAssertEqual(server.requests, [.identity(identity, serverName: nil)])
                XCTAssertEqual(server.finished?.preSharedKeyIdentity, identity)
                XCTAssertEqual(pair.client.finished?.preSharedKeyIdentity, identity)
            }
        }
    }

    func testIdentitiesThatCannotBeUsed() throws {
        for identity in [[UInt8](repeating: 1, count: 257), [0], [1, 0, 2], [1, 0]] as [[UInt8]] {
            assertThrows(.invalidPreSharedKey) {
                try DtlsPreSharedKey(identity: identity, key: DtlsSecretBytes(TestKey.bytes))
            }
        }
        assertThrows(.invalidPreSharedKey) { try DtlsPreSharedKey(identity: "a\0b", key: TestKey.bytes) }
    }

    func testIdentitiesAsText() throws {
        let secret = DtlsSecretBytes(TestKey.bytes)
        let key = try DtlsPreSharedKey(identity: "ключ", key: secret)
        XCTAssertEqual(key.identity, Array("ключ".utf8))
        XCTAssertEqual(key.key, secret)
        XCTAssertEqual(try DtlsPreSharedKey(identity: "ключ", key: TestKey.bytes).key, secret)
        assertThrows(.invalidPreSharedKey) { try DtlsPreSharedKey(identity: "a\0b", key: secret) }
        assertThrows(.invalidPreSharedKey) { try DtlsPreSharedKey(identity: "a", key: DtlsSecretBytes([])) }
    }

    func testFault15KeyLengths() throws {
        for suite in ["PSK-AES128-GCM-SHA256", "ECDHE-PSK-CHACHA20-POLY1305"] {
            for count in [1, 15, 16, 64, 128, 256, 511, 512] {
                var generator = SeededGenerator(seed: UInt64(count))
                var options = try options(identity: [1], key: generator.bytes(count))
                options.suites = .openSSL(suite)
                try EnginePair.connected(options).assertEchoes("a key of \(count) bytes")
            }
        }
    }

    /// (B11)
    func testKeyLengthsThatCannotBeUsed() {
        for count in [0, 513, 100_000] {
            let error = assertThrows(.invalidPreSharedKey) {
                try DtlsPreSharedKey(identity: "a", key: [UInt8](repeating: 1, count: count))
            }
            XCTAssertEqual(error?.message.contains("\(count)"), true)
        }
    }

    /// A server's key of a length that cannot be used counts as none, and overruns nothing (B11).
    func testAServersKeyOfAnImpossibleLengthIsNoKey() throws {
        for count in [0, 513, 5_000] {
            var options = try PairOptions.preSharedKey()
            options.serverKeys = [Array(TestKey.identity.utf8): [UInt8](repeating: 1, count: count)]
            options.unknownIdentity = .alert
            let pair = try EnginePair(options)
            try pair.connect()
            XCTAssertEqual(try pair.serverPeer().failure?.code, .authenticationFailed)
            XCTAssertEqual(try pair.serverPeer().failure?.alertSent?.code, .unknownPSKIdentity)
        }
    }

    /// Bytes of the last key byte matter too.
    func testKeysThatDifferInTheirLastByteDiffer() throws {
        var options = try options(identity: [1], key: [UInt8](repeating: 7, count: 512))
        options.serverKeys = [[1]: [UInt8](repeating: 7, count: 511) + [8]]
        let pair = try EnginePair(options)
        try pair.connect()
        XCTAssertFalse(pair.isOpen)
    }

    func testAnUnknownIdentityWithAnAlert() throws {
        var options = try PairOptions.preSharedKey()
        options.clientKey = try TestKey.unknown
        options.unknownIdentity = .alert
        let pair = try EnginePair(options)
        try pair.connect()
        let error = try XCTUnwrap(try pair.serverPeer().failure)
        XCTAssertEqual(error.code, .authenticationFailed)
        XCTAssertEqual(error.alertSent, DtlsAlert(level: .fatal, code: .unknownPSKIdentity))
        try pair.passGraceOfAlerts()
        let told = try XCTUnwrap(pair.client.failure)
        XCTAssertEqual(told.code, .authenticationFailed)
        XCTAssertEqual(told.alertReceived?.code, .unknownPSKIdentity)
        XCTAssertTrue(told.message.contains("identity"), told.message)
    }

    /// Runs a handshake whose key is not right until both sides have given up.
    private func failed(_ key: DtlsPreSharedKey, _ suites: String? = nil) throws -> EnginePair {
        var options = try PairOptions.preSharedKey(suites)
        options.clientKey = key
        options.retransmission = .quick
        let pair = try EnginePair(options)
        pair.start()
        XCTAssertTrue(try pair.run { !pair.client.ends.isEmpty && pair.server?.ends.isEmpty == false }, pair.story)
        return pair
    }

    /// OpenSSL alone would fall silent, and its client time out (openssl.md §7).
    func testAWrongKeyIsToldToBothSides() throws {
        for suites in [nil, "PSK-AES128-GCM-SHA256", "PSK-AES128-CCM8"] {
            let pair = try failed(TestKey.wrong, suites)
            let error = try XCTUnwrap(try pair.serverPeer().failure)
            XCTAssertEqual(error.code, .authenticationFailed)
            XCTAssertEqual(error.alertSent, DtlsAlert(level: .fatal, code: .decryptError))
            XCTAssertNil(try pair.serverPeer().finished)
            let told = try XCTUnwrap(pair.client.failure)
            XCTAssertEqual(told.code, .authenticationFailed, "\(told)")
            XCTAssertEqual(told.alertReceived, DtlsAlert(level: .fatal, code: .decryptError))
            XCTAssertNil(pair.client.finished)
        }
    }

    /// A Finished that comes before its ChangeCipherSpec, time and again, says nothing about the key: OpenSSL keeps it
    /// unread.
    func testAChangeCipherSpecThatIsLostIsNotTakenForAWrongKey() throws {
        var options = try PairOptions.preSharedKey()
        options.retransmission = .quick
        options.retransmission.doublesSmallFlights = false
        options.usesGate = false
        let pair = try EnginePair(options)
        var lost = 0
        pair.rewriteToServer = { datagram in
            let records = RecordDump.parse(datagram) ?? []
            guard lost < 5, records.contains(where: { $0.contentType == 20 }) else { return datagram }
            lost += 1
            return records.filter { $0.contentType != 20 }.flatMap(\.bytes)
        }
        pair.start()
        XCTAssertTrue(try pair.run { pair.isOpen || !pair.client.ends.isEmpty }, pair.story)
        XCTAssertEqual(lost, 5)
        try pair.assertEchoes()
    }

    /// A stranger cannot tell an unknown identity from a wrong key (RFC 4279 §2).
    func testAnUnknownIdentityLooksLikeAWrongKey() throws {
        func seenByTheClient(_ key: DtlsPreSharedKey) throws -> [String] {
            var options = try PairOptions.preSharedKey()
            options.clientKey = key
            options.retransmission = .quick
            options.usesGate = false
            let pair = try EnginePair(options)
            var seen: [String] = []
            pair.rewriteToClient = { datagram in
                for record in RecordDump.parse(datagram) ?? [] {
                    let line =
                        "\(record.contentType) \(record.epoch) \(record.body.count) "
                        + "\(record.contentType == 21 ? record.body : [])"
                    // How many times a flight is repeated is a matter of time.
                    if !seen.contains(line) { seen.append(line) }
                }
                return datagram
            }
            pair.start()
            XCTAssertTrue(try pair.run { !pair.client.ends.isEmpty && pair.server?.ends.isEmpty == false })
            XCTAssertEqual(pair.client.failure?.code, .authenticationFailed)
            XCTAssertEqual(try pair.serverPeer().failure?.code, .authenticationFailed)
            // The server's own side may know which it was.
            let message = try XCTUnwrap(pair.server?.failure).message
            XCTAssertTrue(message.contains("\"\(String(decoding: key.identity, as: UTF8.self))\""), message)
            return seen + [try XCTUnwrap(pair.client.failure).description]
        }
        let identity = Array(repeating: UInt8(ascii: "x"), count: TestKey.identity.utf8.count)
        let unknown = try DtlsPreSharedKey(identity: identity, key: DtlsSecretBytes(TestKey.bytes))
        XCTAssertEqual(try seenByTheClient(unknown), try seenByTheClient(TestKey.wrong))
    }

    /// A server that was wrong about a client serves it again (B10).
    func testTheRightKeyAfterAWrongOne() throws {
        _ = try failed(TestKey.wrong)
        try EnginePair.connected(.preSharedKey()).assertEchoes()
    }

    func testTheHintReachesTheClient() throws {
        for hint in [nil, Array("which-one?".utf8), [UInt8](repeating: 0xEE, count: 128)] as [[UInt8]?] {
            for suite in ["PSK-AES128-GCM-SHA256", "ECDHE-PSK-CHACHA20-POLY1305"] {
                var options = try PairOptions.preSharedKey(suite)
                options.clientKey = nil
                options.clientAnswer = .client(try TestKey.right)
                options.identityHint = hint
                let pair = try EnginePair.connected(options)
                XCTAssertEqual(pair.client.requests, [.hint(hint)], suite)
                XCTAssertEqual(pair.client.eventNames, ["request", "finished"])
                try pair.assertEchoes()
            }
        }
    }

    func testHintsThatCannotBeUsed() {
        for hint in [[UInt8](repeating: 1, count: 129), [0], [1, 0, 2]] as [[UInt8]] {
            assertThrows(.invalidConfiguration) {
                try DtlsEngineContext(server: DtlsConfiguration(), usesPreSharedKeys: true, identityHint: hint)
            }
        }
    }

    /// Nobody would ever be told.
    func testAHintWithoutKeysIsRefused() throws {
        var configuration = DtlsConfiguration()
        configuration.identity = try TestIdentity.server
        let hint = Array("hint".utf8)
        let error = assertThrows(.invalidConfiguration) {
            try DtlsEngineContext(server: configuration, usesPreSharedKeys: false, identityHint: hint)
        }
        XCTAssertNotNil(error?.hint)
        XCTAssertNoThrow(try DtlsEngineContext(server: configuration, usesPreSharedKeys: true, identityHint: hint))
    }

    /// A client that was given its key is not asked, whatever the hint.
    func testAKeyGivenBeforehandIsNotAskedFor() throws {
        var options = try PairOptions.preSharedKey()
        options.identityHint = Array("hint".utf8)
        XCTAssertEqual(try EnginePair.connected(options).client.requests, [])
    }

    func testAClientWithoutAKeyForTheHint() throws {
        var options = try PairOptions.preSharedKey()
        options.clientKey = nil
        options.clientAnswer = .client(nil)
        let pair = try EnginePair(options)
        try pair.connect()
        let error = try XCTUnwrap(pair.client.failure, pair.story)
        XCTAssertEqual(error.code, .authenticationFailed)
        XCTAssertEqual(pair.client.ends.count, 1)
        XCTAssertNil(pair.client.engine.nextDeadline)
    }

    /// OpenSSL cuts an identity at a zero, and would put what stands before it into the session: nobody has such a
    /// name.
    func testAnIdentityWithAZeroIsNobodys() throws {
        var options = try PairOptions.preSharedKey("PSK-AES128-GCM-SHA256")
        options.clientKey = try DtlsPreSharedKey(identity: "deXv1", key: TestKey.bytes)
        options.serverKeys = [Array("de".utf8): TestKey.bytes, Array("deXv1".utf8): TestKey.bytes]
        options.serverAnswersLater = true
        let pair = try EnginePair(options)
        pair.rewriteToServer = { datagram in
            guard var records = RecordDump.parse(datagram), records.first?.handshakeType == 16 else { return datagram }
            // Header of 12 bytes, length of the identity, "deXv1".
            XCTAssertEqual(records[0].body[16], UInt8(ascii: "X"))
            records[0].body[16] = 0
            return records.flatMap(\.bytes)
        }
        try pair.connect()
        XCTAssertEqual(try pair.serverPeer().requests, [])
        XCTAssertNil(try pair.serverPeer().finished)
    }

    /// A client that shows one identity in a fragment that OpenSSL ignores and another in the one that it reads does
    /// not get in by the key of the first: OpenSSL would put the second into the session.
    func testAKeyIsGoodForTheIdentityThatOpenSSLReadsOnly() throws {
        var options = try PairOptions.preSharedKey("PSK-AES128-GCM-SHA256")
        options.clientKey = try DtlsPreSharedKey(identity: "admin", key: TestKey.bytes)
        options.serverKeys = [Array("mallory".utf8): TestKey.bytes]
        let pair = try EnginePair(options)
        let identity = Array("mallory".utf8)
        let decoy = RecordDump.handshake(type: 16, messageSequence: 40, [0, UInt8(identity.count)] + identity)
        pair.rewriteToServer = { datagram in
            RecordDump.parse(datagram)?.first?.handshakeType == 16 ? decoy.bytes + datagram : datagram
        }
        try pair.connect()
        XCTAssertNil(try pair.serverPeer().finished)
    }
}
