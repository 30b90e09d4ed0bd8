import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// ClientHellos in fragments (RFC 6347 §4.2.3): let in by a cookie in the first fragment, and within limits.
final class HelloReassemblyTests: XCTestCase {
    private let start = ContinuousClock.now
    private let source = [UInt8](repeating: 1, count: 18)

    /// A hello that needs several fragments: an unknown extension of 900 bytes.
    private var large: HandmadeHello {
        var hello = HandmadeHello()
        hello.extensions = [0x03, 0x88, 0xFA, 0xFA, 0x03, 0x84] + [UInt8](repeating: 5, count: 900)
        return hello
    }

    /// The hello's fragments of `size` bytes, each in a record of its own.
    private func fragments(_ hello: HandmadeHello, _ size: Int) -> [[UInt8]] {
        let body = hello.body
        return stride(from: 0, to: body.count, by: size).map { offset in
            RecordDump.handshake(
                type: 1,
                messageLength: body.count,
                messageSequence: hello.messageSequence,
                fragmentOffset: offset,
                Array(body[offset...].prefix(size)),
                sequenceNumber: hello.recordSequence + UInt64(offset / size)
            ).bytes
        }
    }

    private func judge(
        _ gate: inout DtlsHelloGate,
        _ datagram: [UInt8],
        from source: [UInt8]? = nil,
        after: Duration = .zero
    ) -> DtlsHelloGate.Verdict {
        gate.judge(datagram.span.bytes, from: source ?? self.source, now: start + after)
    }

    /// The hello with the cookie that its first fragment gets.
    private func answered(_ gate: inout DtlsHelloGate, _ hello: HandmadeHello, _ size: Int) throws -> HandmadeHello {
        let first = try XCTUnwrap(fragments(hello, size).first)
        guard case .reply(let reply) = judge(&gate, first) else {
            throw XCTSkip("the first fragment was not answered")
        }
        XCTAssertLessThanOrEqual(reply.count, first.count)
        return hello.answering(reply)
    }

    private func accepted(_ verdicts: [DtlsHelloGate.Verdict]) -> [DtlsClientHello] {
        verdicts.compactMap { if case .accept(let hello) = $0 { hello } else { nil } }
    }

    func testFragmentsInEveryOrderBehindTheFirstPass() throws {
        for (seed, size) in [(UInt64(1), 100), (2, 200), (3, 333), (4, 700)] {
            var gate = try DtlsHelloGate(now: start)
            let hello = try answered(&gate, large, size)
            var generator = SeededGenerator(seed: seed)
            let all = fragments(hello, size)
            let order = [all[0]] + all.dropFirst().shuffled(using: &generator)
            let verdicts = order.map { judge(&gate, $0) }
            let found = accepted(verdicts)
            XCTAssertEqual(found.count, 1)
            // The whole message stands in one record, and is the one that was sent.
            XCTAssertEqual(Array(try XCTUnwrap(found.first).record[25...]), hello.body)
            guard case .accept? = verdicts.last else { return XCTFail("accepted too early") }
        }
    }

    func testFault06RepeatedAndOverlappingFragmentsAreNoHarm() throws {
        var gate = try DtlsHelloGate(now: start)
        let hello = try answered(&gate, large, 250)
        let mixed = fragments(hello, 250).dropLast() + fragments(hello, 333)
        XCTAssertEqual(accepted(mixed.map { judge(&gate, $0) }).count, 1)
    }

    func testSeveralFragmentsInOneDatagramPass() throws {
        var gate = try DtlsHelloGate(now: start)
        let hello = try answered(&gate, large, 300)
        let joined = Array(fragments(hello, 300).joined())
        XCTAssertEqual(accepted([judge(&gate, joined)]).count, 1)
    }

    /// Without a cookie nothing is kept, whatever the fragments say.
    func testStrangersFragmentsAreNotKept() throws {
        var gate = try DtlsHelloGate(now: start)
        for fragment in fragments(large, 200) + fragments(large, 200) {
            if case .accept = judge(&gate, fragment) { XCTFail("accepted without a cookie") }
        }
        // A later fragment alone is not even answered.
        guard case .ignore = judge(&gate, fragments(large, 200)[1]) else { return XCTFail("answered") }
        XCTAssertEqual(gate.hellosUnderWay, 0)
    }

    func testACookieOfAnotherAddressIsWorthNothing() throws {
        var gate = try DtlsHelloGate(now: start)
        let hello = try answered(&gate, large, 300)
        let elsewhere = [UInt8](repeating: 2, count: 18)
        XCTAssertEqual(accepted(fragments(hello, 300).map { judge(&gate, $0, from: elsewhere) }).count, 0)
        XCTAssertEqual(gate.hellosUnderWay, 0)
    }

    /// A cookie for a first fragment is none for a whole hello, nor the other way round.
    func testCookiesOfTheTwoKindsAreDifferent() throws {
        var gate = try DtlsHelloGate(now: start)
        let hello = try answered(&gate, large, 300)
        guard case .reply = judge(&gate, hello.datagram) else { return XCTFail("a fragment's cookie passed") }
    }

    func testAMessageIsForgottenInTime() throws {
        var gate = try DtlsHelloGate(now: start)
        let hello = try answered(&gate, large, 500)
        let all = fragments(hello, 500)
        _ = judge(&gate, all[0])
        XCTAssertEqual(gate.hellosUnderWay, 1)
        XCTAssertEqual(accepted([judge(&gate, all[1], after: .seconds(6))]).count, 0)
        XCTAssertEqual(gate.hellosUnderWay, 0)
    }

    func testMessagesUnderWayAreBounded() throws {
        var gate = try DtlsHelloGate(now: start)
        for number in 0..<(2 * DtlsHelloGate.Limits().messages) {
            let source = [UInt8](repeating: UInt8(number & 0xFF), count: 16) + [UInt8(number >> 8), 0]
            let first = fragments(large, 500)[0]
            guard case .reply(let reply) = judge(&gate, first, from: source) else { return XCTFail("no reply") }
            _ = judge(&gate, fragments(large.answering(reply), 500)[0], from: source)
        }
        XCTAssertEqual(gate.hellosUnderWay, DtlsHelloGate.Limits().messages)
    }

    func testAMessageThatIsTooLongIsNotKept() throws {
        var gate = try DtlsHelloGate(now: start)
        var hello = HandmadeHello()
        hello.extensions = [0x20, 0x04, 0xFA, 0xFA, 0x20, 0x00] + [UInt8](repeating: 5, count: 8_192)
        hello = try answered(&gate, hello, 500)
        XCTAssertEqual(accepted(fragments(hello, 500).map { judge(&gate, $0) }).count, 0)
        XCTAssertEqual(gate.hellosUnderWay, 0)
    }

    /// A handshake whose hello came in fragments completes.
    func testAnEngineGoesOnFromIt() throws {
        var options = try PairOptions.preSharedKey()
        options.client.mtu = 256
        options.client.applicationProtocols = (0..<40).map { "protocol number \($0)" }
        let pair = try EnginePair(options)
        try pair.connect()
        XCTAssertGreaterThan(pair.client.sent.filter { RecordDump.parse($0)?.first?.handshakeType == 1 }.count, 2)
        try pair.assertEchoes()
    }
}
