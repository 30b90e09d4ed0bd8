import DTLSPrimitives
import DTLSTestKit
import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// ``DtlsEngine/openApplicationData(_:into:now:)`` and ``DtlsEngine/sealApplicationData(_:into:)``, beside receive()
/// and send() of an engine that has the same keys and numbers.
final class ApplicationDataTests: XCTestCase {
    /// What a capture has been given, the time left out.
    private final class Captured: Sendable {
        let blocks = Lock<[[UInt8]]>([])

        func capture() -> DtlsCapture {
            DtlsCapture { block in
                self.blocks.withLock { $0.append(Array(block.prefix(12) + block.dropFirst(20))) }
            }
        }
    }

    /// Two engines that go on with the server's association, and the records of its client.
    private struct Twins {
        let client: DetachedAssociation
        let queued: EnginePeer
        let direct: EnginePeer
        let captured = (queued: Captured(), direct: Captured())
        private var buffer = [UInt8](repeating: 0xEE, count: 20_000)
        private(set) var taken: [ApplicationDataOpening] = []
        private(set) var payloads: [[UInt8]] = []

        init(_ suite: String, ids: Int? = nil, padding: Int = 1, checksPaths: Bool = false) throws {
            var options = try PairOptions.preSharedKey(suite)
            options.recordLayer = .detached
            options.mtu = 4_000
            if let ids {
                options.connectionIDs = .random(length: ids)
                options.connectionIDs.padding = padding
                options.connectionIDs.checksPaths = checksPaths
            }
            let pair = try EnginePair.connected(options)
            client = try XCTUnwrap(pair.client.engine.detached)
            let state = try pair.serverPeer().engine.handOver()
            let captures = [captured.queued.capture(), captured.direct.capture()]
            let peers = try captures.map { capture in
                var server = options.server
                server.capture = capture
                var settings = DtlsServerSettings()
                settings.usesPreSharedKeys = true
                let context = try DtlsEngineContext(server: server, settings: settings)
                // Never done with associations that are in use.
                return EnginePeer(try DtlsEngine(takingOver: state, context: context))
            }
            (queued, direct) = (peers[0], peers[1])
        }

        func record(_ content: [UInt8], _ contentType: UInt8 = 23) throws -> [UInt8] {
            let number = client.records.nextNumber
            return try XCTUnwrap(content.withUnsafeBytes { client.records.seal(contentType, $0, numbered: number) })
        }

        /// Gives a datagram to both.
        mutating func receive(_ datagram: [UInt8], file: StaticString = #filePath, line: UInt = #line) {
            let now = ContinuousClock.now
            let receipt = queued.engine.receive(datagram.span.bytes, now: now)
            queued.settle()
            let opening = datagram.withUnsafeBytes { bytes in
                buffer.withUnsafeMutableBytes { direct.engine.openApplicationData(bytes, into: $0, now: Moment(now)) }
            }
            taken.append(opening)
            switch opening {
            case .payload(let count, let own):
                payloads.append(Array(buffer[..<count]))
                XCTAssertEqual(own, receipt, file: file, line: line)
                XCTAssertNil(direct.engine.nextEvent(), file: file, line: line)
            case .taken(let own):
                XCTAssertEqual(own, receipt, file: file, line: line)
            case .notTaken:
                let own = direct.engine.receive(datagram.span.bytes, now: now)
                XCTAssertEqual(own, receipt, file: file, line: line)
            }
            let before = direct.payloads.count
            direct.settle()
            payloads += direct.payloads[before...]
            assertEqual(file: file, line: line)
        }

        func assertEqual(file: StaticString = #filePath, line: UInt = #line) {
            XCTAssertEqual(queued.payloads, payloads, file: file, line: line)
            XCTAssertEqual(queued.sent, direct.sent, file: file, line: line)
            XCTAssertEqual(
                queued.eventNames.filter { $0 != "data" },
                direct.eventNames.filter { $0 != "data" },
                file: file,
                line: line
            )
            XCTAssertEqual(queued.engine.statistics, direct.engine.statistics, file: file, line: line)
            XCTAssertEqual(queued.engine.closeReason, direct.engine.closeReason, file: file, line: line)
            let (one, other) = (queued.engine.detached, direct.engine.detached)
            XCTAssertEqual(one?.records.window.contents, other?.records.window.contents, file: file, line: line)
            XCTAssertEqual(one?.records.window.next, other?.records.window.next, file: file, line: line)
            XCTAssertEqual(one?.records.nextNumber, other?.records.nextNumber, file: file, line: line)
            XCTAssertEqual(one?.records.forgeries, other?.records.forgeries, file: file, line: line)
            let (early, late) = (captured.queued.blocks.withLock { $0 }, captured.direct.blocks.withLock { $0 })
            XCTAssertTrue(early == late, "the captures differ", file: file, line: line)
        }
    }

    private func bytes(_ count: Int, _ random: inout SeededGenerator) -> [UInt8] {
        (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
    }

    /// In a hundred random datagrams of every kind, nothing differs but the way of the payloads.
    func testNothingElseDiffers() throws {
        for (index, suite) in GraduationTests.suites.enumerated() {
            for ids in [nil, 1, 8] {
                var twins = try Twins(suite, ids: ids, padding: 16, checksPaths: ids == 8)
                var random = SeededGenerator(seed: UInt64(index + 1))
                var last = try twins.record([1, 2, 3])
                var kinds = Set<Int>()
                for _ in 0..<100 {
                    let kind = Int.random(in: 0..<12, using: &random)
                    kinds.insert(kind)
                    var datagram = try twins.record(bytes(Int.random(in: 1...1_500, using: &random), &random))
                    switch kind {
                    case 0: datagram = last
                    case 1: datagram[Int.random(in: 0..<datagram.count, using: &random)] ^= 1
                    case 2: datagram += try twins.record([9, 9])
                    case 3: datagram = try twins.record([1, 90], ContentType.alert)
                    case 4: datagram = try twins.record([])
                    case 5: datagram = try twins.record([20, 0, 0, 12], ContentType.handshake)
                    case 6: datagram = try twins.record([0] + bytes(8, &random), ContentType.returnRoutabilityCheck)
                    case 7: datagram = bytes(Int.random(in: 0...60, using: &random), &random)
                    case 8: datagram.removeLast(Int.random(in: 1...datagram.count, using: &random))
                    default: break
                    }
                    twins.receive(datagram)
                    last = datagram
                }
                XCTAssertEqual(kinds.count, 12)
                XCTAssertTrue(twins.direct.engine.isOpen)
                XCTAssertTrue(twins.taken.contains(.notTaken))
                XCTAssertTrue(twins.taken.contains(.taken(.newest)))
                XCTAssertTrue(twins.taken.contains(.taken(.unknown)))
                XCTAssertGreaterThan(twins.taken.count { if case .payload = $0 { true } else { false } }, 15)
                twins.receive(try twins.record([1, 0], ContentType.alert))
                XCTAssertEqual(twins.taken.last, ids == nil ? .notTaken : .taken(.newest))
                XCTAssertEqual(twins.direct.ends, [.closedByPeer])
                twins.receive(try twins.record([1]))
                XCTAssertEqual(twins.taken.last, .notTaken, "after the end")
            }
        }
    }

    func testWhatEachIsTakenFor() throws {
        var twins = try Twins("PSK-AES128-GCM-SHA256", ids: 4, padding: 64)
        let late = try twins.record([7])
        let data = try twins.record([1, 2, 3])
        twins.receive(data)
        XCTAssertEqual(twins.taken.last, .payload(count: 3, .newest))
        twins.receive(late)
        XCTAssertEqual(twins.taken.last, .payload(count: 1, .authentic))
        twins.receive(data)
        XCTAssertEqual(twins.taken.last, .taken(.unknown), "a replay")
        var forged = try twins.record([4])
        forged[forged.count - 1] ^= 0x80
        twins.receive(forged)
        XCTAssertEqual(twins.taken.last, .taken(.unknown), "a forgery")
        twins.receive(try twins.record([5]) + twins.record([6]))
        XCTAssertEqual(twins.taken.last, .notTaken, "two records")
        twins.receive(try twins.record([]))
        XCTAssertEqual(twins.taken.last, .taken(.newest), "an empty record")
        twins.receive([])
        XCTAssertEqual(twins.taken.last, .notTaken, "an empty datagram")
        XCTAssertEqual(twins.payloads, [[1, 2, 3], [7], [5], [6]])
        twins.receive(try twins.record([2, 80], ContentType.alert))
        XCTAssertEqual(twins.taken.last, .taken(.newest), "a fatal alert")
        XCTAssertEqual(twins.direct.failure?.alertReceived, DtlsAlert(level: .fatal, code: .internalError))
    }

    /// What came before is handed out before, and memory that is too small is not written to.
    func testWhatIsLeftToTheQueue() throws {
        let twins = try Twins("PSK-AES128-GCM-SHA256")
        let engine = twins.direct.engine
        let (first, second) = (try twins.record([1]), try twins.record([2]))
        var buffer = [UInt8](repeating: 0xEE, count: 100)
        func open(_ datagram: [UInt8], _ count: Int = 100) -> ApplicationDataOpening {
            datagram.withUnsafeBytes { bytes in
                buffer[..<count].withUnsafeMutableBytes { engine.openApplicationData(bytes, into: $0, now: .now) }
            }
        }
        engine.receive(first.span.bytes)
        let statistics = engine.statistics
        XCTAssertEqual(open(second), .notTaken, "an event waits")
        while engine.nextEvent() != nil {}
        XCTAssertEqual(open(second), .notTaken, "a payload waits")
        engine.drainApplicationData { _ in }
        XCTAssertEqual(open(second, second.count - 1), .notTaken, "too small")
        XCTAssertEqual(engine.statistics, statistics)
        XCTAssertEqual(Set(buffer), [0xEE])
        XCTAssertEqual(open(second), .payload(count: 1, .newest))
        XCTAssertEqual(buffer[0], 2)
    }

    /// Forged records count up to the keys' end, as everywhere.
    func testTooManyForgeriesEndIt() throws {
        #if DEBUG
            var twins = try Twins("PSK-AES128-CCM8")
            for peer in [twins.queued, twins.direct] {
                let limit = RecordCipher.Algorithm.aes128CCM8.forgeryLimit
                peer.engine.detached?.records.countAsForged(limit - 1)
            }
            var forged = try twins.record([4])
            forged[forged.count - 1] ^= 1
            twins.receive(forged)
            XCTAssertEqual(twins.taken, [.taken(.unknown)])
            XCTAssertEqual(twins.direct.failure?.code, .keysUsedUp)
        #endif
    }

    func testSealing() throws {
        for suite in GraduationTests.suites {
            for ids in [nil, 1, 8] {
                let twins = try Twins(suite, ids: ids, padding: 16)
                var random = SeededGenerator(seed: 3)
                let most = twins.queued.engine.maximumPayloadSize
                for count in [1, 2, 15, 16, 17, 64, 1_200, most - 1, most] {
                    let payload = bytes(count, &random)
                    try twins.queued.send(payload)
                    let sealed = try XCTUnwrap(try seal(payload, twins.direct.engine, twins.direct.engine.mtu))
                    XCTAssertTrue(sealed == twins.queued.sent.last, "\(suite), \(count) bytes")
                    XCTAssertEqual(twins.direct.engine.detached?.outbound.isEmpty, true)
                    XCTAssertEqual(twins.queued.engine.statistics, twins.direct.engine.statistics)
                    XCTAssertTrue(
                        twins.captured.queued.blocks.withLock { $0 } == twins.captured.direct.blocks.withLock { $0 }
                    )
                    let opened = try XCTUnwrap(twins.client.records.tryOpen(sealed))
                    XCTAssertTrue(opened.content == payload)
                }
            }
        }
    }

    private func seal(_ payload: [UInt8], _ engine: DtlsEngine, _ room: Int) throws -> [UInt8]? {
        var buffer = [UInt8](repeating: 0xEE, count: room + 8)
        let count = try payload.withUnsafeBytes { bytes in
            try buffer.withUnsafeMutableBytes {
                try engine.sealApplicationData(bytes, into: UnsafeMutableRawBufferPointer(rebasing: $0[..<room]))
            }
        }
        XCTAssertEqual(Set(buffer[(count ?? 0)...]), [0xEE], "written behind the datagram")
        return count.map { Array(buffer[..<$0]) }
    }

    /// What cannot be sealed this way uses no number; errors are those of send().
    func testWhatIsNotSealed() throws {
        let twins = try Twins("PSK-AES128-GCM-SHA256")
        let engine = twins.direct.engine
        let number = engine.detached?.records.nextNumber
        XCTAssertNil(try seal([1, 2], engine, 38), "a byte too few")
        XCTAssertNotNil(try seal([1, 2], engine, 39))
        try engine.send([3].span.bytes)
        let statistics = engine.statistics
        XCTAssertNil(try seal([4], engine, 4_000), "another datagram is to leave before")
        XCTAssertEqual(engine.statistics, statistics)
        engine.drainOutbound { _ in }
        assertThrows(.unsupported) { try seal([], engine, 4_000) }
        let large = [UInt8](repeating: 0, count: engine.maximumPayloadSize + 1)
        assertThrows(.payloadTooLarge) { try seal(large, engine, 8_000) }
        XCTAssertEqual(engine.detached?.records.nextNumber, number.map { $0 + 2 })
        engine.close()
        engine.drainOutbound { _ in }
        assertThrows(.connectionClosed) { try seal([1], engine, 4_000) }
    }

    func testKeysThatAreUsedUp() throws {
        let twins = try Twins("PSK-CHACHA20-POLY1305")
        let engine = twins.direct.engine
        engine.detached?.records.skip(to: 1 << 48 - 17)
        XCTAssertNotNil(try seal([1], engine, 4_000))
        assertThrows(.keysUsedUp) { try seal([1], engine, 4_000) }
        twins.direct.settle()
        XCTAssertEqual(twins.direct.sent.count, 1, "the close_notify")
        XCTAssertEqual(twins.direct.failure?.code, .keysUsedUp)
    }

    /// An association that lives in OpenSSL, or whose handshake is not finished, knows no other way than the queue.
    func testAttachedAssociations() throws {
        var options = try PairOptions.preSharedKey("PSK-AES128-GCM-SHA256")
        options.recordLayer = .openSSL
        let pair = try EnginePair.connected(options)
        try pair.client.send([1, 2, 3])
        let datagram = try XCTUnwrap(pair.client.sent.last)
        var buffer = [UInt8](repeating: 0, count: 100)
        let opening = try datagram.withUnsafeBytes { bytes in
            try buffer.withUnsafeMutableBytes {
                try pair.serverPeer().engine.openApplicationData(bytes, into: $0, now: .now)
            }
        }
        XCTAssertEqual(opening, .notTaken)
        XCTAssertNil(try seal([1], pair.client.engine, 2_000))
        try pair.pump()
        XCTAssertEqual(try pair.serverPeer().payloads, [[1, 2, 3]])
    }
}
