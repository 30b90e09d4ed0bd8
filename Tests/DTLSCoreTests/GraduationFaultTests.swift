import DTLSTestKit
import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// Faults of the way out of OpenSSL that once were there, or that its like have had.
final class GraduationFaultTests: XCTestCase {
    /// No datagram of a handshake is larger than the MTU, whatever the sizes of its messages: OpenSSL does not think of
    /// the tag of the Finished when it fills one, and a Connection ID makes it longer.
    func testHandshakesKeepToTheMTU() throws {
        for (padding, length, mtu) in [(1, 0, 300), (1, 8, 300), (1, 32, 300), (16, 8, 300), (128, 8, 400)] {
            for count in stride(from: 1, through: 250, by: 3) {
                var options = try PairOptions.preSharedKey("PSK-AES128-GCM-SHA256")
                var cids = DtlsConnectionIDs.automatic
                cids.padding = padding
                options.client.connectionIDs = cids
                options.server.connectionIDs = length == 0 ? .off : .random(length: length)
                options.mtu = mtu
                let identity = String(repeating: "i", count: count)
                options.clientKey = try DtlsPreSharedKey(identity: identity, key: [UInt8](repeating: 9, count: 16))
                options.serverKeys = [Array(identity.utf8): [UInt8](repeating: 9, count: 16)]
                let pair = try EnginePair.connected(options)
                XCTAssertLessThanOrEqual(pair.client.sent.map(\.count).max() ?? 0, mtu, "an identity of \(count) bytes")
            }
        }
    }

    /// Whatever is lost, repeated or late, no number and no nonce leaves twice with different bytes.
    func testNoNonceLeavesTwice() throws {
        var collisions = 0
        var checked = 0
        for suite in GraduationTests.suites {
            for ids in [DtlsConnectionIDs.off, .random(length: 3)] {
                for seed in UInt64(1)...6 {
                    var options = try PairOptions.preSharedKey(suite)
                    options.connectionIDs = ids
                    options.retransmission = .quick
                    options.link = LinkConditions(loss: 0.3, duplication: 0.2, reordering: 0.3)
                    options.seed = seed
                    let pair = try EnginePair(options)
                    pair.start()
                    XCTAssertTrue(try pair.run { pair.isOpen }, pair.story)
                    for _ in 0..<5 {
                        try pair.client.send([1, 2])
                        try pair.serverPeer().send([3])
                    }
                    try pair.pump()
                    pair.client.close()
                    try pair.pump()
                    for side in [pair.client, try pair.serverPeer()] {
                        let peerID = side.finished?.connectionIDs?.peer.count ?? 0
                        var seen: [[UInt8]: [UInt8]] = [:]
                        var numbers: [UInt64: [UInt8]] = [:]
                        for datagram in side.sent {
                            datagram.withUnsafeBytes { bytes in
                                var offset = 0
                                while let header = RecordHeader(bytes, at: offset, expectedIDLength: peerID) {
                                    let record = Array(bytes[offset..<(offset + header.size + header.length)])
                                    if header.epoch == 1 {
                                        checked += 1
                                        if let other = numbers[header.sequenceNumber], other != record {
                                            collisions += 1
                                        }
                                        numbers[header.sequenceNumber] = record
                                        if !suite.contains("CHACHA") {
                                            let nonce = Array(record[header.size..<(header.size + 8)])
                                            if let other = seen[nonce], other != record { collisions += 1 }
                                            seen[nonce] = record
                                        }
                                    }
                                    offset += header.size + header.length
                                }
                            }
                        }
                    }
                }
            }
        }
        XCTAssertGreaterThan(checked, 500)
        XCTAssertEqual(collisions, 0)
    }

    /// A cipher's context remembers nothing of a record that failed.
    func testContextsRememberNothing() throws {
        var random = SeededGenerator(seed: 11)
        for algorithm in RecordCipher.Algorithm.allCases {
            let cipher = try XCTUnwrap(RecordCipher.of(algorithm))
            var wrong = 0
            for round in 0..<1_000 {
                let key = (0..<algorithm.keyLength).map { _ in UInt8.random(in: 0...255, using: &random) }
                let nonce = (0..<12).map { _ in UInt8.random(in: 0...255, using: &random) }
                let count = [0, 0, 1, 15, 16, 17, 40].randomElement(using: &random) ?? 0
                let aadCount = [13, 30].randomElement(using: &random) ?? 0
                let aad = (0..<aadCount).map { _ in UInt8.random(in: 0...255, using: &random) }
                let plain = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
                var sealed = [UInt8](repeating: 0, count: count)
                var tag = [UInt8](repeating: 0, count: algorithm.tagLength)
                let place = cipher.makePlace()
                // Kept from message to message, or not.
                func own(_ key: UnsafeRawBufferPointer) -> RecordCipher.Key {
                    RecordCipher.Key(key, in: round.isMultiple(of: 3) ? nil : place)
                }
                func seal(_ key: [UInt8], _ nonce: [UInt8], into out: inout [UInt8], _ tag: inout [UInt8]) -> Bool {
                    plain.withUnsafeBytes { p in
                        key.withUnsafeBytes { k in
                            nonce.withUnsafeBytes { n in
                                aad.withUnsafeBytes { a in
                                    out.withUnsafeMutableBytes { o in
                                        tag.withUnsafeMutableBytes { t in
                                            cipher.seal(p, into: o, key: own(k), nonce: n, additionalData: a, tag: t)
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
                func open(_ text: [UInt8], _ tag: [UInt8], _ aad: [UInt8]) -> [UInt8]? {
                    var out = [UInt8](repeating: 0, count: text.count)
                    let ok = text.withUnsafeBytes { p in
                        key.withUnsafeBytes { k in
                            nonce.withUnsafeBytes { n in
                                aad.withUnsafeBytes { a in
                                    out.withUnsafeMutableBytes { o in
                                        tag.withUnsafeBytes { t in
                                            cipher.open(p, into: o, key: own(k), nonce: n, additionalData: a, tag: t)
                                        }
                                    }
                                }
                            }
                        }
                    }
                    return ok ? out : nil
                }
                if !seal(key, nonce, into: &sealed, &tag) {
                    wrong += 1
                    continue
                }
                // disturb
                switch round % 7 {
                case 0:
                    var b = tag
                    b[0] ^= 1
                    if open(sealed, b, aad) != nil { wrong += 1 }
                case 1: if open(sealed + [0], tag, aad) != nil { wrong += 1 }
                case 2:
                    var b = aad
                    b[3] ^= 1
                    if open(sealed, tag, b) != nil { wrong += 1 }
                case 3:
                    var s = sealed
                    var t = tag
                    _ = seal(key, Array(nonce.dropLast()), into: &s, &t)
                case 4:
                    var s = [UInt8]()
                    var t = tag
                    if seal(key, nonce, into: &s, &t), count > 0 { wrong += 1 }
                case 5: cipher.forget(place)
                default: _ = RecordCipher.releaseIdle()
                }
                if open(sealed, tag, aad) != plain { wrong += 1 }
                if open([], [UInt8](repeating: 0, count: tag.count), aad) != nil { wrong += 1 }
                // Beside a fresh context of OpenSSL's: a seal anew is the same
                var s2 = [UInt8](repeating: 0, count: count)
                var t2 = tag
                if !seal(key, nonce, into: &s2, &t2) || s2 != sealed || t2 != tag { wrong += 1 }
            }
            XCTAssertEqual(wrong, 0)
        }
    }

    /// What a client that never sends its Finished can make a server keep is bounded in bytes.
    func testFault05EarlyDataIsBoundedInBytes() throws {
        var options = try PairOptions.certificates(nil, "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256")
        options.connectionIDs = .random(length: 4)
        let pair = try EnginePair(options)
        pair.rewriteToServer = { datagram in
            // without the Finished
            datagram.withUnsafeBytes { bytes in
                var kept: [UInt8] = []
                var offset = 0
                while let header = RecordHeader(bytes, at: offset, expectedIDLength: 4) {
                    let end = offset + header.size + header.length
                    if header.epoch == 0 { kept += bytes[offset..<end] }
                    offset = end
                }
                return kept.isEmpty ? nil : kept
            }
        }
        pair.start()
        while try pair.step() {}
        let server = try pair.serverPeer()
        let attached = try XCTUnwrap(pair.client.engine.attached)
        for number in UInt64(100)..<140 {
            let record = [UInt8](repeating: 5, count: 16_384).withUnsafeBytes {
                attached.detachedRecords?.seal(23, $0, numbered: number)
            }
            server.receive(try XCTUnwrap(record ?? nil))
        }
        let opened = server.engine.attached?.openedEarly ?? []
        XCTAssertGreaterThan(opened.count, 0)
        XCTAssertLessThanOrEqual(opened.map(\.content.count).reduce(0, +), EarlyRecords.maximumBytes)
        XCTAssertGreaterThan(server.engine.statistics.drops[.earlyRecordLimit], 0)
    }

    /// Nothing follows the end, even where both came before the Finished.
    func testNothingFollowsAnEarlyEnd() throws {
        for id in [DtlsConnectionIDs.random(length: 4)] {
            var options = try PairOptions.preSharedKey("PSK-AES128-GCM-SHA256")
            options.connectionIDs = id
            let pair = try EnginePair(options)
            var late: [[UInt8]] = []
            let length = id.length(for: .server) ?? 0
            pair.rewriteToServer = { datagram in
                datagram.withUnsafeBytes { bytes in
                    var kept: [UInt8] = []
                    var offset = 0
                    while let header = RecordHeader(bytes, at: offset, expectedIDLength: length) {
                        let end = offset + header.size + header.length
                        if header.epoch == 0 {
                            kept += bytes[offset..<end]
                        } else {
                            late.append(Array(bytes[offset..<end]))
                        }
                        offset = end
                    }
                    return kept.isEmpty ? nil : kept
                }
            }
            pair.start()
            while try pair.step() {}
            let server = try pair.serverPeer()
            if length > 0 {
                let attached = try XCTUnwrap(pair.client.engine.attached)
                for (number, type, content) in [(UInt64(10), UInt8(21), [UInt8(1), 0]), (9, 23, [1, 2, 3])] {
                    let number = number == 9 ? UInt64(11) : number
                    let record = content.withUnsafeBytes { attached.detachedRecords?.seal(type, $0, numbered: number) }
                    server.receive(try XCTUnwrap(record ?? nil))
                }
                server.receive(try XCTUnwrap(late.first))
                XCTAssertEqual(server.eventNames, ["request", "finished", "closed: closed by the peer"])
                XCTAssertEqual(server.payloads, [])
            }
        }
    }

    /// Data that came early, forged or not, takes no place from the Finished.
    func testEarlyDataDoesNotCrowdTheFinishedOut() throws {
        for layer in [DtlsRecordLayer.detached] {
            for (type, body) in [(UInt8(23), 40), (23, 8_000)] {
                var options = try PairOptions.preSharedKey("PSK-AES128-GCM-SHA256")
                options.recordLayer = layer
                options.retransmission = .quick
                let pair = try EnginePair(options)
                pair.start()
                while pair.server == nil { _ = try pair.step() }
                for number in 0..<20 {
                    pair.server?.receive(
                        RecordDump(
                            contentType: type,
                            epoch: 1,
                            sequenceNumber: UInt64(number),
                            body: [UInt8](repeating: 3, count: body)
                        ).bytes
                    )
                }
                try pair.pump()
                XCTAssertTrue(pair.isOpen, pair.story)
            }
        }
    }

    /// A client that sends data before it has the server's Finished (RFC 7918) gets that when it asks for it.
    func testDataDoesNotShowThatTheFinishedHasCome() throws {
        for layer in [DtlsRecordLayer.detached, .openSSL] {
            var options = try PairOptions.preSharedKey("PSK-AES128-GCM-SHA256")
            options.server.recordLayer = layer
            options.retransmission = .quick
            options.client.handshakeTimeout = .seconds(3)
            let pair = try EnginePair(options)
            pair.start()
            while pair.server?.engine.isOpen != true { _ = try pair.step() }
            let server = try pair.serverPeer()
            _ = server.takeOutbox()
            let attached = try XCTUnwrap(pair.client.engine.attached)
            let keys = try XCTUnwrap(RecordKeys(of: attached.records.pointer, suite: attached.records.cipher))
            var records = DetachedRecords(keys: keys, role: .client, nextNumber: 40)
            let data = [UInt8(1)].withUnsafeBytes { records.seal(23, $0, numbered: 40) }
            server.receive(try XCTUnwrap(data))
            XCTAssertEqual(server.payloads, [[1]])
            XCTAssertTrue(try pair.run(within: .seconds(2)) { pair.isOpen }, pair.story)
        }
    }

    /// A last flight that is too large for the path is cut for it when it is asked for again.
    func testTheLastFlightFollowsTheMTU() throws {
        for layer in [DtlsRecordLayer.detached, .openSSL] {
            var settings = DtlsServerSettings()
            settings.clientCertificates = .required
            settings.resumption = .tickets(try DtlsTicketKeys())
            var configuration = DtlsConfiguration()
            configuration.identity = try TestIdentity.server
            configuration.trust = try TestIdentity.trust
            configuration.recordLayer = layer
            configuration.connectionIDs = .off
            configuration.retransmission = .quick
            var clientConfiguration = configuration
            clientConfiguration.identity = try TestIdentity.client
            clientConfiguration.recordLayer = .openSSL
            clientConfiguration.handshakeTimeout = .seconds(3)
            let server = EnginePeer(
                try DtlsEngine(server: DtlsEngineContext(server: configuration, settings: settings))
            )
            let client = EnginePeer(
                try DtlsEngine(client: DtlsEngineContext(client: clientConfiguration), serverName: "localhost")
            )
            var pathMTU = 1_500
            server.start()
            client.start()
            let end = ContinuousClock.now + .seconds(2)
            var repeated: [Int] = []
            while !client.engine.isOpen, ContinuousClock.now < end {
                for d in client.takeOutbox() where d.count <= 1_500 { server.receive(d) }
                if server.engine.isOpen, pathMTU == 1_500 {
                    pathMTU = 500
                    _ = server.takeOutbox()
                    server.engine.lowerMTU(to: 500)
                }
                for d in server.takeOutbox() {
                    if pathMTU == 500 { repeated.append(d.count) }
                    if d.count <= pathMTU { client.receive(d) }
                }
                let now = ContinuousClock.now
                for side in [client, server] {
                    if let deadline = side.engine.nextDeadline, deadline <= now { side.handleTimeout(now: now) }
                }
                usleep(1_000)
            }
            XCTAssertTrue(client.engine.isOpen, "\(layer): \(client.eventNames)")
            XCTAssertLessThanOrEqual(repeated.max() ?? 0, 500)
        }
    }

    /// The last flight is not for sale: so often as a flight is sent at all, and no more.
    func testTheLastFlightIsNotSentWithoutEnd() throws {
        let options = try PairOptions.preSharedKey("PSK-AES128-GCM-SHA256")
        let pair = try EnginePair.connected(options)
        let server = try pair.serverPeer()
        let sealer = try RecordSealer(server.engine.handshakeSecrets(), sealsAsClient: true)
        let before = server.sent.count
        for number in UInt64(5)..<1_005 {
            server.receive(try sealer.seal([20], contentType: 22, sequenceNumber: number))
        }
        XCTAssertEqual(server.sent.count - before, DtlsRetransmissionPolicy().maximumAttempts)
    }
}
