import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// Deadlines. The clock is moved by hand where OpenSSL's own timer is not involved.
final class EngineTimingTests: XCTestCase {
    func testAClientThatNobodyAnswersTimesOut() throws {
        var options = try PairOptions.preSharedKey()
        options.client.handshakeTimeout = .seconds(10)
        let pair = try EnginePair(options)
        let now = ContinuousClock.now
        pair.client.start(now: now)
        pair.client.handleTimeout(now: now + .milliseconds(9_999))
        XCTAssertEqual(pair.client.ends, [])
        pair.client.handleTimeout(now: now + .seconds(10))
        let error = try XCTUnwrap(pair.client.failure)
        XCTAssertEqual(error.code, .handshakeTimedOut)
        XCTAssertEqual(error.message, "the peer did not answer")
        XCTAssertEqual(pair.client.ends.count, 1)
        XCTAssertNil(pair.client.engine.nextDeadline)
    }

    /// A peer that answered and fell silent is another case than one that never did.
    func testTheErrorSaysWhetherAnyoneAnswered() throws {
        let pair = try EnginePair(.preSharedKey())
        pair.start()
        XCTAssertTrue(try pair.step())
        pair.client.handleTimeout(now: .now + .seconds(60))
        XCTAssertEqual(pair.client.failure?.code, .handshakeTimedOut)
        XCTAssertEqual(pair.client.failure?.message, "the handshake was not finished in time")
    }

    func testAServerTimesOut() throws {
        for usesGate in [true, false] {
            var options = try PairOptions.preSharedKey()
            options.usesGate = usesGate
            options.server.handshakeTimeout = .milliseconds(500)
            let pair = try EnginePair(options)
            pair.start()
            while pair.server?.sent.isEmpty != false, try pair.step() {}
            let server = try pair.serverPeer()
            server.handleTimeout(now: .now + .seconds(1))
            XCTAssertEqual(server.failure?.code, .handshakeTimedOut, pair.story)
        }
    }

    /// A deadline given to an engine takes the configuration's place.
    func testTheEnginesOwnTimeout() throws {
        let pair = try EnginePair(.preSharedKey())
        pair.client.engine.handshakeTimeout = .milliseconds(50)
        let now = ContinuousClock.now
        pair.client.start(now: now)
        XCTAssertLessThanOrEqual(try XCTUnwrap(pair.client.engine.nextDeadline), now + .milliseconds(50))
        pair.client.handleTimeout(now: now + .milliseconds(50))
        XCTAssertEqual(pair.client.failure?.code, .handshakeTimedOut)
    }

    func testTheEnginesOwnTimeoutKeepsToItsRange() throws {
        let day = Duration.seconds(86_400)
        for (given, taken) in [
            (Duration.seconds(-1), Duration.zero), (.seconds(Int64.min), .zero), (.zero, .zero), (day, day),
            (day + .nanoseconds(1), day), (.seconds(Int64.max), day),
        ] {
            let pair = try EnginePair(.preSharedKey())
            pair.client.engine.handshakeTimeout = given
            XCTAssertEqual(pair.client.engine.handshakeTimeout, taken, "\(given)")
            let now = ContinuousClock.now
            pair.client.start(now: now)
            pair.client.handleTimeout(now: now)
            XCTAssertEqual(pair.client.failure?.code, taken == .zero ? .handshakeTimedOut : nil, "\(given)")
        }
    }

    func testSpuriousTimeoutsAreHarmless() throws {
        let pair = try EnginePair(.preSharedKey())
        pair.client.handleTimeout(now: .now)
        pair.start()
        repeat {
            for side in [pair.client, pair.server].compactMap({ $0 }) {
                for _ in 0..<10 { side.handleTimeout(now: .now) }
            }
        } while try pair.step()
        XCTAssertEqual(pair.client.sent.count, 3, "nothing was sent again")
        try pair.assertEchoes()
    }

    /// The first deadline is the retransmission's, by the policy.
    func testTheFirstWaitIsTheInitialTimeout() throws {
        for (milliseconds, jitter) in [(400, 0.0), (1_000, 0.0), (1_000, 0.5)] {
            var options = try PairOptions.preSharedKey()
            options.client.retransmission.initialTimeout = .milliseconds(milliseconds)
            options.client.retransmission.jitter = jitter
            let pair = try EnginePair(options)
            pair.client.start()
            let wait = try XCTUnwrap(pair.client.engine.nextDeadline) - .now
            XCTAssertLessThanOrEqual(wait, .milliseconds(Double(milliseconds) * (1 + jitter)))
            // Starting takes its time, on a busy machine more.
            XCTAssertGreaterThan(wait, .milliseconds(Double(milliseconds) * (1 - jitter) - 300))
        }
    }

    func testMaximumAttempts() throws {
        for attempts in [0, 1, 3] {
            var options = try PairOptions.preSharedKey()
            options.retransmission = .quick
            options.client.retransmission.maximumAttempts = attempts
            let pair = try EnginePair(options)
            pair.toServer.conditions.loss = 1
            pair.start()
            XCTAssertTrue(try pair.run { !pair.client.ends.isEmpty })
            XCTAssertEqual(pair.client.failure?.code, .handshakeTimedOut)
            // The last expiry ends the handshake, with one more copy that OpenSSL has sent by then.
            XCTAssertGreaterThanOrEqual(pair.client.sent.count, 1 + attempts)
            XCTAssertLessThanOrEqual(pair.client.sent.count, 2 + attempts)
        }
    }

    /// Twelve retransmissions are OpenSSL's own limit, and the error is the same beyond it.
    func testOpenSSLsOwnLimit() throws {
        var options = try PairOptions.preSharedKey()
        options.retransmission = .quick
        let pair = try EnginePair(options)
        pair.toServer.conditions.loss = 1
        pair.start()
        XCTAssertTrue(try pair.run { !pair.client.ends.isEmpty })
        XCTAssertEqual(pair.client.failure?.code, .handshakeTimedOut)
        XCTAssertEqual(pair.client.sent.count, 13)
    }

    /// The last wait may end while OpenSSL reads somebody's junk. It is the end of the handshake's time all the same.
    func testOpenSSLsOwnLimitWhileJunkArrives() throws {
        var options = try PairOptions.preSharedKey()
        options.retransmission = .quick
        let client = try EnginePair(options).client
        client.start()
        let clock = ContinuousClock()
        let end = clock.now + .seconds(20)
        let junk = RecordDump(contentType: 20, body: [1]).bytes
        while client.ends.isEmpty, clock.now < end {
            // Nobody looks at the engine's deadline.
            client.receive(junk)
            Thread.sleep(forTimeInterval: 0.001)
        }
        XCTAssertEqual(client.failure?.code, .handshakeTimedOut)
    }

    /// The waits grow by the factor up to the cap, and never fall below what OpenSSL can tell from nothing.
    func testPolicyArithmetic() {
        var policy = DtlsRetransmissionPolicy()
        XCTAssertEqual(policy.timeout(after: 0), 400_000)
        XCTAssertEqual(policy.timeout(after: 400_000), 800_000)
        XCTAssertEqual(policy.timeout(after: 3_000_000), 4_000_000)
        XCTAssertEqual(policy.timeout(after: .max), 4_000_000)
        policy = .init(initialTimeout: .seconds(60), factor: 10, maximumTimeout: .seconds(60))
        XCTAssertEqual(policy.timeout(after: 0), 60_000_000)
        XCTAssertEqual(policy.timeout(after: 60_000_000), 60_000_000)
        XCTAssertEqual(Duration.milliseconds(1).microseconds, 1_000)
        XCTAssertEqual(Duration.seconds(3_600).microseconds, 3_600_000_000)
    }
}
