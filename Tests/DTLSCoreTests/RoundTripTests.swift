import DTLSPrimitives
import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// The round trip: measured in the handshake, and what the waits make of it.
final class RoundTripTests: XCTestCase {
    /// Lazy: all tests are made before the first one runs, perhaps minutes before this one.
    private lazy var start = ContinuousClock.now

    /// A client's engine, the gate's answers to its hellos, and the time between them.
    private func reply(to hello: [UInt8]) throws -> [UInt8] {
        var gate = try DtlsHelloGate()
        guard case .reply(let reply) = gate.judge(hello.span.bytes, from: [1]) else {
            throw Unanswered()
        }
        return reply
    }

    private struct Unanswered: Error {}

    func testPolicyArithmetic() {
        var policy = DtlsRetransmissionPolicy()
        let waits = [(0, 100), (1, 100), (26, 100), (100, 320), (300, 920), (1_400, 4_000), (9_000, 4_000)]
        for (roundTrip, wait) in waits {
            XCTAssertEqual(policy.firstTimeout(roundTrip: .milliseconds(roundTrip)), .milliseconds(wait))
        }
        XCTAssertEqual(policy.firstTimeout(roundTrip: nil), .milliseconds(400))
        XCTAssertEqual(policy.firstTimeout(roundTrip: .seconds(-5)), .milliseconds(100))
        XCTAssertEqual(policy.firstTimeout(roundTrip: .seconds(Int64.max)), .seconds(4))
        XCTAssertEqual(policy.timeout(after: 100_000, roundTrip: .milliseconds(10)), 200_000, "it grows all the same")
        policy.adaptsToRoundTrip = false
        XCTAssertEqual(policy.firstTimeout(roundTrip: .milliseconds(1)), .milliseconds(400))
        policy = .quick
        XCTAssertEqual(policy.firstTimeout(roundTrip: .milliseconds(1)), .milliseconds(20), "not above the policy's")
    }

    func testAClientMeasuresTheCookieExchange() throws {
        for adapts in [true, false] {
            var options = try PairOptions.preSharedKey()
            options.client.retransmission.jitter = 0
            options.client.retransmission.adaptsToRoundTrip = adapts
            let client = try EnginePair(options).client
            client.start(now: start)
            XCTAssertNil(client.engine.roundTrip)
            let answer = try reply(to: client.sent[0])
            let later = start + .milliseconds(200)
            client.receive(answer, now: later)
            XCTAssertEqual(client.sent.count, 2, "no hello with the cookie")
            XCTAssertEqual(client.engine.roundTrip, .milliseconds(200))
            XCTAssertEqual(client.engine.statistics.roundTrip, .milliseconds(200))
            // OpenSSL's own clock has moved on a little when the engine asks it.
            let wait = try XCTUnwrap(client.engine.nextDeadline) - later
            XCTAssertLessThanOrEqual(wait, .milliseconds(adapts ? 620 : 400))
            XCTAssertGreaterThan(wait, .milliseconds(adapts ? 400 : 200))
        }
    }

    /// Which of its hellos was answered is seen from the record's sequence number, and the time is that of this one.
    func testTheAnswerTellsWhichHelloItAnswers() throws {
        for answered in [0, 1] {
            var options = try PairOptions.preSharedKey()
            options.retransmission = .quick
            let client = try EnginePair(options).client
            client.start(now: start)
            XCTAssertTrue(client.passTime { client.engine.statistics.retransmissions == 1 })
            XCTAssertEqual(client.sent.count, 2)
            let sent = ContinuousClock.now
            client.receive(try reply(to: client.sent[answered]), now: sent + .seconds(2))
            let roundTrip = try XCTUnwrap(client.engine.roundTrip)
            if answered == 0 {
                XCTAssertEqual(roundTrip, sent + .seconds(2) - start)
            } else {
                XCTAssertGreaterThanOrEqual(roundTrip, .seconds(2))
                XCTAssertLessThan(roundTrip, sent + .seconds(2) - start - .milliseconds(5))
            }
        }
    }

    /// A ServerHello and a client's answer do not tell which copy they answer (Karn), so they count for one copy only.
    func testWithoutACookieOneCopyMustDo() throws {
        for repeats in [false, true] {
            var options = try PairOptions.preSharedKey()
            options.retransmission = repeats ? .quick : .init(initialTimeout: .seconds(9), maximumTimeout: .seconds(9))
            options.usesGate = false
            let pair = try EnginePair(options)
            let server = try pair.serverPeer()
            pair.client.start(now: start)
            server.start(now: start)
            if repeats { XCTAssertTrue(pair.client.passTime { pair.client.engine.statistics.retransmissions == 1 }) }
            for hello in pair.client.takeOutbox().prefix(1) { server.receive(hello, now: start + .milliseconds(10)) }
            if repeats { XCTAssertTrue(server.passTime { server.engine.statistics.retransmissions == 1 }) }
            for datagram in server.takeOutbox() { pair.client.receive(datagram, now: start + .milliseconds(30)) }
            XCTAssertEqual(pair.client.engine.roundTrip, repeats ? nil : .milliseconds(30))
            for datagram in pair.client.takeOutbox() { server.receive(datagram, now: start + .milliseconds(50)) }
            XCTAssertEqual(server.engine.roundTrip, repeats ? nil : .milliseconds(40))
        }
    }

    /// Who knows the round trip beforehand says so, on either side.
    func testARoundTripThatIsSet() throws {
        var options = try PairOptions.preSharedKey()
        options.retransmission.jitter = 0
        options.usesGate = false
        let pair = try EnginePair(options)
        let server = try pair.serverPeer()
        for side in [pair.client, server] { side.engine.roundTrip = .milliseconds(500) }
        pair.start(now: start)
        for datagram in pair.client.takeOutbox() { server.receive(datagram, now: start) }
        for side in [pair.client, server] {
            let wait = try XCTUnwrap(side.engine.nextDeadline) - start
            XCTAssertLessThanOrEqual(wait, .milliseconds(1_520))
            XCTAssertGreaterThan(wait, .milliseconds(1_000))
            XCTAssertNil(side.engine.statistics.roundTrip, "only what was measured")
        }
    }

    /// A stranger's answers with numbers that nothing had, and nonsense, measure nothing and harm nothing.
    func testForgedAnswers() throws {
        let client = try EnginePair(.preSharedKey()).client
        client.start(now: start)
        var meter = RoundTripMeter(role: .client)
        meter.sent(upTo: 0, at: Moment(start))
        var forged = try reply(to: client.sent[0])
        forged[10] = 9
        forged.withUnsafeBytes { XCTAssertNil(meter.roundTrip(shownBy: $0, now: Moment(start) + .seconds(1))) }
        for count in 0..<30 {
            forged.prefix(count).withUnsafeBytes { bytes in
                var meter = RoundTripMeter(role: .client)
                meter.sent(upTo: 0, at: Moment(start))
                XCTAssertNil(meter.roundTrip(shownBy: bytes, now: Moment(start)))
            }
        }
    }
}
