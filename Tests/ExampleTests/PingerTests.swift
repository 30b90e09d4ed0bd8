import XCTest

@testable import dtls_coap_ping

/// CoAP's timers and matching, with a clock that the tests move.
final class PingerTests: XCTestCase {
    private typealias TestPinger = Pinger<Steps>

    private let start = ContinuousClock.now

    private func pinger(
        seed: UInt64 = 1,
        _ change: (inout TestPinger.Settings) -> Void = { _ in }
    ) -> TestPinger {
        var settings = TestPinger.Settings()
        change(&settings)
        return TestPinger(settings, generator: Steps(seed: seed))
    }

    /// The messages that are to be sent.
    private func sent(_ pinger: inout TestPinger) throws -> [CoAPMessage] {
        try pinger.takeOutputs().compactMap { output in
            if case .send(let bytes) = output { try CoAPMessage(bytes) } else { nil }
        }
    }

    private func answer(_ pinger: inout TestPinger) throws -> TestPinger.Answer {
        let answers = pinger.takeOutputs().compactMap { output in
            if case .answered(let answer) = output { answer } else { nil as TestPinger.Answer? }
        }
        XCTAssertEqual(answers.count, 1)
        return try XCTUnwrap(answers.first)
    }

    func testPingsAndResets() throws {
        var pinger = pinger { $0.count = 2 }
        pinger.start(now: start)
        let first = try XCTUnwrap(sent(&pinger).first)
        XCTAssertEqual(first, .ping(messageID: first.messageID))
        pinger.receive(try XCTUnwrap(first.rejection.encoded), now: start + .milliseconds(30))
        let answer = try answer(&pinger)
        XCTAssertEqual(answer.sequence, 1)
        XCTAssertEqual(answer.roundTrip, .milliseconds(30))
        XCTAssertEqual(answer.sent, 1)
        // The next one after the interval, and not before.
        XCTAssertEqual(pinger.nextDeadline, start + .seconds(1))
        pinger.handleTimeout(now: start + .milliseconds(999))
        XCTAssertEqual(try sent(&pinger), [])
        pinger.handleTimeout(now: start + .seconds(1))
        XCTAssertEqual(try sent(&pinger), [.ping(messageID: first.messageID &+ 1)])
        pinger.receive(
            try XCTUnwrap(CoAPMessage.ping(messageID: first.messageID &+ 1).rejection.encoded),
            now: start + .seconds(1)
        )
        XCTAssertTrue(pinger.isDone)
        XCTAssertNil(pinger.nextDeadline)
        XCTAssertEqual(pinger.tally.requests, 2)
        XCTAssertEqual(pinger.tally.roundTrips.count, 2)
        XCTAssertEqual(pinger.tally.unanswered, 0)
    }

    /// RFC 7252 §4.2: after 2 to 3 seconds, then after twice as long, four times; given up after the wait behind them.
    func testRetransmissions() throws {
        for seed in UInt64(0)..<50 {
            var pinger = pinger(seed: seed) {
                $0.count = 1
                $0.timeout = .seconds(93)
            }
            pinger.start(now: start)
            let request = try XCTUnwrap(sent(&pinger).first)
            var now = start
            var wait = Duration.zero
            for index in 0..<4 {
                let due = try XCTUnwrap(pinger.nextDeadline)
                if index == 0 {
                    wait = due - now
                    XCTAssertTrue((.seconds(2) ... .seconds(3)).contains(wait), "seed \(seed): \(wait)")
                } else {
                    XCTAssertEqual(due - now, wait, "seed \(seed)")
                }
                pinger.handleTimeout(now: due - .nanoseconds(1))
                XCTAssertEqual(try sent(&pinger), [], "seed \(seed)")
                pinger.handleTimeout(now: due)
                XCTAssertEqual(try sent(&pinger), [request], "seed \(seed)")
                now = due
                wait *= 2
            }
            let end = try XCTUnwrap(pinger.nextDeadline)
            XCTAssertEqual(end - now, wait, "seed \(seed)")
            pinger.handleTimeout(now: end)
            XCTAssertEqual(pinger.takeOutputs(), [.unanswered(sequence: 1, sent: 5)], "seed \(seed)")
            XCTAssertTrue(pinger.isDone)
            XCTAssertEqual(pinger.tally.retransmissions, 4)
            XCTAssertEqual(pinger.tally.unanswered, 1)
        }
    }

    func testTheWaitsDifferBySeed() throws {
        let waits = (0..<20).map { seed in
            var pinger = pinger(seed: UInt64(seed))
            pinger.start(now: start)
            return pinger.nextDeadline
        }
        XCTAssertGreaterThan(Set(waits).count, 15)
    }

    /// The time counts from the first sending, and the next request does not wait for more than the interval.
    func testATimeoutAndALateAnswer() throws {
        var pinger = pinger {
            $0.timeout = .seconds(4)
            $0.count = 2
        }
        pinger.start(now: start)
        let request = try XCTUnwrap(sent(&pinger).first)
        pinger.handleTimeout(now: try XCTUnwrap(pinger.nextDeadline))
        XCTAssertEqual(try sent(&pinger), [request])
        XCTAssertEqual(pinger.nextDeadline, start + .seconds(4))
        pinger.handleTimeout(now: start + .seconds(4))
        XCTAssertEqual(pinger.takeOutputs().first, .unanswered(sequence: 1, sent: 2))
        // The second one is under way; an answer to the first is no answer to it.
        pinger.receive(try XCTUnwrap(request.rejection.encoded), now: start + .seconds(4))
        XCTAssertEqual(pinger.takeOutputs(), [])
        XCTAssertEqual(pinger.tally.lateOrRepeated, 1)
        XCTAssertEqual(pinger.tally.roundTrips.count, 0)
        XCTAssertFalse(pinger.isDone)
        let second = CoAPMessage.ping(messageID: request.messageID &+ 1)
        pinger.receive(try XCTUnwrap(second.rejection.encoded), now: start + .seconds(5))
        XCTAssertEqual(try answer(&pinger).sequence, 2)
        XCTAssertTrue(pinger.isDone)
    }

    // MARK: GET

    private static let path = [CoAPMessage.Option(number: CoAPMessage.Option.uriPath, value: [97])]

    private func content(_ kind: CoAPMessage.Kind, _ messageID: UInt16, _ token: [UInt8]) throws -> [UInt8] {
        let message = CoAPMessage(
            kind: kind,
            code: .content,
            messageID: messageID,
            token: token,
            payload: Array("hello".utf8)
        )
        return try XCTUnwrap(message.encoded)
    }

    func testAResponseInItsAcknowledgement() throws {
        var pinger = pinger { $0.request = .get(Self.path) }
        pinger.start(now: start)
        let request = try XCTUnwrap(sent(&pinger).first)
        XCTAssertEqual(request.code, .get)
        XCTAssertEqual(request.options, Self.path)
        // Of another message, or another token.
        pinger.receive(try content(.acknowledgement, request.messageID &+ 1, request.token), now: start)
        pinger.receive(try content(.acknowledgement, request.messageID, [1]), now: start)
        XCTAssertEqual(pinger.takeOutputs(), [])
        XCTAssertEqual(pinger.tally.ignored, 2)
        pinger.receive(try content(.acknowledgement, request.messageID, request.token), now: start + .seconds(1))
        XCTAssertEqual(try answer(&pinger).message.payload, Array("hello".utf8))
    }

    /// RFC 7252 §5.2.2: once acknowledged it is sent no more; the response comes later and is acknowledged, each time.
    func testAResponseApart() throws {
        var pinger = pinger { $0.request = .get(Self.path) }
        pinger.start(now: start)
        let request = try XCTUnwrap(sent(&pinger).first)
        pinger.receive(try XCTUnwrap(request.acknowledgement.encoded), now: start)
        XCTAssertEqual(pinger.takeOutputs(), [])
        XCTAssertEqual(pinger.nextDeadline, start + .seconds(10))
        let response = try content(.confirmable, 7, request.token)
        pinger.receive(response, now: start + .seconds(5))
        let outputs = pinger.takeOutputs()
        XCTAssertEqual(outputs.first, .send([0x60, 0, 0, 7]))
        guard case .answered(let answer) = outputs.last else { return XCTFail("\(outputs)") }
        XCTAssertEqual(answer.roundTrip, .seconds(5))
        pinger.receive(response, now: start + .seconds(6))
        XCTAssertEqual(pinger.takeOutputs(), [.send([0x60, 0, 0, 7])])
        XCTAssertEqual(pinger.tally.lateOrRepeated, 1)
        XCTAssertEqual(pinger.tally.roundTrips.count, 1)
    }

    func testTokensDiffer() throws {
        var pinger = pinger {
            $0.request = .get(Self.path)
            $0.timeout = .seconds(1)
        }
        pinger.start(now: start)
        for second in 1...20 { pinger.handleTimeout(now: start + .seconds(second)) }
        let tokens = try sent(&pinger).map(\.token)
        XCTAssertEqual(tokens.count, 21)
        XCTAssertEqual(Set(tokens).count, 21)
        XCTAssertTrue(tokens.allSatisfy { $0.count == 4 })
    }

    // MARK: What the server says by itself

    /// A ping of the server's, or a response to nothing, is reset; the rest is left alone.
    func testStrays() throws {
        var pinger = pinger()
        pinger.start(now: start)
        _ = pinger.takeOutputs()
        pinger.receive([0x40, 0, 0xAB, 0xCD], now: start)
        XCTAssertEqual(pinger.takeOutputs(), [.send([0x70, 0, 0xAB, 0xCD])])
        pinger.receive(try content(.confirmable, 9, [1]), now: start)
        XCTAssertEqual(pinger.takeOutputs(), [.send([0x70, 0, 0, 9])])
        pinger.receive(try content(.nonConfirmable, 9, [1]), now: start)
        pinger.receive([0x70, 0, 0, 0], now: start)
        pinger.receive([1, 2, 3], now: start)
        pinger.receive([], now: start)
        XCTAssertEqual(pinger.takeOutputs(), [])
        XCTAssertEqual(pinger.tally.ignored, 6)
        XCTAssertFalse(pinger.isDone)
    }

    // MARK: The summary

    func testTheSummary() {
        var tally = Tally()
        tally.requests = 4
        tally.unanswered = 1
        tally.retransmissions = 1
        for milliseconds in [1.0, 2, 6] { tally.roundTrips.add(.milliseconds(milliseconds)) }
        XCTAssertEqual(
            tally.summary(of: "coaps://host", after: .milliseconds(3004)),
            """
            --- coaps://host CoAP ping statistics ---
            4 requests, 3 replies, 25% loss, 1 retransmission, time 3004 ms
            rtt min/avg/max/mdev = 1.000/3.000/6.000/2.160 ms
            """
        )
        XCTAssertEqual(
            Tally().summary(of: "coaps://host", after: .zero),
            """
            --- coaps://host CoAP ping statistics ---
            0 requests, 0 replies, 0% loss, 0 retransmissions, time 0 ms
            """
        )
        XCTAssertEqual(Tally.figure(.microseconds(20_050), decimals: 3), "20.050")
    }
}
