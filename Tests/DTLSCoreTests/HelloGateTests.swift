import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// The stateless gate before a server.
final class HelloGateTests: XCTestCase {
    private let hello = HandmadeHello()

    private func answered(
        _ gate: inout DtlsHelloGate,
        _ hello: HandmadeHello,
        from source: [UInt8] = EnginePair.clientAddress,
        now: ContinuousClock.Instant = .now
    ) throws -> HandmadeHello {
        hello.answering(try XCTUnwrap(gate.judge(hello.datagram, from: source, now: now).reply))
    }

    func testAStrangerGetsACookieAndIsLetInWithIt() throws {
        var gate = try DtlsHelloGate()
        let second = try answered(&gate, hello)
        let accepted = try XCTUnwrap(gate.judge(second.datagram).hello)
        XCTAssertEqual(accepted.random, hello.random)
        XCTAssertEqual(accepted.offer.cipherSuites, hello.suites)
        XCTAssertEqual(accepted.recordSequenceNumber, 1)
        XCTAssertEqual(accepted.record, second.datagram)
    }

    func testTheReplyIsAHelloVerifyRequest() throws {
        var gate = try DtlsHelloGate()
        for (record, message) in [(UInt64(0), UInt16(0)), (7, 1), (0xFFFF_FFFF_FFFF, 1)] {
            var hello = hello
            hello.recordSequence = record
            hello.messageSequence = message
            let reply = try XCTUnwrap(gate.judge(hello.datagram).reply)
            let parsed = try XCTUnwrap(RecordDump.parse(reply)?.first)
            XCTAssertEqual(parsed.contentType, 22)
            XCTAssertEqual(parsed.version, 0xFEFF, "of DTLS 1.0, whatever follows")
            XCTAssertEqual(parsed.epoch, 0)
            XCTAssertEqual(parsed.sequenceNumber, record, "the hello's number, so that nothing is kept")
            XCTAssertEqual(parsed.body.prefix(12), [3, 0, 0, 19, 0, UInt8(message), 0, 0, 0, 0, 0, 19])
            XCTAssertEqual(parsed.body.dropFirst(12).prefix(3), [0xFE, 0xFF, 16])
            XCTAssertEqual(parsed.body.count, 12 + 19)
        }
    }

    func testFault02ACookieIsBoundToItsAddress() throws {
        var gate = try DtlsHelloGate()
        let second = try answered(&gate, hello)
        var other = EnginePair.clientAddress
        other[5] ^= 1
        XCTAssertNotNil(gate.judge(second.datagram, from: other).reply, "another port gets a cookie of its own")
        XCTAssertNotNil(gate.judge(second.datagram, from: []).reply)
        XCTAssertNotNil(gate.judge(second.datagram).hello)
    }

    /// No other split of the same bytes into address and hello has the same cookie.
    func testTheAddressIsBoundWithItsLength() throws {
        var gate = try DtlsHelloGate()
        var one = hello
        one.random[31] = 1
        // A byte of the address becomes the first of the hello, and every field moves by one.
        var other = try answered(&gate, one, from: [1, 2, 0xFE])
        let before = [0xFE, 0xFD] + one.random + [0]
        other.version = 0xFEFE
        other.random = [0xFD] + one.random.dropLast()
        other.sessionID = [0]
        XCTAssertEqual([1, 2, 0xFE] + before, [1, 2, 0xFE, 0xFE] + other.random + [1] + other.sessionID)
        XCTAssertNil(gate.judge(other.datagram, from: [1, 2]).hello)
    }

    func testACookieIsBoundToItsHello() throws {
        var gate = try DtlsHelloGate()
        let second = try answered(&gate, hello)
        let changes: [(String, (inout HandmadeHello) -> Void)] = [
            ("random", { $0.random[31] ^= 1 }),
            ("suites", { $0.suites = [0x00A9] }),
            ("more suites", { $0.suites += [0x00A9] }),
            ("session", { $0.sessionID = [1] }),
            ("version", { $0.version = 0xFEFF }),
            ("compression", { $0.compressionMethods = [0, 1] }),
        ]
        for (name, change) in changes {
            var changed = second
            change(&changed)
            XCTAssertNotNil(gate.judge(changed.datagram).reply, "\(name): a new cookie")
        }
        // What may change between the two hellos.
        var moved = second
        moved.recordSequence = 99
        moved.recordVersion = 0xFEFD
        XCTAssertNotNil(gate.judge(moved.datagram).hello)
    }

    func testWrongCookies() throws {
        var gate = try DtlsHelloGate()
        let second = try answered(&gate, hello)
        XCTAssertEqual(second.cookie.count, HelloCookie.length)
        for index in second.cookie.indices {
            var changed = second
            changed.cookie[index] ^= 1
            XCTAssertNotNil(gate.judge(changed.datagram).reply, "byte \(index)")
        }
        for count in [1, 15, 17, 32, 255] {
            var changed = second
            changed.cookie = Array((second.cookie + [UInt8](repeating: 0, count: 255)).prefix(count))
            XCTAssertNil(gate.judge(changed.datagram).hello, "\(count) bytes")
        }
        var otherGate = try DtlsHelloGate()
        XCTAssertNil(otherGate.judge(second.datagram).hello, "each gate has a secret of its own")
    }

    /// The secret changes every minute; cookies of the one before are good for another.
    func testRotation() throws {
        let start = ContinuousClock.now
        for (after, accepted) in [(0, true), (59, true), (61, true), (119, true), (121, false), (600, false)] {
            var gate = try DtlsHelloGate(now: start)
            let second = try answered(&gate, hello, now: start)
            let verdict = gate.judge(second.datagram, now: start + .seconds(after))
            XCTAssertEqual(verdict.hello != nil, accepted, "after \(after) s")
            XCTAssertEqual(verdict.reply != nil, !accepted, "after \(after) s")
        }
    }

    /// The same with traffic all the while, so that every rotation takes place.
    func testRotationUnderTraffic() throws {
        let start = ContinuousClock.now
        var gate = try DtlsHelloGate(now: start)
        let second = try answered(&gate, hello, now: start + .seconds(30))
        var lastAccepted = 0
        for after in stride(from: 30, through: 300, by: 1) {
            if gate.judge(second.datagram, now: start + .seconds(after)).hello != nil { lastAccepted = after }
        }
        XCTAssertEqual(lastAccepted, 119)
    }

    /// A rotation that comes late, because nothing came meanwhile, does not let cookies of before live longer. Found by
    /// fuzzing.
    func testALateRotationProlongsNothing() throws {
        let start = ContinuousClock.now
        var gate = try DtlsHelloGate(now: start)
        let second = try answered(&gate, hello, now: start)
        XCTAssertNotNil(gate.judge(second.datagram, now: start + .seconds(119)).hello)
        XCTAssertNil(gate.judge(second.datagram, now: start + .seconds(121)).hello)
    }

    /// After a long silence the secrets of before it are worth nothing.
    func testASilenceEndsBothSecrets() throws {
        let start = ContinuousClock.now
        var gate = try DtlsHelloGate(now: start)
        _ = gate.judge(hello.datagram, now: start + .seconds(61))
        let second = try answered(&gate, hello, now: start + .seconds(62))
        XCTAssertNil(gate.judge(second.datagram, now: start + .seconds(10_000)).hello)
        let fresh = try answered(&gate, hello, now: start + .seconds(10_000))
        XCTAssertNotNil(gate.judge(fresh.datagram, now: start + .seconds(10_001)).hello)
    }

    /// OpenSSL goes on from a first or second hello only, so a client that was sent back twice must begin anew: no
    /// engine is made for it.
    func testAThirdHelloIsIgnored() throws {
        let start = ContinuousClock.now
        let context = try DtlsEngineContext(client: PairOptions.preSharedKey().client, usesPreSharedKeys: true)
        let client = EnginePeer(try DtlsEngine(client: context, serverName: nil, preSharedKey: TestKey.right))
        var gate = try DtlsHelloGate(now: start)
        client.start()
        for seconds in [0, 300] {
            let hello = try XCTUnwrap(client.sent.last)
            client.receive(try XCTUnwrap(gate.judge(hello, now: start + .seconds(seconds)).reply))
        }
        XCTAssertEqual(client.sent.count, 3)
        let third = gate.judge(try XCTUnwrap(client.sent.last), now: start + .seconds(301))
        XCTAssertNil(third.hello)
        XCTAssertNil(third.reply)
    }

    /// A reply is never larger than what it answers, so the gate amplifies nothing.
    func testFault01NoAmplification() throws {
        var gate = try DtlsHelloGate()
        var generator = SeededGenerator(seed: 31)
        var smallest = hello
        smallest.suites = [1]
        XCTAssertNotNil(gate.judge(smallest.datagram).reply, "the shortest hello there is")
        let samples = [smallest.datagram, hello.datagram]
        var replies = 0
        for _ in 0..<10_000 {
            let datagram = HostileDatagrams.mutation(of: samples, &generator)
            if let reply = gate.judge(datagram).reply {
                replies += 1
                XCTAssertLessThanOrEqual(reply.count, datagram.count)
            }
        }
        XCTAssertGreaterThan(replies, 100)
    }

    func testWhatIsNoHelloIsIgnored() throws {
        var gate = try DtlsHelloGate()
        for datagram in HostileDatagrams.short(seed: 32) { XCTAssertTrue(gate.judge(datagram).isIgnore) }
        for (name, datagram) in HostileDatagrams.droppedInEveryState {
            XCTAssertTrue(gate.judge(datagram).isIgnore, name)
        }
        let whole = try answered(&gate, hello).datagram
        for count in 0..<whole.count {
            XCTAssertTrue(gate.judge(Array(whole.prefix(count))).isIgnore, "\(count) bytes")
        }
        var sealed = try XCTUnwrap(RecordDump.parse(whole)?.first)
        sealed.epoch = 1
        XCTAssertTrue(gate.judge(sealed.bytes).isIgnore)
    }

    /// OpenSSL goes on from a client's first or second hello.
    func testMessageNumbersThatMakeNoSense() throws {
        var gate = try DtlsHelloGate()
        for number in [2, 3, 255, 65_535] as [UInt16] {
            var hello = hello
            hello.messageSequence = number
            XCTAssertTrue(gate.judge(hello.datagram).isIgnore)
        }
    }

    func testWhatStartsWithAClientHello() throws {
        XCTAssertTrue(DtlsHelloGate.startsWithClientHello(hello.datagram.span.bytes))
        for count in 0..<hello.datagram.count {
            XCTAssertFalse(DtlsHelloGate.startsWithClientHello(Array(hello.datagram.prefix(count)).span.bytes))
        }
        for type in [0, 2, 3, 11, 14, 16] as [UInt8] {
            XCTAssertFalse(DtlsHelloGate.startsWithClientHello(RecordDump.handshake(type: type, [1]).bytes.span.bytes))
        }
        var sealed = RecordDump.handshake(type: 1, hello.body)
        sealed.epoch = 1
        XCTAssertFalse(DtlsHelloGate.startsWithClientHello(sealed.bytes.span.bytes))
    }

    func testRepetitionsAreTold() throws {
        let first = try hello.accepted()
        var other = hello
        other.random[0] ^= 1
        XCTAssertTrue(first.identity.isRepetition(of: try hello.accepted().identity))
        XCTAssertFalse(first.identity.isRepetition(of: try other.accepted().identity))
        // In public.
        XCTAssertTrue(first.isRepetition(of: try hello.accepted()))
        XCTAssertFalse(first.isRepetition(of: try other.accepted()))
    }

    /// A hello that the gate takes and OpenSSL does not ends the engine in order.
    func testAHelloThatOpenSSLDoesNotTake() throws {
        let context = try DtlsEngineContext(server: PairOptions.preSharedKey().server, usesPreSharedKeys: true)
        for extensions in [[0], [0, 9], [0, 2, 0, 1], [0, 4, 0, 23, 0, 9]] as [[UInt8]] {
            var hello = hello
            hello.extensions = extensions
            let server = EnginePeer(try DtlsEngine(server: context, hello: hello.accepted()))
            server.start()
            XCTAssertEqual(server.failure?.code, .handshakeFailed, "\(extensions): \(server.eventNames)")
            XCTAssertEqual(server.ends.count, 1)
        }
    }
}
